"""Quality of a decoded picture: PSNR, MS-SSIM and SSIM on 8-bit RGB.

Sources: Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment" (2003); Wang,
Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity" (2004).

torch and scikit-image are imported only where a measure needs them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shcodec.pictures import picture
from shcodec.pictures.picture import Pixels
from shcodec.support.errors import UsageError

MS_SSIM_MIN_SIDE = 161
"""Shortest side that MS-SSIM is defined for: five scales under an 11x11 window."""

SSIM_MIN_SIDE = 7
"""Shortest side that SSIM is defined for: one 7x7 window."""


@dataclass(frozen=True)
class Quality:
    """The measures of one decoded picture; None where a measure is not defined for its size.

    Attributes:
        psnr: dB over all three channels together; infinite for identical pictures.
        ms_ssim: 0..1.
        ms_ssim_db: -10 log10(1 - MS-SSIM).
        ssim: -1..1.
    """

    psnr: float
    ms_ssim: float | None
    ms_ssim_db: float | None
    ssim: float | None


def measure(original: Pixels, decoded: Pixels) -> Quality:
    """Take all measures of a decoded picture.

    Args:
        original: (H, W, 3) uint8 RGB.
        decoded: (H, W, 3) uint8 RGB, as it was written.

    Raises:
        UsageError: if the two are not 8-bit RGB pictures of the same size.
    """
    similarity = ms_ssim(original, decoded)
    return Quality(
        psnr=psnr(original, decoded),
        ms_ssim=similarity,
        ms_ssim_db=None if similarity is None else to_db(similarity),
        ssim=ssim(original, decoded),
    )


def psnr(original: Pixels, decoded: Pixels) -> float:
    """Return the peak signal-to-noise ratio in dB, from the squared error over all three channels together.

    Args:
        original: (H, W, 3) uint8 RGB.
        decoded: (H, W, 3) uint8 RGB.

    Raises:
        UsageError: if the two are not 8-bit RGB pictures of the same size.
    """
    _check(original, decoded)
    return picture.psnr(original, decoded)


def ms_ssim(original: Pixels, decoded: Pixels) -> float | None:
    """Return the multi-scale structural similarity on RGB, five scales; None below 161 pixels a side.

    Args:
        original: (H, W, 3) uint8 RGB.
        decoded: (H, W, 3) uint8 RGB.

    Raises:
        UsageError: if the two are not 8-bit RGB pictures of the same size.
    """
    _check(original, decoded)
    if min(original.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    import pytorch_msssim
    import torch

    def as_batch(rgb: Pixels) -> torch.Tensor:
        return torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32))[None]

    # One thread: the same result on every machine, and no threads that spin beside the codec that is timed next.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return float(pytorch_msssim.ms_ssim(as_batch(original), as_batch(decoded), data_range=255.0))
    finally:
        torch.set_num_threads(threads)


def ssim(original: Pixels, decoded: Pixels) -> float | None:
    """Return the structural similarity on RGB, 7x7 windows; None below 7 pixels a side.

    Args:
        original: (H, W, 3) uint8 RGB.
        decoded: (H, W, 3) uint8 RGB.

    Raises:
        UsageError: if the two are not 8-bit RGB pictures of the same size.
    """
    _check(original, decoded)
    if min(original.shape[:2]) < SSIM_MIN_SIDE:
        return None
    from skimage.metrics import structural_similarity

    pair = (rgb.astype(np.float32) for rgb in (original, decoded))  # float64 costs twice the time for nine digits
    similarity = structural_similarity(*pair, channel_axis=2, data_range=255)  # type: ignore[no-untyped-call]
    return float(similarity)


def to_db(similarity: float) -> float:
    """Put a similarity of at most 1 on a logarithmic scale: -10 log10(1 - similarity), in dB."""
    return -10.0 * math.log10(1.0 - similarity) if similarity < 1.0 else math.inf


def _check(original: Pixels, decoded: Pixels) -> None:
    for rgb in (original, decoded):
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise UsageError(f"not an 8-bit RGB picture: {rgb.dtype} array of shape {rgb.shape}")
    if original.shape != decoded.shape:
        sizes = " and ".join(f"{rgb.shape[1]}x{rgb.shape[0]}" for rgb in (original, decoded))
        raise UsageError(f"pictures of different size: {sizes}")
