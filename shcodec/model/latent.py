"""The decoded latent, pass by pass and window by window, as encoder and decoder compute it alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shcodec.model.networks import GUARDED, Model
from shcodec.symbols.bands import Floats, Indices
from shcodec.symbols.classes import Order
from shcodec.symbols.grid import HYPER, Area, Grid, Tile, first_half, nearest_coded, tiles_of

Hyper = npt.NDArray[np.int8] | None
"""Hyper indices (C_z, hz, wz), or None for a model without hyper path."""


class Latent:
    """The latent of a picture: symbols of the whole, and from them means, steps and values of any area.

    Of a large picture residuals take two bytes an element. What the networks make of them exists for one area at a
    time; an element comes out the same whatever the area, since the networks always see enough around it.

    Attributes:
        z: hyper indices.
        residuals: decoded residuals in steps, (M, h, w); codewords are half-precision numbers, so nothing is rounded.
    """

    def __init__(self, model: Model, z: Hyper, beta_byte: int, grid: Grid) -> None:
        """Begin with the hyper indices alone."""
        self.model, self.z, self.beta_byte, self.grid = model, z, beta_byte, grid
        kind = np.float32 if len(tiles_of(grid)) == 1 else np.float16  # quicker, or smaller
        self.residuals = np.zeros((model.tables.latent, grid.height, grid.width), kind)
        self._whole = (slice(0, grid.padded[0]), slice(0, grid.padded[1]))
        self._described: tuple[Floats, ...] | None = None  # of a picture that is seen in one piece
        self._centre: Floats | None = None
        self._orders: tuple[Tile, list[Order]] | None = None  # of the last tile

    @property
    def coded(self) -> Area:
        """All positions that are coded."""
        return slice(0, self.grid.height), slice(0, self.grid.width)

    def orders(self, tile: Tile) -> list[Order]:
        """Return the elements of a tile that each pass codes; they follow from its hyper indices alone."""
        if self._orders is None or self._orders[0] != tile:
            tables = self.model.tables
            z = None if self.z is None else self.z[(slice(None), *tile.hyper)]
            self._orders = tile, tables.orders(tables.classes_of(z, self.beta_byte, tile.grid))
        return self._orders[1]

    def put(self, tile: Tile, order: Order, indices: Sequence[Indices]) -> None:
        """Take over the symbols of one pass of a tile."""
        part = self.residuals[(slice(None), *tile.area)]
        flat = part.reshape(-1)  # of a tile among others a copy
        flat[order.elements] = self.model.tables.codewords(order, indices)
        if not np.shares_memory(flat, part):
            part[:] = flat.reshape(part.shape)

    def means(self, number: int, area: Area) -> tuple[Floats, Floats]:
        """Return the means and steps with which a pass codes an area, (M, rows, columns) each.

        Args:
            number: of the pass: 0, or 1, for which all symbols of pass 0 in and around the area must be there.
            area: within the coded positions, from an even row and column.
        """
        mean, step = (self._describe(area)[:2]) if number == 0 else self._centres(area)
        return mean, step

    def values(self, area: Area) -> Floats:
        """Return the decoded latent of an area, (M, rows, columns); beyond the coded positions it holds means.

        Args:
            area: of the grid padded to whole positions of z, from an even row and column.
        """
        centre, step = self._centres(area) if self.model.tables.has_hyper else self._describe(area)[:2]
        decoded = self._residuals(area)
        decoded *= step
        if self.model.tables.has_hyper:
            decoded *= ~first_half(*centre.shape)
        decoded += centre
        return decoded

    def _residuals(self, area: Area) -> Floats:
        """Return the residuals of an area, 0 beyond the coded positions."""
        rows, columns = area
        known = self.residuals[:, rows, columns]
        padded = np.zeros((len(known), rows.stop - rows.start, columns.stop - columns.start), np.float32)
        padded[:, : known.shape[1], : known.shape[2]] = known
        return padded

    def _describe(self, area: Area) -> tuple[Floats, ...]:
        """Return the means, steps and features of an area, as z tells them."""
        outer = grown(area, self.model.halos["hyper"], self._whole)
        described = self._described if outer == self._whole else None
        if described is None:
            rows, columns = outer
            hyper = (slice(side.start // HYPER, side.stop // HYPER) for side in outer)
            z = None if self.z is None else self.z[(slice(None), *hyper)]
            shape = (self.model.tables.latent, rows.stop - rows.start, columns.stop - columns.start)
            described = self.model.describe(z, self.beta_byte, shape)
            if outer == self._whole:
                self._described = described
        return tuple(part[_inside(area, outer)] for part in described)

    def _centres(self, area: Area) -> tuple[Floats, Floats]:
        """Return the decoded first half with the means of the second, and the steps."""
        outer = grown(area, self.model.halos["refine"], self._whole)
        mean, step, features = self._describe(outer)
        centre = self._centre if outer == self._whole else None
        if centre is None:
            half = first_half(*mean.shape)
            centre = self._residuals(outer)
            centre *= step
            centre *= half
            centre += mean
            seen = self._extended(centre, outer)
            shift = self.model.refine(seen, features, self.beta_byte)
            shift *= ~half
            centre += shift
            guard(centre, seen, step)
            if outer == self._whole:
                self._centre = centre
        return centre[_inside(area, outer)], step[_inside(area, outer)]

    def _extended(self, centre: Floats, area: Area) -> Floats:
        """Fill the positions beyond the coded ones with the nearest coded column and row of the same parity.

        Same parity, so that a position of the first pass takes one that is decoded. Without this, the networks would
        see bare means there, and predict the last column and row from them.
        """
        if all(side.stop <= coded for side, coded in zip(area, (self.grid.height, self.grid.width), strict=True)):
            return centre.copy()
        rows, columns = (
            nearest_coded(side.stop, coded)[side] - side.start
            for side, coded in zip(area, (self.grid.height, self.grid.width), strict=True)
        )
        return np.ascontiguousarray(centre[:, rows[:, None], columns])


def grown(area: Area, halo: int, limits: Area) -> Area:
    """Return an area with a halo, within limits; its bounds are multiples of `HYPER` or those of the limits."""
    rows, columns = (
        slice(
            max((side.start - halo) // HYPER * HYPER, limit.start),
            min(-(-(side.stop + halo) // HYPER) * HYPER, limit.stop),
        )
        for side, limit in zip(area, limits, strict=True)
    )
    return rows, columns


def _inside(area: Area, outer: Area) -> tuple[slice, slice, slice]:
    """Return the index of an area in an array (C, rows, columns) of a larger one."""
    rows, columns = (
        slice(side.start - around.start, side.stop - around.start) for side, around in zip(area, outer, strict=True)
    )
    return slice(None), rows, columns


def guard(y_hat: Floats, seen: Floats, step: Floats) -> None:
    """Keep second-pass means of the lowest frequencies between their four decoded neighbours, in place.

    Brightness is continuous, and a network that has seen few white skies may predict a mean that no codeword
    of the element's class can mend. One step of slack; the first half is left as it is.

    Args:
        y_hat: (M, h, w) decoded first half, means of the second.
        seen: the same with positions beyond the picture filled.
        step: (M, h, w).
    """
    count, height, width = GUARDED, *y_hat.shape[1:]
    around = np.pad(seen[:count], ((0, 0), (1, 1), (1, 1)), mode="reflect" if min(height, width) > 1 else "edge")
    sides = (around[:, :-2, 1:-1], around[:, 2:, 1:-1], around[:, 1:-1, :-2], around[:, 1:-1, 2:])
    low, high = np.minimum.reduce(sides) - step[:count], np.maximum.reduce(sides) + step[:count]
    means = ~first_half(*y_hat.shape)[:count]
    y_hat[:count] = np.where(means, np.clip(y_hat[:count], low, high), y_hat[:count])
