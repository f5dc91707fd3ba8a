"""Where a run stands in its schedule: the share of the budget that is spent, and the learning rate."""

from __future__ import annotations

import math

from shcodec.train.objective import Phase
from shcodec.train.state import RunState

HARD_WARMUP = 50  # steps of warm-up of a hard phase that has a rate of its own


def fraction(run: RunState, time_limit: float | None) -> float:
    """Share of the budget that is spent, 0..1: steps or time, whichever is further."""
    by_steps = (run.step - run.first_step) / run.config.schedule.steps
    by_time = run.elapsed / time_limit if time_limit else 0.0
    return min(max(by_steps, by_time), 1.0)


def is_young(run: RunState) -> bool:
    """Whether a stable phase is still in the steps in which all classes are coded and none is an integer."""
    return run.step < run.config.schedule.young


def skips(run: RunState, spent: float) -> bool:
    """Whether cold classes are not coded any more."""
    return not is_young(run) if run.config.schedule.stable else spent >= run.config.schedule.skip


def integers(run: RunState, spent: float) -> bool:
    """Whether the class map's weights are rounded to what its integers hold."""
    return not is_young(run) if run.config.schedule.stable else spent >= run.config.schedule.integer


def learning_rate(run: RunState, spent: float) -> float:
    """Return the learning rate: warm-up, constant, then a cosine to the last one; a stable phase stays constant.

    Args:
        run: the state.
        spent: share of the budget that is spent.
    """
    c, s = run.config, run.config.schedule
    warm = 1.0
    if run.warm_from is not None:
        warm = min((run.step - run.warm_from + 1) / max(s.warmup, 1), 1.0)
    if s.stable:
        return c.lr * warm
    if c.hard_lr and run.phase is Phase.HARD:
        warm = min((run.step - run.phase_start + 1) / HARD_WARMUP, 1.0)
        return cosine(c.hard_lr * warm, c.last_lr, (spent - s.hard) / max(1 - s.hard, 1e-9))
    if spent < s.decay:
        return c.lr * warm
    end = s.codebooks if c.hard_lr else 1.0
    return cosine(c.lr * warm, c.last_lr, (spent - s.decay) / max(end - s.decay, 1e-9))


def cosine(first: float, last: float, position: float) -> float:
    """Return a value that falls from the first to the last along half a cosine, by its position, 0..1."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(max(position, 0.0), 1.0)))
