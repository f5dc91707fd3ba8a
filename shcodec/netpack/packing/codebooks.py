"""Tensors that consist of codewords already: their indices are coded without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shcodec.netpack.packing.directory import DIMENSIONS, MAX_WORDS
from shcodec.netpack.packing.layout import Codebook, Entry, Indexed
from shcodec.netpack.packing.quantiser import Groups, make_runs
from shcodec.netpack.packing.spread import CLASSES, Spread, classes, measure
from shcodec.netpack.packing.tensors import FLOATS
from shcodec.netpack.packing.unpacker import vector_tables
from shcodec.support.errors import UsageError

_RAREST = 255
_LARGE = 2.0**90
_MIDDLE = CLASSES // 2


@dataclass(frozen=True)
class Assigned:
    """A codebook, and the tensors that are made of its codewords.

    Attributes:
        words: Finite float32 of shape ``(L, d)``, 2 <= L <= 4096, d = 1, 2, 4 or 8.
        indices: By name, the codeword of each vector of a tensor, shape ``(ceil(size / d),)``, 0..L-1.
        scales: By name, what the codewords are multiplied by in float32.
    """

    words: npt.NDArray[np.float32]
    indices: Mapping[str, npt.NDArray[np.int32]]
    scales: Mapping[str, float]

    def __post_init__(self) -> None:
        """Raise UsageError for what is not as described."""
        number, dim = self.words.shape
        if not 2 <= number <= MAX_WORDS or dim not in DIMENSIONS or not np.isfinite(self.words).all():
            raise UsageError(f"{number} codewords of {dim} dimensions are no codebook that can be packed")
        for name, index in self.indices.items():
            if index.size == 0 or int(index.min()) < 0 or int(index.max()) >= number:
                raise UsageError(f"tensor {name!r} has indices outside its codebook")


def encode_assigned(number: int, book: Assigned, entries: Sequence[Entry]) -> tuple[dict[str, Entry], Codebook, Groups]:
    """Describe a codebook's tensors and code their indices.

    Args:
        number: Number of the codebook in the file.
        book: The codebook.
        entries: All tensors of the file; those of the codebook are in it.

    Returns:
        The tensors with their coding, the codebook with its histograms, and the symbols in the order of the file.

    Raises:
        UsageError: If a tensor holds no floats, or its indices are of the wrong number.
    """
    described: dict[str, Entry] = {}
    tops: dict[str, float] = {}
    for entry in entries:
        if entry.name not in book.indices:
            continue
        index = book.indices[entry.name]
        if entry.dtype not in FLOATS or index.size != -(-entry.size // book.words.shape[1]):
            raise UsageError(f"tensor {entry.name!r} does not fit its indices")
        values = book.words[index].reshape(-1)[: entry.size].reshape(entry.shape)
        if float(np.abs(values).max()) > _LARGE:  # sums must not overflow, and only ratios of spreads matter
            values = values / np.float32(_LARGE)
        tops[entry.name], axes = measure(values)
        described[entry.name] = replace(
            entry, coding=Indexed(number, float(np.float32(book.scales[entry.name])), Spread(_MIDDLE, axes))
        )
    middle = float(np.median(list(tops.values())))
    for name, entry in described.items():
        coding = _indexed(entry)
        base = min(max(_MIDDLE + round(tops[name] - middle), 0), CLASSES - 1)
        described[name] = replace(entry, coding=replace(coding, spread=replace(coding.spread, base=base)))
    codebook = _with_histograms(book, described)
    tables = codebook.tables()
    groups: Groups = []
    for name, entry in described.items():
        which = vector_tables(entry, _indexed(entry), codebook)
        order = np.argsort(which, kind="stable")
        ends = np.cumsum(np.bincount(which, minlength=len(tables)))[:-1]
        groups += list(zip(np.split(book.indices[name][order], ends), tables, strict=True))
    return described, codebook, groups


def _indexed(entry: Entry) -> Indexed:
    if not isinstance(entry.coding, Indexed):
        raise TypeError(f"tensor {entry.name!r} has no codebook")
    return entry.coding


def _with_histograms(book: Assigned, described: Mapping[str, Entry]) -> Codebook:
    """Return the codebook with a histogram for every run of classes."""
    number, dim = book.words.shape
    population = np.zeros((CLASSES, number), dtype=np.int64)
    for name, entry in described.items():
        of_vector = classes(_indexed(entry).spread, entry.shape)[::dim].astype(np.int64)
        flat = of_vector * number + book.indices[name]
        population += np.bincount(flat, minlength=population.size).reshape(population.shape)
    runs = make_runs(population.sum(axis=1))
    starts = np.cumsum([0, *runs.lengths[:-1]])
    counts = np.add.reduceat(population, starts, axis=0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        eighths = np.rint(8 * np.log2(counts.max(axis=1, keepdims=True) / counts))
    deficits = np.where(np.isfinite(eighths), np.minimum(eighths, _RAREST), _RAREST)
    deficits[counts.max(axis=1) == 0] = 0
    return Codebook(book.words.astype(np.float32), runs, deficits.astype(np.uint8))
