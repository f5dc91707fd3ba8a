"""Bjøntegaard rate: how many more bytes one codec needs than another for the same quality.

The logarithm of the rate is interpolated as a function of quality by a monotone cubic (PCHIP) and averaged over the
range of qualities that both curves reach; nothing is extrapolated.

Sources: G. Bjøntegaard, VCEG-M33 (2001); F. N. Fritsch and R. E. Carlson, "Monotone piecewise cubic interpolation",
SIAM J. Numer. Anal. 17 (1980).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Curve:
    """A rate-distortion curve that can be inverted: both arrays rise strictly.

    Attributes:
        rate: (n,) float64, bits per pixel or bytes, positive.
        quality: (n,) float64, decibels or any other measure that grows with quality.
    """

    rate: npt.NDArray[np.float64]
    quality: npt.NDArray[np.float64]


@dataclass(frozen=True)
class BdRate:
    """The mean difference in rate between two curves.

    Attributes:
        percent: change of the rate against the anchor; negative means fewer bytes.
        low: lower end of the range of qualities compared.
        high: upper end of that range.
    """

    percent: float
    low: float
    high: float


def curve(rate: Sequence[float], quality: Sequence[float]) -> Curve:
    """Build a curve from measured points, in any order.

    Points that are not finite (a lossless picture has no PSNR) and points that another one beats in both rate and
    quality are left out: the rate would not be a function of the quality there.

    Args:
        rate: rates, one per setting.
        quality: qualities, one per setting.
    """
    kept: list[tuple[float, float]] = []
    for r, q in sorted(zip(rate, quality, strict=True), key=lambda point: (point[0], -point[1])):
        if math.isfinite(r) and math.isfinite(q) and r > 0 and (not kept or q > kept[-1][1]):
            kept.append((r, q))
    points = np.asarray(kept, dtype=np.float64).reshape(-1, 2)
    return Curve(rate=points[:, 0], quality=points[:, 1])


def bd_rate(anchor: Curve, test: Curve) -> BdRate | None:
    """Average the difference in log-rate over the common range of qualities.

    Args:
        anchor: the curve to compare with.
        test: the curve under test.

    Returns:
        The BD-rate, or None where a curve has fewer than two points or the two share no range.
    """
    if min(anchor.quality.size, test.quality.size) < 2:
        return None
    low = float(max(anchor.quality[0], test.quality[0]))
    high = float(min(anchor.quality[-1], test.quality[-1]))
    if low >= high:
        return None
    difference = (_log_rate_integral(test, low, high) - _log_rate_integral(anchor, low, high)) / (high - low)
    return BdRate(percent=100.0 * math.expm1(difference), low=low, high=high)


def rate_at(points: Curve, quality: float) -> float | None:
    """Interpolate the rate that a codec needs for a given quality.

    Args:
        points: the codec's curve.
        quality: the quality wanted, in the curve's own unit.

    Returns:
        The rate, or None outside the measured range.
    """
    from scipy.interpolate import PchipInterpolator

    if points.quality.size < 2 or not points.quality[0] <= quality <= points.quality[-1]:
        return None
    return float(np.exp(PchipInterpolator(points.quality, np.log(points.rate))(quality)))


def mean_percent(results: Iterable[BdRate | None]) -> tuple[float | None, int]:
    """Average the BD-rates of single pictures.

    Args:
        results: one entry per picture; None where its curves share no range.

    Returns:
        The mean in percent (None if there is none) and the number of pictures in it.
    """
    percents = [result.percent for result in results if result is not None]
    return (float(np.mean(percents)) if percents else None), len(percents)


def _log_rate_integral(points: Curve, low: float, high: float) -> float:
    from scipy.interpolate import PchipInterpolator

    return float(PchipInterpolator(points.quality, np.log(points.rate)).integrate(low, high))
