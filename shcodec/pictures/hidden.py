"""The colours behind transparent pixels, painted over so that they cost next to nothing."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from shcodec.pictures.picture import Pixels

STRIP: Final = 256  # rows that are filled at once, which bounds memory


def fill_hidden(rgb: Pixels, alpha: Pixels) -> None:
    """Paints over what nobody can see, in place: smoothly, so that it costs few bytes and no edge of its own.

    Where alpha is 0 the colours are those of the visible pixels around, from a pyramid of means of visible pixels.

    Args:
        rgb: (H, W, 3) uint8, writable.
        alpha: (H, W) uint8.
    """
    visible = alpha > 0
    if visible.any():
        _fill(rgb, visible)
    else:
        rgb[:] = 128


def _fill(rgb: Pixels, visible: npt.NDArray[np.bool_]) -> None:
    """Fill all that is not visible; at least one pixel must be."""
    if visible.all():
        return
    means, seen = _halved(rgb, visible)
    _fill(means, seen)
    height, width = visible.shape
    coarse = Image.fromarray(means)
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        box = (0, top / 2, width / 2, bottom / 2)
        smooth = coarse.resize((width, bottom - top), Image.Resampling.BILINEAR, box=box)
        np.copyto(rgb[top:bottom], np.asarray(smooth), where=~visible[top:bottom, :, None])


def _halved(rgb: Pixels, visible: npt.NDArray[np.bool_]) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Means of the visible pixels of every 2 x 2 square, and whether there are any."""
    height, width = visible.shape
    sums = np.zeros((-(-height // 2), -(-width // 2), 3), np.uint16)
    counts = np.zeros((*sums.shape[:2], 1), np.uint16)
    for i in (0, 1):
        for j in (0, 1):
            seen = visible[i::2, j::2, None]
            rows, columns = seen.shape[:2]
            sums[:rows, :columns] += rgb[i::2, j::2] * seen
            counts[:rows, :columns] += seen
    sums += counts // 2  # to round
    return (sums // np.maximum(counts, 1)).astype(np.uint8), counts[..., 0] > 0
