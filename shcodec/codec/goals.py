"""What rate control aims at, a size or a PSNR, and which of the files that were tried comes nearest to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from shcodec.codec.analysis import Analysis, Coded, distortion
from shcodec.codec.request import Request
from shcodec.container import Chunk, chunks_size

LEAST, AIM, SURE = 0.97, 0.988, 0.98  # shares of a wanted size that will do, are aimed at, and end the search
WORD = 4  # bytes: the entropy coder writes whole words, so that the sizes of tiny files lie this far apart
CONTAINER = 22  # bytes of a file without chunks that do not grow with the picture
TOLERANCE, SURE_TOLERANCE = 0.1, 0.06  # dB


@dataclass(frozen=True)
class Trial:
    """A file that was made on the way.

    Attributes:
        level: the size or PSNR of the file, as the goal measures it.
        analysis: what it was made from.
        coded: the file.
    """

    level: float
    analysis: Analysis
    coded: Coded

    @property
    def size(self) -> int:
        """Return the bytes of the file."""
        return len(self.coded.data)

    @cached_property
    def error(self) -> float:
        """Return the mean squared error of the decoded picture: costs a synthesis."""
        return distortion(self.analysis, self.coded)

    def beats(self, other: Trial) -> bool:
        """Whether it is as good in fewer bytes, or better in as many; for goals whose level is the PSNR."""
        return (self.level >= other.level and self.size < other.size) or (
            self.level > other.level and self.size <= other.size
        )


class Goal(Protocol):
    """What a search aims at: a level, size or PSNR, that falls as the rate step rises."""

    wanted: float
    slope: float  # of the level per rate step, until the picture's own is known
    weight_slope: float  # of the level per unit of the rate weight
    start: float  # rate step to begin with

    def level(self, analysis: Analysis, coded: Coded) -> float:
        """Return the level of a file."""

    def sure(self, level: float) -> bool:
        """Whether the search may end here."""

    def met(self, level: float) -> bool:
        """Whether a file of this level will do."""

    def best(self, tried: Sequence[Trial]) -> Trial:
        """Return the file to take of those that were tried: never one that is larger and worse than another."""

    def told(self, level: float) -> str:
        """Return what was wanted and what a level is, for the user."""


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
        """Measure bits per pixel without the container, so that a sample, which has no chunks, stands for the whole."""
        symbols = len(coded.data) - CONTAINER - chunks_size(analysis.chunks)
        return self._level(symbols, analysis.samples.shape[0] * analysis.samples.shape[1])

    def sure(self, level: float) -> bool:
        """Whether it is at most the limit, and close to it."""
        return SURE * self.limit <= self._size(level) <= self.limit

    def met(self, level: float) -> bool:
        """Whether it is at most the limit, and at least 97 % of it or all but a word of the entropy coder."""
        size = self._size(level)
        return size <= self.limit and (size >= LEAST * self.limit or self.limit - size < WORD)

    def best(self, tried: Sequence[Trial]) -> Trial:
        """Choose the best picture in a file that fits, nearly always the largest; the smallest file if none fits."""
        fitting = [trial for trial in tried if trial.size <= self.limit]
        if len(fitting) < 2:
            return fitting[0] if fitting else min(tried, key=lambda trial: trial.size)
        return min(fitting, key=lambda trial: (trial.error, trial.size))

    def told(self, level: float) -> str:
        """Tell both in bytes."""
        return f"wanted {self.limit:,} bytes, reached {self._size(level):,}"


class PsnrGoal:
    """A PSNR of the decoded 8-bit picture, in dB, which is the level."""

    slope, weight_slope = -0.07, -3.0

    def __init__(self, psnr: float) -> None:
        self.wanted = psnr
        self.start = 16 + (38.5 - psnr) / 0.07  # an average picture: 38.5 dB at step 16

    def level(self, analysis: Analysis, coded: Coded) -> float:
        """Measure the PSNR over all samples."""
        return 10 * math.log10(255**2 / max(distortion(analysis, coded), 1e-9))

    def sure(self, level: float) -> bool:
        """Whether it is well within the tolerance."""
        return abs(level - self.wanted) <= SURE_TOLERANCE

    def met(self, level: float) -> bool:
        """Whether it is within the tolerance."""
        return abs(level - self.wanted) <= TOLERANCE

    def best(self, tried: Sequence[Trial]) -> Trial:
        """Return the smallest file that will do, else the nearest; none that another beats in both respects."""
        unbeaten = [trial for trial in tried if not any(other.beats(trial) for other in tried)]
        return min(
            unbeaten,
            key=lambda trial: (0, trial.size) if self.met(trial.level) else (1, abs(trial.level - self.wanted)),
        )

    def told(self, level: float) -> str:
        """Tell both in decibels."""
        return f"wanted {self.wanted:.2f} dB, reached {level:.2f}"


def goal_of(request: Request, pixels: int, chunks: tuple[Chunk, ...] = ()) -> Goal:
    """Return the goal of a request for a size, bits per pixel or a PSNR.

    Args:
        request: one without a beta.
        pixels: of the picture.
        chunks: of the file to be, which count towards its size.
    """
    if request.psnr is not None:
        return PsnrGoal(request.psnr)
    if request.bpp is not None:
        return SizeGoal(int(request.bpp * pixels / 8), pixels, chunks)
    assert request.size is not None
    return SizeGoal(int(request.size), pixels, chunks)
