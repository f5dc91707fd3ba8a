"""Reports of what packing did to each tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from shcodec.netpack.packing.layout import GONE

_LOST_DB: Final = 1.0
"""Ratio of energies below which hardly anything is left of a tensor."""


@dataclass(frozen=True)
class TensorReport:
    """What became of a tensor.

    Attributes:
        name: Its name.
        dtype: Its dtype.
        shape: Its shape.
        coding: "trellis", "codebook" or "kept".
        bits: Bits of an element's symbols or lossless bytes, without the directory.
        sqnr: Energy of its elements over that of their error, in dB; infinite for codewords, None where they are kept.
            Elements far outside the rest do not count.
        zeroed: Share of its elements that became 0, or the tensor's centre, and had been something else.
        exact: Number of its elements that are kept exactly, because they are not finite or far outside the rest.
        share: Share of the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: str
    bits: float
    sqnr: float | None
    zeroed: float
    exact: int
    share: float

    @property
    def gone(self) -> bool:
        """Whether nearly all of its elements became 0."""
        return self.zeroed > GONE


@dataclass(frozen=True)
class PackReport:
    """What became of all tensors.

    Attributes:
        total: Bytes of the file.
        weights: Elements of all tensors.
        quantised: Elements of those that are not kept as they are.
        bits: Mean bits of a quantised element, with all of the file but the kept tensors; None without any.
        sqnr: Energy of the elements that a trellis codes over that of their error, in dB, before these are rounded to
            their dtypes; None without any.
        missed: How the file misses what was wanted; "" if it does not.
        worst: Name of the tensor that has lost most; None where none has lost anything.
        notes: What else a user should know, a line each.
        tensors: Each of them.
    """

    total: int
    weights: int
    quantised: int
    bits: float | None
    sqnr: float | None
    missed: str
    worst: str | None
    notes: tuple[str, ...]
    tensors: tuple[TensorReport, ...]


class Damaged(Protocol):
    """Whatever tells how much a tensor has lost."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def sqnr(self) -> float | None:
        """Energy over error in dB; None where it does not apply."""

    @property
    def gone(self) -> bool:
        """Whether nearly all of its elements became 0."""


def worst_of(tensors: Iterable[Damaged]) -> str | None:
    """Return the name of the tensor that has lost most: nearly all of its elements, or most of its energy."""
    lossy = (tensor for tensor in tensors if tensor.sqnr is not None and tensor.sqnr < math.inf)
    ranked = [(not tensor.gone, tensor.sqnr or 0.0, tensor.name) for tensor in lossy]
    return min(ranked)[2] if ranked else None


def notes_of(tensors: Sequence[TensorReport], spoiled: Sequence[str], fine_bits: int) -> tuple[str, ...]:
    """Return what a user should know of tensors.

    Args:
        tensors: What became of each.
        spoiled: Names of those that are kept, and not quantised, for what their elements are.
        fine_bits: Bits of mantissa that these keep.
    """
    notes = []
    lost = [t for t in tensors if t.sqnr is not None and (t.gone or t.sqnr < _LOST_DB)]
    if lost:
        worst = next(t for t in lost if t.name == worst_of(lost))
        notes.append(
            f"hardly anything is left of {_tensors(len(lost))}; worst is {worst.name}: "
            f"{worst.zeroed:.1%} of it became 0, {worst.sqnr:.1f} dB"
        )
    exact = [t for t in tensors if t.exact]
    if exact:
        most = max(exact, key=lambda t: t.exact)
        number = sum(t.exact for t in exact)
        notes.append(
            f"{number:,} {'elements' if number > 1 else 'element'} of {_tensors(len(exact))}, not finite or far "
            f"outside the rest, kept exactly; most in {most.name} ({most.exact:,})"
        )
    if spoiled:
        notes.append(
            f"{_tensors(len(spoiled))} not quantised but kept with {fine_bits} bits of mantissa, for what they hold; "
            f"first of them {spoiled[0]}"
        )
    return tuple(notes)


def _tensors(number: int) -> str:
    return f"{number} tensors" if number > 1 else "1 tensor"
