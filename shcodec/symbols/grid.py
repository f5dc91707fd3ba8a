"""Where symbols lie: the grid of latent positions over a picture, its two passes, and the tiles of large pictures.

A latent position stands for a patch of 16 x 16 pixels, a position of z for 4 x 4 latent positions. The grid is cut into
tiles that are entropy-coded apart from one another. Tiles do not overlap in the file, and they follow from the
picture's size alone. They bound the memory that symbols take, let a part of a picture be decoded alone, and keep damage
where it is. The networks know nothing of them: they see windows with a halo, across the borders of tiles
(`shcodec.model.latent`), so that none can be seen in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec.support.errors import LimitError

PATCH: Final = 16
"""Pixels along a side of a latent position."""
HYPER: Final = 4
"""Latent positions along a side of a position of z."""
HYPER_PATCH: Final = PATCH * HYPER
"""Pixels along a side of a position of z."""
TILE_SIDE = 32
"""Positions of z on the longest side of a tile: 2048 pixels."""
MOST_WITHOUT_HYPER: Final = 4
"""Tiles of a picture whose model has no hyper path: there an empty stream is a valid tile, so bytes bound nothing."""

Area = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Grid:
    """Sizes of the latent grid of a picture.

    Attributes:
        height: rows of coded latent positions, ceil(H / 16).
        width: columns of coded latent positions, ceil(W / 16).
        hyper_height: rows of z, ceil(H / 64).
        hyper_width: columns of z, ceil(W / 64).
    """

    height: int
    width: int
    hyper_height: int
    hyper_width: int

    @staticmethod
    def of(height: int, width: int) -> Grid:
        """Return the grid of a picture of height x width pixels."""
        return Grid(-(-height // PATCH), -(-width // PATCH), -(-height // HYPER_PATCH), -(-width // HYPER_PATCH))

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of latent positions, padded to whole positions of z."""
        return HYPER * self.hyper_height, HYPER * self.hyper_width


@dataclass(frozen=True)
class Tile:
    """A part of the latent grid that has a stream of its own.

    Attributes:
        top, left: its first row and column, in positions of z.
        grid: its sizes.
    """

    top: int
    left: int
    grid: Grid

    @property
    def area(self) -> Area:
        """Its coded positions in the latent grid."""
        top, left = HYPER * self.top, HYPER * self.left
        return slice(top, top + self.grid.height), slice(left, left + self.grid.width)

    @property
    def hyper(self) -> Area:
        """Its positions of z."""
        return (
            slice(self.top, self.top + self.grid.hyper_height),
            slice(self.left, self.left + self.grid.hyper_width),
        )

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, width and height of its pixels in a picture of a size."""
        left, top = HYPER_PATCH * self.left, HYPER_PATCH * self.top
        return left, top, min(PATCH * self.grid.width, width - left), min(PATCH * self.grid.height, height - top)

    def meets(self, area: Area) -> bool:
        """Whether it holds any position of an area of the latent grid."""
        return all(
            mine.start < other.stop and other.start < mine.stop for mine, other in zip(self.area, area, strict=True)
        )


def tiles_of(grid: Grid) -> list[Tile]:
    """Return the tiles of a picture, row by row: as few as possible, as equal as possible."""
    return [
        Tile(top, left, Grid(min(HYPER * bottom, grid.height) - HYPER * top,
                             min(HYPER * right, grid.width) - HYPER * left, bottom - top, right - left))
        for top, bottom in _parts(grid.hyper_height)
        for left, right in _parts(grid.hyper_width)
    ]  # fmt: skip


def check_number(tiles: Sequence[Tile], *, has_hyper: bool) -> None:
    """Raise LimitError for more tiles than a model without hyper path codes."""
    if not has_hyper and len(tiles) > MOST_WITHOUT_HYPER:
        side = HYPER_PATCH * TILE_SIDE
        raise LimitError(f"the model codes pictures of at most {MOST_WITHOUT_HYPER} tiles of {side} pixels a side")


def _parts(length: int) -> list[tuple[int, int]]:
    number = -(-length // TILE_SIDE)
    return [(i * length // number, (i + 1) * length // number) for i in range(number)]


def first_half(channels: int, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the spatial-channel checkerboard: True where an element is coded in the first pass, (M, h, w).

    Even positions of the first half of the channels, odd positions of the others.
    """
    odd = (np.arange(height)[:, None] + np.arange(width)) % 2 == 1
    upper = np.arange(channels) >= channels // 2
    first: npt.NDArray[np.bool_] = odd[None] == upper[:, None, None]
    return first


def nearest_coded(side: int, coded: int) -> npt.NDArray[np.int64]:
    """Return for every row (or column) of a latent the coded one that stands for it: itself, or the last of its parity.

    Args:
        side: rows in all, those beyond the picture included.
        coded: rows that are coded.
    """
    index = np.arange(side)
    return np.where(index < coded, index, np.maximum(coded - 1 - (index - coded + 1) % 2, 0))
