"""A picture as the codec takes it: samples, and what lies beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shcodec.pictures.metadata import Metadata
from shcodec.support.errors import PictureError
from shcodec.support.limits import MAX_SIDE

Pixels = npt.NDArray[np.uint8]
"""8-bit samples: (H, W, 3) of RGB, or (H, W) of one channel."""


@dataclass(frozen=True)
class Picture:
    """A picture as the codec takes it: what Pillow shows of it, and what it carries along.

    Attributes:
        rgb: samples, (H, W, 3) uint8, C-contiguous; where `alpha` is 0, painted over smoothly.
        grey: whether it is a grey picture; the three channels are then equal.
        alpha: (H, W) uint8, 0 transparent, 255 opaque; None where the picture is opaque.
        metadata: colour profile (to which `rgb` belongs), EXIF (with the orientation, which is not applied), XMP.
        notes: what was changed on the way, one short phrase each; empty for a plain RGB picture.
    """

    rgb: Pixels
    grey: bool = False
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all samples of two (H, W, 3) uint8 arrays; infinite if they are equal."""
    # Row by row and exact: no temporary array of the picture's size.
    squares = sum(int(np.square(x.astype(np.int32) - y).sum(dtype=np.int64)) for x, y in zip(a, b, strict=True))
    return float("inf") if squares == 0 else 10.0 * float(np.log10(255.0**2 * a.size / squares))


def luma(rgb: Pixels) -> npt.NDArray[np.uint8]:
    """Return the one channel (H, W) as which (H, W, 3) decoded pixels of a grey file are shown."""
    out = np.empty(rgb.shape[:2], np.uint8)
    weights = np.array([19595, 38470, 7471], np.uint32)
    for row, line in zip(out, rgb, strict=True):  # row by row: no array of four bytes a sample for the whole
        row[:] = (line.astype(np.uint32) @ weights + 32768) >> 16
    return out


def check_pixels(rgb: npt.NDArray[np.generic]) -> None:
    """Raise PictureError for anything but (H, W, 3) uint8 pixels with sides that a file can hold."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise PictureError(f"pixels must be (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}")
    height, width = rgb.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise PictureError(f"{width}x{height} pixels: a side is longer than {MAX_SIDE}")
