"""Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003) with numpy alone, in the memory of a few rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.pictures.picture import Pixels

MIN_SIDE = 161
"""Shortest side that the measure is defined for: five scales under a window of 11 pixels."""

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from the paper
_SIDE, _SIGMA = 11, 1.5  # of the window
_LUMINANCE, _CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_ROWS = 32  # that are looked at together: as many as the caches of a core hold

Planes = npt.NDArray[Any]


def ms_ssim_db(original: Pixels, decoded: Pixels) -> float | None:
    """Return MS-SSIM in dB, -10 log10(1 - MS-SSIM): infinite for equal pictures, None below 161 pixels a side.

    The five scales, the Gaussian window and the mean over the channels are those of pytorch-msssim.

    Args:
        original: (H, W, 3) uint8 RGB.
        decoded: the same shape.
    """
    if min(original.shape[:2]) < MIN_SIDE:
        return None
    first, second = (rgb.transpose(2, 0, 1) for rgb in (original, decoded))
    similarity = np.ones(3)
    for weight in _WEIGHTS[:-1]:
        _, structure = _means(first, second)
        similarity *= np.maximum(structure, 0) ** weight
        first, second = _halved(first), _halved(second)
    whole, _ = _means(first, second)
    mean = float((similarity * np.maximum(whole, 0) ** _WEIGHTS[-1]).mean())
    return 10 * math.log10(1 / (1 - mean)) if mean < 1 else math.inf


def _means(first: Planes, second: Planes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return SSIM and its contrast-structure term, each the mean over all windows of a plane: (3,)."""
    height, width = (side - _SIDE + 1 for side in first.shape[1:])
    whole, structure = np.zeros(3), np.zeros(3)
    for top in range(0, height, _ROWS):
        a, b = (planes[:, top : min(top + _ROWS, height) + _SIDE - 1].astype(np.float32) for planes in (first, second))
        mean_a, mean_b, square_a, square_b, product = _blurred(np.stack((a, b, a * a, b * b, a * b)))
        both, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
        contrast = (2 * (product - both) + _CONTRAST) / (square_a + square_b - squares + _CONTRAST)
        structure += contrast.sum((1, 2), dtype=np.float64)
        whole += ((2 * both + _LUMINANCE) / (squares + _LUMINANCE) * contrast).sum((1, 2), dtype=np.float64)
    return whole / (height * width), structure / (height * width)


def _blurred(planes: Planes) -> Planes:
    """Filter planes (..., H, W) with the window: (..., H - 10, W - 10)."""
    taps = np.exp(-((np.arange(_SIDE) - _SIDE // 2) ** 2) / (2 * _SIGMA**2))
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (-2, -1):
        length = planes.shape[axis] - _SIDE + 1
        parts = [_part(planes, start, length, axis) for start in range(_SIDE)]
        middle = _SIDE // 2
        total = taps[middle] * parts[middle]
        for i in range(middle):  # the window is symmetric
            total += taps[i] * (parts[i] + parts[_SIDE - 1 - i])
        planes = total
    return planes


def _part(planes: Planes, start: int, length: int, axis: int) -> Planes:
    """Return a view of some rows (axis -2) or columns (axis -1)."""
    part = slice(start, start + length)
    return planes[..., part, :] if axis == -2 else planes[..., part]


def _halved(planes: Planes) -> Planes:
    """Return means of 2x2 samples, (3, ceil(H/2), ceil(W/2)) float32; zeros pad odd sides in front, as there."""
    height, width = ((side + 1) // 2 for side in planes.shape[1:])
    top, left = (side % 2 for side in planes.shape[1:])
    half = np.zeros((len(planes), height, width), np.float32)
    for row in (0, 1):
        for column in (0, 1):
            part = planes[:, row ^ top :: 2, column ^ left :: 2]
            half[:, height - part.shape[1] :, width - part.shape[2] :] += part
    return half / 4
