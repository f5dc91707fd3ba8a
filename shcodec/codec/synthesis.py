"""From a file to its latent, tile by tile, and from the latent to pixels, window by window."""

from __future__ import annotations

import numpy as np

from shcodec import container
from shcodec.container.payload import split
from shcodec.model.latent import Latent, grown
from shcodec.model.networks import Model, windows
from shcodec.pictures.picture import Pixels, luma
from shcodec.support.errors import CorruptFileError
from shcodec.support.progress import Report, unheard
from shcodec.symbols.tables import Grid
from shcodec.symbols.tiles import Area, Tile, check_number, tiles_of

GREY = 128
"""The sample value that stands for what cannot be decoded."""


def decode_latent(
    file: container.Container, model: Model, *, region: Area | None = None, salvage: bool = False
) -> tuple[Latent, list[Tile]]:
    """Decode the symbols of a file.

    Args:
        file: the parsed file.
        model: the one that it names.
        region: rows and columns of pixels that are wanted; tiles that have no part in them are left out.
        salvage: leave out tiles that are damaged, instead of failing; a picture of one tile has none to spare.

    Returns:
        The latent, and the tiles that are damaged.

    Raises:
        CorruptFileError: a stream is damaged.
        LimitError: the picture is larger than the model codes.
    """
    grid, tables = Grid.of(file.height, file.width), model.tables
    tiles, needed = tiles_of(grid), _needed_latents(region, model, grid)
    check_number(tiles, has_hyper=tables.has_hyper)
    streams = split(container.head(file), file.payload, len(tiles), salvage=salvage)
    if not salvage:  # a few bytes that claim a huge picture: found out before any of it is decoded
        for tile, stream in zip(tiles, streams, strict=True):
            if stream is not None and tile.meets(needed):
                tables.check_length(stream, tile.grid)
    z = np.zeros((tables.bank.shape[1], grid.hyper_height, grid.hyper_width), np.int8) if tables.has_hyper else None
    latent = Latent(model, z, file.beta_byte, grid)
    damaged = []
    for tile, stream in zip(tiles, streams, strict=True):
        if not tile.meets(needed):
            continue
        try:
            if stream is None:
                raise CorruptFileError("the tile is damaged")
            hyper, orders, indices = tables.read(stream, file.beta_byte, tile.grid)
        except CorruptFileError:
            if not salvage or len(tiles) == 1:
                raise
            damaged.append(tile)
            continue
        if z is not None and hyper is not None:
            z[(slice(None), *tile.hyper)] = hyper
        for order, symbols in zip(orders, indices, strict=True):
            latent.put(tile, order, symbols)
    return latent, damaged


def synthesise(
    latent: Latent,
    size: tuple[int, ...],
    region: Area | None = None,
    *,
    grey: bool = False,
    report: Report = unheard,
) -> Pixels:
    """Run the synthesis network over a picture, or over a part of it.

    Args:
        latent: decoded.
        size: rows and columns of the picture.
        region: rows and columns of pixels that are wanted; all if None.
        grey: whether to return the luma of what the network shows.
        report: told how many windows are done.

    Returns:
        (rows, columns, 3) uint8 of RGB, or (rows, columns) of grey.
    """
    rows, columns = region or (slice(0, size[0]), slice(0, size[1]))
    shape = rows.stop - rows.start, columns.stop - columns.start
    out = np.empty(shape if grey else (*shape, 3), np.uint8)
    limits = latent.coded  # beyond it the network knows zeros, from its training; means there spoil the last rows
    halo = latent.model.halos["synthesis"]
    area = grown(_latents_of(rows, columns), 0, limits)
    parts = [
        (slice(area[0].start + top, area[0].start + bottom), slice(area[1].start + left, area[1].start + right))
        for _, _, top, bottom in windows(area[0].stop - area[0].start, halo)
        for _, _, left, right in windows(area[1].stop - area[1].start, halo)
    ]
    for done, part in enumerate(parts, 1):
        outer = grown(part, halo, limits)
        decoded = latent.model.synthesise(latent.values(outer), latent.beta_byte)
        top, bottom = max(16 * part[0].start, rows.start), min(16 * part[0].stop, rows.stop)
        left, right = max(16 * part[1].start, columns.start), min(16 * part[1].stop, columns.stop)
        inner = decoded[
            top - 16 * outer[0].start : bottom - 16 * outer[0].start,
            left - 16 * outer[1].start : right - 16 * outer[1].start,
        ]
        into = out[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start]
        into[:] = luma(inner) if grey else inner
        report("decoding", done, len(parts))
    return out


def fill_damaged(samples: Pixels, damaged: list[Tile], region: Area | None = None) -> None:
    """Fill damaged tiles with grey, in place; `samples` are those of the region."""
    top, left = (region[0].start, region[1].start) if region else (0, 0)
    for tile in damaged:
        rows, columns = (slice(16 * side.start, 16 * side.stop) for side in tile.area)
        samples[
            max(rows.start - top, 0) : max(rows.stop - top, 0),
            max(columns.start - left, 0) : max(columns.stop - left, 0),
        ] = GREY


def _latents_of(rows: slice, columns: slice) -> Area:
    """Return the latents that make an area of pixels."""
    return slice(rows.start // 16, -(-rows.stop // 16)), slice(columns.start // 16, -(-columns.stop // 16))


def _needed_latents(region: Area | None, model: Model, grid: Grid) -> Area:
    """Return the latents that a region of pixels depends on."""
    whole = (slice(0, 4 * grid.hyper_height), slice(0, 4 * grid.hyper_width))
    if region is None:
        return whole
    area = _latents_of(*region)
    for graph in ("synthesis", "refine", "hyper"):
        area = grown(area, model.halos[graph], whole)
    return area
