"""BD-rate: hand-computed cases, an independent implementation, and what must not enter a curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from shcodec.bench.bd_rate import bd_rate, curve, mean_percent, rate_at

RATES = (0.07, 0.16, 0.35, 0.68, 1.2)
QUALITIES = (26.2, 28.7, 31.6, 34.9, 38.3)


def independent_bd_rate(
    anchor: tuple[Sequence[float], Sequence[float]], test: tuple[Sequence[float], Sequence[float]]
) -> float:
    """BD-rate in percent by the formulas of Fritsch and Carlson, summed numerically: no library but numpy."""
    low = max(anchor[1][0], test[1][0])
    high = min(anchor[1][-1], test[1][-1])
    grid = np.linspace(low, high, 20001)
    difference = [pchip(q, np.log(r))(grid) for r, q in (test, anchor)]
    mean = np.trapezoid(difference[0] - difference[1], grid) / (high - low)
    return 100.0 * (math.exp(mean) - 1.0)


def pchip(x: Sequence[float], y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Piecewise cubic Hermite interpolation with harmonic-mean slopes and three-point ends."""
    h, delta = np.diff(x), np.diff(y) / np.diff(x)
    slopes = np.zeros(len(x))
    for k in range(1, len(x) - 1):
        if delta[k - 1] * delta[k] > 0:
            w1, w2 = 2 * h[k] + h[k - 1], h[k] + 2 * h[k - 1]
            slopes[k] = (w1 + w2) / (w1 / delta[k - 1] + w2 / delta[k])
    for end, (h0, h1, d0, d1) in ((0, (h[0], h[1], delta[0], delta[1])), (-1, (h[-1], h[-2], delta[-1], delta[-2]))):
        slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        slopes[end] = 0 if slope * d0 <= 0 else 3 * d0 if d0 * d1 < 0 and abs(slope) > 3 * abs(d0) else slope

    def evaluate(at: np.ndarray) -> np.ndarray:
        k = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
        t = (at - np.asarray(x)[k]) / h[k]
        basis = ((1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2, t**2 * (3 - 2 * t), t**2 * (t - 1))
        value: np.ndarray = (
            basis[0] * y[k] + basis[1] * h[k] * slopes[k] + basis[2] * y[k + 1] + basis[3] * h[k] * slopes[k + 1]
        )
        return value

    return evaluate


def test_equal_curves_differ_by_nothing() -> None:
    result = bd_rate(curve(RATES, QUALITIES), curve(RATES, QUALITIES))
    assert result is not None
    assert result.percent == pytest.approx(0.0)
    assert (result.low, result.high) == (QUALITIES[0], QUALITIES[-1])


@pytest.mark.parametrize("factor", [0.5, 0.9, 2.0])
def test_a_constant_factor_is_the_bd_rate(factor: float) -> None:
    result = bd_rate(curve(RATES, QUALITIES), curve([factor * rate for rate in RATES], QUALITIES))
    assert result is not None
    assert result.percent == pytest.approx(100 * (factor - 1))


def test_two_lines_by_hand() -> None:
    # Over 30..40 dB the log-rate of the anchor runs from ln 1 to ln 4, that of the test from ln 1 to ln 1: the mean
    # difference is -ln(4)/2, a factor of a half.
    result = bd_rate(curve([1.0, 4.0], [30.0, 40.0]), curve([1.0, 1.0 + 1e-12], [30.0, 40.0]))
    assert result is not None
    assert result.percent == pytest.approx(-50.0)


def test_only_the_common_range_counts() -> None:
    # The test is twice the anchor where both are, and far from it where only one is.
    anchor = curve([1.0, 2.0, 4.0], [30.0, 32.0, 34.0])
    test = curve([4.0, 8.0, 1000.0], [32.0, 34.0, 34.5])
    result = bd_rate(anchor, test)
    assert result is not None
    assert (result.low, result.high) == (32.0, 34.0)
    expected = independent_bd_rate(([1.0, 2.0, 4.0], [30.0, 32.0, 34.0]), ([4.0, 8.0, 1000.0], [32.0, 34.0, 34.5]))
    assert result.percent == pytest.approx(expected, rel=1e-5)


def test_an_independent_implementation_agrees() -> None:
    generator = np.random.default_rng(5)
    for _ in range(20):
        pair = []
        for size in generator.integers(3, 9, 2):
            rates = np.cumprod(generator.uniform(1.1, 2.5, size)) * 0.05
            qualities = 25 + np.cumsum(generator.uniform(0.5, 4.0, size))
            pair.append((rates.tolist(), qualities.tolist()))
        result = bd_rate(curve(*pair[0]), curve(*pair[1]))
        if result is not None:
            assert result.percent == pytest.approx(independent_bd_rate(*pair), rel=1e-4, abs=1e-4)


def test_no_common_range() -> None:
    assert bd_rate(curve(RATES, QUALITIES), curve(RATES, [quality + 20 for quality in QUALITIES])) is None


def test_a_single_point_is_no_curve() -> None:
    assert bd_rate(curve(RATES, QUALITIES), curve([1.0], [30.0])) is None
    assert bd_rate(curve(RATES, QUALITIES), curve([], [])) is None


def test_points_in_any_order_and_beaten_or_infinite_ones_left_out() -> None:
    points = curve([4.0, 1.0, 2.0, 3.0, 5.0, 2.0], [math.inf, 30.0, 33.0, 32.0, 36.0, 31.0])
    assert points.rate.tolist() == [1.0, 2.0, 5.0]
    assert points.quality.tolist() == [30.0, 33.0, 36.0]


def test_rate_at_a_quality() -> None:
    points = curve(RATES, QUALITIES)
    for rate, quality in zip(RATES, QUALITIES, strict=True):
        assert rate_at(points, quality) == pytest.approx(rate)
    assert rate_at(points, QUALITIES[0] - 0.1) is None
    assert rate_at(points, QUALITIES[-1] + 0.1) is None


def test_mean_over_pictures_tells_how_many() -> None:
    half = bd_rate(curve(RATES, QUALITIES), curve([rate / 2 for rate in RATES], QUALITIES))
    same = bd_rate(curve(RATES, QUALITIES), curve(RATES, QUALITIES))
    mean, count = mean_percent([half, None, same])
    assert mean == pytest.approx(-25.0)
    assert count == 2
    assert mean_percent([None]) == (None, 0)
