"""How hard the encoder tries: levels 0 to 9. Files of every level are read by the same decoder.

From level 4 on the latent is refined for the picture at hand. Levels 4 to 6 need no gradients: the decoded picture is
analysed again, and the latent is moved by what has changed on the way, so that the decoder's output, not its input,
comes to agree with the picture. Levels 7 to 9 go on from there by gradient descent through the decoder (torch).
"""

from __future__ import annotations

import importlib.util
import operator
from dataclasses import dataclass, replace

from shcodec.codec.analysis import (
    Analysis,
    Coded,
    analyse,
    bits_per_pixel,
    code,
    decoded_pixels,
    distortion,
    distortion_of,
    own_rate_weight,
)
from shcodec.container import byte_to_beta
from shcodec.pictures.picture import Pixels
from shcodec.support.errors import LimitError, MissingExtraError, UsageError
from shcodec.support.progress import Report

DEFAULT_EFFORT = 3
MOST_PIXELS = 4_000_000
"""Pixels of a picture that can be refined by gradient descent, which keeps every layer's output in memory."""

WEIGHTS = (1.0, 2.0, 3.0)  # multiples of the model's own rate weight that are tried on a picture
NEIGHBOUR = 8  # rate steps to either side at which the price of a bit is measured
PRICES = (0.5, 4.0)  # least and most that is believed of a measured price, in units of beta


@dataclass(frozen=True)
class Effort:
    """One level.

    Attributes:
        level: 0 to 9.
        rounds: how often the decoded picture is analysed again.
        steps: of gradient descent after that.
        searches: whether rate weights are tried on the picture, and the price of a bit measured on it.
    """

    level: int
    rounds: int = 0
    steps: int = 0
    searches: bool = True

    @property
    def refines(self) -> bool:
        """Whether the latent is refined after the analysis."""
        return self.rounds > 0 or self.steps > 0


LEVELS = (
    Effort(0),  # the nearest codeword would take as long, and three times the bits
    Effort(1),
    Effort(2),
    Effort(3),
    Effort(4, rounds=1, searches=False),
    Effort(5, rounds=2, searches=False),
    Effort(6, rounds=4),
    Effort(7, rounds=4, steps=100),
    Effort(8, rounds=4, steps=400),
    Effort(9, rounds=4, steps=1500),
)


def effort_of(level: int | None) -> Effort:
    """Return the effort of a level; None is the default.

    Raises:
        UsageError: there is no such level, or it is not a whole number.
        MissingExtraError: the level needs torch, which is not installed.
    """
    try:
        level = DEFAULT_EFFORT if level is None else operator.index(level)
    except TypeError:
        raise UsageError(f"the effort must be a whole number, not {level!r}") from None
    if not 0 <= level < len(LEVELS):
        raise UsageError(f"the effort must be from 0 to {len(LEVELS) - 1}, not {level}")
    if LEVELS[level].steps and importlib.util.find_spec("torch") is None:
        raise MissingExtraError(f"shc encode --effort {level} needs the extra 'train': pip install 'shcodec[train]'")
    return LEVELS[level]


def refine(
    analysis: Analysis, step: int, effort: Effort, report: Report, first: Coded | None = None
) -> tuple[Analysis, float, Coded]:
    """Find the rate weight that suits a picture, from level 6 on, then moves its latent to where the file is better.

    Never to where it is worse: of all that was tried the least D + price * R is kept, D the mean squared error of the
    decoded 8-bit picture, R bits per pixel.

    Args:
        analysis: of the picture.
        step: rate step of the file to be.
        effort: the level.
        report: progress of the coding, below level 4, or of the gradient descent.
        first: the file that the analysis gives with the model's own rate weight, where it has been made.

    Returns:
        The analysis with its latent moved, the rate weight to code it with, and the file. Below level 4 nothing moves.

    Raises:
        LimitError: the picture is too large for gradient descent.
    """
    height, width = analysis.rgb.shape[:2]
    if effort.steps and height * width > MOST_PIXELS:
        most = f"at most {MOST_PIXELS / 1e6:g} megapixels"
        raise LimitError(f"effort {effort.level} takes pictures of {most}, not {width}x{height}; effort 6 takes any")
    weight = own_rate_weight(analysis.model, step)
    first = first or code(analysis, step, weight, report)
    analysis = replace(analysis, z=first.latent.z)
    if not effort.refines:
        return analysis, weight, first
    price = bit_price(analysis, step) if effort.searches else byte_to_beta(step)
    factors = WEIGHTS if effort.searches else WEIGHTS[:1]
    best = last = min((_Tried.of(analysis, step, weight * factor, price) for factor in factors), key=_loss)
    weight = best.weight
    for _ in range(effort.rounds):
        last = _Tried.of(_fed_back(analysis, last), step, weight, price)
        best = min(best, last, key=_loss)
    if effort.steps:
        from shcodec.codec.descent import descend

        y = descend(best.analysis, step, weight, price, effort.steps, report)
        best = min(best, _Tried.of(replace(best.analysis, y=y), step, weight, price), key=_loss)
    return best.analysis, weight, best.coded


@dataclass(frozen=True)
class _Tried:
    """A latent, the file that it gives, what that shows, and how good it is."""

    analysis: Analysis
    weight: float
    coded: Coded
    pixels: Pixels
    loss: float

    @staticmethod
    def of(analysis: Analysis, step: int, weight: float, price: float) -> _Tried:
        coded = code(analysis, step, weight)
        pixels = decoded_pixels(analysis, coded)
        loss = distortion_of(analysis, pixels) + price * bits_per_pixel(analysis, coded)
        return _Tried(analysis, weight, coded, pixels, loss)


def _loss(tried: _Tried) -> float:
    return tried.loss


def _fed_back(analysis: Analysis, tried: _Tried) -> Analysis:
    """Add to a picture's latent what is lost when the decoded picture is analysed again.

    If g_a(g_s(y_hat)) lay at y_hat, a decoder's input that is near y would give a picture near the original. It does
    not quite: y + (y_hat - g_a(g_s(y_hat))) aims off by the difference.
    """
    again, latent = analyse(analysis.model, tried.pixels, analysis.beta_byte), tried.coded.latent
    return replace(analysis, y=analysis.y + (latent.values(latent.coded) - again.y))


def bit_price(analysis: Analysis, step: int) -> float:
    """Return what a bit per pixel buys on this picture, in mean squared error, along the model's own curve.

    For a model trained to the end that is beta; for others, what they are best compared at.
    """
    beta, weight = byte_to_beta(step), own_rate_weight(analysis.model, step)
    sides = [code(analysis, min(max(step + way * NEIGHBOUR, 0), 255), weight) for way in (-1, 1)]
    (more, less), (low, high) = (
        (bits_per_pixel(analysis, side) for side in sides),
        (distortion(analysis, side) for side in sides),
    )
    measured = (high - low) / (more - less) if more > less else beta
    return min(max(measured, PRICES[0] * beta), PRICES[1] * beta)
