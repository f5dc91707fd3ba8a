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
from shcodec.symbols import stream
from shcodec.symbols.grid import PATCH, Area, Grid, Tile, check_number, tiles_of

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
    grid, tables, hyper = Grid.of(file.height, file.width), model.tables, model.tables.hyper
    tiles, needed = tiles_of(grid), _needed_latents(region, model, grid)
    check_number(tiles, has_hyper=tables.has_hyper)
    streams = split(container.head(file), file.payload, len(tiles), salvage=salvage)
    if not salvage:  # a few bytes that claim a huge picture: found out before any of it is decoded
        for tile, data in zip(tiles, streams, strict=True):
            if data is not None and tile.meets(needed):
                stream.check_length(tables, data, tile.grid)
    z = np.zeros((hyper.channels, grid.hyper_height, grid.hyper_width), np.int8) if hyper else None
    latent = Latent(model, z, file.beta_byte, grid)
    damaged = []
    for tile, data in zip(tiles, streams, strict=True):
        if not tile.meets(needed):
            continue
        try:
            if data is None:
                raise CorruptFileError("the tile is damaged")
            part, orders, indices = stream.read(tables, data, file.beta_byte, tile.grid)
        except CorruptFileError:
            if not salvage or len(tiles) == 1:
                raise
            damaged.append(tile)
            continue
        if z is not None and part is not None:
            z[(slice(None), *tile.hyper)] = part
        for order, symbols in zip(orders, indices, strict=True):
            latent.put(tile, order, symbols)
    return latent, damaged


def synthesise(
    latent: Latent,
    size: tuple[int, ...],
    region: Area | None = None,
    *,
    grey: bool = False,
    quick: bool = False,
    report: Report = unheard,
) -> Pixels:
    """Run a synthesis network over a picture, or over a part of it.

    Args:
        latent: decoded.
        size: rows and columns of the picture.
        region: rows and columns of pixels that are wanted; all if None.
        grey: whether to return the luma of what the network shows.
        quick: whether the model's quick network is to show it, if the model has one.
        report: told how many windows are done.

    Returns:
        (rows, columns, 3) uint8 of RGB, or (rows, columns) of grey.
    """
    rows, columns = region or (slice(0, size[0]), slice(0, size[1]))
    shape = rows.stop - rows.start, columns.stop - columns.start
    out = np.empty(shape if grey else (*shape, 3), np.uint8)
    limits = latent.coded  # beyond it the network knows zeros, from its training; means there spoil the last rows
    quick = quick and latent.model.has_quick
    halo = latent.model.halos["quick" if quick else "synthesis"]
    area = grown(_latents_of(rows, columns), 0, limits)
    parts = [
        (slice(area[0].start + top, area[0].start + bottom), slice(area[1].start + left, area[1].start + right))
        for _, _, top, bottom in windows(area[0].stop - area[0].start, halo)
        for _, _, left, right in windows(area[1].stop - area[1].start, halo)
    ]
    for done, part in enumerate(parts, 1):
        outer = grown(part, halo, limits)
        decoded = latent.model.synthesise(latent.values(outer), latent.beta_byte, quick=quick)
        top, bottom = max(PATCH * part[0].start, rows.start), min(PATCH * part[0].stop, rows.stop)
        left, right = max(PATCH * part[1].start, columns.start), min(PATCH * part[1].stop, columns.stop)
        inner = decoded[
            top - PATCH * outer[0].start : bottom - PATCH * outer[0].start,
            left - PATCH * outer[1].start : right - PATCH * outer[1].start,
        ]
        into = out[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start]
        into[:] = luma(inner) if grey else inner
        report("decoding", done, len(parts))
    return out


def fill_damaged(samples: Pixels, damaged: list[Tile], region: Area | None = None) -> None:
    """Fill damaged tiles with grey, in place; `samples` are those of the region."""
    top, left = (region[0].start, region[1].start) if region else (0, 0)
    for tile in damaged:
        rows, columns = (slice(PATCH * side.start, PATCH * side.stop) for side in tile.area)
        samples[
            max(rows.start - top, 0) : max(rows.stop - top, 0),
            max(columns.start - left, 0) : max(columns.stop - left, 0),
        ] = GREY


def _latents_of(rows: slice, columns: slice) -> Area:
    """Return the latents that make an area of pixels."""
    return slice(rows.start // PATCH, -(-rows.stop // PATCH)), slice(columns.start // PATCH, -(-columns.stop // PATCH))


def _needed_latents(region: Area | None, model: Model, grid: Grid) -> Area:
    """Return the latents that a region of pixels depends on."""
    whole = (slice(0, grid.padded[0]), slice(0, grid.padded[1]))
    if region is None:
        return whole
    halos = model.halos
    area = _latents_of(*region)
    for halo in (max(halos["synthesis"], halos["quick"]), halos["refine"], halos["hyper"]):
        area = grown(area, halo, whole)
    return area
