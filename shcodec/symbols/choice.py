"""The encoder's choice of codewords: least |r - c|^2 + rate weight * bits.

Floats may decide here, since the result is what is written.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shcodec.support.blas import one_thread
from shcodec.symbols.bands import Band, Floats, Indices
from shcodec.symbols.classes import Order
from shcodec.symbols.tables import SymbolTables

SEARCH_ROWS = 4096  # vectors per block of the search: the block of distances stays in the cache
NEAREST = 3  # scalars: levels on either side of the nearest that the search looks at


def choose(tables: SymbolTables, order: Order, residual: Floats, rate_weight: float) -> list[Indices]:
    """Choose the codewords of a pass.

    Args:
        tables: of the model.
        order: the elements of the pass.
        residual: (M h w,) residuals in steps.
        rate_weight: lambda in squared steps per bit; 0 takes the nearest codeword.

    Returns:
        Indices per class of `Order.numbers`.
    """
    needed = sum(n * tables.dims[k] for k, n in order.numbers)
    flat = np.zeros(needed, np.float32)
    flat[: len(order.elements)] = residual[order.elements]
    out, start = [], 0
    with one_thread():
        for k, n in order.numbers:
            band = tables.bands[tables.band_of[k]]
            vectors = flat[start : start + n * band.dim].reshape(n, band.dim)
            start += n * band.dim
            out.append(search(band, vectors, band.bits[k - band.first] * np.float32(rate_weight)))
    return out


def search(band: Band, vectors: Floats, prices: Floats) -> Indices:
    """Return the codeword of the least |v - c|^2 + price for every vector.

    Args:
        band: the codebook.
        vectors: (n, d).
        prices: (L,) what each codeword costs, in squared steps.

    Returns:
        (n,) int32.
    """
    if band.dim == 1:
        return _search_levels(vectors[:, 0], band.codebook[:, 0], prices)
    # the rarest codewords, which lie outside, are looked at only for vectors that lie outside too
    inner = band.codebook[: band.inner]
    out = search_among(vectors, inner, prices[: band.inner])
    if band.inner < len(band.codebook):
        far = np.flatnonzero(np.square(vectors).sum(1) > np.square(inner).sum(1).max())
        out[far] = search_among(vectors[far], band.codebook, prices)
    return out


def search_among(vectors: Floats, codebook: Floats, prices: Floats) -> Indices:
    """Search a codebook in full: the codeword of the least |v - c|^2 + price; (n, d) -> (n,)."""
    # |v - c|^2 + price less |v|^2 as one product: (v, 1) times (-2 c, |c|^2 + price)
    words = np.concatenate([-2 * codebook.T, ((codebook**2).sum(1) + prices)[None]])
    extended = np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], 1)
    out = np.empty(len(vectors), np.int32)
    block = np.empty((SEARCH_ROWS, words.shape[1]), np.float32)
    for start in range(0, len(vectors), SEARCH_ROWS):
        part = extended[start : start + SEARCH_ROWS]
        cost = np.matmul(part, words, out=block[: len(part)])
        out[start : start + len(part)] = cost.argmin(1)
    return out


def nearest_levels(values: Floats, levels: Floats) -> npt.NDArray[np.intp]:
    """Return the level nearest to each value, (n,); levels rise."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values)


def levels_around(values: Floats, levels: Floats, reach: int) -> npt.NDArray[np.intp]:
    """Return the 2 reach + 1 levels around each value, (n, 2 reach + 1); levels rise, at least so many."""
    nearest = np.clip(nearest_levels(values, levels), reach, len(levels) - 1 - reach)
    return nearest[:, None] + np.arange(-reach, reach + 1)


def _search_levels(values: Floats, levels: Floats, prices: Floats) -> Indices:
    """Search levels that rise: of scalars only the neighbours of the nearest can win; (n,) -> (n,)."""
    candidates = levels_around(values, levels, min(NEAREST, (len(levels) - 1) // 2))
    cost = (values[:, None] - levels[candidates]) ** 2 + prices[candidates]
    return np.take_along_axis(candidates, cost.argmin(1)[:, None], 1)[:, 0].astype(np.int32)
