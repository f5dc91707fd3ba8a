"""The colours behind transparent pixels, painted over so that they cost next to nothing."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from shcodec.pictures.picture import Pixels

STRIP: Final = 256  # rows that are filled at once, which bounds memory


def fill_hidden(samples: Pixels, alpha: Pixels) -> None:
    """Paint over fully transparent pixels, in place: smoothly, so that they cost few bytes and make no edge.

    Where alpha is 0 the colours are those of the visible pixels around, from a pyramid of means of visible pixels.

    Args:
        samples: (H, W, 3) or (H, W) uint8, writable.
        alpha: (H, W) uint8.
    """
    visible = alpha > 0
    if visible.any():
        _fill(samples, visible)
    else:
        samples[:] = 128


def _fill(samples: Pixels, visible: npt.NDArray[np.bool_]) -> None:
    """Fill all that is not visible; at least one pixel must be."""
    if visible.all():
        return
    means, seen = _halved(samples, visible)
    _fill(means, seen)
    height, width = visible.shape
    coarse = Image.fromarray(means)
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        box = (0, top / 2, width / 2, bottom / 2)
        smooth = coarse.resize((width, bottom - top), Image.Resampling.BILINEAR, box=box)
        np.copyto(samples[top:bottom], np.asarray(smooth), where=_beside(~visible[top:bottom], samples))


def _halved(samples: Pixels, visible: npt.NDArray[np.bool_]) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Return the means of the visible pixels of every 2 x 2 square, and whether there are any."""
    height, width = visible.shape
    counts = np.zeros((-(-height // 2), -(-width // 2)), np.uint16)
    sums = np.zeros((*counts.shape, *samples.shape[2:]), np.uint16)
    for i in (0, 1):
        for j in (0, 1):
            seen = visible[i::2, j::2]
            rows, columns = seen.shape
            sums[:rows, :columns] += samples[i::2, j::2] * _beside(seen, samples)
            counts[:rows, :columns] += seen
    sums += _beside(counts // 2, samples)  # to round
    return (sums // _beside(np.maximum(counts, 1), samples)).astype(np.uint8), counts > 0


def _beside(plane: npt.NDArray[Any], samples: Pixels) -> npt.NDArray[Any]:
    """Return a plane (H, W) with the axes of samples, (H, W, 3) or (H, W)."""
    return plane[..., None] if samples.ndim == 3 else plane
