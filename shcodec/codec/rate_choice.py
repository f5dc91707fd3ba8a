"""The rate step of a file: the one that is asked for, or a coarser one that gives a better picture.

There are two reasons for a coarser one. Residuals may lie beyond all codewords, which are counted in quantiser steps:
in a white sky at the lowest betas. And of small plain pictures (flat colours, gradients, white noise) the error is
hardly that of quantisation, so that it goes up and down with the rate step by chance.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from shcodec.codec.analysis import Analysis, Coded, analyse, distortion, encode_latent, own_rate_weight
from shcodec.container import Chunk
from shcodec.model.networks import Model
from shcodec.pictures.picture import Pixels, as_rgb
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


class FilesByRate:
    """The files of one picture, one per rate step, each made from an analysis of its own when it is first needed."""

    def __init__(
        self, model: Model, samples: Pixels, *, chunks: tuple[Chunk, ...] = (), report: Report = unheard
    ) -> None:
        self.model, self.samples, self.chunks, self.report = model, samples, chunks, report
        self._made: dict[int, tuple[Analysis, Coded]] = {}
        self._errors: dict[int, float] = {}

    def analysis(self, beta_byte: int) -> Analysis:
        """Return the analysis at a rate step."""
        return self._at(beta_byte)[0]

    def coded(self, beta_byte: int) -> Coded:
        """Return the file at exactly that rate step."""
        return self._at(beta_byte)[1]

    def error(self, beta_byte: int) -> float:
        """Return the mean squared error of that file's picture."""
        if beta_byte not in self._errors:
            self._errors[beta_byte] = distortion(*self._at(beta_byte))
        return self._errors[beta_byte]

    def _at(self, beta_byte: int) -> tuple[Analysis, Coded]:
        if beta_byte not in self._made:
            analysis = analyse(self.model, self.samples, beta_byte, chunks=self.chunks, report=self.report)
            weight = own_rate_weight(self.model, beta_byte)
            self._made[beta_byte] = analysis, encode_latent(analysis, beta_byte, weight, self.report)
        return self._made[beta_byte]

    @cached_property
    def plain(self) -> bool:
        """Whether the picture is plain; see `is_plain`."""
        return is_plain(self.samples)

    def choose(self, wanted: int) -> int:
        """Return the rate step of the file to write where one is wanted."""
        return self._best(ladder(self.samples, wanted)) if self.plain else self.within_reach(wanted)

    def within_reach(self, beta_byte: int) -> int:
        """Return the finest rate step from one on at which residuals lie within the reach of codewords."""
        while self.coded(beta_byte).overload.is_outside and beta_byte < LAST:
            coarser = min(beta_byte + self.coded(beta_byte).overload.steps_to_reach, LAST)
            del self._made[beta_byte]  # it may be large
            beta_byte = coarser
        return beta_byte

    def _best(self, rate_steps: list[int]) -> int:
        """Return the rate step of the best picture, of those from fine to coarse; of equals the coarsest."""
        return min(reversed(rate_steps), key=self.error)


def ladder(samples: Pixels, beta_byte: int) -> list[int]:
    """Return the rate steps from one on that are tried on a plain picture."""
    return [step for step in LADDER if step >= beta_byte][: WORK // (samples.shape[0] * samples.shape[1])]


def is_plain(samples: Pixels) -> bool:
    """Whether a small picture is so smooth or so much without structure that its error is not that of quantisation."""
    height, width = samples.shape[:2]
    if min(height, width) < 3 or height * width > MOST:
        return False
    bands = min(-(-height // BAND), max(1, SEEN // (BAND * width)))  # spread evenly over a large picture
    tops = (np.arange(bands) * max(height - BAND, 0) / max(bands - 1, 1)).astype(int)
    parts = [as_rgb(samples[top : top + BAND]).astype(np.int16) for top in tops]
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
