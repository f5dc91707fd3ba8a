"""From a picture to its latent, and from the latent to a file: `analyse`, then `encode_latent`.

The analysis network, which is the costly half, runs once; the choice of symbols is made as often as wanted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from shcodec import container
from shcodec.codec.steering import MISS, Prices, steered
from shcodec.codec.synthesis import synthesise
from shcodec.container.payload import join
from shcodec.model.latent import Hyper, Latent
from shcodec.model.networks import Model
from shcodec.pictures.picture import Pixels
from shcodec.support.progress import Report, unheard
from shcodec.symbols import stream
from shcodec.symbols.bands import Floats, Indices
from shcodec.symbols.choice import choose
from shcodec.symbols.classes import Order
from shcodec.symbols.grid import Grid, Tile, check_number, tiles_of
from shcodec.symbols.knots import interpolate

MUCH = 0.01  # share of the error beyond the reach of codewords that shows: 0.04 dB
ROWS = 256  # of a picture that are compared at once, which bounds memory
USUAL = 0.99  # quantile of the coded elements' steps above which steps are capped
# rate steps in which the quantiser's step doubles: it grows with sqrt(beta)
STEPS_PER_OCTAVE = 2 * 255 / container.BETA_OCTAVES
STEERINGS = (False, True, True)  # rounds of moving z: whether each looks at the second pass, too


@dataclass(frozen=True)
class Analysis:
    """What the analysis network says of a picture: the costly half of encoding.

    Attributes:
        model: the model.
        samples: the picture, (H, W, 3) uint8 of RGB or (H, W) of grey.
        grid: sizes of its latent.
        beta_byte: rate step at which the network was run; files of neighbouring steps can be made from it.
        y: latent of the coded positions, (M, h, w).
        z: hyper indices.
        chunks: what the file holds besides the symbols.
    """

    model: Model
    samples: Pixels
    grid: Grid
    beta_byte: int
    y: Floats
    z: Hyper
    chunks: tuple[container.Chunk, ...] = ()

    @property
    def grey(self) -> bool:
        """Whether the picture is grey, and its file says so."""
        return self.samples.ndim == 2


@dataclass(frozen=True)
class Overload:
    """The error of the chosen codewords, and how much of it comes from residuals that no codeword is near.

    Sums of squared quantiser steps over the elements that are coded.

    Attributes:
        error: of all elements.
        excess: what of it lies beyond `MISS`: no codeword was near.
        outside: what of that belongs to residuals beyond the last codeword of all classes.
        farthest: the largest of these residuals, as a multiple of that codeword.
        tiles: those that have an excess.
    """

    error: float = 0.0
    excess: float = 0.0
    outside: float = 0.0
    farthest: float = 1.0
    tiles: tuple[Tile, ...] = ()

    def added(self, tile: Tile, residuals: Floats, codewords: Floats, reach: float) -> Overload:
        """Return the sums with those of one pass of a tile."""
        squares = np.square(residuals - codewords)
        far = np.flatnonzero(squares > MISS**2)
        error, over = float(squares.sum(dtype=np.float64)), squares[far].astype(np.float64) - MISS**2
        if not len(far):
            return replace(self, error=self.error + error)
        beyond = np.abs(residuals[far]) / reach
        return Overload(
            self.error + error,
            self.excess + float(over.sum()),
            self.outside + float(over[beyond > 1].sum()),
            max(self.farthest, float(beyond.max())),
            self.tiles if tile in self.tiles else (*self.tiles, tile),
        )

    @property
    def is_outside(self) -> bool:
        """Whether so much lies beyond all codewords that no choice of classes helps."""
        return self.outside > MUCH * (self.error - self.excess + self.outside)

    @property
    def steps_to_reach(self) -> int:
        """Return by how many rate steps the next try must be coarser."""
        return math.ceil(math.log2(self.farthest) * STEPS_PER_OCTAVE) + 2  # the mean moves a little, too

    @property
    def is_much(self) -> bool:
        """Whether it shows: by more than 0.04 dB."""
        return self.excess > MUCH * self.error


@dataclass(frozen=True)
class Coded:
    """A whole file, and the latent that a decoder will make of it.

    Attributes:
        data: the bytes of the file.
        beta_byte: rate step in the file.
        latent: the decoded latent.
        overload: how far its codewords are from what they stand for.
    """

    data: bytes
    beta_byte: int
    latent: Latent
    overload: Overload


def analyse(
    model: Model,
    samples: Pixels,
    beta_byte: int,
    *,
    chunks: tuple[container.Chunk, ...] = (),
    report: Report = unheard,
) -> Analysis:
    """Run the analysis network.

    Args:
        model: the model.
        samples: (H, W, 3) uint8 of RGB or (H, W) of grey, which the network sees as three equal channels.
        beta_byte: rate step.
        chunks: what the file is to hold besides the symbols.
        report: told how many windows are done.

    Raises:
        LimitError: the picture is larger than the model codes.
    """
    grid = Grid.of(*samples.shape[:2])
    check_number(tiles_of(grid), has_hyper=model.tables.has_hyper)
    rgb = np.broadcast_to(samples[..., None], (*samples.shape, 3)) if samples.ndim == 2 else samples
    y, z = model.analyse(rgb, beta_byte, grid, report)
    return Analysis(model, samples, grid, beta_byte, y, z, chunks)


def encode_latent(analysis: Analysis, beta_byte: int, rate_weight: float, report: Report = unheard) -> Coded:
    """Choose the indices and write the file.

    Where residuals lie too far from every codeword of their class, the hyper indices are moved to give them classes
    that reach (`shcodec.codec.steering`), if that lowers D + beta * R of the picture.

    Args:
        analysis: of the picture.
        beta_byte: rate step of the file. One that is not the analysis's own costs, on five validation pictures, model
            `fast`, a BD-rate of at most 0.4 % for 8 steps to either side, 2.5 % for 16 and 5.9 % for 24.
        rate_weight: lambda of the index choice in squared steps per bit; 0 takes the nearest codeword.
        report: told how many tiles are done, of both passes together.
    """
    coded = _encode_once(analysis, beta_byte, rate_weight, report)
    if analysis.z is None or not coded.overload.is_much or coded.overload.is_outside:
        return coded
    units, prices = _units(coded), Prices.of(analysis.model.tables, rate_weight)
    before = _cost(analysis, coded)
    best: Hyper = analysis.z
    least = _loss(analysis, coded, units, rate_weight)
    for second in STEERINGS:
        z = steered(coded.latent, analysis.y, units, coded.overload.tiles, prices, second=second)
        del coded  # to keep no more of a large picture than must be
        coded = _encode_once(replace(analysis, z=z), beta_byte, rate_weight, report)
        loss = _loss(analysis, coded, units, rate_weight)
        if loss < least:
            best, least = coded.latent.z, loss
        if not coded.overload.is_much:
            break
    if coded.latent.z is not best:
        coded = _encode_once(replace(analysis, z=best), beta_byte, rate_weight, report)
    if best is analysis.z or _cost(analysis, coded) < before:
        return coded
    return _encode_once(analysis, beta_byte, rate_weight, report)


def _cost(analysis: Analysis, coded: Coded) -> float:
    """Return D + beta * R of a file."""
    return distortion(analysis, coded) + container.byte_to_beta(coded.beta_byte) * bits_per_pixel(analysis, coded)


def _encode_once(analysis: Analysis, beta_byte: int, rate_weight: float, report: Report) -> Coded:
    """Do what `encode_latent` does, with the hyper indices of the analysis as they are."""
    tables = analysis.model.tables
    latent = Latent(analysis.model, analysis.z, beta_byte, analysis.grid)
    tiles = tiles_of(analysis.grid)
    passes: list[list[tuple[Order, list[Indices]]]] = [[] for _ in tiles]
    numbers = range(2 if tables.has_hyper else 1)
    overload = Overload()
    reach = tables.reach if tables.has_hyper else math.inf  # without classes no other choice would reach farther
    for number in numbers:
        for place, (tile, done) in enumerate(zip(tiles, passes, strict=True), 1):
            order = latent.orders(tile)[number]
            mean, step = latent.means(number, tile.area)
            residual = ((analysis.y[(slice(None), *tile.area)] - mean) / step).ravel()
            indices = choose(tables, order, residual, rate_weight)
            overload = overload.added(tile, residual[order.elements], tables.codewords(order, indices), reach)
            latent.put(tile, order, indices)
            if len(tiles) > 1:  # of a large picture keep the symbols alone, in few bytes
                order = Order(order.elements[:0].copy(), order.numbers)
                indices = [part.astype(np.min_scalar_type(part.max(initial=0))) for part in indices]
            done.append((order, indices))
            report("coding", number * len(tiles) + place, len(numbers) * len(tiles))
    streams = [
        stream.write(tables, None if analysis.z is None else analysis.z[(slice(None), *tile.hyper)], done)
        for tile, done in zip(tiles, passes, strict=True)
    ]
    height, width = analysis.samples.shape[:2]
    file = container.Container(analysis.model.id, width, height, beta_byte, b"", analysis.grey, analysis.chunks)
    file = replace(file, payload=join(container.head(file), streams))
    return Coded(container.pack(file), beta_byte, latent, overload)


def _units(coded: Coded) -> Floats:
    """Return the unit in which errors of each channel count, (M, 1, 1): its mean step over the first tile.

    The networks' steps of elements that are never coded are without meaning, and may be thousands: none counts for more
    than almost all of those that are coded.
    """
    latent, tile = coded.latent, tiles_of(coded.latent.grid)[0]
    step = latent.means(0, tile.area)[1]
    elements = [order.elements for order in latent.orders(tile)]
    used = step.ravel()[np.concatenate(elements)]
    units: Floats = step.mean((1, 2), keepdims=True)
    return np.minimum(units, np.quantile(used, USUAL)) if len(used) else units


def _loss(analysis: Analysis, coded: Coded, units: Floats, rate_weight: float) -> float:
    """Return what the choice of indices minimises, in units of length that are the same for every z."""
    error = 0.0
    for tile in tiles_of(analysis.grid):
        difference = analysis.y[(slice(None), *tile.area)] - coded.latent.values(tile.area)
        error += float(np.sum(np.square(difference / units), dtype=np.float64))
    return error + rate_weight * 8 * len(coded.data)


def own_rate_weight(model: Model, beta_byte: int) -> float:
    """Return the rate weight that the model was found to code best with."""
    return float(interpolate(model.encoder_rate_weight, beta_byte))


def decoded_pixels(analysis: Analysis, coded: Coded) -> Pixels:
    """Return the picture as a decoder will show it, of the same shape as that of the analysis."""
    return synthesise(coded.latent, analysis.samples.shape[:2], grey=analysis.grey)


def distortion(analysis: Analysis, coded: Coded) -> float:
    """Return the mean squared error of the decoded 8-bit picture."""
    return distortion_of(analysis, decoded_pixels(analysis, coded))


def distortion_of(analysis: Analysis, pixels: Pixels) -> float:
    """Return the mean squared error of `decoded_pixels`, where the caller has them."""
    total = 0.0
    for top in range(0, len(pixels), ROWS):
        difference = pixels[top : top + ROWS].astype(np.float32) - analysis.samples[top : top + ROWS]
        total += float(np.sum(np.square(difference), dtype=np.float64))
    return total / pixels.size


def bits_per_pixel(analysis: Analysis, coded: Coded) -> float:
    """Return the rate of the whole file."""
    height, width = analysis.samples.shape[:2]
    return 8.0 * len(coded.data) / float(height * width)
