"""The encoder's way round codebooks that do not reach: hyper indices moved so that far residuals find codewords.

Where a picture is far from the mean that the hyper path predicts (a white sky, black, saturated colours), residuals of
the lowest frequencies lie hundreds of steps out. Codebooks have sparse codewords there, with gaps, and each class its
own. The class of an element follows from z by a linear map, so the encoder, which may send any z, can give such an
element a class whose codewords lie close to its residual. A step or two in a few channels of z does that and leaves the
classes of all other elements nearly as they were.

For each position of z with a residual that was missed, z is moved in several ways, one for each window of classes: by
integer least squares towards the classes in the window that suit the residuals, with the change of all other classes as
the penalty. What a way costs is then read off for all elements of the position, means and steps as the networks make
them of it, and the cheapest is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shcodec.model.latent import Hyper, Latent
from shcodec.symbols.bands import Band, Floats
from shcodec.symbols.choice import nearest_levels
from shcodec.symbols.grid import HYPER, Tile, first_half
from shcodec.symbols.tables import SymbolTables

MISS = 2.5  # steps: what the choice of indices may move an element to save bits; beyond, its codebook does not reach
FARTHEST = 600  # steps: residuals beyond cost what those here do
WINDOW = 8  # classes of one way to move z
SLOPPINESS = (3.0, (0.1, 0.2, 0.4, 0.2, 0.1))  # of the aim: spread in steps of residuals, and weights of classes around
PENALTY = 3.0  # on the square of a change of z, where one of a class by one costs 1
WEIGHT_LIMIT = 100.0  # on how much the class of one element counts
SWEEPS = 3  # of coordinate descent towards integers
BLOCKS = 256  # positions of z that are solved for at once

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]
HyperIndices = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Prices:
    """What coding a scalar residual costs in each class, in squared steps.

    Attributes:
        exact: (classes, 2 FARTHEST + 1), at whole residuals.
        blurred: the same for an aim that may be missed by some steps and classes.
    """

    exact: Floats
    blurred: Floats

    @staticmethod
    def of(tables: SymbolTables, rate_weight: float) -> Prices:
        """Return the prices of a model at a rate weight."""
        residuals = np.arange(-FARTHEST, FARTHEST + 1, dtype=np.float32)
        exact = np.repeat(np.square(residuals)[None], tables.classes, 0)  # what is not coded is missed by all of it
        for k in range(tables.skip, tables.classes):
            band = tables.bands[tables.band_of[k]]
            exact[k] = _prices(band, band.bits[k - band.first] * np.float32(rate_weight), residuals)
        spread, around = SLOPPINESS
        reach = int(3 * spread)
        kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / spread))
        padded = np.pad(exact, ((0, 0), (reach, reach)), mode="edge")
        blurred = np.stack([np.convolve(row, kernel / kernel.sum(), "valid") for row in padded])
        padded = np.pad(blurred, ((len(around) // 2, len(around) // 2), (0, 0)), mode="edge")
        near = np.stack([padded[i : i + len(exact)] for i in range(len(around))], -1)
        return Prices(exact, (near @ np.array(around)).astype(np.float32))


def _prices(band: Band, bits: Floats, residuals: Floats) -> Floats:
    """Return the least |r - c|^2 + bits of each residual; for vectors the other elements are 0, and share the bits."""
    words = band.codebook[:, 0]
    if band.dim == 1:
        nearest = nearest_levels(residuals, words)
        prices: Floats = np.square(residuals - words[nearest]) + bits[nearest]
        return prices
    rest = np.square(band.codebook[:, 1:]).sum(1) + bits / band.dim
    prices = (np.square(residuals[:, None] - words) + rest).min(1)
    return prices


def steered(latent: Latent, y: Floats, units: Floats, tiles: Sequence[Tile], prices: Prices, *, second: bool) -> Hyper:
    """Move z where residuals were missed.

    Args:
        latent: as coded, with the z that is to be moved.
        y: what it stands for, (M, h, w).
        units: lengths in which errors of each channel count, (M, 1, 1); steps beyond make errors dearer.
        tiles: those in which residuals were missed.
        prices: of the model.
        second: whether to look at the residuals of the second pass, too. They follow from what the first has decoded,
            so that there is no point in that before the first is right.

    Returns:
        The new z (C_z, hz, wz).
    """
    if latent.z is None:
        return None
    z = latent.z.copy()
    for tile in tiles:
        z[(slice(None), *tile.hyper)] = _steered_tile(latent, y[(slice(None), *tile.area)], units, tile, prices, second)
    return z


def _steered_tile(latent: Latent, y: Floats, units: Floats, tile: Tile, prices: Prices, second: bool) -> HyperIndices:
    """Return the same for one tile: its y -> its z."""
    assert latent.z is not None
    tables, beta_byte, here = latent.model.tables, latent.beta_byte, (slice(None), *tile.hyper)
    first = first_half(*y.shape)
    counted = np.ones_like(first) if second else first
    mean, step = latent.means(0, tile.area)
    residual = (y - mean) / step
    if second:
        residual = np.where(first, residual, (y - latent.means(1, tile.area)[0]) / step)
    z = latent.z[here]
    classes = tables.classes_of(z, beta_byte, tile.grid)
    miss = np.abs(residual - latent.residuals[(slice(None), *tile.area)])
    missed = (miss > MISS) & (classes >= tables.skip) & counted
    best = _costs(prices, classes, residual, counted * np.maximum(np.square(step / units), 1))
    found = z.copy()
    for moved in _ways(tables, z, beta_byte, missed, residual, miss, prices):
        whole = latent.z.copy()
        whole[here] = moved
        mean, step = Latent(latent.model, whole, beta_byte, latent.grid).means(0, tile.area)
        there = np.where(first, (y - mean) / step, residual)
        weights = counted * np.maximum(np.square(step / units), 1)
        costs = _costs(prices, tables.classes_of(moved, beta_byte, tile.grid), there, weights)
        better = (costs < best) & (moved != z).any(0)
        found, best = np.where(better, moved, found), np.where(better, costs, best)
    return found


def _costs(prices: Prices, classes: npt.NDArray[np.uint8], residual: Floats, counted: npt.NDArray[np.bool_]) -> Floats:
    """Return what the counted elements (M, h, w) of each position of z cost together, (hz, wz)."""
    costs = (prices.exact[classes, _index(residual)] * counted).sum(0)
    height, width = (-(-side // HYPER) for side in costs.shape)
    padded = np.zeros((HYPER * height, HYPER * width), np.float32)
    padded[: costs.shape[0], : costs.shape[1]] = costs
    total: Floats = padded.reshape(height, HYPER, width, HYPER).sum((1, 3))
    return total


def _index(residual: Floats) -> Integers:
    """Return where the prices of residuals lie in the tables."""
    return np.clip(np.rint(residual), -FARTHEST, FARTHEST).astype(np.intp) + FARTHEST


def _ways(
    tables: SymbolTables,
    z: HyperIndices,
    beta_byte: int,
    missed: npt.NDArray[np.bool_],
    residual: Floats,
    miss: Floats,
    prices: Prices,
) -> Iterator[HyperIndices]:
    """Yield for every window of classes a z (C_z, hz, wz), moved towards it where elements (M, h, w) were missed."""
    channel, row, column = np.nonzero(missed)
    block = row // HYPER * z.shape[2] + column // HYPER
    order = np.argsort(block, kind="stable")
    channel, row, column, block = channel[order], row[order], column[order], block[order]
    assert tables.hyper is not None
    class_map, limit = tables.hyper.class_map, tables.hyper.limit
    weights = class_map.slopes()
    slopes = weights[channel, HYPER * (row % HYPER) + column % HYPER]  # (n, C_z) classes per unit of z
    flat = z.reshape(len(z), -1)
    now = (slopes * flat[:, block].T).sum(1) + class_map.bias_at(beta_byte)[channel] / 2.0 ** class_map.shift[channel]
    index = _index(residual[channel, row, column])
    pull = np.minimum(np.square(miss[channel, row, column]), WEIGHT_LIMIT).astype(np.float64)
    starts = range(tables.skip, tables.classes, WINDOW)
    wanted = np.empty((len(block), len(starts)))
    for i, start in enumerate(starts):
        window = prices.blurred[start : start + WINDOW, index]
        wanted[:, i] = start + window.argmin(0) + 0.5 - now
    places, first, counts = np.unique(block, return_index=True, return_counts=True)
    moves = np.empty((len(starts), len(z), len(places)))
    penalty = np.einsum("mpc,mpd->cd", weights, weights) + PENALTY * np.eye(len(z))
    for begin in range(0, len(places), BLOCKS):
        some = slice(begin, begin + BLOCKS)
        moves[:, :, some] = _least_squares(penalty, slopes, pull, wanted, first[some], counts[some])
    for move in moves:
        moved = flat.astype(np.int64)
        moved[:, places] += move.astype(np.int64)
        yield np.clip(moved, -limit, limit).astype(np.int8).reshape(z.shape)


def _least_squares(
    penalty: Doubles, slopes: Doubles, pull: Doubles, wanted: Doubles, first: Integers, counts: Integers
) -> Doubles:
    """Find whole d of about the least d' P d + sum of pull * (slope' d - wanted)^2, for blocks of elements.

    Args:
        penalty: P, (C, C).
        slopes: of all elements, (n, C).
        pull: (n,).
        wanted: (n, ways).
        first: of every block its first element, (blocks,).
        counts: of every block how many, (blocks,).

    Returns:
        (ways, C, blocks).
    """
    normal = np.repeat(penalty[None], len(first), 0)
    right = np.empty((len(first), len(penalty), wanted.shape[1]))
    for i, (start, count) in enumerate(zip(first, counts, strict=True)):
        mine = slice(start, start + count)
        pulled = slopes[mine].T * pull[mine]
        normal[i] += pulled @ slopes[mine]
        right[i] = pulled @ wanted[mine]
    whole = np.rint(np.linalg.solve(normal, right))  # (blocks, C, ways)
    for _ in range(SWEEPS):
        for j in range(len(penalty)):
            line = normal[:, j, None, :]
            pull_of_rest = right[:, j] - (line @ whole)[:, 0] + normal[:, j, j, None] * whole[:, j]
            whole[:, j] = np.rint(pull_of_rest / normal[:, j, j, None])
    moves: Doubles = whole.transpose(2, 1, 0)
    return moves
