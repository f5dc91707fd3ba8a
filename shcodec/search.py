"""Rate control: the file that comes nearest to a wanted size or quality.

The analysis of a picture is run once, at a rate step guessed from a sample of it. What is tried after that is only the
cheap part, the choice of symbols, and for a wanted PSNR the synthesis: a file of a neighbouring rate step made from the
same analysis is nearly as good as one from its own. Only a guess that was far off takes a second analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shcodec.container import Chunk, chunks_size
from shcodec.effort import Effort, refine
from shcodec.encoder import Analysis, Coded, Pixels, analyse, code, distortion, own_rate_weight
from shcodec.errors import ShcError, UsageError
from shcodec.reports import Report
from shcodec.runtime import Model

PROBES = 8  # files that are made of the whole picture, at most
FIRST_PROBES = 3  # of these before the latent is refined, where the effort asks for that
WEIGHT_PROBES = 3  # of these after it, by the rate weight alone
REACH = 24  # rate steps from an analysis within which its files are good enough
STEPS = (0.0, 249.0)  # rate steps that are tried: beta from 2 to 3500
TRIM = 0.02  # squared steps per bit: what a whole step adds to the rate weight in its course
MOST_WEIGHT = 0.6
LEAST, AIM, SURE = 0.97, 0.988, 0.98  # shares of a wanted size: what will do, what is aimed at, what ends the search
WORD = 4  # bytes: the entropy coder writes whole words, so that the sizes of tiny files lie this far apart
CONTAINER = 22  # bytes of a file without chunks that do not grow with the picture
TOLERANCE, SURE_TOLERANCE = 0.1, 0.06  # dB
TILES = (128, 64)  # sides of the squares that the sample is made of, the larger ones if the picture holds enough
SHARE, MOST_TILES = 8, 16  # the sample: an eighth of the picture, at most 16 squares
SAMPLE_PROBES = 3
GOLDEN_RATIO = 0.618034  # rows of the squares: multiples of it lie spread evenly, and not on a line


class TargetError(ShcError):
    """With `strict`: no file of this model comes near enough to what was wanted."""


class Goal(Protocol):
    """What a search aims at: a level that falls as the rate step rises."""

    wanted: float
    slope: float  # of the level per rate step, until the picture's own is known
    weight_slope: float  # of the level per unit of the rate weight
    start: float  # rate step to begin with

    def level(self, analysis: Analysis, coded: Coded) -> float:
        """Where a file lies."""

    def sure(self, level: float) -> bool:
        """Whether the search may end here."""

    def met(self, level: float) -> bool:
        """Whether a file of this level will do."""

    def miss(self, level: float) -> float:
        """How bad a level is; of all files the one with the least is taken."""

    def told(self, level: float) -> str:
        """What was wanted and what a level is, for the user."""


class SizeGoal:
    """A file of at most `limit` bytes, and nearly that. The level is the logarithm of bits per pixel."""

    slope, weight_slope = -0.026, -1.8

    def __init__(self, limit: int, pixels: int, chunks: tuple[Chunk, ...] = ()) -> None:
        self.limit, self.pixels = limit, pixels
        self.fixed = CONTAINER + chunks_size(chunks)
        self.wanted = self._level(AIM * limit - self.fixed, pixels)
        self.start = (1.0 - self.wanted) / 0.027 + 16  # an average picture: 2 bits per pixel at step 16

    @staticmethod
    def _level(symbols: float, pixels: int) -> float:
        return math.log2(8 * max(symbols, 1.0) / pixels)

    def _size(self, level: float) -> int:
        return round(2**level * self.pixels / 8) + self.fixed

    def level(self, analysis: Analysis, coded: Coded) -> float:
        """Bits per pixel without the container, so that a sample, which has no chunks, stands for the whole."""
        symbols = len(coded.data) - CONTAINER - chunks_size(analysis.chunks)
        return self._level(symbols, analysis.rgb.shape[0] * analysis.rgb.shape[1])

    def sure(self, level: float) -> bool:
        """At most the limit, and close to it."""
        return SURE * self.limit <= self._size(level) <= self.limit

    def met(self, level: float) -> bool:
        """At most the limit, and at least 97 % of it or all but a word of the entropy coder."""
        size = self._size(level)
        return size <= self.limit and (size >= LEAST * self.limit or self.limit - size < WORD)

    def miss(self, level: float) -> float:
        """The largest file that fits is best, and the smallest if none does."""
        size = self._size(level)
        return self.limit - size if size <= self.limit else size

    def told(self, level: float) -> str:
        """Bytes."""
        return f"wanted {self.limit:,} bytes, reached {self._size(level):,}"


class QualityGoal:
    """A PSNR of the decoded 8-bit picture, in dB, which is the level."""

    slope, weight_slope = -0.07, -3.0

    def __init__(self, psnr: float) -> None:
        self.wanted = psnr
        self.start = 16 + (38.5 - psnr) / 0.07  # an average picture: 38.5 dB at step 16

    def level(self, analysis: Analysis, coded: Coded) -> float:
        """PSNR over all samples."""
        return 10 * math.log10(255**2 / max(distortion(analysis, coded), 1e-9))

    def sure(self, level: float) -> bool:
        """Well within the tolerance."""
        return abs(level - self.wanted) <= SURE_TOLERANCE

    def met(self, level: float) -> bool:
        """Within the tolerance."""
        return abs(level - self.wanted) <= TOLERANCE

    def miss(self, level: float) -> float:
        """Distance in dB."""
        return abs(level - self.wanted)

    def told(self, level: float) -> str:
        """Decibels."""
        return f"wanted {self.wanted:.2f} dB, reached {level:.2f}"


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


def goal_of(
    pixels: int,
    *,
    size: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    chunks: tuple[Chunk, ...] = (),
) -> Goal:
    """The goal that exactly one of size, bpp and psnr describes.

    Args:
        pixels: of the picture.
        size: largest number of bytes of the file.
        bpp: the same in bits per pixel.
        psnr: PSNR in dB.
        chunks: of the file to be, which count towards its size.

    Raises:
        UsageError: none or several are given, or one that is not positive and finite.
    """
    given = [value for value in (size, bpp, psnr) if value is not None]
    if len(given) != 1:
        raise UsageError("give one of a size, bits per pixel and a PSNR")
    if not (math.isfinite(given[0]) and given[0] > 0):
        raise UsageError(f"what is wanted must be a positive number, not {given[0]:g}")
    if psnr is not None:
        return QualityGoal(psnr)
    return SizeGoal(int(given[0]) if size is not None else int(given[0] * pixels / 8), pixels, chunks)


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
    """Makes the file that comes nearest to a goal.

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
    level, coded = trials.best()
    if effort.refines:
        trials.refined(report, PROBES - trials.probes)
        if goal.met(trials.best()[0]) or goal.miss(trials.best()[0]) < goal.miss(level):
            level, coded = trials.best()
    missed = "" if goal.met(level) else goal.told(level)
    if strict and missed:
        raise TargetError(f"{missed}, which is as near as model '{model.name}' comes")
    return Found(coded, trials.probes, trials.analyses, missed)


class _Trials:
    """Files made of one picture on the way to a goal."""

    def __init__(
        self, model: Model, rgb: Pixels, goal: Goal, effort: Effort, grey: bool, chunks: tuple[Chunk, ...]
    ) -> None:
        self.model, self.rgb, self.goal, self.effort = model, rgb, goal, effort
        self.grey, self.chunks = grey, chunks
        self.tried: list[tuple[float, Coded]] = []
        self.analysis: Analysis | None = None
        self.probes = self.analyses = 0

    def best(self) -> tuple[float, Coded]:
        """Level and file of the trial that came nearest."""
        return min(self.tried, key=lambda trial: self.goal.miss(trial[0]))

    def by_step(self, start: float, probes: int) -> None:
        """Turns the rate step; between whole steps, the rate weight."""

        def measure(dial: float) -> float:
            step = int(dial)
            if self.analysis is None or abs(self.analysis.beta_byte - step) > REACH:
                self.analysis = analyse(self.model, self.rgb, step, grey=self.grey, chunks=self.chunks)
                self.analyses += 1
            weight = own_rate_weight(self.model, step)
            return self._try(self.analysis, step, weight + TRIM * (dial - step))

        follow(measure, self.goal, start, self.goal.slope, STEPS, probes, lambda: self.analyses)

    def refined(self, report: Report, probes: int) -> None:
        """Refines the latent for the rate step that came nearest, then turns the rate weight alone.

        A refined latent lies close to the codewords of its own rate step, so that another step would undo much of it.
        Only where the weight does not reach far enough, the step is turned after all.
        """
        step = self.best()[1].beta_byte
        if self.analysis is None:
            return
        analysis, start, found = refine(self.analysis, step, self.effort, report)
        self.tried.clear()

        def by_weight(weight: float) -> float:
            return self._keep(analysis, found) if weight == start else self._try(analysis, step, weight)

        def by_step(dial: float) -> float:
            return self._try(analysis, int(dial), start + TRIM * (dial - int(dial)))

        last = self.probes + probes
        follow(by_weight, self.goal, start, self.goal.weight_slope, (0.0, MOST_WEIGHT), WEIGHT_PROBES)
        level, _ = self.best()
        if self.probes < last and not self.goal.met(level):
            dial = step + (self.goal.wanted - level) / self.goal.slope
            follow(by_step, self.goal, dial, self.goal.slope, STEPS, last - self.probes)

    def _try(self, analysis: Analysis, step: int, weight: float) -> float:
        return self._keep(analysis, code(analysis, step, weight))

    def _keep(self, analysis: Analysis, coded: Coded) -> float:
        level = self.goal.level(analysis, coded)
        self.tried.append((level, coded))
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
    """Turns a dial until the level that it sets is the wanted one: secants, inside a bracket once there is one.

    A level that now and then rises with the dial costs probes, but does no harm.

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
    dial = min(max(start, ends[0]), ends[1])
    for probe in range(probes):
        before = scale()
        level = measure(dial)
        if scale() != before:
            high = low = None
        previous = high if level > goal.wanted else low
        if previous is not None and abs(dial - previous[0]) > 1e-6:
            steepness = (level - previous[1]) / (dial - previous[0]) / slope
            slope *= min(max(steepness, 0.4), 2.5)
        if level > goal.wanted:
            high = (dial, level)
        else:
            low = (dial, level)
        ended = (low is None and dial >= ends[1]) or (high is None and dial <= ends[0])
        if goal.sure(level) or ended or probe == probes - 1:
            break
        if high is not None and low is not None:
            share = (high[1] - goal.wanted) / (high[1] - low[1])
            dial = high[0] + min(max(share, 0.1), 0.9) * (low[0] - high[0])
        else:
            dial = min(max(dial + (goal.wanted - level) / slope, ends[0]), ends[1])
    return dial


def guess(model: Model, rgb: Pixels, goal: Goal) -> float:
    """The rate step at which a sample of the picture reaches the goal; for small pictures a constant of the goal."""
    part = sample(rgb)
    if part is None:
        return goal.start

    def measure(dial: float) -> float:
        analysis = analyse(model, part, int(dial))
        return goal.level(analysis, code(analysis, int(dial), own_rate_weight(model, int(dial))))

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
