"""Codebooks shared by neighbouring classes, and the encoder's search for the best codeword."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shcodec.support.errors import ModelError
from shcodec.symbols import ans

SEARCH_ROWS = 4096  # vectors per block of the search: the block of distances stays in the cache
NEAREST = 3  # hot scalars: levels on either side of the nearest that the search looks at

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

    def search(self, vectors: Floats, bits: Floats) -> Indices:
        """Return the codeword of the least |v - c|^2 + bits for every vector.

        Args:
            vectors: (n, d).
            bits: (L,) what each codeword costs, in squared steps.

        Returns:
            (n,) int32.
        """
        return _search_levels(vectors[:, 0], self, bits) if self.dim == 1 else _search(vectors, self, bits)


def check_tables(frequencies: npt.NDArray[np.uint32]) -> None:
    """Check many tables at once, (..., L): the rules of `ans.Table`, before any of them is used.

    Raises:
        ModelError: they do not keep them.
    """
    fitting = frequencies.ndim > 0 and frequencies.size > 0 and 2 <= frequencies.shape[-1] <= ans.MAX_ALPHABET
    if not fitting or frequencies.min() < 1 or (frequencies.sum(-1, dtype=np.uint64) != ans.TOTAL).any():
        raise ModelError(f"the frequencies of a table are not at least 1 with the sum 2^{ans.PRECISION}")


def _search(vectors: Floats, band: Band, bits: Floats) -> Indices:
    """Full search over the codebook; (n, d) -> (n,).

    The rarest codewords, which lie outside, are looked at only for vectors that lie outside too.
    """
    inner = band.codebook[: band.inner]
    out = _search_among(vectors, inner, bits[: band.inner])
    if band.inner < len(band.codebook):
        far = np.flatnonzero(np.square(vectors).sum(1) > np.square(inner).sum(1).max())
        out[far] = _search_among(vectors[far], band.codebook, bits)
    return out


def _search_among(vectors: Floats, codebook: Floats, bits: Floats) -> Indices:
    """Return the codeword of the least |v - c|^2 + bits; (n, d) -> (n,)."""
    # |v - c|^2 + bits less |v|^2 as one product: (v, 1) times (-2 c, |c|^2 + bits)
    words = np.concatenate([-2 * codebook.T, ((codebook**2).sum(1) + bits)[None]])
    extended = np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], 1)
    out = np.empty(len(vectors), np.int32)
    block = np.empty((SEARCH_ROWS, words.shape[1]), np.float32)
    for start in range(0, len(vectors), SEARCH_ROWS):
        part = extended[start : start + SEARCH_ROWS]
        cost = np.matmul(part, words, out=block[: len(part)])
        out[start : start + len(part)] = cost.argmin(1)
    return out


def _search_levels(values: Floats, band: Band, bits: Floats) -> Indices:
    """Scalars: the levels are sorted, so only the neighbours of the nearest can win; (n,) -> (n,)."""
    levels = band.codebook[:, 0]
    reach = min(NEAREST, (len(levels) - 1) // 2)
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
    candidates = np.clip(nearest, reach, len(levels) - 1 - reach)[:, None] + np.arange(-reach, reach + 1)
    cost = (values[:, None] - levels[candidates]) ** 2 + bits[candidates]
    return np.take_along_axis(candidates, cost.argmin(1)[:, None], 1)[:, 0].astype(np.int32)
