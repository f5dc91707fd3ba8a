"""The rate step of a file: the one that is asked for, or a coarser one that gives a better picture.

There are two reasons for a coarser one. Residuals may lie beyond all codewords, which are counted in quantiser steps:
in a white sky at the lowest betas. And of plain pictures (flat colours, gradients, white noise) the error is hardly
that of quantisation, so that it goes up and down with the rate step by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from shcodec.container import Chunk
from shcodec.encoder import Analysis, Coded, Pixels, analyse, code, distortion, own_rate_weight
from shcodec.reports import Report, unheard
from shcodec.runtime import Model

LAST = 255
LADDER = (*range(0, 256, 16), LAST)
"""Rate steps at which plain pictures are coded: few, so that all that are coarser can be tried."""
WORK = 2_000_000
"""Pixels that are coded for a plain picture, in all: larger ones try fewer steps."""
HOPELESS = 8.0  # times the least error: no coarser step makes up for that
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

    def at(step: int) -> tuple[Analysis, Coded]:
        analysis = analyse(model, rgb, step, grey=grey, chunks=chunks, report=report)
        return analysis, code(analysis, step, own_rate_weight(model, step), report)

    if is_plain(rgb):
        return _best(at(step) for step in ladder(rgb, beta_byte))
    while True:
        analysis, coded = at(beta_byte)
        if not coded.missed.is_outside or beta_byte == LAST:
            return analysis, coded
        beta_byte = min(beta_byte + coded.missed.steps_to_reach, LAST)


def ladder(rgb: Pixels, beta_byte: int) -> list[int]:
    """The rate steps from one on that are tried on a plain picture."""
    return [step for step in LADDER if step >= beta_byte][: max(2, WORK // (rgb.shape[0] * rgb.shape[1]))]


def _best(tried: Iterable[tuple[Analysis, Coded]]) -> tuple[Analysis, Coded]:
    """The file that shows the picture best, of those from fine to coarse; of equals the coarsest."""
    best, least = None, math.inf
    for analysis, coded in tried:
        error = distortion(analysis, coded)
        if error <= least:
            best, least = (analysis, coded), error
        if error > HOPELESS * least:
            break
    if best is None:
        raise ValueError("nothing to choose from")
    return best


def is_plain(rgb: Pixels) -> bool:
    """Whether a picture is so smooth, or so much without structure, that its error is not that of quantisation."""
    height, width = rgb.shape[:2]
    if min(height, width) < 3:
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
