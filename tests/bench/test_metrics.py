"""PSNR, MS-SSIM and SSIM against values that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import make_photo

pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")

from shcodec.bench import metrics
from shcodec.support.errors import UsageError


def flat(level: int, height: int = 176, width: int = 176) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_psnr_of_known_errors() -> None:
    # An error of 1 everywhere: 20 log10(255). Black against white: 0 dB.
    assert metrics.psnr(flat(100), flat(101)) == pytest.approx(48.1308036)
    assert metrics.psnr(flat(0), flat(255)) == pytest.approx(0.0)
    # The error is taken over all three channels together: 3 in one of them is a mean of 3 squared levels.
    reddish = flat(100)
    reddish[..., 0] += 3
    assert metrics.psnr(flat(100), reddish) == pytest.approx(10 * math.log10(255**2 / 3))


def test_identical_pictures() -> None:
    photo = make_photo(170, 180)
    quality = metrics.measure(photo, photo)
    assert quality.psnr == math.inf
    assert quality.ms_ssim == pytest.approx(1.0)
    assert quality.ssim == pytest.approx(1.0)


def test_ms_ssim_of_flat_pictures() -> None:
    # Without any structure the contrast terms are 1 and the luminance of the coarsest scale is left, with exponent
    # 0.1333: (2ab + c) / (a^2 + b^2 + c), c = (0.01 * 255)^2.
    a, b, c = 100.0, 120.0, 2.55**2
    luminance = (2 * a * b + c) / (a * a + b * b + c)
    assert metrics.ms_ssim(flat(100), flat(120)) == pytest.approx(luminance**0.1333, abs=2e-4)  # float32
    assert metrics.ssim(flat(100), flat(120)) == pytest.approx(luminance, abs=1e-6)


def test_measures_that_a_small_picture_does_not_have() -> None:
    quality = metrics.measure(flat(10, 160, 400), flat(12, 160, 400))
    assert quality.ms_ssim is None
    assert quality.ms_ssim_db is None
    assert quality.ssim is not None
    assert metrics.measure(flat(10, 6, 400), flat(12, 6, 400)).ssim is None
    assert metrics.measure(flat(10, 161, 161), flat(12, 161, 161)).ms_ssim is not None


def test_decibels_of_a_similarity() -> None:
    assert metrics.to_db(0.9) == pytest.approx(10.0)
    assert metrics.to_db(0.99) == pytest.approx(20.0)
    assert metrics.to_db(1.0) == math.inf


def test_pictures_that_do_not_match() -> None:
    with pytest.raises(UsageError, match="20x10 and 10x20"):
        metrics.measure(flat(1, 10, 20), flat(1, 20, 10))
    with pytest.raises(UsageError, match="8-bit RGB"):
        metrics.psnr(flat(1)[..., 0], flat(1)[..., 0])
