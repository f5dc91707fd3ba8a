"""The search for the step that meets a target: bits per weight, bytes of the file, or the error of all weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

from shcodec.support.errors import UsageError

FILL: Final = 0.97
"""Share of a size that is used at least."""
CLOSE_DB: Final = 0.05
_AIM: Final = 0.995  # of a size: what the sample says is not quite what comes
_TRIES: Final = 6
_BISECTIONS: Final = 10  # more tries where the secants went astray
_GUESSES: Final = 16
_CLOSE: Final = 2e-3  # how near a guess must come, relative to what is wanted
_FINEST_MOVE: Final = 1e-5  # octaves of the step
_FARTHEST_MOVE: Final = 4.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Target:
    """What is wanted; exactly one is given.

    Attributes:
        bits: Mean bits of a quantised weight, with all of the file that is not kept as it is; never exceeded.
        size: Bytes of the file; never exceeded.
        sqnr: Ratio of the quantised weights' energy to that of their error, in dB.
    """

    bits: float | None = None
    size: int | None = None
    sqnr: float | None = None

    def __post_init__(self) -> None:
        """Raise UsageError unless exactly one is given, and is a positive number."""
        given = [value for value in (self.bits, self.size, self.sqnr) if value is not None]
        if len(given) != 1:
            raise UsageError("give one of bits, size and sqnr")
        if not (math.isfinite(given[0]) and given[0] > 0):
            raise UsageError(f"a target must be a positive number, not {given[0]}")


@dataclass(frozen=True)
class Trial(Generic[Result]):
    """What came of a step.

    Attributes:
        step: The step.
        cost: What the target limits: bytes of the file, or decibels of the weights.
        result: Whatever else belongs to it.
    """

    step: float
    cost: float
    result: Result


def meet(
    guess: Callable[[float], float],
    attempt: Callable[[float], Trial[Result]],
    *,
    limit: float,
    slack: float,
    exceeding: bool,
    ends: tuple[float, float],
    start: float,
    slope: float,
) -> Trial[Result]:
    """Find the largest step whose cost is at most the limit, or that comes closest to it.

    Both functions fall as the step grows. The quick guess leads to the first step; attempts correct it.

    Args:
        guess: The cost to expect of a step.
        attempt: The true cost of a step.
        limit: The cost that is wanted.
        slack: How far below the limit is good enough.
        exceeding: Whether costs up to ``slack`` above the limit are good, too.
        ends: The finest and the coarsest step that can be tried.
        start: A first step.
        slope: By how much the cost changes with an octave of the step, where that is small; negative.

    Returns:
        The best trial: one within the limit if any attempt was, otherwise the cheapest.
    """
    aim = limit if exceeding else limit - min((1 - _AIM) * limit, slack / 2)
    low, high = (math.log2(end) for end in ends)
    x, slope = _solve(guess, aim, low, high, math.log2(start), slope)
    trials: list[Trial[Result]] = []
    for number in range(_TRIES + _BISECTIONS):
        trial = attempt(float(np.float32(2.0**x)))
        trials.append(trial)
        if limit - slack <= trial.cost <= limit + (slack if exceeding else 0.0):
            return trial
        low, high = (max(low, x), high) if trial.cost > aim else (low, min(high, x))
        if len(trials) > 1:
            slope = _secant(trials[-2], trial, slope)
        moved = min(max(x + (aim - trial.cost) / slope, low), high)
        if number >= _TRIES - 1 and high - low > _FINEST_MOVE:
            moved = (low + high) / 2
        if abs(moved - x) < _FINEST_MOVE:
            break
        x = moved
    if exceeding:
        return min(trials, key=lambda trial: abs(trial.cost - limit))
    within = [trial for trial in trials if trial.cost <= limit]
    return min(within, key=lambda trial: trial.step) if within else min(trials, key=lambda trial: trial.cost)


def _secant(one: Trial[Result], other: Trial[Result], slope: float) -> float:
    """Return the slope between two trials, or the one that was assumed where they say nothing of it."""
    width = math.log2(other.step) - math.log2(one.step)
    found = (other.cost - one.cost) / width if width else 0.0
    return found if found < 0.05 * slope else slope


def _solve(
    cost: Callable[[float], float], wanted: float, low: float, high: float, x: float, slope: float
) -> tuple[float, float]:
    """Return the logarithm of the step with a cost, and the slope there: secants, and bisection as their guard."""
    x = min(max(x, low), high)
    last: tuple[float, float] | None = None
    steepest = slope
    for _ in range(_GUESSES):
        found = cost(2.0**x)
        if last is not None and abs(x - last[0]) > _FINEST_MOVE:
            between = (found - last[1]) / (x - last[0])
            slope = between if 2 * steepest < between < 0.02 * steepest else slope
        if abs(found - wanted) <= _CLOSE * abs(wanted):
            break
        if found > wanted:
            low = max(low, x)
        else:
            high = min(high, x)
        last = x, found
        moved = x + min(max((wanted - found) / slope, -_FARTHEST_MOVE), _FARTHEST_MOVE)
        if not low < moved < high:  # beyond a step that is known to be too fine or too coarse, or at an end
            moved = (low + high) / 2 if high - low < _FARTHEST_MOVE else min(max(moved, low), high)
        if abs(moved - x) < _FINEST_MOVE:
            break
        x = moved
    return x, slope
