"""Fits one band of classes to training residuals and measures it on validation residuals.

Bands do not depend on each other on fixed latents, so a trial is a sum of units, and units are computed once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from residuals import BETAS, LOWEST, Residuals

from shcodec.nets.config import BandConfig, QuantiserConfig
from shcodec.quantize.codebooks import ClassCodebooks
from shcodec.symbols.ans import PRECISION, integer_table
from shcodec.symbols.bands import Floats
from shcodec.symbols.choice import levels_around
from shcodec.symbols.tables import SymbolTables
from shcodec.train.export import widened

CLASSES = 64
WEIGHTS = (0.0, 0.03, 0.06, 0.1, 0.15)
"""Rate weights of the index choice that every unit is measured at, in squared steps per bit."""
MIDDLE = len(WEIGHTS) // 2
"""The base is measured at this one of `WEIGHTS`, every other trial at the one that suits it best."""
GROUP = 4
"""Elements are sampled in runs of 4, so that vectors of every length consist of neighbours in coding order."""
FIT_ELEMENTS = 120_000
"""Training elements per class at most."""
MANY_CLASSES = 16
"""A unit of n times as many classes is fitted to every n-th run only."""
TEST_ELEMENTS = 60_000
"""Validation elements per class and rate at most; sums are scaled up to all."""
NEIGHBOURS = 4
"""Scalars: levels on either side of the nearest that the search looks at."""
BLOCK = 2048
"""Vectors per block of the search."""


@dataclass(frozen=True)
class Unit:
    """A band of classes and how its codebook is made.

    Attributes:
        first: first class.
        last: last class, included.
        dim: length of a vector.
        codewords: size of the codebook, before scalar levels are added far outside as the export does.
        start: "lattice", "data", or "model" for the tables of the model as they are.
        rounds: entropy-constrained rounds; 0 keeps the start and only counts.
        weight: lambda during the fit, in squared steps per bit.
        one_histogram: all classes of the band share one histogram.
    """

    first: int
    last: int
    dim: int
    codewords: int
    start: str = "lattice"
    rounds: int = 5
    weight: float = 0.06
    one_histogram: bool = False


@dataclass(frozen=True)
class Tables:
    """What a decoder would hold for one unit: codebook (L, d), integer frequencies (classes, L)."""

    codebook: Floats
    frequencies: npt.NDArray[np.uint32]

    @property
    def bits(self) -> Floats:
        """Cost of every codeword, (classes, L)."""
        return (PRECISION - np.log2(self.frequencies)).astype(np.float32)


@dataclass(frozen=True)
class Measured:
    """Sums over the validation residuals, (classes of the unit, rates, WEIGHTS) each.

    Attributes:
        bits: ideal bits of the integer histograms.
        error: squared errors of the latent.
        used: (L,) how often every codeword was chosen at the middle weight.
    """

    bits: npt.NDArray[np.float64]
    error: npt.NDArray[np.float64]
    used: npt.NDArray[np.int64]


def _by_class(
    classes: npt.NDArray[np.uint8], chosen: npt.NDArray[np.intp]
) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """Yield the chosen elements of every class, in their order."""
    order = chosen[np.argsort(classes[chosen], kind="stable")]
    ends = np.searchsorted(classes[order], np.arange(CLASSES + 1))
    for k in range(LOWEST, CLASSES):
        yield k, order[ends[k] : ends[k + 1]]


class TrainingSample:
    """A random half of the training pictures, at most `FIT_ELEMENTS` elements of every class."""

    def __init__(self, residuals: Residuals, seed: int) -> None:
        rng = np.random.default_rng(seed)
        count = int(residuals.picture.max()) + 1
        half = np.zeros(count, np.bool_)
        half[rng.permutation(count)[: (count + 1) // 2]] = True
        self.seed = seed
        self.values: dict[int, Floats] = {}
        for k, where in _by_class(residuals.classes, np.flatnonzero(half[residuals.picture])):
            value = residuals.value[where]
            runs = value[: len(value) // GROUP * GROUP].reshape(-1, GROUP)
            if len(runs) * GROUP > FIT_ELEMENTS:
                runs = runs[np.sort(rng.permutation(len(runs))[: FIT_ELEMENTS // GROUP])]
            self.values[k] = runs.ravel()

    def of(self, unit: Unit) -> tuple[torch.Tensor, torch.Tensor]:
        """Return residuals of a unit's classes, and the classes; of a unit with very many classes a part."""
        ks = range(unit.first, unit.last + 1)
        every = max(1, len(ks) // MANY_CLASSES)
        parts = [self.values[k].reshape(-1, GROUP)[::every].ravel() for k in ks]
        classes = np.repeat(np.array(ks), [len(part) for part in parts])
        return torch.from_numpy(np.concatenate(parts)), torch.from_numpy(classes)


class TestSample:
    """Validation residuals by class and rate: values, weights of their squared errors, and energy if not coded."""

    def __init__(self, residuals: Residuals) -> None:
        rng = np.random.default_rng(0)
        self.parts: dict[tuple[int, int], tuple[Floats, Floats, float]] = {}
        self.energy = np.zeros((CLASSES, len(BETAS)))
        for rate in range(len(BETAS)):
            for k, where in _by_class(residuals.classes, np.flatnonzero(residuals.rate == rate)):
                runs = where[: len(where) // GROUP * GROUP].reshape(-1, GROUP)
                if not len(runs):
                    continue
                if runs.size > TEST_ELEMENTS:
                    runs = runs[np.sort(rng.permutation(len(runs))[: TEST_ELEMENTS // GROUP])]
                kept = runs.ravel()
                scale = len(where) / len(kept)
                value, step = residuals.value[kept], residuals.step[kept]
                self.parts[k, rate] = (value, np.square(step) * np.float32(scale), scale)
                self.energy[k, rate] = float(np.square(step * value, dtype=np.float64).sum()) * scale


def fit(unit: Unit, sample: TrainingSample, shipped: SymbolTables) -> Tables:
    """Make the tables of a unit.

    Args:
        unit: what to fit.
        sample: training residuals.
        shipped: tables of the model, for units that start from them.
    """
    if unit.start == "model":
        band = next(band for band in shipped.bands if band.first == unit.first)
        return Tables(band.codebook, band.histograms)
    rest = () if unit.last == CLASSES - 1 else (BandConfig(unit.last + 1, CLASSES - 1, 1, 2),)
    band_config = BandConfig(unit.first, unit.last, unit.dim, unit.codewords)
    books = ClassCodebooks(QuantiserConfig(CLASSES, unit.first, bands=(band_config, *rest)))
    values, classes = sample.of(unit)
    if unit.one_histogram:
        classes = torch.full_like(classes, (unit.first + unit.last) // 2)
    groups = books.vectors(classes)
    # without a residual of these classes the prior alone makes the histograms
    _, index, rows = groups[0] if groups else (0, classes.new_zeros(0, unit.dim), classes.new_zeros(0))
    vectors = torch.cat([values, values.new_zeros(1)])[index].numpy()
    codebook = books.codebooks[0].detach().numpy()
    if unit.start == "data":
        codebook = _start_from(vectors, unit.codewords)
    histogram, prior = books.histogram(0).numpy(), books.get_buffer("prior0").numpy()
    codebook, counts = lloyd(vectors, rows.numpy(), codebook, histogram, prior, unit.weight, unit.rounds)
    histogram = counts / counts.sum(1, keepdims=True)
    if unit.one_histogram:
        histogram = np.repeat(histogram[[(unit.last - unit.first) // 2]], len(histogram), 0)
    codebook = codebook.astype(np.float16).astype(np.float32)
    if unit.dim == 1:
        wide, histogram = widened(torch.from_numpy(codebook), histogram)
        codebook = wide.numpy()
    return Tables(codebook, np.stack([integer_table(row) for row in histogram]))


def _start_from(vectors: Floats, codewords: int) -> Floats:
    """Return vectors spread evenly over all lengths, one of them 0: as Agustsson et al. start."""
    picks = np.linspace(0, len(vectors) - 1, codewords).astype(np.int64)
    codebook = vectors[np.argsort(np.square(vectors).sum(1), kind="stable")][picks]
    codebook[0] = 0
    return codebook


def lloyd(
    vectors: Floats,
    rows: npt.NDArray[np.int64],
    codebook: Floats,
    histogram: Floats,
    prior: Floats,
    weight: float,
    rounds: int,
) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Do as `shcodec.quantize.lattice.lloyd`, several times faster on one core.

    Args:
        vectors: (n, d) residuals in steps.
        rows: (n,) class of every vector within the band.
        codebook: (L, d) start, sorted where d = 1.
        histogram: (classes, L) probabilities to start from.
        prior: (classes, L) probabilities, worth a few counts.
        weight: lambda.
        rounds: number of rounds.

    Returns:
        The codebook (L, d), sorted where d = 1, and counts (classes, L), prior included.
    """
    classes, size = prior.shape
    strength = 2.0 * size**0.5
    index = np.empty(len(vectors), np.int64)
    for step in range(rounds + 1):
        bits = -np.log2(histogram).astype(np.float32)
        for row in range(classes):
            part = rows == row
            index[part] = choose(vectors[part], codebook, bits[row], (weight,))[0]
        flat = np.bincount(rows * size + index, minlength=classes * size).reshape(classes, size)
        counts = strength * prior.astype(np.float64) + flat
        histogram = (counts / counts.sum(1, keepdims=True)).astype(np.float32)
        if step < rounds:
            sums = np.stack([np.bincount(index, column, size) for column in vectors.T], 1)
            codebook = ((sums + codebook) / (flat.sum(0) + 1)[:, None]).astype(np.float32)
            if vectors.shape[1] == 1:
                order = np.argsort(codebook[:, 0], kind="stable")
                codebook, histogram, prior = codebook[order], histogram[:, order], prior[:, order]
    return codebook, counts


def measure(unit: Unit, tables: Tables, sample: TestSample) -> Measured:
    """Code the validation residuals of a unit's classes at all `WEIGHTS`."""
    count = unit.last - unit.first + 1
    bits, error = np.zeros((2, count, len(BETAS), len(WEIGHTS)))
    used = np.zeros(len(tables.codebook), np.int64)
    for row in range(count):
        for rate in range(len(BETAS)):
            if (unit.first + row, rate) not in sample.parts:
                continue
            value, weight, scale = sample.parts[unit.first + row, rate]
            vectors = value.reshape(-1, unit.dim)
            for j, chosen in enumerate(choose(vectors, tables.codebook, tables.bits[row], WEIGHTS)):
                squares = np.square(vectors - tables.codebook[chosen]).ravel()
                error[row, rate, j] = float(np.dot(squares.astype(np.float64), weight))
                bits[row, rate, j] = float(tables.bits[row][chosen].sum(dtype=np.float64)) * scale
                if j == MIDDLE:
                    used += np.bincount(chosen, minlength=len(used))
    return Measured(bits, error, used)


def choose(vectors: Floats, codebook: Floats, bits: Floats, weights: Sequence[float]) -> npt.NDArray[np.int64]:
    """Choose codewords: argmin |v - c|^2 + weight * bits, as the encoder's.

    Args:
        vectors: (n, d).
        codebook: (L, d), sorted where d = 1.
        bits: (L,).
        weights: rate weights.

    Returns:
        Indices (weights, n).
    """
    if codebook.shape[1] == 1 and len(codebook) > 2 * NEIGHBOURS + 1:
        return _choose_levels(vectors[:, 0], codebook[:, 0], bits, weights)
    out = np.empty((len(weights), len(vectors)), np.int64)
    words, sizes = -2 * codebook.T, np.square(codebook).sum(1)
    costs = [sizes + np.float32(weight) * bits for weight in weights]
    block = np.empty((BLOCK, len(codebook)), np.float32)
    for start in range(0, len(vectors), BLOCK):
        part = slice(start, min(start + BLOCK, len(vectors)))
        products = vectors[part] @ words
        for j, cost in enumerate(costs):
            total = np.add(products, cost, out=block[: len(products)])
            out[j, part] = total.argmin(1)
    return out


def _choose_levels(values: Floats, levels: Floats, bits: Floats, weights: Sequence[float]) -> npt.NDArray[np.int64]:
    candidates = levels_around(values, levels, NEIGHBOURS)
    squares = np.square(values[:, None] - levels[candidates])
    rates = bits[candidates]
    picks = [(squares + np.float32(weight) * rates).argmin(1) for weight in weights]
    return np.stack([np.take_along_axis(candidates, pick[:, None], 1)[:, 0] for pick in picks])


class Laboratory:
    """Fits and measures units, each once; results are kept in a folder, so that an interrupted run goes on."""

    def __init__(
        self, training: Mapping[int, TrainingSample], test: TestSample, shipped: SymbolTables, folder: Path
    ) -> None:
        self.training, self.test, self.shipped, self.folder = training, test, shipped, folder
        self.known: dict[tuple[Unit, int], Measured] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def result(self, unit: Unit, seed: int) -> Measured:
        """Sum of one unit fitted to the pictures of one seed."""
        if (unit, seed) not in self.known:
            self.known[unit, seed] = self._read(unit, seed)
        return self.known[unit, seed]

    def _read(self, unit: Unit, seed: int) -> Measured:
        settings: tuple[object, ...] = (unit, seed, WEIGHTS, GROUP, FIT_ELEMENTS, TEST_ELEMENTS)
        path = self.folder / f"{hashlib.sha256(repr(settings).encode()).hexdigest()[:16]}.npz"
        if not path.exists():
            measured = measure(unit, fit(unit, self.training[seed], self.shipped), self.test)
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as stream:
                np.savez(stream, bits=measured.bits, error=measured.error, used=measured.used)
            temporary.replace(path)
        with np.load(path) as arrays:
            return Measured(**arrays)
