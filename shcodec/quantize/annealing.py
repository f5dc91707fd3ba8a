"""How sigma, the hardness of soft assignments, rises: exponentially, or after the gap between soft and hard losses."""

from __future__ import annotations

import math
from typing import Final

GAP_EVERY: Final = 10
"""Steps between two measurements of the gap."""


def exponential(start: float, end: float, fraction: float) -> float:
    """Return sigma at a fraction, 0..1, of the way from start to end."""
    return start * math.pow(end / start, fraction)


def after_gap(
    sigma: float, gap: float, first_gap: float, step: int, *, gain: float, horizon: float, least: float
) -> float:
    """Return sigma after a measurement of the gap (Agustsson et al. 2017).

    Args:
        sigma: before it.
        gap: loss of hard assignments less that of soft ones; its target is gap(0) * T / (T + t).
        first_gap: gap(0).
        step: t, steps since the soft assignments began.
        gain: by how much sigma grows for each unit by which the gap exceeds its target.
        horizon: T, in steps.
        least: sigma never falls below it.
    """
    target = first_gap * horizon / (horizon + step)
    return max(sigma + gain * (gap - target), least)
