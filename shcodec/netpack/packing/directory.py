"""The directory of an ``.shcn`` file as bytes; see ``netpack/FORMAT.md``."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final

import numpy as np

from shcodec.netpack.packing.exact_elements import read_exact, write_exact
from shcodec.netpack.packing.histograms import LEAST_DENSITY, MAX_INDEX, Histogram, knot_count
from shcodec.netpack.packing.layout import Codebook, Directory, Entry, Foreign, Indexed, Machine, Runs, Told, Trellis
from shcodec.netpack.packing.spread import CLASSES, MAX_OFFSET, Offsets, Spread
from shcodec.netpack.packing.tensors import DTYPES, FLOATS, MAX_DTYPE, MAX_ELEMENT, SIZES, WIDTHS
from shcodec.netpack.packing.trellis import POLYNOMIALS, tensor_step
from shcodec.support.bytestream import Reader, varint
from shcodec.support.errors import CorruptFileError, LimitError, UsageError

TINY, HUGE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
MAX_TENSORS: Final = 1 << 20
MAX_TEXT: Final = 1 << 16
"""Bytes of a name or of a metadata entry's key."""
MAX_VALUE: Final = 1 << 24
"""Bytes of a metadata entry's value."""
MAX_METADATA: Final = 1 << 12
MAX_RANK: Final = 16
MAX_AXES: Final = 8
"""Rank of a tensor that is coded."""
MAX_CODEBOOKS: Final = 1 << 12
MAX_WORDS: Final = 1 << 12
DIMENSIONS: Final = (1, 2, 4, 8)

_COUNT, _SIZE = 3, 7  # the most bytes of the varints of counts and of sizes
_PLAIN, _TRELLIS, _INDEXED, _EXTENDED = 0, 1, 2, 3
_FOREIGN = 255  # in place of a dtype
_MAX_SCALE = 127


def write_directory(directory: Directory) -> bytes:
    """Return the bytes of a directory, not yet deflated."""
    out = bytearray(varint(len(directory.metadata)))
    for key, value in directory.metadata.items():
        out += _text(key, MAX_TEXT) + _text(value, MAX_VALUE)
    out += varint(len(directory.entries))
    for entry in directory.entries:
        out += _write_entry(entry)
    if directory.machine is not None:
        out += _write_machine(directory.machine)
    out += varint(len(directory.codebooks))
    for codebook in directory.codebooks:
        out += _write_codebook(codebook)
    out += bytes(told.byte for told in directory.told)
    return bytes(out)


def parse_directory(data: bytes, version: int) -> Directory:
    """Read the bytes of a directory of a version of the format.

    Raises:
        CorruptFileError: If they are none.
        LimitError: If a count or a size exceeds what the format allows.
    """
    reader = Reader(data)
    metadata: dict[str, str] = {}
    for _ in range(_count(reader, MAX_METADATA, "metadata entries")):
        key = _read_text(reader, MAX_TEXT, "a metadata key")
        if key in metadata:
            raise CorruptFileError("a metadata key occurs twice")
        metadata[key] = _read_text(reader, MAX_VALUE, "a metadata value")
    entries: dict[str, Entry] = {}
    for _ in range(_count(reader, MAX_TENSORS, "tensors")):
        entry = _read_entry(reader, version)
        if entry.name in entries:
            raise CorruptFileError(f"tensor {entry.name!r} occurs twice")
        entries[entry.name] = entry
    codings = [entry.coding for entry in entries.values()]
    walked = [coding for coding in codings if isinstance(coding, Trellis)]
    machine = _read_machine(reader) if walked else None
    for coding in walked:
        if machine and not TINY <= tensor_step(machine.step, coding.octaves) <= HUGE:
            raise CorruptFileError("a tensor's step is no normal number")
    number = _count(reader, MAX_CODEBOOKS, "codebooks")
    codebooks = tuple(_read_codebook(reader) for _ in range(number))
    if {coding.codebook for coding in codings if isinstance(coding, Indexed)} != set(range(number)):
        raise CorruptFileError("the codebooks are not those that the tensors use")
    told = tuple(map(Told, reader.take(len(walked), "what is told of the tensors"))) if version > 1 else ()
    if reader.remaining:
        raise CorruptFileError(f"unexpected bytes after the directory ({reader.remaining})")
    directory = Directory(tuple(entries.values()), metadata, machine, codebooks, told)
    if directory.version != version:
        raise CorruptFileError(f"a file of version {version} holds nothing that needs it")
    return directory


def _text(text: str, limit: int) -> bytes:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the text {text!r} cannot be written in UTF-8") from error
    if len(data) > limit:
        raise LimitError(f"a text of {len(data)} bytes is longer than the limit of {limit}")
    return varint(len(data)) + data


def _count(reader: Reader, limit: int, what: str) -> int:
    count = reader.varint(_COUNT, f"the number of {what}")
    if count > limit:
        raise LimitError(f"{count} {what} are more than the limit of {limit}")
    return count


def _read_text(reader: Reader, limit: int, what: str) -> str:
    size = reader.varint(4, f"the length of {what}")
    if size > limit:
        raise LimitError(f"{what} of {size} bytes is longer than the limit of {limit}")
    try:
        return bytes(reader.take(size, what)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{what} is not UTF-8") from error


def _read_float(reader: Reader, what: str) -> float:
    value = float(struct.unpack("<f", reader.take(4, what))[0])
    if not np.isfinite(value):
        raise CorruptFileError(f"{what} is not finite")
    return value


# -- tensors ---------------------------------------------------------------------------------------


def _write_entry(entry: Entry) -> bytes:
    out = bytearray(_text(entry.name, MAX_TEXT))
    coding = entry.coding
    kind = _PLAIN if coding is None else _TRELLIS if isinstance(coding, Trellis) else _INDEXED
    if isinstance(coding, Trellis) and coding.extended:
        kind = _EXTENDED
    out += bytes([_FOREIGN if entry.foreign else DTYPES.index(entry.dtype), kind, len(entry.shape)])
    for size in entry.shape:
        out += varint(size)
    if entry.foreign:
        out += _text(entry.dtype, MAX_DTYPE) + bytes([entry.foreign.width]) + varint(entry.foreign.nbytes)
    if isinstance(coding, Trellis):
        out += struct.pack("<hf", coding.octaves, coding.centre) + _write_spread(coding.spread)
        if kind == _EXTENDED:
            out += _write_axes(coding.scale) + write_exact(coding.exact, SIZES[entry.dtype])
    elif isinstance(coding, Indexed):
        out += varint(coding.codebook) + struct.pack("<f", coding.scale) + _write_spread(coding.spread)
    return bytes(out)


def _read_entry(reader: Reader, version: int) -> Entry:
    name = _read_text(reader, MAX_TEXT, "a tensor's name")
    what = f"tensor {name!r}"
    number, kind, rank = (reader.byte(what) for _ in range(3))
    foreign = number == _FOREIGN and version > 1
    if not foreign and number >= len(DTYPES):
        raise CorruptFileError(f"{what} has dtype {number}, which is not known here")
    if rank > (MAX_RANK if kind == _PLAIN else MAX_AXES):
        raise CorruptFileError(f"{what} has {rank} axes, which is too many")
    shape = tuple(reader.varint(_SIZE, f"a size of {what}") for _ in range(rank))
    if kind not in (_PLAIN, _TRELLIS, _INDEXED) and not (kind == _EXTENDED and version > 1):
        raise CorruptFileError(f"{what} has coding {kind}, which is not known here")
    if kind != _PLAIN and (foreign or DTYPES[number] not in FLOATS or 0 in shape):
        raise CorruptFileError(f"{what} is coded, but has no numbers to be coded")
    if foreign:
        return _read_foreign(reader, name, shape)
    entry = Entry(name, DTYPES[number], shape, None)
    return entry if kind == _PLAIN else replace(entry, coding=_read_coding(reader, kind, entry, what))


def _read_coding(reader: Reader, kind: int, entry: Entry, what: str) -> Trellis | Indexed:
    if kind == _INDEXED:
        book = reader.varint(_COUNT, f"the codebook of {what}")
        return Indexed(book, _read_float(reader, f"the scale of {what}"), _read_spread(reader, entry.shape, what))
    octaves = int.from_bytes(reader.take(2, what), "little", signed=True)
    coding = Trellis(octaves, _read_float(reader, f"the centre of {what}"), _read_spread(reader, entry.shape, what))
    if kind == _EXTENDED:
        scale = _read_axes(reader, entry.shape, _MAX_SCALE, what)
        coding = replace(coding, scale=scale, exact=read_exact(reader, entry.size, SIZES[entry.dtype], what))
        if not coding.extended:
            raise CorruptFileError(f"{what} has a coding that it does not need")
    return coding


def _read_foreign(reader: Reader, name: str, shape: tuple[int, ...]) -> Entry:
    what = f"tensor {name!r}"
    dtype = _read_text(reader, MAX_DTYPE, f"the dtype of {what}")
    width, nbytes = reader.byte(what), reader.varint(_SIZE, f"the bytes of {what}")
    if dtype in DTYPES or not dtype or width not in WIDTHS:
        raise CorruptFileError(f"{what} has a dtype that is not told in its normal form")
    entry = Entry(name, dtype, shape, None, Foreign(nbytes, width))
    if nbytes % width or nbytes > MAX_ELEMENT * entry.size:
        raise CorruptFileError(f"{what} has {nbytes} bytes, which do not fit its shape")
    return entry


def _write_spread(spread: Spread) -> bytes:
    return bytes([spread.base]) + _write_axes(spread.axes)


def _write_axes(axes: tuple[Offsets | None, ...]) -> bytes:
    mask = sum(1 << axis for axis, offsets in enumerate(axes) if offsets is not None)
    return bytes([mask]) + b"".join(offsets.astype(np.int8).tobytes() for offsets in axes if offsets is not None)


def _read_spread(reader: Reader, shape: tuple[int, ...], what: str) -> Spread:
    base = reader.byte(what)
    if base >= CLASSES:
        raise CorruptFileError(f"{what} is sorted into classes that do not exist")
    return Spread(base, _read_axes(reader, shape, MAX_OFFSET, what))


def _read_axes(reader: Reader, shape: tuple[int, ...], limit: int, what: str) -> tuple[Offsets | None, ...]:
    mask = reader.byte(what)
    if mask >> len(shape):
        raise CorruptFileError(f"{what} is sorted into classes that do not exist")
    axes = []
    for axis, size in enumerate(shape):
        offsets = None
        if mask >> axis & 1:
            offsets = np.frombuffer(reader.take(size, f"the offsets of {what}"), np.int8)
            if int(offsets.min()) < -limit or int(offsets.max()) > limit:
                raise CorruptFileError(f"{what} has offsets beyond {limit}")
        axes.append(offsets)
    return tuple(axes)


# -- histograms and codebooks ----------------------------------------------------------------------


def _write_machine(machine: Machine) -> bytes:
    out = bytearray(struct.pack("<fB", machine.step, machine.memory))
    out += _write_runs(machine.runs)
    for histogram in machine.histograms:
        out += varint(histogram.largest)
        out += (-histogram.density).astype(np.uint8).tobytes() + histogram.shifts.astype(np.int8).tobytes()
    return bytes(out)


def _read_machine(reader: Reader) -> Machine:
    step = _read_float(reader, "the step")
    if step < TINY:
        raise CorruptFileError("the step is not positive")
    memory = reader.byte("the number of states")
    if memory >= len(POLYNOMIALS):
        raise CorruptFileError(f"a machine of 2^{memory} states is not known here")
    runs = _read_runs(reader)
    return Machine(step, memory, runs, tuple(_read_histogram(reader) for _ in runs.lengths))


def _read_histogram(reader: Reader) -> Histogram:
    largest = reader.varint(3, "the largest index of a histogram")
    if not 1 <= largest <= MAX_INDEX:
        raise CorruptFileError(f"a histogram has indices up to {largest}, not up to 1..{MAX_INDEX}")
    number = knot_count(largest)
    density = -np.frombuffer(reader.take(number, "a histogram"), np.uint8).astype(np.int64)
    shifts = np.frombuffer(reader.take(number - 2, "a histogram's codewords"), np.int8).astype(np.int64)
    if int(density.max()) != 0 or int(density.min()) < LEAST_DENSITY or int(shifts.min()) == -128:
        raise CorruptFileError("a histogram is not in its normal form")
    return Histogram(largest, density, shifts)


def _write_runs(runs: Runs) -> bytes:
    return bytes([len(runs.lengths), *runs.lengths])


def _read_runs(reader: Reader) -> Runs:
    lengths = tuple(reader.take(reader.byte("the number of histograms"), "the runs of classes"))
    if sum(lengths) != CLASSES or 0 in lengths:
        raise CorruptFileError("the histograms do not take every class once")
    return Runs(lengths)


def _write_codebook(codebook: Codebook) -> bytes:
    number, dim = codebook.words.shape
    words = codebook.words.astype("<f4").tobytes()
    return bytes([dim]) + varint(number) + words + _write_runs(codebook.runs) + codebook.deficits.tobytes()


def _read_codebook(reader: Reader) -> Codebook:
    dim = reader.byte("a codebook")
    number = reader.varint(2, "the size of a codebook")
    if dim not in DIMENSIONS or not 2 <= number <= MAX_WORDS:
        raise CorruptFileError(f"a codebook has {number} codewords of {dim} dimensions, which is not allowed")
    words = np.frombuffer(reader.take(4 * number * dim, "a codebook"), "<f4").astype(np.float32).reshape(number, dim)
    if not np.isfinite(words).all():
        raise CorruptFileError("a codeword is not finite")
    runs = _read_runs(reader)
    size = len(runs.lengths) * number
    deficits = np.frombuffer(reader.take(size, "a codebook's histograms"), np.uint8).reshape(-1, number)
    if deficits.min(axis=1).any():
        raise CorruptFileError("a histogram is not in its normal form")
    return Codebook(words, runs, deficits)
