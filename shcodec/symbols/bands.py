"""Bands: neighbouring classes that share a codebook, each with a histogram of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shcodec.support.errors import ModelError
from shcodec.symbols import ans

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Band:
    """One codebook and the histograms of the classes that share it."""

    first: int
    codebook: Floats  # (L, d)
    histograms: npt.NDArray[np.uint32]  # (classes, L)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.codebook.shape[1])

    @cached_property
    def tables(self) -> list[ans.Table]:
        """One table per class."""
        return [ans.Table(row) for row in self.histograms]

    @cached_property
    def inner(self) -> int:
        """How many of the first codewords are not the rarest that tables can hold."""
        used = np.flatnonzero(self.histograms.max(0) > 1)
        return int(used[-1]) + 1 if len(used) else len(self.codebook)

    @cached_property
    def bits(self) -> Floats:
        """(classes, L) cost of every codeword."""
        return (ans.PRECISION - np.log2(self.histograms)).astype(np.float32)

    def check(self, end: int) -> None:
        """Raise ModelError unless codebook and histograms fit together, for the classes before `end`."""
        if self.histograms.shape != (end - self.first, len(self.codebook)) or self.histograms.dtype != np.uint32:
            raise ModelError("a codebook and its histograms do not fit together")
        if self.dim not in (1, 2, 4) or not np.isfinite(self.codebook).all():
            raise ModelError("a codebook does not hold vectors of 1, 2 or 4 finite numbers")
        check_tables(self.histograms)


def check_tables(frequencies: npt.NDArray[np.uint32]) -> None:
    """Check many tables at once, (..., L): the rules of `ans.Table`, before any of them is used.

    Raises:
        ModelError: they do not keep them.
    """
    fitting = frequencies.ndim > 0 and frequencies.size > 0 and 2 <= frequencies.shape[-1] <= ans.MAX_ALPHABET
    if not fitting or frequencies.min() < 1 or (frequencies.sum(-1, dtype=np.uint64) != ans.TOTAL).any():
        raise ModelError(f"the frequencies of a table are not at least 1 with the sum 2^{ans.PRECISION}")
