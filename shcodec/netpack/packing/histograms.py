"""Histograms and codebooks of trellis indices, each told by a few numbers: values at knots, in integers only.

The multiples m of the step are what a quantiser may choose, one half of them at a time (see `trellis`). Their density
falls smoothly with |m|, so its base-2 logarithm, in eighths, is told at knots that lie two to an octave; between knots
it is linear. The exception is 0 as the odd quantiser chooses it, which has a knot of its own. A codeword is the mean of
the elements that it stands for; its shift from the multiple is told at the knots, too. From knots to frequencies all is
integer arithmetic, so a table is the same on every machine.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec.symbols.ans import TOTAL, Table

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_INDEX: Final = 1 << 14
"""Largest index k of a codeword on either side of 0."""
GRAIN: Final = 8
"""Parts of an octave in which a knot's logarithm is told."""
LEAST_DENSITY: Final = -240
SHIFT_GRAIN: Final = 32
"""Parts of a step in which the codewords' shifts are told."""
_CACHED: Final = 64  # up to half a megabyte each
_LONG: Final = 1 << 11  # indices beyond which a fit is too slow to begin twice
_WORTH: Final = 0.03  # nats of an element for which the second start of a fit is taken
_FINE: Final = 64  # parts of an octave of the interpolated logarithm
_WEIGHT_BITS: Final = 30  # a density of 1 is this power of 2


@functools.cache
def _mantissas() -> Integers:
    """Return floor(2^(30 + i/64)) for i = 0..63: six square roots of integers."""
    values = []
    for i in range(_FINE):
        value = 1 << (_FINE * _WEIGHT_BITS + i)
        for _ in range(6):
            value = math.isqrt(value)
        values.append(value)
    return np.array(values, dtype=np.int64)


def powers(sixtyfourths: Integers) -> Integers:
    """Return about 2^(30 + x/64), rounded down, for integers x <= 0; it ends in 0."""
    found: Integers = _mantissas()[sixtyfourths & (_FINE - 1)] >> np.minimum(-(sixtyfourths >> 6), 62)
    return found


def frequencies(weights: Integers) -> npt.NDArray[np.uint32]:
    """Return the frequencies of a `Table`: 1 + floor(w (2^24 - K) / sum w), the rest to the first largest.

    Args:
        weights: Integers from 0 to 2^31, shape ``(K,)``; at least one is not 0.
    """
    found = 1 + weights * (TOTAL - weights.size) // int(weights.sum())
    found[int(np.argmax(weights))] += TOTAL - int(found.sum())
    return found.astype(np.uint32)


@functools.cache
def knots(reach: int) -> Integers:
    """Return the places of the knots for multiples 0..reach: 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, ... and `reach`."""
    places = [0, 1, 2, 3]
    while places[-1] < reach:
        places.append(places[-2] * 2)
    return np.array([place for place in places if place < reach] + [reach], dtype=np.int64)


def knot_count(largest: int) -> int:
    """Return how many numbers tell the tables of indices -largest..largest: the knots, and one for 0 among the odd."""
    return int(knots(2 * largest).size) + 1


@dataclass(frozen=True)
class Histogram:
    """What codes the elements of some classes.

    Attributes:
        largest: Largest index k, 1..`MAX_INDEX`.
        density: Logarithms of the density in eighths of an octave, `LEAST_DENSITY`..0: first that of 0 in the odd
            quantiser, then those of the knots; shape ``(knot_count(largest),)``.
        shifts: By how much the codewords differ from the multiples at the knots but 0, away from 0 in
            1/`SHIFT_GRAIN` of the step, -127..127; shape ``(knot_count(largest) - 2,)``.
    """

    largest: int
    density: Integers
    shifts: Integers

    @functools.cached_property
    def tables(self) -> tuple[Table, Table]:
        """The tables of the even and the odd quantiser, over the indices -largest..largest."""
        fine = _between(knots(2 * self.largest), self.density[1:] * (_FINE // GRAIN))
        odd = np.concatenate([self.density[:1] * (_FINE // GRAIN), fine[1::2]])
        return _table(fine[0::2]), _table(odd)

    @functools.cached_property
    def levels(self) -> npt.NDArray[np.float32]:
        """The codewords of the multiples 0..2 largest, in steps; float32 holds each exactly."""
        reach = 2 * self.largest
        shifts = _between(knots(reach), np.concatenate([[0], self.shifts]))
        return ((np.arange(reach + 1) * SHIFT_GRAIN + shifts) / SHIFT_GRAIN).astype(np.float32)

    @functools.cached_property
    def words(self) -> npt.NDArray[np.float32]:
        """The codewords of the indices -largest..largest of the even and the odd quantiser, in steps, two rows."""
        even = self.levels[0::2]
        odd = np.concatenate([even[:1], self.levels[1::2]])
        return np.stack([np.concatenate([-half[:0:-1], half]) for half in (even, odd)])


def _between(places: Integers, values: Integers) -> Integers:
    """Return values at 0..places[-1] on straight lines between the knots, rounded down."""
    m = np.arange(int(places[-1]) + 1, dtype=np.int64)
    left = np.minimum(np.searchsorted(places, m, side="right") - 1, places.size - 2)
    low, high = places[left], places[left + 1]
    found: Integers = (values[left] * (high - m) + values[left + 1] * (m - low)) // (high - low)
    return found


def _table(fine: Integers) -> Table:
    """Return the table of a density that is the same on both sides of 0, told from 0 upwards."""
    weights = powers(fine - int(fine.max()))
    return Table(frequencies(np.concatenate([weights[:0:-1], weights])))


def first_guess(largest: int, mean: float) -> Histogram:
    """Return the histogram of two-sided exponential elements whose magnitude is ``mean`` steps on average."""
    places = np.concatenate([[0], knots(2 * largest)])
    density = np.rint(places * (-GRAIN / math.log(2) / (mean + 0.25)))
    return Histogram(largest, _bounded(density), np.zeros(places.size - 2, dtype=np.int64))


def fit_density(even: Floats, odd: Floats) -> Integers:
    """Find the knots that tell two histograms best: maximum likelihood by Newton's method, then rounding.

    Args:
        even: Counts of |k| = 0..largest among indices of the even quantiser.
        odd: The same of the odd quantiser.

    Returns:
        The density of a `Histogram`, its largest value 0.
    """
    if even.size > _LONG:
        value, _ = _climb(even, odd, _around_knots(even, odd))
        return _bounded(np.rint((value - value.max()) * (GRAIN / math.log(2))))
    value, reached = _climb(even, odd, _exponential(even, odd))
    if not reached:
        other, _ = _climb(even, odd, _around_knots(even, odd))
        saved = _likelihood(even, odd, other) - _likelihood(even, odd, value)
        if saved > _WORTH * float(even.sum() + odd.sum()):
            value = other
    return _bounded(np.rint((value - value.max()) * (GRAIN / math.log(2))))


def _climb(even: Floats, odd: Floats, value: Floats) -> tuple[Floats, bool]:
    """Return the values at the knots of the greatest likelihood, and whether they were reached from a start."""
    sides = np.where(np.arange(even.size) > 0, 2.0, 1.0)
    size = value.size
    # A weak pull towards a smooth curve decides where there are no counts.
    bend = np.diff(np.eye(size - 1), 2, axis=0)
    smooth = np.zeros((size, size))
    smooth[1:, 1:] = bend.T @ bend
    smooth += 1e-6 * np.eye(size)
    for _ in range(20):
        gradient = -0.02 * (smooth @ value)
        hessian = 0.02 * smooth
        for counts, hats in zip((even, odd), _halves(even.size - 1), strict=True):
            logits = hats.between(value)
            weight = sides * np.exp(logits - logits.max())
            p = weight / weight.sum()
            total = counts.sum()
            mean = hats.sums(p)
            gradient += hats.sums(counts) - total * mean
            hessian += total * (hats.squares(p) - np.outer(mean, mean))
        hessian += 1e-9 * max(1.0, float(np.trace(hessian))) * np.eye(size)
        move = np.clip(np.linalg.solve(hessian, gradient), -2.0, 2.0)
        value = value + move
        if float(np.abs(move).max()) < 0.02:  # a quarter of what rounding does
            return value, True
    return value, False


def _likelihood(even: Floats, odd: Floats, value: Floats) -> float:
    """Return the logarithm of the likelihood of counts, but for what they alone decide."""
    sides = np.log(np.where(np.arange(even.size) > 0, 2.0, 1.0))
    total = 0.0
    for counts, hats in zip((even, odd), _halves(even.size - 1), strict=True):
        logits = hats.between(value)
        whole = logits + sides
        total += float(counts @ logits) - counts.sum() * (whole.max() + math.log(np.exp(whole - whole.max()).sum()))
    return total


def fit_shifts(counts: Floats, excess: Floats) -> Integers:
    """Find the shifts that move the codewords to the means of what they stand for: weighted least squares.

    Args:
        counts: How often |m| = 0..reach was chosen, reach an even number.
        excess: Sums of |x| - |m| over those elements, in steps.
    """
    hats = _whole(counts.size - 1)
    # The ridge keeps codewords that hardly occur where they are.
    normal = hats.squares(counts)[1:, 1:] + 20.0 * np.eye(hats.size - 1)
    shifts: Floats = np.rint(np.linalg.solve(normal, hats.sums(excess)[1:]) * SHIFT_GRAIN)
    return np.clip(shifts, -127, 127).astype(np.int64)


def _bounded(density: Floats) -> Integers:
    return np.clip(density, LEAST_DENSITY, 0).astype(np.int64)


def _exponential(even: Floats, odd: Floats) -> Floats:
    """Return logarithms of a two-sided exponential density of the counts' own spread."""
    k = np.arange(even.size)
    mean = 2 * float(((even + odd) * k).sum()) / (float((even + odd).sum()) + 1e-9) + 0.25
    return np.asarray(-np.concatenate([[0], knots(2 * (even.size - 1))]) / mean, dtype=np.float64)


def _around_knots(even: Floats, odd: Floats) -> Floats:
    """Return logarithms of the counts around each knot; where a few are far out, no one spread comes near them."""
    places = knots(2 * (even.size - 1))
    counts = np.zeros(2 * even.size - 1)
    counts[0::2], counts[1::2] = even, odd[1:]
    sums = np.concatenate([[0.0], np.cumsum(counts)])
    # To each knot belong the multiples that are not nearer to another one.
    ends = np.concatenate([[0], (places[1:] + places[:-1] + 1) // 2, [counts.size]])
    sides = np.where(places > 0, 2.0, 1.0)
    own = (sums[ends[1:]] - sums[ends[:-1]] + 0.1) / (np.diff(ends) * sides)
    return np.asarray(np.log(np.concatenate([[odd[0] + 0.1], own])), dtype=np.float64)


@dataclass(frozen=True)
class _Hats:
    """Straight lines between values: each point takes part in those on its left and on its right.

    Attributes:
        size: Number of values.
        left: The value on the left of each point.
        share: How much the one on the right counts.
    """

    size: int
    left: npt.NDArray[np.intp]
    share: Floats

    def between(self, values: Floats) -> Floats:
        """Return what values are at the points."""
        return np.asarray(values[self.left] * (1 - self.share) + values[self.left + 1] * self.share)

    def sums(self, weights: Floats) -> Floats:
        """Return by value the sum of weights of the points, as far as each takes part."""
        found = np.bincount(self.left, weights * (1 - self.share), self.size)
        return np.asarray(found + np.bincount(self.left + 1, weights * self.share, self.size))

    def squares(self, weights: Floats) -> Floats:
        """Return by two values the sum of weights of the points, as far as each takes part in both."""
        a, b = 1 - self.share, self.share
        diagonal = np.bincount(self.left, weights * a * a, self.size)
        diagonal = diagonal + np.bincount(self.left + 1, weights * b * b, self.size)
        beside = np.bincount(self.left, weights * a * b, self.size)[:-1]
        return np.asarray(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))


@functools.lru_cache(_CACHED)
def _whole(reach: int) -> _Hats:
    """Return how much each knot counts at the multiples 0..reach."""
    places = knots(reach)
    m = np.arange(reach + 1)
    left = np.minimum(np.searchsorted(places, m, side="right") - 1, places.size - 2)
    return _Hats(places.size, left, (m - places[left]) / (places[left + 1] - places[left]))


@functools.lru_cache(_CACHED)
def _halves(largest: int) -> tuple[_Hats, _Hats]:
    """Return how much each value of a density counts at |k| = 0..largest of the even and the odd quantiser."""
    whole = _whole(2 * largest)
    left, share = whole.left + 1, whole.share  # the first value is that of 0 in the odd quantiser
    odd = _Hats(whole.size + 1, np.concatenate([[0], left[1::2]]), np.concatenate([[0.0], share[1::2]]))
    return _Hats(whole.size + 1, left[0::2], share[0::2]), odd
