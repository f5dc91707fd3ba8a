"""Unpacking: the bytes of an ``.shcn`` file to tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec.netpack.packing import byte_planes, trellis
from shcodec.netpack.packing.exact_elements import put
from shcodec.netpack.packing.file import MAX_WEIGHTS, split
from shcodec.netpack.packing.layout import Codebook, Entry, Indexed, Machine, Trellis, scales
from shcodec.netpack.packing.spread import classes
from shcodec.netpack.packing.tensors import SIZES, Tensor, from_floats
from shcodec.symbols.ans import Decoder

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]

SECTION: Final = 1 << 20
"""Elements that are sorted and walked together, so that memory is bounded."""


def unpack_tensors(data: bytes, *, max_weights: int = MAX_WEIGHTS) -> tuple[list[Tensor], dict[str, str]]:
    """Return the tensors of a file in their order, and its metadata.

    Args:
        data: The file.
        max_weights: The most elements to accept.

    Raises:
        CorruptFileError: If the bytes are not a valid file.
        LimitError: If the file has too many elements.
    """
    parts = split(data, max_weights=max_weights)
    directory = parts.directory
    kept = [entry for entry in directory.entries if entry.coding is None]
    found = dict(
        zip(
            [entry.name for entry in kept],
            byte_planes.restored(parts.inflated_plain(), [(entry.group, entry.nbytes) for entry in kept]),
            strict=True,
        )
    )
    decoder = Decoder(bytes(parts.symbols))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # a forged file's numbers may be any
        if directory.machine is not None:
            found.update(_decode_trellis(decoder, directory.machine, directory.walked()))
        for number, codebook in enumerate(directory.codebooks):
            for entry, values in _decode_indexed(decoder, codebook, directory.indexed(number)):
                found[entry.name] = from_floats(values, entry.dtype)
    decoder.finish()
    tensors = [Tensor(entry.name, entry.dtype, entry.shape, found[entry.name]) for entry in directory.entries]
    return tensors, dict(directory.metadata)


# -- trellis ---------------------------------------------------------------------------------------


def table_map(walked: Sequence[tuple[Entry, Trellis]], lookup: Bytes) -> Bytes:
    """Return the number of the histogram of every element of coded tensors, one after the other."""
    maps = [lookup[classes(coding.spread, entry.shape)] for entry, coding in walked]
    return np.concatenate(maps) if maps else np.zeros(0, dtype=np.uint8)


def _decode_trellis(
    decoder: Decoder, machine: Machine, walked: Sequence[tuple[Entry, Trellis]]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each tensor."""
    tables = table_map(walked, machine.runs.lookup())
    values = np.empty(tables.size, dtype=np.float32)
    for start in range(0, tables.size, SECTION):
        part = tables[start : start + SECTION]
        section = np.empty(part.size, dtype=np.float32)
        counts = np.bincount(part, minlength=len(machine.histograms))
        section[np.argsort(part, kind="stable")] = _decode_section(decoder, machine, counts)
        values[start : start + SECTION] = section
    start = 0
    for entry, coding in walked:
        own = values[start : start + entry.size]
        start += entry.size
        own *= trellis.tensor_step(machine.step, coding.octaves)
        larger = scales(coding.scale, entry.shape)
        if larger is not None:
            own *= larger
        own += np.float32(coding.centre)
        yield entry.name, put(from_floats(own, entry.dtype), SIZES[entry.dtype], coding.exact)


def _decode_section(decoder: Decoder, machine: Machine, counts: Counts) -> Floats:
    """Return the elements of a section in steps, sorted by histogram."""
    ends = trellis.ends_of(counts)
    n = ends[-1]
    lanes = trellis.lane_count(n)
    following = trellis.transitions(machine.memory).reshape(-1)
    symbols = np.empty(n, dtype=np.int32)
    odd = np.empty(n, dtype=np.bool_)
    state = np.zeros(lanes, dtype=np.uint8)
    for start in range(0, n, max(lanes, 1)):
        end = min(start + lanes, n)
        state = state[: end - start]
        np.not_equal(state & 1, 0, out=odd[start:end])
        parity = np.empty(end - start, dtype=np.uint8)
        for first, last, number in trellis.segments(ends, start, end):
            histogram = machine.histograms[number]
            where, out = odd[first:last], symbols[first:last]
            ones = int(np.count_nonzero(where))
            even_table, odd_table = histogram.tables
            np.place(out, ~where, decoder.decode(even_table, where.size - ones))
            np.place(out, where, decoder.decode(odd_table, ones))
            # A symbol is its index and the largest index; of their sum the last bit alone matters.
            parity[first - start : last - start] = out
            parity[first - start : last - start] += np.uint8(histogram.largest & 1)
        state = following[((state << 1) | (parity & 1)).astype(np.intp)]
    values = np.empty(n, dtype=np.float32)
    for first, last, number in trellis.segments(ends, 0, n):
        words = machine.histograms[number].words
        values[first:last] = words.reshape(-1)[symbols[first:last] + odd[first:last] * np.int32(words.shape[1])]
    return values


# -- codebooks -------------------------------------------------------------------------------------


def vector_tables(entry: Entry, coding: Indexed, codebook: Codebook) -> Bytes:
    """Return the number of the histogram of every vector of a tensor; its last vector may be padded."""
    return codebook.runs.lookup()[classes(coding.spread, entry.shape)[:: codebook.words.shape[1]]]


def _decode_indexed(
    decoder: Decoder, codebook: Codebook, indexed: Sequence[tuple[Entry, Indexed]]
) -> Iterator[tuple[Entry, Floats]]:
    """Yield the tensors of a codebook with their elements."""
    tables = codebook.tables()
    for entry, coding in indexed:
        which = vector_tables(entry, coding, codebook)
        index = np.empty(which.size, dtype=np.int32)
        counts = np.bincount(which, minlength=len(tables))
        index[np.argsort(which, kind="stable")] = np.concatenate(
            [decoder.decode(table, int(count)) for table, count in zip(tables, counts, strict=True)]
        )
        values = codebook.words[index].reshape(-1)[: entry.size]
        yield entry, values * np.float32(coding.scale)
