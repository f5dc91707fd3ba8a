"""Quality from 0 to 100, as other codecs have it: another name for beta.

    quality   0   10   25    50   75   80   85   90   95  100
    beta   4096 2276  943   217   50 26.3 13.8 7.25 3.81    2

Two exponentials that meet at the default: below 75 beta doubles every 11.8 points, above it every 5.4.
"""

from __future__ import annotations

import math
from typing import Final

from shcodec.container import MAX_BETA, MIN_BETA
from shcodec.support.errors import UsageError

DEFAULT_BETA: Final = 50.0
DEFAULT_QUALITY: Final = 75.0
"""The quality whose beta is the default."""
_MOST: Final = 100.0


def beta_of(quality: float) -> float:
    """Return the beta of a quality: 4096 * (50 / 4096) ** (q / 75) up to 75, then 50 * (2 / 50) ** ((q - 75) / 25).

    Args:
        quality: 0 (smallest file, beta 4096) to 100 (best picture, beta 2).

    Raises:
        UsageError: the quality is not a number in this range.
    """
    if not 0 <= quality <= _MOST:
        raise UsageError(f"the quality must be from 0 to {_MOST:g}, not {quality:g}")
    if quality <= DEFAULT_QUALITY:
        return MAX_BETA * math.pow(DEFAULT_BETA / MAX_BETA, quality / DEFAULT_QUALITY)
    return DEFAULT_BETA * math.pow(MIN_BETA / DEFAULT_BETA, (quality - DEFAULT_QUALITY) / (_MOST - DEFAULT_QUALITY))


def quality_of(beta: float) -> float:
    """Return the quality of a beta, 2 to 4096: the inverse of `beta_of`."""
    if beta >= DEFAULT_BETA:
        return DEFAULT_QUALITY * math.log(MAX_BETA / beta) / math.log(MAX_BETA / DEFAULT_BETA)
    return _MOST - (_MOST - DEFAULT_QUALITY) * math.log(beta / MIN_BETA) / math.log(DEFAULT_BETA / MIN_BETA)
