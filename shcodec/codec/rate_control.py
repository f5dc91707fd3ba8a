"""Rate control: the file that comes nearest to a wanted size or quality.

The analysis of a picture is run once, at a rate step guessed from a sample of it. What is tried after that is only the
cheap part, the choice of symbols, and for a wanted PSNR the synthesis: a file of a neighbouring rate step made from the
same analysis is nearly as good as one from its own. Only a guess that was far off takes a second analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from shcodec.codec.analysis import Analysis, Coded, analyse, code, own_rate_weight
from shcodec.codec.effort import Effort, refine
from shcodec.codec.goals import Goal, QualityGoal, Trial
from shcodec.codec.rate_choice import LAST, Files, is_plain, ladder
from shcodec.container import Chunk
from shcodec.model.networks import Model
from shcodec.pictures.picture import Pixels
from shcodec.support.errors import ShcError
from shcodec.support.progress import Report

PROBES = 8  # files that are made of the whole picture, at most
FIRST_PROBES = 3  # of these before the latent is refined, where the effort asks for that
WEIGHT_PROBES = 3  # of these after it, by the rate weight alone
REACH = 24  # rate steps from an analysis within which its files are good enough
STEPS = (0.0, 249.0)  # rate steps that are tried: beta from 2 to 3500
TRIM = 0.02  # squared steps per bit: what a whole step adds to the rate weight in its course
MOST_WEIGHT = 0.6
TILES = (128, 64)  # sides of the squares that the sample is made of, the larger ones if the picture holds enough
SHARE, MOST_TILES = 8, 16  # the sample: an eighth of the picture, at most 16 squares
SAMPLE_PROBES = 3
GOLDEN_RATIO = 0.618034  # rows of the squares: multiples of it lie spread evenly, and not on a line


class TargetError(ShcError):
    """With `strict`: no file of this model comes near enough to what was wanted."""


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        coded: the file.
        probes: files that were made of the whole picture.
        analyses: how often the analysis network ran over the whole picture.
        missed: empty, or a phrase that tells how far the file is from what was wanted.
    """

    coded: Coded
    probes: int
    analyses: int
    missed: str


def search(
    model: Model,
    rgb: Pixels,
    goal: Goal,
    effort: Effort,
    report: Report,
    *,
    strict: bool = False,
    grey: bool = False,
    chunks: tuple[Chunk, ...] = (),
) -> Found:
    """Make the file that comes nearest to a goal.

    Args:
        model: the model.
        rgb: (H, W, 3) uint8.
        goal: what is wanted.
        effort: how hard to try.
        report: told how the work goes on.
        strict: whether to fail where the goal cannot be met.
        grey: whether the file is to say that the picture is grey.
        chunks: what the file is to hold besides the symbols.

    Raises:
        TargetError: the goal was missed, and `strict`.
    """
    trials = _Trials(model, rgb, goal, effort, grey, chunks)
    trials.by_step(guess(model, rgb, goal), FIRST_PROBES if effort.refines else PROBES)
    if effort.refines:
        trials.refined(report, PROBES - trials.probes)
    if trials.falls_short and is_plain(rgb):
        trials.by_ladder()
    best = goal.best(trials.tried)
    missed = "" if goal.met(best.level) else goal.told(best.level)
    if missed and trials.falls_short:
        missed += f", the most that model '{model.name}' can show of this picture"
    elif missed and strict:
        missed += f", which is as near as model '{model.name}' comes"
    if strict and missed:
        raise TargetError(missed)
    return Found(best.coded, trials.probes, trials.analyses, missed)


class _Trials:
    """Files made of one picture on the way to a goal."""

    def __init__(
        self, model: Model, rgb: Pixels, goal: Goal, effort: Effort, grey: bool, chunks: tuple[Chunk, ...]
    ) -> None:
        self.model, self.rgb, self.goal, self.effort = model, rgb, goal, effort
        self.grey, self.chunks = grey, chunks
        self.tried: list[Trial] = []
        self.analysis: Analysis | None = None
        self.probes = self.analyses = 0
        self.finest = int(STEPS[0])  # rate step; below it, residuals of this picture lie beyond all codewords
        self.at_finest: float | None = None  # level there

    def by_step(self, start: float, probes: int) -> None:
        """Turn the rate step; between whole steps, the rate weight."""

        def measure(dial: float) -> float:
            return self._step(dial, own_rate_weight(self.model, int(dial)))

        follow(measure, self.goal, start, self.goal.slope, STEPS, probes, lambda: self.analyses)

    @property
    def falls_short(self) -> bool:
        """Whether a quality is wanted that the finest rate step does not reach, nor any other that was tried."""
        quality = isinstance(self.goal, QualityGoal) and self.at_finest is not None
        return quality and all(
            trial.level < self.goal.wanted and not self.goal.met(trial.level) for trial in self.tried
        )

    def by_ladder(self) -> None:
        """Try the few rate steps at which plain pictures are coded, from analyses of their own."""
        for step in ladder(self.rgb, self.finest):
            analysis = analyse(self.model, self.rgb, step, grey=self.grey, chunks=self.chunks)
            self.analyses += 1
            self._try(analysis, step, own_rate_weight(self.model, step))

    def _step(self, dial: float, weight: float, analysis: Analysis | None = None) -> float:
        """Level at a rate step that is not whole, or at the finest that the picture can have."""
        while dial > self.finest or self.at_finest is None:
            step = int(max(dial, self.finest))
            used = analysis or self._analysed(step)
            level = self._try(used, step, weight + TRIM * max(dial - step, 0.0))
            coded = self.tried[-1].coded
            if (
                analysis is None
            ):  # what was done about overload serves the neighbours, too, so that sizes follow the dial
                self.analysis = replace(used, z=coded.latent.z)
            if not coded.missed.is_outside or step == LAST:
                if dial <= self.finest:
                    self.at_finest = level
                return level
            self.finest = max(self.finest, step + coded.missed.steps_to_reach)
        return self.at_finest

    def _analysed(self, step: int) -> Analysis:
        if self.analysis is None or abs(self.analysis.beta_byte - step) > REACH:
            self.analysis = analyse(self.model, self.rgb, step, grey=self.grey, chunks=self.chunks)
            self.analyses += 1
        return self.analysis

    def refined(self, report: Report, probes: int) -> None:
        """Refines the latent for the rate step that came nearest, then turns the rate weight alone.

        A refined latent lies close to the codewords of its own rate step, so that another step would undo much of it.
        Only where the weight does not reach far enough, the step is turned after all.
        """
        step = self.goal.best(self.tried).coded.beta_byte
        analysis, start, found = refine(self._analysed(step), step, self.effort, report)
        self.at_finest, refined = None, len(self.tried)

        def by_weight(weight: float) -> float:
            return self._keep(analysis, found) if weight == start else self._try(analysis, step, weight)

        def by_step(dial: float) -> float:
            return self._step(dial, start, analysis)

        last = self.probes + probes
        follow(by_weight, self.goal, start, self.goal.weight_slope, (0.0, MOST_WEIGHT), WEIGHT_PROBES)
        level = self.goal.best(self.tried[refined:]).level
        if self.probes < last and not self.goal.met(level):
            dial = step + (self.goal.wanted - level) / self.goal.slope
            follow(by_step, self.goal, dial, self.goal.slope, STEPS, last - self.probes)

    def _try(self, analysis: Analysis, step: int, weight: float) -> float:
        return self._keep(analysis, code(analysis, step, weight))

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


def guess(model: Model, rgb: Pixels, goal: Goal) -> float:
    """Guess the rate step that reaches the goal from a sample of the picture; for small ones a constant of the goal."""
    part = sample(rgb)
    if part is None:
        return goal.start

    files = Files(model, part)

    def measure(dial: float) -> float:
        step = files.within_reach(int(dial))
        return goal.level(files.analysis(step), files.coded(step))

    return follow(measure, goal, goal.start, goal.slope, STEPS, SAMPLE_PROBES)


def sample(rgb: Pixels) -> Pixels | None:
    """Squares out of a picture, side by side, spread evenly: at most an eighth of it; None if it holds too few.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (S, n S, 3) uint8, or None.
    """
    height, width = rgb.shape[:2]
    for side in TILES:
        count = min(height * width // (SHARE * side * side), MOST_TILES)
        if count >= 2 and side <= min(height, width):
            places = (np.arange(count) + 0.5) / count
            rows = ((places * GOLDEN_RATIO * count) % 1 * (height - side)).astype(int)
            columns = (places * (width - side)).astype(int)
            parts = [rgb[i : i + side, j : j + side] for i, j in zip(rows, columns, strict=True)]
            return np.concatenate(parts, axis=1)
    return None
