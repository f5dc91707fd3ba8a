"""The search for the step that meets a target: bits per weight, bytes of the file, or the error of all weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

from shcodec.errors import UsageError

FILL: Final = 0.97
"""Share of a size that is used at least."""
CLOSE_DB: Final = 0.05
_AIM: Final = 0.995  # of a size: what the sample says is not quite what comes
_TRIES: Final = 6
_SPAN: Final = 60  # halvings of the step, at most, between the coarsest and the finest

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
        """Raises UsageError unless exactly one is given, and is a positive number."""
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
    coarsest: float,
    finest: float,
) -> Trial[Result]:
    """Find the largest step whose cost is at most the limit, or that comes closest to it.

    Both functions fall as the step grows. The quick guess leads to a step, a full attempt tells by how much the guess
    was wrong there, and so on until one is good enough.

    Args:
        guess: The cost to expect of a step.
        attempt: The true cost of a step.
        limit: The cost that is wanted.
        slack: How far below the limit is good enough.
        exceeding: Whether costs up to ``slack`` above the limit are good, too.
        coarsest: The largest step that makes sense.
        finest: The smallest step that can be coded.

    Returns:
        The best trial: one within the limit if any attempt was, otherwise the cheapest.
    """
    aim = limit if exceeding else limit - slack * (1 - _AIM) / (1 - FILL)
    wrong = 0.0
    trials: list[Trial[Result]] = []
    for _ in range(_TRIES):
        step = float(np.float32(_solve(guess, aim - wrong, coarsest, finest)))
        if any(math.isclose(step, trial.step, rel_tol=1e-5) for trial in trials):
            break
        trial = attempt(step)
        trials.append(trial)
        if limit - slack <= trial.cost <= limit + (slack if exceeding else 0.0):
            return trial
        wrong = trial.cost - guess(step)
    if exceeding:
        return min(trials, key=lambda trial: abs(trial.cost - limit))
    within = [trial for trial in trials if trial.cost <= limit]
    return max(within, key=lambda trial: trial.cost) if within else min(trials, key=lambda trial: trial.cost)


def _solve(cost: Callable[[float], float], wanted: float, coarsest: float, finest: float) -> float:
    """Return the step with a cost, by false position in the logarithm with bisection as its guard."""
    low, high = math.log2(finest), math.log2(coarsest)
    at_low, at_high = cost(finest), cost(coarsest)
    if at_low <= wanted:
        return finest
    if at_high >= wanted:
        return coarsest
    for turn in range(_SPAN):
        middle = (low + high) / 2
        if turn % 3 != 2:
            middle = low + (high - low) * min(max((at_low - wanted) / (at_low - at_high), 0.02), 0.98)
        found = cost(2.0**middle)
        if abs(found - wanted) <= 5e-4 * abs(wanted) or high - low < 1e-4:
            return 2.0**middle
        if found > wanted:
            low, at_low = middle, found
        else:
            high, at_high = middle, found
    return 2.0 ** ((low + high) / 2)
