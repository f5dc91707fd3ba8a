"""An independent reader of the symbol path, from the bytes of a file to its symbols, written from ``FORMAT.md``.

It imports nothing from shcodec: the container is taken apart by hand, the tables come from the model's file as raw
arrays, classes are computed in 64-bit integers, and the stream is read by the pure-Python decoder of `ans_reference`.
It is a second opinion, so it is written for clarity, not for speed.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ans_reference
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Integers = npt.NDArray[np.int64]
Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Fields:
    """The parts of a file that decide its symbols."""

    model_id: bytes
    width: int
    height: int
    beta_byte: int
    payload: bytes


@dataclass
class Symbols:
    """What a stream holds.

    Attributes:
        hyper: (C_z, ceil(H/64), ceil(W/64)), or None without hyper path.
        classes: (M, ceil(H/16), ceil(W/16)).
        passes: per pass the pairs (class, indices) in decoding order.
        elements: per pass the flat indices of the coded elements, in coding order.
    """

    hyper: Integers | None
    classes: Integers
    passes: list[list[tuple[int, list[int]]]] = field(default_factory=list)
    elements: list[list[int]] = field(default_factory=list)

    @property
    def indices(self) -> list[int]:
        """All latent indices, in decoding order."""
        return [index for groups in self.passes for _, indices in groups for index in indices]


def load_tables(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the decoder's tensors, as they lie in the model's folder."""
    return load_file(folder / "decoder.safetensors")


def identity(tensors: Tensors) -> bytes:
    """Return the four bytes by which files name a model."""
    types = {"float16": "f2", "float32": "f4", "int8": "i1", "uint8": "u1", "int32": "i4", "uint32": "u4"}
    text = b""
    for name, tensor in sorted(tensors.items()):
        code = types[tensor.dtype.name]
        sides = ",".join(str(side) for side in tensor.shape)
        text += b"\0".join([name.encode(), code.encode(), sides.encode(), tensor.astype("<" + code).tobytes()])
    return hashlib.sha256(text).digest()[:4]


def read_fields(data: bytes) -> Fields:
    """Take a file apart; chunks are skipped."""
    assert data[:5] == b"\x89SHC\n"
    assert data[-4:] == zlib.crc32(data[:-4]).to_bytes(4, "little")
    assert data[5] >> 4 == 1
    position = 10

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    width, height = varint(), varint()
    beta_byte = data[position]
    position += 1
    if data[5] & 1:
        for _ in range(varint()):
            position += 4
            length = varint()
            position += length
    length = varint()
    assert position + length + 4 == len(data)
    return Fields(data[6:10], width, height, beta_byte, data[position : position + length])


def read_tiles(data: bytes) -> list[Fields]:
    """Take the payload of a file apart: the fields of every tile, as if it were a picture of its own."""
    fields = read_fields(data)
    sides = [[64 * bound for bound in bounds(-(-side // 64))] for side in (fields.height, fields.width)]
    (tops, lefts), (bottom, right) = sides, (fields.height, fields.width)
    if len(tops) == len(lefts) == 1:
        return [fields]
    start = len(data) - 4 - len(fields.payload)
    position, entries = start, []
    for _ in range(len(tops) * len(lefts)):
        length = shift = 0
        while True:
            byte = data[position]
            position += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        entries.append((length, data[position : position + 4]))
        position += 4
    number, head = len(fields.payload), start  # the table's checksum leaves out the payload's length
    while number >= 128:
        number, head = number >> 7, head - 1
    checked = data[: head - 1] + data[start:position]
    assert data[position : position + 4] == zlib.crc32(checked).to_bytes(4, "little")
    position += 4
    tiles = []
    for index, (length, checksum) in enumerate(entries):
        stream = data[position : position + length]
        assert checksum == zlib.crc32(stream).to_bytes(4, "little")
        position += length
        row, column = divmod(index, len(lefts))
        height, width = [*tops, bottom][row + 1] - tops[row], [*lefts, right][column + 1] - lefts[column]
        tiles.append(Fields(fields.model_id, width, height, fields.beta_byte, stream))
    assert position == len(data) - 4
    return tiles


def bounds(positions: int) -> list[int]:
    """Where tiles begin along a side of so many positions of z."""
    count = -(-positions // 32)
    return [number * positions // count for number in range(count)]


def read_symbols(tensors: Tensors, fields: Fields) -> Symbols:
    """Decode every symbol of a tile."""
    stream = ans_reference.Decoder(fields.payload)
    rows, columns = -(-fields.height // 16), -(-fields.width // 16)
    hyper = None
    if "hyper.bank" in tensors:
        hyper = read_hyper(
            stream, tensors["hyper.bank"], -(-fields.height // 64), -(-fields.width // 64), len(fields.payload)
        )
    classes = classes_of(tensors, hyper, fields.beta_byte, rows, columns)
    symbols = Symbols(hyper, classes)
    for chosen in passes_of(classes, two=hyper is not None):
        read_pass(stream, tensors, symbols, chosen)
    assert stream.at_end()
    return symbols


def read_hyper(
    stream: ans_reference.Decoder, bank: npt.NDArray[np.uint32], rows: int, columns: int, size: int
) -> Integers:
    """Decode the row of the bank, then z channel by channel, from a stream of `size` bytes."""
    count = max(2, len(bank))
    share, rest = divmod(2**24, count)
    row = stream.decode([share + (i < rest) for i in range(count)], 1)[0]
    assert row < len(bank)
    least = sum(6144 - len(f"{max(channel.tolist()) ** 256:b}") for channel in bank[row])
    assert rows * columns * least <= 4096 * (size + 8), "too short for its z"
    values = [stream.decode(channel.tolist(), rows * columns) for channel in bank[row]]
    z: Integers = np.array(values, np.int64).reshape(-1, rows, columns) - bank.shape[2] // 2
    return z


def classes_of(tensors: Tensors, hyper: Integers | None, beta_byte: int, rows: int, columns: int) -> Integers:
    """Class of every latent element, (M, rows, columns)."""
    latent, count = int(tensors["latent.channels"][0]), int(tensors["class.count"][0])
    if hyper is None:
        return np.full((latent, rows, columns), beta_byte * count // 256, np.int64)
    weight = tensors["class_map.weight"].astype(np.int64)
    knots = tensors["class_map.bias"].astype(np.int64)
    knot, fraction = divmod(beta_byte, 16)
    classes = np.zeros((latent, rows, columns), np.int64)
    for channel in range(latent):
        bias = (int(knots[knot, channel]) * (16 - fraction) + int(knots[knot + 1, channel]) * fraction) >> 4
        shift = int(tensors["class_map.shift"][channel])
        floor = int(tensors["class_map.floor"][channel]) if "class_map.floor" in tensors else 0
        for row in range(rows):
            for column in range(columns):
                line = weight[16 * channel + 4 * (row % 4) + column % 4]
                total = int((line * hyper[:, row // 4, column // 4]).sum()) + bias
                classes[channel, row, column] = min(max(total >> shift, floor), count - 1)
    return classes


def passes_of(classes: Integers, *, two: bool) -> list[list[int]]:
    """Flat indices of the elements of each pass, rising; those of cold classes are still among them."""
    if not two:
        return [list(range(classes.size))]
    halves: list[list[int]] = [[], []]
    channels, rows, columns = classes.shape
    for element in range(classes.size):
        channel, row, column = element // (rows * columns), element // columns % rows, element % columns
        halves[(row + column + (channel >= channels // 2)) % 2].append(element)
    return halves


def read_pass(stream: ans_reference.Decoder, tensors: Tensors, symbols: Symbols, chosen: list[int]) -> None:
    """Decode the indices of one pass, hottest class first, and append them to the symbols."""
    starts = tensors["class.bands"].tolist()
    flat = symbols.classes.ravel()
    waiting: list[int] = []
    coded: list[int] = []
    groups: list[tuple[int, list[int]]] = []
    for k in range(int(tensors["class.count"][0]) - 1, starts[0] - 1, -1):
        band = max(i for i, start in enumerate(starts) if start <= k)
        length = tensors[f"codebook.{band}"].shape[1]
        waiting += [element for element in chosen if flat[element] == k]
        vectors, left = divmod(len(waiting), length)
        if k == starts[0] and left:
            vectors, left = vectors + 1, 0
        coded += waiting[: len(waiting) - left]
        waiting = waiting[len(waiting) - left :]
        if vectors:
            frequencies = tensors[f"histogram.{band}"][k - starts[band]].tolist()
            groups.append((k, stream.decode(frequencies, vectors)))
    symbols.passes.append(groups)
    symbols.elements.append(coded)


def residuals(tensors: Tensors, symbols: Symbols) -> npt.NDArray[np.float64]:
    """Return the codewords of all indices put into place: (M, rows, columns), zero where nothing is coded."""
    starts = tensors["class.bands"].tolist()
    out = np.zeros(symbols.classes.size)
    for groups, elements in zip(symbols.passes, symbols.elements, strict=True):
        values: list[float] = []
        for k, indices in groups:
            codebook = tensors[f"codebook.{max(i for i, start in enumerate(starts) if start <= k)}"]
            values += [float(value) for index in indices for value in codebook[index]]
        out[elements] = values[: len(elements)]
    return out.reshape(symbols.classes.shape)
