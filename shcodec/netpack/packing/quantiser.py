"""From weights to trellis indices with a given step: search, and histograms and codewords fitted to its result."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec.netpack.packing import trellis
from shcodec.netpack.packing.histograms import MAX_INDEX, Histogram, first_guess, fit_density, fit_shifts
from shcodec.netpack.packing.layout import Runs
from shcodec.netpack.packing.spread import CLASSES
from shcodec.netpack.packing.unpacker import SECTION
from shcodec.support.blas import one_thread
from shcodec.symbols.ans import Table

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
Groups = list[tuple[Indices, Table]]

RATE_WEIGHT: Final = 0.2
"""Squared steps that a bit is worth to the search. The derivative of distortion by rate says 0.3; less is better, since
a dear bit empties neighbouring codewords, which makes them dearer still."""
_SAMPLE: Final = 1 << 16  # elements from which histograms are learned
_LEAST_SAMPLE: Final = 2048
_ROUNDS: Final = 3
REACH: Final = 2 * MAX_INDEX - 4
"""Steps beyond which no index of the format reaches."""
_FAR: Final = 512.0  # multiples of the mean magnitude beyond which a few elements are not worth a longer histogram
_COARSE: Final = 1 << 10  # large histograms have sizes that are multiples of it: what belongs to a size is cached
_EXACT_BITS: Final = 44  # what an element costs that is kept exactly: its place and its value
_FEW: Final = 8, 1 << 14  # such elements at most: this many, or one out of this many


@dataclass(frozen=True)
class Section:
    """Elements that are walked together, sorted by histogram.

    Attributes:
        x: The elements, float32 of shape ``(n,)``.
        order: Where each lies among the section's elements in the order of the file.
        counts: Elements by histogram.
    """

    x: Floats
    order: npt.NDArray[np.intp]
    counts: Counts

    @functools.cached_property
    def ends(self) -> list[int]:
        """Where each histogram's elements end."""
        return trellis.ends_of(self.counts)

    def tables(self) -> Bytes:
        """Return the number of the histogram of each element."""
        return np.repeat(np.arange(self.counts.size, dtype=np.uint8), self.counts)


@dataclass(frozen=True)
class Found:
    """Indices of a section.

    Attributes:
        k: The indices, shape ``(n,)``.
        odd: Whether each belongs to the odd quantiser.
    """

    k: Indices
    odd: npt.NDArray[np.bool_]


def make_runs(population: Counts) -> Runs:
    """Give each run of neighbouring classes a histogram, so that each codes enough elements to be worth its bytes.

    Args:
        population: Elements by class, shape ``(CLASSES,)``.
    """
    least = min(max(int(population.sum()) // 16, 4096), 32768)
    lengths: list[int] = []
    length = held = 0
    for count in population.tolist():
        length, held = length + 1, held + count
        if held >= least:
            lengths.append(length)
            length = held = 0
    if not lengths:
        return Runs((CLASSES,))
    lengths[-1] += length
    return Runs(tuple(lengths))


def make_sections(x: Floats, tables: Bytes, number: int) -> list[Section]:
    """Cut elements into sections and sort each by histogram.

    Args:
        x: Elements in the order of the file.
        tables: The number of the histogram of each.
        number: Number of histograms.
    """
    sections = []
    for start in range(0, x.size, SECTION):
        part = tables[start : start + SECTION]
        order = np.argsort(part, kind="stable")
        sections.append(Section(x[start : start + SECTION][order], order, np.bincount(part, minlength=number)))
    return sections


def sample(sections: Sequence[Section]) -> Section:
    """Return a section of a part of all elements, evenly spread, with at least some of every histogram."""
    total = sum(section.x.size for section in sections)
    parts = []
    for number in range(sections[0].counts.size):
        own = np.concatenate([section.x[_span(section, number)] for section in sections])
        wanted = max(min(own.size, _LEAST_SAMPLE), own.size * _SAMPLE // max(total, 1))
        parts.append(own[:: max(own.size // max(wanted, 1), 1)])
    x = np.concatenate(parts)
    return Section(x, np.arange(x.size), np.array([part.size for part in parts]))


def _parts(sections: Sequence[Section]) -> Iterator[tuple[Floats, int]]:
    """Yield the elements of sections that share a histogram, and its number."""
    for section in sections:
        for first, last, number in trellis.segments(section.ends, 0, section.x.size):
            yield section.x[first:last], number


def _peaks(sections: Sequence[Section]) -> npt.NDArray[np.float64]:
    """Return the largest magnitude by histogram."""
    peaks = np.zeros(sections[0].counts.size)
    for own, number in _parts(sections):
        peaks[number] = max(peaks[number], float(np.abs(own).max()))
    return peaks


def _caps(sections: Sequence[Section]) -> npt.NDArray[np.float64]:
    """Return the magnitude by histogram beyond which there are only a few elements, far away from all others."""
    number = sections[0].counts.size
    caps = np.full(number, np.inf)
    for _ in range(_ROUNDS):  # the largest of them hide the others
        sums, counts, beyond = (np.zeros(number) for _ in range(3))
        for own, which in _parts(sections):
            within = own if np.isinf(caps[which]) else own[np.abs(own) <= caps[which]]
            sums[which] += float(np.abs(within).sum(dtype=np.float64))
            counts[which] += np.count_nonzero(within)
        far = _FAR * sums / np.maximum(counts, 1)
        for own, which in _parts(sections):
            beyond[which] += np.count_nonzero(np.abs(own) > far[which])
        few = (beyond > 0) & (beyond <= np.maximum(_FEW[0], counts // _FEW[1]))
        caps[few] = np.minimum(caps, far)[few]
    return caps


def _span(section: Section, number: int) -> slice:
    return slice(section.ends[number - 1] if number else 0, section.ends[number])


@dataclass(frozen=True)
class Quantiser:
    """Sections with what a search in them needs.

    Attributes:
        sections: All elements.
        memory: Binary logarithm of the number of states.
        threads: Threads of the search.
        peaks: Largest magnitude by histogram.
        caps: Magnitude by histogram beyond which elements are kept exactly at any step.
        part: A sample of the elements.
    """

    sections: Sequence[Section]
    memory: int
    threads: int
    peaks: npt.NDArray[np.float64]
    caps: npt.NDArray[np.float64]
    part: Section

    @classmethod
    def of(cls, sections: Sequence[Section], memory: int, threads: int) -> Quantiser:
        """Return the quantiser of sections, at least one."""
        return cls(sections, memory, threads, _peaks(sections), _caps(sections), sample(sections))

    def limits(self, step: float) -> npt.NDArray[np.float32] | None:
        """Return the magnitude by histogram beyond which elements are kept exactly; None where all are within."""
        found = np.minimum(self.caps, REACH * step)
        return found.astype(np.float32) if (self.peaks > found).any() else None

    def within(self, section: Section, limits: npt.NDArray[np.float32] | None) -> Section:
        """Return a section with 0 in place of the elements that are kept exactly."""
        if limits is None:
            return section
        return replace(section, x=np.where(np.abs(section.x) <= limits[section.tables()], section.x, np.float32(0)))

    def learn(self, step: float) -> tuple[list[Histogram], float, float]:
        """Find histograms and codewords on a sample.

        Returns:
            The histograms; bits and squared error (in squared units of the elements) to expect of all elements.
        """
        limits = self.limits(step)
        section = self.within(self.part, limits)
        peaks = self.peaks if limits is None else _peaks([self.within(own, limits) for own in self.sections])
        histograms = []
        for number, peak in enumerate(peaks.tolist()):
            own = section.x[_span(section, number)]
            mean = float(np.abs(own).mean()) / step if own.size else 0.0
            histograms.append(first_guess(_largest(peak / step), mean))
        for _ in range(_ROUNDS):
            found = self._search(section, step, histograms)
            histograms = refit([section], [found], step, histograms)
        totals = sum(section.counts for section in self.sections)
        bits = error = 0.0
        for first, last, number in trellis.segments(section.ends, 0, section.x.size):
            k, odd, histogram = found.k[first:last], found.odd[first:last], histograms[number]
            share = float(np.asarray(totals)[number]) / (last - first)
            bits += share * float(bits_of(k, odd, histogram).sum())
            value = codewords(k, odd, histogram)
            error += share * step**2 * float(np.square(section.x[first:last] / np.float32(step) - value).sum())
        return histograms, bits + _EXACT_BITS * self._beyond(limits), error

    def _beyond(self, limits: npt.NDArray[np.float32] | None) -> int:
        """Return the number of the elements that are kept exactly."""
        if limits is None:
            return 0
        return sum(int(np.count_nonzero(np.abs(own.x) > limits[own.tables()])) for own in self.sections)

    def apply(self, step: float, histograms: Sequence[Histogram]) -> tuple[list[Found], list[Histogram]]:
        """Quantise all elements with learned histograms; return the indices, and the histograms fitted to them."""
        limits = self.limits(step)
        sections = [self.within(section, limits) for section in self.sections]
        found = [self._search(section, step, histograms) for section in sections]
        return found, refit(sections, found, step, histograms)

    def _search(self, section: Section, step: float, histograms: Sequence[Histogram]) -> Found:
        scaled = section.x * np.float32(1 / step)
        k = trellis.search(scaled, section.tables(), make_costs(histograms), self.memory, self.threads)
        return Found(k, trellis.odd_ones(k, self.memory))


def _largest(peak: float) -> int:
    """Return the largest index that is needed for a magnitude in steps; few different ones of those that are large."""
    needed = int(peak / 2) + 2
    return min(-(-needed // _COARSE) * _COARSE if needed > _COARSE else needed, MAX_INDEX)


def make_costs(histograms: Sequence[Histogram]) -> trellis.Costs:
    """Return what the search is to know of histograms."""
    rates, zeros = [], []
    for histogram in histograms:
        even, odd = (table.bits[histogram.largest :] for table in histogram.tables)
        rate = np.empty(2 * histogram.largest + 1)
        rate[0::2], rate[1::2] = even, odd[1:]
        rates.append(rate)
        zeros.append(odd[0])
    sizes = [rate.size for rate in rates]
    return trellis.Costs(
        first=np.cumsum([0, *sizes[:-1]], dtype=np.int32),
        largest=np.array(sizes, dtype=np.int32) - 1,
        rate=(RATE_WEIGHT * np.concatenate(rates)).astype(np.float32),
        zero=(RATE_WEIGHT * np.array(zeros)).astype(np.float32),
        level=np.concatenate([histogram.levels for histogram in histograms]),
    )


@one_thread()
def refit(
    sections: Sequence[Section], found: Sequence[Found], step: float, histograms: Sequence[Histogram]
) -> list[Histogram]:
    """Return the histograms with densities and codewords fitted to the indices that were found."""
    fitted = []
    for number, histogram in enumerate(histograms):
        size = histogram.largest + 1
        even, odd = np.zeros(size), np.zeros(size)
        counts, excess = np.zeros(2 * size - 1), np.zeros(2 * size - 1)
        for section, indices in zip(sections, found, strict=True):
            span = _span(section, number)
            k, which = np.abs(indices.k[span]), indices.odd[span]
            even += np.bincount(k[~which], minlength=size)
            odd += np.bincount(k[which], minlength=size)
            m = 2 * k - (which & (k > 0))
            counts += np.bincount(m, minlength=2 * size - 1)
            beyond = np.abs(section.x[span]) * np.float32(1 / step) - m
            excess += np.bincount(m, weights=beyond, minlength=2 * size - 1)
        fitted.append(Histogram(histogram.largest, fit_density(even, odd), fit_shifts(counts, excess)))
    return fitted


def bits_of(k: Indices, odd: npt.NDArray[np.bool_], histogram: Histogram) -> npt.NDArray[np.float64]:
    """Return the bits of indices of one histogram."""
    even_table, odd_table = histogram.tables
    at = k + histogram.largest
    return np.where(odd, odd_table.bits[at], even_table.bits[at])


def codewords(k: Indices, odd: npt.NDArray[np.bool_], histogram: Histogram) -> Floats:
    """Return the codewords of indices of one histogram, in steps."""
    return histogram.words[odd.astype(np.intp), k + histogram.largest]


def make_groups(section: Section, found: Found, histograms: Sequence[Histogram]) -> Groups:
    """Return the symbols of a section with their tables, in the order in which they are decoded."""
    groups: Groups = []
    n = found.k.size
    lanes = trellis.lane_count(n)
    for start in range(0, n, max(lanes, 1)):
        for first, last, number in trellis.segments(section.ends, start, min(start + lanes, n)):
            histogram = histograms[number]
            even_table, odd_table = histogram.tables
            symbols, odd = found.k[first:last] + histogram.largest, found.odd[first:last]
            groups += [(symbols[~odd], even_table), (symbols[odd], odd_table)]
    return groups
