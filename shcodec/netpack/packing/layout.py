"""What an ``.shcn`` file says of its tensors, apart from their elements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec.netpack.packing.exact_elements import NOTHING, Exact
from shcodec.netpack.packing.histograms import Histogram, frequencies, powers
from shcodec.netpack.packing.spread import CLASSES, Offsets, Spread
from shcodec.netpack.packing.tensors import SIZES
from shcodec.symbols.ans import Table

TOLD_MOST: Final = 63.5
"""The largest ratio in dB that a file tells of a tensor."""
GONE: Final = 0.85
"""Share of a tensor's elements: where more of them became 0, the ratio of energies says little of the rest."""


@dataclass(frozen=True)
class Trellis:
    """The coding of a tensor whose elements are multiples of a step.

    Attributes:
        octaves: Eighths of an octave, in 16 bits, by which the tensor's step is larger than the file's.
        centre: What is subtracted from its elements; a float32.
        spread: How its elements are sorted into classes.
        scale: For each axis by how many octaves the step of its indices is larger, or None where the axis does not
            count; empty where none does.
        exact: Elements that are replaced in the end.
    """

    octaves: int
    centre: float
    spread: Spread
    scale: tuple[Offsets | None, ...] = ()
    exact: Exact = NOTHING

    @property
    def extended(self) -> bool:
        """Whether version 1 of the format cannot tell it."""
        return any(offsets is not None for offsets in self.scale) or self.exact.positions.size > 0


def scales(scale: tuple[Offsets | None, ...], shape: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    """Return what the step of every element is multiplied by, shape ``(size,)``; None where it is 1 throughout."""
    if all(offsets is None for offsets in scale):
        return None
    total = np.zeros((1,) * len(shape), dtype=np.int32)
    for axis, offsets in enumerate(scale):
        if offsets is not None:
            total = total + offsets.astype(np.int32).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    with np.errstate(over="ignore", under="ignore"):  # a forged file's numbers may be any
        found = np.ldexp(np.float32(1), np.clip(total, -400, 400)).astype(np.float32)
    return np.ascontiguousarray(np.broadcast_to(found, shape)).reshape(-1)


@dataclass(frozen=True)
class Told:
    """What a file tells of a tensor's loss, in one byte.

    Attributes:
        byte: Energy over error in halves of a decibel, 0 to 127, the last one for all that is more; 128 more if over
            `GONE` of the elements became 0 or the tensor's centre and had been something else.
    """

    byte: int

    @property
    def sqnr(self) -> float:
        """Energy over error in dB, at most `TOLD_MOST`."""
        return (self.byte & 127) / 2

    @property
    def gone(self) -> bool:
        """Whether nearly all of the elements became 0."""
        return self.byte >= 128

    @classmethod
    def of(cls, sqnr: float, zeroed: float) -> Told:
        """Return the same of a ratio in dB and of a share."""
        return cls(round(2 * min(max(sqnr, 0.0), TOLD_MOST)) + 128 * (zeroed > GONE))


@dataclass(frozen=True)
class Foreign:
    """What is told of a tensor of a foreign dtype.

    Attributes:
        nbytes: Bytes of the tensor.
        width: Bytes that belong together, one of `shcodec.netpack.packing.tensors.WIDTHS`.
    """

    nbytes: int
    width: int


@dataclass(frozen=True)
class Indexed:
    """The coding of a tensor whose elements are codewords.

    Attributes:
        codebook: Number of its codebook.
        scale: What the codewords are multiplied by; a float32.
        spread: How its vectors are sorted into classes, each by its first element.
    """

    codebook: int
    scale: float
    spread: Spread


@dataclass(frozen=True)
class Entry:
    """A tensor. `coding` is None where its bytes are kept as they are; `foreign` is for dtypes that have no code."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: Trellis | Indexed | None
    foreign: Foreign | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the unpacked tensor."""
        return self.foreign.nbytes if self.foreign else self.size * SIZES[self.dtype]

    @property
    def group(self) -> str:
        """With what a kept tensor is joined; see `shcodec.netpack.packing.byte_planes.GROUPS`."""
        return f"*{self.foreign.width}" if self.foreign else self.dtype


@dataclass(frozen=True)
class Runs:
    """Which histogram codes a class: each takes a run of neighbouring classes.

    Attributes:
        lengths: Numbers of classes, each at least 1, with the sum `CLASSES`.
    """

    lengths: tuple[int, ...]

    def lookup(self) -> npt.NDArray[np.uint8]:
        """Return the number of the histogram by class, shape ``(CLASSES,)``."""
        return np.repeat(np.arange(len(self.lengths), dtype=np.uint8), self.lengths)


ONE_RUN = Runs((CLASSES,))


@dataclass(frozen=True)
class Machine:
    """What all tensors of the coding `Trellis` share.

    Attributes:
        step: The step, a positive float32.
        memory: Binary logarithm of the number of states, 0..7.
        runs: Which histogram codes which classes.
        histograms: One for each run.
    """

    step: float
    memory: int
    runs: Runs
    histograms: tuple[Histogram, ...]


@dataclass(frozen=True)
class Codebook:
    """Codewords, and how often each is used.

    Attributes:
        words: float32 of shape ``(L, d)``, 2 <= L <= 4096, d = 1, 2, 4 or 8.
        runs: Which histogram codes which classes.
        deficits: How many eighths of an octave each codeword is rarer than the most frequent one of its histogram,
            uint8 of shape ``(runs, L)``; the least of each row is 0.
    """

    words: npt.NDArray[np.float32]
    runs: Runs
    deficits: npt.NDArray[np.uint8]

    def tables(self) -> tuple[Table, ...]:
        """Return the tables of all histograms."""
        return tuple(Table(frequencies(powers(-8 * row.astype(np.int64)))) for row in self.deficits)


@dataclass(frozen=True)
class Directory:
    """All tensors of a file in their order, and what their codings share.

    Attributes:
        entries: The tensors, no name twice.
        metadata: Texts by text, as a safetensors file has them.
        machine: What the coding `Trellis` needs; None where no tensor has it.
        codebooks: Those of the coding `Indexed`, each used by at least one tensor.
        told: What is told of each tensor of the coding `Trellis`, in their order; empty in version 1 of the format.
    """

    entries: tuple[Entry, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    machine: Machine | None = None
    codebooks: tuple[Codebook, ...] = ()
    told: tuple[Told, ...] = ()

    @property
    def version(self) -> int:
        """The first version of the format that can tell all this."""
        codings = (entry.coding for entry in self.entries)
        extended = any(isinstance(coding, Trellis) and coding.extended for coding in codings)
        return 2 if self.told or extended or any(entry.foreign for entry in self.entries) else 1

    @property
    def elements(self) -> int:
        """Elements of all tensors."""
        return sum(entry.size for entry in self.entries)

    @property
    def coded(self) -> int:
        """Elements of the tensors that are not kept as they are."""
        return sum(entry.size for entry in self.entries if entry.coding is not None)

    def walked(self) -> list[tuple[Entry, Trellis]]:
        """Return the tensors of the coding `Trellis`."""
        return [(entry, entry.coding) for entry in self.entries if isinstance(entry.coding, Trellis)]

    def indexed(self, codebook: int) -> list[tuple[Entry, Indexed]]:
        """Return the tensors of a codebook."""
        return [
            (entry, entry.coding)
            for entry in self.entries
            if isinstance(entry.coding, Indexed) and entry.coding.codebook == codebook
        ]
