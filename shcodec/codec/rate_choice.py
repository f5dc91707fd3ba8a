"""The rate step of a file: the one that is asked for, or a coarser one that gives a better picture.

There are two reasons for a coarser one. Residuals may lie beyond all codewords, which are counted in quantiser steps:
in a white sky at the lowest betas. And of small plain pictures (flat colours, gradients, white noise) the error is
hardly that of quantisation, so that it goes up and down with the rate step by chance.
"""

from __future__ import annotations

import numpy as np

from shcodec.codec.analysis import Analysis, Coded, analyse, code, distortion, own_rate_weight
from shcodec.container import Chunk
from shcodec.model.networks import Model
from shcodec.pictures.picture import Pixels
from shcodec.support.progress import Report, unheard

LAST = 255
LADDER = (*range(0, 256, 16), LAST)
"""Rate steps at which plain pictures are coded: few, so that all that are coarser can be tried."""
WORK = 3_000_000
"""Pixels that are coded for a plain picture, in all."""
MOST = 500_000
"""Pixels of a picture of which that is done: of larger ones too few steps could be tried."""
SMOOTH = 0.95  # share of second differences of at most 1 in a picture that is plain
ALIKE = 0.3  # correlation of neighbours that white noise does not have
BAND, SEEN = 16, 60_000  # rows that are looked at in one piece, and pixels in all


def start(
    model: Model,
    rgb: Pixels,
    beta_byte: int,
    *,
    grey: bool = False,
    chunks: tuple[Chunk, ...] = (),
    report: Report = unheard,
) -> tuple[Analysis, Coded]:
    """Analyses a picture and codes it at a rate step, or at a coarser one that makes a better file.

    Args:
        model, rgb, beta_byte, grey, chunks, report: as for `analyse`.

    Returns:
        The analysis at the step of the file, and the file.
    """
    files = Files(model, rgb, grey=grey, chunks=chunks, report=report)
    step = files.choose(beta_byte)
    return files.analysis(step), files.coded(step)


class Files:
    """The files of one picture, each made when it is first needed."""

    def __init__(
        self,
        model: Model,
        rgb: Pixels,
        *,
        grey: bool = False,
        chunks: tuple[Chunk, ...] = (),
        report: Report = unheard,
    ) -> None:
        self.model, self.rgb, self.grey, self.chunks, self.report = model, rgb, grey, chunks, report
        self._made: dict[int, tuple[Analysis, Coded]] = {}
        self._errors: dict[int, float] = {}

    def analysis(self, step: int) -> Analysis:
        """At a rate step."""
        return self._at(step)[0]

    def coded(self, step: int) -> Coded:
        """Return the file at exactly a rate step."""
        return self._at(step)[1]

    def error(self, step: int) -> float:
        """Mean squared error of that file's picture."""
        if step not in self._errors:
            self._errors[step] = distortion(*self._at(step))
        return self._errors[step]

    def _at(self, step: int) -> tuple[Analysis, Coded]:
        if step not in self._made:
            analysis = analyse(self.model, self.rgb, step, grey=self.grey, chunks=self.chunks, report=self.report)
            weight = own_rate_weight(self.model, step)
            self._made[step] = analysis, code(analysis, step, weight, self.report)
        return self._made[step]

    def choose(self, beta_byte: int) -> int:
        """Return the rate step of the file to write where one is asked for."""
        if is_plain(self.rgb):
            return self._best(ladder(self.rgb, beta_byte))
        return self.within_reach(beta_byte)

    def within_reach(self, step: int) -> int:
        """Return the finest rate step from one on at which residuals lie within the reach of codewords."""
        while self.coded(step).missed.is_outside and step < LAST:
            coarser = min(step + self.coded(step).missed.steps_to_reach, LAST)
            del self._made[step]  # it may be large
            step = coarser
        return step

    def _best(self, steps: list[int]) -> int:
        """Return the step of the best picture, of those from fine to coarse; of equals the coarsest."""
        return min(reversed(steps), key=self.error)


def ladder(rgb: Pixels, beta_byte: int) -> list[int]:
    """Return the rate steps from one on that are tried on a plain picture."""
    return [step for step in LADDER if step >= beta_byte][: WORK // (rgb.shape[0] * rgb.shape[1])]


def is_plain(rgb: Pixels) -> bool:
    """Whether a small picture is so smooth or so much without structure that its error is not that of quantisation."""
    height, width = rgb.shape[:2]
    if min(height, width) < 3 or height * width > MOST:
        return False
    bands = min(-(-height // BAND), max(1, SEEN // (BAND * width)))  # spread evenly over a large picture
    tops = (np.arange(bands) * max(height - BAND, 0) / max(bands - 1, 1)).astype(int)
    parts = [rgb[top : top + BAND].astype(np.int16) for top in tops]
    seconds = [np.diff(part, 2, axis) for part in parts for axis in (0, 1)]
    smooth = sum(np.count_nonzero(np.abs(second) <= 1) for second in seconds) / sum(second.size for second in seconds)
    if smooth >= SMOOTH:
        return True
    firsts = [np.diff(part, 1, axis) for part in parts for axis in (0, 1)]
    variance = float(np.var(np.concatenate(parts), axis=(0, 1), dtype=np.float64).mean())
    unlike = sum(np.square(first, dtype=np.float32).sum(dtype=np.float64) for first in firsts) / sum(
        first.size for first in firsts
    )
    return bool(1 - unlike / (2 * variance) < ALIKE)
