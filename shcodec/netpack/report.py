"""What packing tells of its result."""

from __future__ import annotations

from dataclasses import dataclass


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
        share: Share of the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: str
    bits: float
    sqnr: float | None
    share: float


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
        tensors: Each of them.
    """

    total: int
    weights: int
    quantised: int
    bits: float | None
    sqnr: float | None
    missed: str
    tensors: tuple[TensorReport, ...]
