"""Rate control: the file that comes nearest to a wanted size or PSNR.

The analysis of a picture is run once, at a rate step guessed from a sample of it. Trials after that repeat only the
cheap part, the choice of symbols, and for a wanted PSNR the synthesis: a file of a neighbouring rate step made from the
same analysis is nearly as good as one from its own. Only a guess that was far off takes a second analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from shcodec.codec.analysis import Analysis, Coded, analyse, encode_latent, own_rate_weight
from shcodec.codec.effort import Effort
from shcodec.codec.goals import Goal, PsnrGoal, Trial
from shcodec.codec.improvement import improve
from shcodec.codec.rate_choice import LAST, FilesByRate, is_plain, ladder
from shcodec.container import Chunk
from shcodec.model.networks import Model
from shcodec.pictures.picture import Pixels, as_rgb
from shcodec.support.errors import ShcError
from shcodec.support.progress import Report

PROBES = 8  # files that are made of the whole picture, at most
FIRST_PROBES = 3  # of these before the latent is improved, where the effort asks for that
WEIGHT_PROBES = 3  # of these after it, by the rate weight alone
REACH = 24  # rate steps from an analysis within which its files are good enough
RATE_STEPS = (0.0, 249.0)  # rate steps that are tried: beta from 2 to 3500
TRIM = 0.02  # squared quantiser steps per bit: what the rate weight grows by on the way to the next rate step
MOST_WEIGHT = 0.6
SQUARES = (128, 64)  # sides of the squares that the sample is made of, the larger ones if the picture holds enough
SHARE, MOST_SQUARES = 8, 16  # the sample: an eighth of the picture, at most 16 squares
SAMPLE_PROBES = 3
GOLDEN_RATIO = 0.618034  # rows of the squares: multiples of it lie spread evenly, and not on a line


class TargetError(ShcError):
    """With `strict`: no file of this model comes near enough to what was wanted."""


@dataclass(frozen=True)
class Outcome:
    """A file, and how it came about.

    Attributes:
        coded: the file.
        probes: files that were made of the whole picture on the way.
        analyses: how often the analysis network ran over the whole picture.
        missed: empty, or a phrase that tells how far the file is from what was wanted.
    """

    coded: Coded
    probes: int
    analyses: int
    missed: str


def search(
    model: Model,
    samples: Pixels,
    goal: Goal,
    effort: Effort,
    report: Report,
    *,
    strict: bool = False,
    chunks: tuple[Chunk, ...] = (),
) -> Outcome:
    """Make the file that comes nearest to a goal.

    Args:
        model: the model.
        samples: (H, W, 3) uint8 of RGB or (H, W) of grey.
        goal: what is wanted.
        effort: how hard to try.
        report: told how the work goes on.
        strict: whether to fail where the goal cannot be met.
        chunks: what the file is to hold besides the symbols.

    Raises:
        TargetError: the goal was missed, and `strict`.
    """
    trials = _Trials(model, samples, goal, effort, chunks)
    trials.by_rate_step(guess(model, samples, goal), FIRST_PROBES if effort.improves else PROBES)
    if effort.improves:
        trials.improve(report, PROBES - trials.probes)
    if trials.falls_short and is_plain(samples):
        trials.by_ladder()
    best = goal.best(trials.tried)
    missed = "" if goal.met(best.level) else goal.told(best.level)
    if missed and trials.falls_short:
        missed += f", the most that model '{model.name}' can show of this picture"
    elif missed and strict:
        missed += f", which is as near as model '{model.name}' comes"
    if strict and missed:
        raise TargetError(missed)
    return Outcome(best.coded, trials.probes, trials.analyses, missed)


class _Trials:
    """Files made of one picture on the way to a goal."""

    def __init__(self, model: Model, samples: Pixels, goal: Goal, effort: Effort, chunks: tuple[Chunk, ...]) -> None:
        self.model, self.samples, self.goal, self.effort, self.chunks = model, samples, goal, effort, chunks
        self.tried: list[Trial] = []
        self.analysis: Analysis | None = None
        self.probes = self.analyses = 0
        self.finest = int(RATE_STEPS[0])  # rate step; below it, residuals of this picture lie beyond all codewords
        self.at_finest: float | None = None  # level there

    def by_rate_step(self, start: float, probes: int) -> None:
        """Turn the rate step; between whole steps, the rate weight."""

        def measure(dial: float) -> float:
            return self._at_dial(dial, own_rate_weight(self.model, int(dial)))

        follow(measure, self.goal, start, self.goal.slope, RATE_STEPS, probes, lambda: self.analyses)

    @property
    def falls_short(self) -> bool:
        """Whether a PSNR is wanted that the finest rate step does not reach, nor any other that was tried."""
        return (
            isinstance(self.goal, PsnrGoal)
            and self.at_finest is not None
            and all(trial.level < self.goal.wanted and not self.goal.met(trial.level) for trial in self.tried)
        )

    def by_ladder(self) -> None:
        """Try the few rate steps at which plain pictures are coded, from analyses of their own."""
        for rate_step in ladder(self.samples, self.finest):
            self._try(self._analyse(rate_step), rate_step, own_rate_weight(self.model, rate_step))

    def improve(self, report: Report, probes: int) -> None:
        """Improve the latent for the rate step that came nearest, then turn the rate weight alone.

        An improved latent lies close to the codewords of its own rate step, so that another step would undo much of it.
        Only where the weight does not reach far enough, the rate step is turned after all.
        """
        rate_step = self.goal.best(self.tried).coded.beta_byte
        analysis, start, improved = improve(self._near(rate_step), rate_step, self.effort, report)
        self.at_finest, before = None, len(self.tried)

        def by_weight(weight: float) -> float:
            return self._keep(analysis, improved) if weight == start else self._try(analysis, rate_step, weight)

        def by_rate_step(dial: float) -> float:
            return self._at_dial(dial, start, analysis)

        last = self.probes + probes
        follow(by_weight, self.goal, start, self.goal.weight_slope, (0.0, MOST_WEIGHT), WEIGHT_PROBES)
        level = self.goal.best(self.tried[before:]).level
        if self.probes < last and not self.goal.met(level):
            dial = rate_step + (self.goal.wanted - level) / self.goal.slope
            follow(by_rate_step, self.goal, dial, self.goal.slope, RATE_STEPS, last - self.probes)

    def _at_dial(self, dial: float, weight: float, analysis: Analysis | None = None) -> float:
        """Try a rate step that is not whole, or the finest that is within reach; return the level of the file."""
        while dial > self.finest or self.at_finest is None:
            rate_step = int(max(dial, self.finest))
            used = analysis or self._near(rate_step)
            level = self._try(used, rate_step, weight + TRIM * max(dial - rate_step, 0.0))
            coded = self.tried[-1].coded
            if analysis is None:  # neighbours get the moved hyper indices, too, so that sizes follow the dial
                self.analysis = replace(used, z=coded.latent.z)
            if not coded.overload.is_outside or rate_step == LAST:
                if dial <= self.finest:
                    self.at_finest = level
                return level
            self.finest = max(self.finest, rate_step + coded.overload.steps_to_reach)
        return self.at_finest

    def _near(self, rate_step: int) -> Analysis:
        """Return the last analysis if it was made near enough to a rate step, or else a new one."""
        if self.analysis is None or abs(self.analysis.beta_byte - rate_step) > REACH:
            self.analysis = self._analyse(rate_step)
        return self.analysis

    def _analyse(self, rate_step: int) -> Analysis:
        self.analyses += 1
        return analyse(self.model, self.samples, rate_step, chunks=self.chunks)

    def _try(self, analysis: Analysis, rate_step: int, weight: float) -> float:
        return self._keep(analysis, encode_latent(analysis, rate_step, weight))

    def _keep(self, analysis: Analysis, coded: Coded) -> float:
        level = self.goal.level(analysis, coded)
        self.tried.append(Trial(level, analysis, coded))
        self.probes += 1
        return level


def follow(
    measure: Callable[[float], float],
    goal: Goal,
    start: float,
    slope: float,
    ends: tuple[float, float],
    probes: int,
    scale: Callable[[], object] = lambda: None,
) -> float:
    """Turn a dial until the level that it sets is the wanted one: secants, inside a bracket once there is one.

    A level that now and then rises with the dial costs probes, but does no harm; where it never reaches what is wanted
    and falls again towards the fine end, its peak is looked for.

    Args:
        measure: dial -> level, falling on the whole.
        goal: what level is wanted.
        start: where to begin.
        slope: of the level, until two trials tell.
        ends: of the dial.
        probes: calls of `measure`, at most.
        scale: changes where a call of `measure` has made levels that cannot be compared with those before.

    Returns:
        The dial's last position.
    """
    high: tuple[float, float] | None = None  # dial and level where the level was too high: the dial goes up from there
    low: tuple[float, float] | None = None
    peak = (ends[0], -math.inf)  # of the levels that were too low, the highest
    worse: float | None = None  # dial on the fine side of the peak, once the fine end has turned out to be lower
    dial = min(max(start, ends[0]), ends[1])
    for probe in range(probes):
        before = scale()
        level = measure(dial)
        if scale() != before:  # what lies far off can be compared still
            high, low = (None if place is None or abs(place[0] - dial) <= REACH else place for place in (high, low))
        previous = high if level > goal.wanted else low
        if previous is not None and abs(dial - previous[0]) > 1e-6:
            steepness = (level - previous[1]) / (dial - previous[0]) / slope
            slope *= min(max(steepness, 0.4), 2.5)
        if level > goal.wanted:
            high = (dial, level)
        else:
            low = (dial, level)
            if level < peak[1] and (worse is not None or dial <= ends[0]):
                worse = dial
            peak = max(peak, low, key=lambda place: place[1])
        ended = (low is None and dial >= ends[1]) or (high is None and worse is None and dial <= ends[0])
        if goal.sure(level) or ended or probe == probes - 1:
            break
        if high is not None and low is not None:
            share = (high[1] - goal.wanted) / (high[1] - low[1])
            dial = high[0] + min(max(share, 0.1), 0.9) * (low[0] - high[0])
        elif worse is not None and high is None:
            if peak[0] - worse < 1:
                break
            dial = (worse + peak[0]) / 2
        else:
            dial = min(max(dial + (goal.wanted - level) / slope, ends[0]), ends[1])
    return dial


def guess(model: Model, samples: Pixels, goal: Goal) -> float:
    """Guess the rate step that reaches the goal from a sample of the picture; for small ones a constant of the goal."""
    part = sample(samples)
    if part is None:
        return goal.start
    files = FilesByRate(model, as_rgb(part))

    def measure(dial: float) -> float:
        rate_step = files.within_reach(int(dial))
        return goal.level(files.analysis(rate_step), files.coded(rate_step))

    return follow(measure, goal, goal.start, goal.slope, RATE_STEPS, SAMPLE_PROBES)


def sample(samples: Pixels) -> Pixels | None:
    """Return squares out of a picture, side by side, spread evenly: at most an eighth of it; None if it has too few.

    Args:
        samples: (H, W, 3) or (H, W) uint8.

    Returns:
        (S, n S, 3) or (S, n S) uint8, or None.
    """
    height, width = samples.shape[:2]
    for side in SQUARES:
        count = min(height * width // (SHARE * side * side), MOST_SQUARES)
        if count >= 2 and side <= min(height, width):
            places = (np.arange(count) + 0.5) / count
            rows = ((places * GOLDEN_RATIO * count) % 1 * (height - side)).astype(int)
            columns = (places * (width - side)).astype(int)
            parts = [samples[i : i + side, j : j + side] for i, j in zip(rows, columns, strict=True)]
            return np.concatenate(parts, axis=1)
    return None
