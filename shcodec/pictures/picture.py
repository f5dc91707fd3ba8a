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
        samples: (H, W, 3) uint8 of RGB or (H, W) of grey, C-contiguous; where `alpha` is 0, painted over smoothly.
        alpha: (H, W) uint8, 0 transparent, 255 opaque; None where the picture is opaque.
        metadata: colour profile (to which `samples` belong), EXIF (with the orientation, which is not applied), XMP.
        notes: what was changed on the way, one short phrase each; empty for a plain RGB picture.
    """

    samples: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def grey(self) -> bool:
        """Whether it is a grey picture."""
        return self.samples.ndim == 2

    @property
    def rgb(self) -> Pixels:
        """Return the samples as (H, W, 3), those of a grey picture with equal channels."""
        return as_rgb(self.samples)


def as_rgb(samples: Pixels) -> Pixels:
    """Return (H, W, 3) as it is, and (H, W) as three equal channels."""
    return np.repeat(samples[..., None], 3, axis=2) if samples.ndim == 2 else samples


def psnr(a: Pixels, b: Pixels) -> float:
    """Return the peak signal-to-noise ratio in dB over all samples of two uint8 arrays; infinite if they are equal."""
    # Row by row and exact: no temporary array of the picture's size.
    squares = sum(int(np.square(x.astype(np.int32) - y).sum(dtype=np.int64)) for x, y in zip(a, b, strict=True))
    return float("inf") if squares == 0 else 10.0 * float(np.log10(255.0**2 * a.size / squares))


def luma(rgb: Pixels) -> Pixels:
    """Return the one channel (H, W) as which (H, W, 3) decoded pixels of a grey file are shown."""
    out = np.empty(rgb.shape[:2], np.uint8)
    weights = np.array([19595, 38470, 7471], np.uint32)
    for row, line in zip(out, rgb, strict=True):  # row by row: no array of four bytes a sample for the whole
        row[:] = (line.astype(np.uint32) @ weights + 32768) >> 16
    return out


def check_samples(samples: npt.NDArray[np.generic]) -> None:
    """Raise PictureError for anything but uint8 of (H, W, 3) or (H, W) with sides that a file can hold."""
    if (
        samples.ndim not in (2, 3)
        or samples.shape[2:] not in ((), (3,))
        or samples.dtype != np.uint8
        or not samples.size
    ):
        raise PictureError(f"pixels must be (H, W, 3) uint8, not {samples.shape} {samples.dtype}")
    height, width = samples.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise PictureError(f"{width}x{height} pixels: a side is longer than {MAX_SIDE}")
