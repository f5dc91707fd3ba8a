"""Large pictures: one latent grid, cut into tiles that are entropy-coded apart from one another.

Tiles do not overlap in the file, and they follow from the picture's size alone. They bound the memory that symbols
take, let a part of a picture be decoded alone, and keep damage where it is. The networks know nothing of them: they see
windows with a halo, across the borders of tiles (`shcodec.model.latent`), so that none can be seen in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shcodec.support.errors import LimitError
from shcodec.symbols.tables import Grid

SIDE = 32
"""Positions of z, 64 pixels each, on the longest side of a tile: 2048 pixels."""
MOST_WITHOUT_HYPER = 4
"""Tiles of a picture whose model has no hyper path: there an empty stream is a valid tile, so bytes bound nothing."""

Area = tuple[slice, slice]
"""Rows and columns."""


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
        top, left = 4 * self.top, 4 * self.left
        return slice(top, top + self.grid.height), slice(left, left + self.grid.width)

    @property
    def hyper(self) -> Area:
        """Its positions of z."""
        return (
            slice(self.top, self.top + self.grid.hyper_height),
            slice(self.left, self.left + self.grid.hyper_width),
        )

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of its pixels in a picture of a size."""
        left, top = 64 * self.left, 64 * self.top
        return left, top, min(16 * self.grid.width, width - left), min(16 * self.grid.height, height - top)

    def meets(self, area: Area) -> bool:
        """Whether it holds any position of an area of the latent grid."""
        return all(
            mine.start < other.stop and other.start < mine.stop for mine, other in zip(self.area, area, strict=True)
        )


def tiles_of(grid: Grid) -> list[Tile]:
    """Return the tiles of a picture, row by row: as few as possible, as equal as possible."""
    return [
        Tile(top, left, Grid(min(4 * bottom, grid.height) - 4 * top, min(4 * right, grid.width) - 4 * left,
                             bottom - top, right - left))
        for top, bottom in _parts(grid.hyper_height)
        for left, right in _parts(grid.hyper_width)
    ]  # fmt: skip


def check_number(tiles: Sequence[Tile], *, has_hyper: bool) -> None:
    """Raise LimitError for more tiles than a model without hyper path codes."""
    if not has_hyper and len(tiles) > MOST_WITHOUT_HYPER:
        raise LimitError(f"the model codes pictures of at most {MOST_WITHOUT_HYPER} tiles of {64 * SIDE} pixels a side")


def _parts(length: int) -> list[tuple[int, int]]:
    number = -(-length // SIDE)
    return [(i * length // number, (i + 1) * length // number) for i in range(number)]
