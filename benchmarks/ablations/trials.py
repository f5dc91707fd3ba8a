"""The trials of the quantiser: each a small change of the model's own bands, grouped by the question it answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fitting import CLASSES, MIDDLE, WEIGHTS, Unit
from residuals import LOWEST

from shcodec.nets.config import BandConfig
from shcodec.symbols.classes import class_spread

HOTTEST_FOURS = 31
"""Vectors of 4 are tried up to this class: beyond, a codebook would need more than 10,000 codewords."""
HOTTEST_PAIRS = 43
"""Vectors of 2 are tried up to this class."""
CODEWORDS = {1: (63, 63), 2: (256, 2048), 4: (512, 4096)}
"""Least and most codewords by vector length, where the model's own band has another length."""


@dataclass(frozen=True)
class Trial:
    """One way to quantise all coded classes.

    Attributes:
        question: group of the trial.
        name: what is different from the model's own bands.
        units: bands, coldest first; they tile the classes from the first to 63.
        weight: index into `fitting.WEIGHTS` of the only rate weight used, None for the one that suits the trial best.
    """

    question: str
    name: str
    units: tuple[Unit, ...]
    weight: int | None = None

    @property
    def skip(self) -> int:
        """First coded class."""
        return self.units[0].first


def base_units(bands: Iterable[BandConfig]) -> tuple[Unit, ...]:
    """Return the model's own bands, refitted."""
    return tuple(Unit(band.first, band.last, band.dim, band.codewords) for band in bands)


def all_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Return every trial but the base itself.

    Args:
        base: the model's own bands.
    """
    return [
        *dimension_trials(base),
        *sharing_trials(base),
        *choice_trials(base),
        *skip_trials(base),
        *size_trials(base),
        *histogram_trials(base),
        *reference_trials(base),
        *start_trials(base),
        *limit_trials(base),
        *fit_trials(base),
    ]


def with_dim(unit: Unit, dim: int) -> Unit:
    """Return the same classes in vectors of another length, with as many codewords as their spread asks for."""
    if dim == unit.dim:
        return unit
    low, high = CODEWORDS[dim]
    typical = float((2.5 * class_spread([unit.last])[0]) ** dim * (2.5 if dim == 4 else 4.0))
    return replace(unit, dim=dim, codewords=min(high, max(low, 2 ** math.ceil(math.log2(typical)))))


def cut(base: Sequence[Unit], fours: int, pairs: int) -> tuple[Unit, ...]:
    """Return bands with vectors of 4 up to class `fours`, of 2 up to class `pairs`, and scalars beyond."""
    return tuple(with_dim(unit, 4 if unit.last <= fours else 2 if unit.last <= pairs else 1) for unit in base)


def cuts(base: Sequence[Unit]) -> list[tuple[int, int]]:
    """Return all ways to end the bands of vectors of 4 and of 2, scalars everywhere included."""
    ends = [base[0].first - 1, *(unit.last for unit in base)]
    fours, pairs = ([end for end in ends if end <= limit] for limit in (HOTTEST_FOURS, HOTTEST_PAIRS))
    return [pair for pair in itertools.product(fours, pairs) if pair[0] <= pair[1]]


def dimension_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Try other vector lengths, band by band and for all bands at once."""
    start = base[0].first - 1
    trials = [
        Trial("vector length", "scalars everywhere", cut(base, start, start)),
        Trial("vector length", f"pairs to class {HOTTEST_PAIRS}, then scalars", cut(base, start, HOTTEST_PAIRS)),
        Trial("vector length", f"fours to class {HOTTEST_FOURS}, then scalars", cut(base, HOTTEST_FOURS, start)),
    ]
    for number, unit in enumerate(base):
        for dim, hottest in ((1, CLASSES), (2, HOTTEST_PAIRS), (4, HOTTEST_FOURS)):
            if dim != unit.dim and unit.last <= hottest:
                name = f"classes {unit.first}-{unit.last}: d = {dim} instead of {unit.dim}"
                units = (*base[:number], with_dim(unit, dim), *base[number + 1 :])
                trials.append(Trial("vector length, one band", name, units))
    return trials


def sharing_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Let more or fewer classes share a codebook; every class keeps its histogram."""
    single = tuple(replace(u, first=k, last=k) for u in base for k in range(u.first, u.last + 1))
    by_dim = tuple(_merged(list(group)) for _, group in itertools.groupby(base, lambda u: u.dim))
    doubled = tuple(
        _merged(pair) for _, group in itertools.groupby(base, lambda u: u.dim) for pair in _pairs(list(group))
    )
    first, most = base[0].first, {d: max((u.codewords for u in base if u.dim == d), default=512) for d in (1, 4)}
    return [
        Trial("classes per codebook", "one class", single),
        Trial("classes per codebook", "two bands in one (8 classes)", doubled),
        Trial("classes per codebook", "one codebook per vector length", by_dim),
        Trial("classes per codebook", "one for all, scalars", (Unit(first, CLASSES - 1, 1, most[1]),)),
        Trial("classes per codebook", f"one for all, {most[4]} fours", (Unit(first, CLASSES - 1, 4, most[4]),)),
    ]


def _merged(units: Sequence[Unit]) -> Unit:
    return replace(units[0], last=units[-1].last, codewords=max(u.codewords for u in units))


def _pairs(units: list[Unit]) -> list[list[Unit]]:
    return [units[i : i + 2] for i in range(0, len(units), 2)]


def limit_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Move all limits between bands by the same number of classes."""
    trials = []
    for shift in (-2, -1, 1, 2):
        inner = [unit.first + shift for unit in base[1:]]
        firsts = [base[0].first, *(max(first, base[0].first) for first in inner)]
        lasts = [first - 1 for first in firsts[1:]] + [CLASSES - 1]
        moved = (replace(u, first=a, last=b) for u, a, b in zip(base, firsts, lasts, strict=True) if a <= b)
        trials.append(Trial("band limits", f"moved by {shift:+d} classes", tuple(moved)))
    return trials


def size_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Return the number of codewords, vectors and scalars apart."""

    def scaled(factor: float, vectors: bool) -> tuple[Unit, ...]:
        sizes = [int(u.codewords * factor) | (u.dim == 1) if (u.dim > 1) == vectors else u.codewords for u in base]
        return tuple(replace(u, codewords=size) for u, size in zip(base, sizes, strict=True))

    return [
        Trial("codewords", f"{word} as many {kind}", scaled(factor, kind == "vectors"))
        for kind in ("vectors", "scalar levels")
        for word, factor in (("half", 0.5), ("twice", 2.0))
    ]


def histogram_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Try one histogram for several classes."""
    shared = tuple(replace(u, one_histogram=True) for u in base)
    most = max((u.codewords for u in base if u.dim == 4), default=512)
    one = Unit(base[0].first, CLASSES - 1, 4, most, one_histogram=True)
    return [
        Trial("histograms", "one per band", shared),
        Trial("histograms", f"one codebook of {most} fours, one histogram for all", (one,)),
    ]


def choice_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Try the nearest codeword, and an entropy-constrained choice with the same rate weight at every rate."""
    fixed = [
        Trial("choice of index", "nearest" if not weight else f"lambda {weight:g} at every rate", base, number)
        for number, weight in enumerate(WEIGHTS)
        if number != MIDDLE
    ]
    return fixed


def fit_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Try rate weights in the fit of the codebooks; the encoder's stays the best at every rate."""
    return [
        Trial("lambda of the fit", f"{w:g} instead of {base[0].weight:g}", tuple(replace(u, weight=w) for u in base))
        for w in (0.0, 0.13)
    ]


def start_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Try other starts of the vector codebooks, refined and not."""

    def vectors(**change: object) -> tuple[Unit, ...]:
        return tuple(replace(u, **change) if u.dim > 1 else u for u in base)  # type: ignore[arg-type]

    return [
        Trial("start of vector codebooks", "data", vectors(start="data")),
        Trial("start of vector codebooks", "lattice, not refined", vectors(rounds=0)),
    ]


def reference_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Return what the others do: uniform scalars with histograms by class, and the best scalars there are."""
    scalars = cut(base, base[0].first - 1, base[0].first - 1)
    single = [replace(u, first=k, last=k, rounds=20) for u in scalars for k in range(u.first, u.last + 1)]
    return [
        Trial("reference", "uniform scalars, class histograms", tuple(replace(u, rounds=0) for u in scalars)),
        Trial("reference", "scalars refined for every class, 20 rounds", tuple(single)),
        Trial("reference", "tables of the model as shipped", tuple(replace(u, start="model") for u in base)),
    ]


def skip_trials(base: tuple[Unit, ...]) -> list[Trial]:
    """Try other first coded classes; colder ones get their class's mean."""
    trials = []
    for skip in range(LOWEST, 13):
        if skip < base[0].first:
            units = (Unit(skip, base[0].first - 1, base[0].dim, 128), *base)
        else:
            units = tuple(replace(u, first=max(u.first, skip)) for u in base if u.last >= skip)
        if skip != base[0].first:
            trials.append(Trial("first coded class", f"class {skip} instead of {base[0].first}", units))
    return trials
