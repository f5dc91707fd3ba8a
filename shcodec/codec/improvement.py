"""A latent improved for the picture at hand: the higher levels of effort.

Levels 4 to 6 need no gradients: the decoded picture is analysed again, and the latent is moved by what has changed on
the way, so that the decoder's output, not its input, comes to agree with the picture. Levels 7 to 9 go on from there by
gradient descent through the decoder (torch).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter

from shcodec.codec.analysis import (
    Analysis,
    Coded,
    analyse,
    bits_per_pixel,
    decoded_pixels,
    distortion,
    distortion_of,
    encode_latent,
    own_rate_weight,
)
from shcodec.codec.effort import Effort
from shcodec.container import byte_to_beta
from shcodec.pictures.picture import Pixels
from shcodec.support.errors import LimitError
from shcodec.support.progress import Report

MOST_PIXELS = 4_000_000
"""Pixels of a picture that gradient descent takes, which keeps every layer's output in memory."""

WEIGHTS = (1.0, 2.0, 3.0)  # multiples of the model's own rate weight that are tried on a picture
NEIGHBOUR = 8  # rate steps to either side at which the price of a bit is measured
PRICES = (0.5, 4.0)  # least and most that is believed of a measured price, in units of beta


def improve(
    analysis: Analysis, beta_byte: int, effort: Effort, report: Report, first: Coded | None = None
) -> tuple[Analysis, float, Coded]:
    """Find the rate weight that suits a picture, from level 6 on, then move its latent to where the file is better.

    Never to where it is worse: of all that was tried the least D + price * R is kept, D the mean squared error of the
    decoded 8-bit picture, R bits per pixel.

    Args:
        analysis: of the picture.
        beta_byte: rate step of the file to be.
        effort: the level.
        report: progress of the coding, below level 4, or of the gradient descent.
        first: the file that the analysis gives with the model's own rate weight, where it has been made.

    Returns:
        The analysis with its latent moved, the rate weight to code it with, and the file. Below level 4 nothing moves.

    Raises:
        LimitError: the picture is too large for gradient descent.
    """
    height, width = analysis.samples.shape[:2]
    if effort.steps and height * width > MOST_PIXELS:
        most = f"at most {MOST_PIXELS / 1e6:g} megapixels"
        raise LimitError(f"effort {effort.level} takes pictures of {most}, not {width}x{height}; effort 6 takes any")
    weight = own_rate_weight(analysis.model, beta_byte)
    first = first or encode_latent(analysis, beta_byte, weight, report)
    analysis = replace(analysis, z=first.latent.z)
    if not effort.improves:
        return analysis, weight, first
    price = bit_price(analysis, beta_byte) if effort.searches else byte_to_beta(beta_byte)
    factors = WEIGHTS if effort.searches else WEIGHTS[:1]
    loss = attrgetter("loss")
    best = last = min((_Candidate.of(analysis, beta_byte, weight * factor, price) for factor in factors), key=loss)
    weight = best.weight
    for _ in range(effort.rounds):
        last = _Candidate.of(_fed_back(analysis, last), beta_byte, weight, price)
        best = min(best, last, key=loss)
    if effort.steps:
        from shcodec.codec.descent import descend

        y = descend(best.analysis, beta_byte, weight, price, effort.steps, report)
        best = min(best, _Candidate.of(replace(best.analysis, y=y), beta_byte, weight, price), key=loss)
    return best.analysis, weight, best.coded


@dataclass(frozen=True)
class _Candidate:
    """A latent, its file, the pixels that this shows, and D + price * R."""

    analysis: Analysis
    weight: float
    coded: Coded
    pixels: Pixels
    loss: float

    @staticmethod
    def of(analysis: Analysis, beta_byte: int, weight: float, price: float) -> _Candidate:
        coded = encode_latent(analysis, beta_byte, weight)
        pixels = decoded_pixels(analysis, coded)
        loss = distortion_of(analysis, pixels) + price * bits_per_pixel(analysis, coded)
        return _Candidate(analysis, weight, coded, pixels, loss)


def _fed_back(analysis: Analysis, tried: _Candidate) -> Analysis:
    """Add to a picture's latent what is lost when the decoded picture is analysed again.

    If g_a(g_s(y_hat)) lay at y_hat, a decoder's input that is near y would give a picture near the original. It does
    not quite: y + (y_hat - g_a(g_s(y_hat))) aims off by the difference.
    """
    again, latent = analyse(analysis.model, tried.pixels, analysis.beta_byte), tried.coded.latent
    return replace(analysis, y=analysis.y + (latent.values(latent.coded) - again.y))


def bit_price(analysis: Analysis, beta_byte: int) -> float:
    """Return what a bit per pixel buys on this picture, in mean squared error, along the model's own curve.

    For a model trained to the end that is beta; for others, what they are best compared at.
    """
    beta, weight = byte_to_beta(beta_byte), own_rate_weight(analysis.model, beta_byte)
    sides = [encode_latent(analysis, min(max(beta_byte + way * NEIGHBOUR, 0), 255), weight) for way in (-1, 1)]
    finer, coarser = ((bits_per_pixel(analysis, side), distortion(analysis, side)) for side in sides)
    return min(max(price_between(finer, coarser, beta), PRICES[0] * beta), PRICES[1] * beta)


def price_between(finer: tuple[float, float], coarser: tuple[float, float], beta: float) -> float:
    """Return the error that a bit saves between two files, each a rate and an error; beta where the rates tell none."""
    (more, low), (less, high) = finer, coarser
    return (high - low) / (more - less) if more > less else beta
