"""The ``.shc`` container, version 1: a picture's header, its chunks and its payload as one byte string.

``FORMAT.md`` describes every byte. This module needs the standard library only, knows nothing of models or pixels, and
treats all input as hostile: sizes are checked before anything is copied, and whatever is not canonical is rejected, so
that each container has exactly one encoding.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from shcodec.support.bytestream import CHECKSUM_SIZE, Reader, varint
from shcodec.support.errors import CorruptFileError, LimitError, UsageError
from shcodec.support.limits import MAGIC, MAX_CHUNK_SIZE, MAX_PIXELS, MAX_SIDE

VERSION: Final = 1
MAX_HEADER_SIZE: Final = 17
"""Bytes from the start of a file that `unpack_header` needs at most."""
MAX_CHUNKS: Final = 64
MAX_CHUNKS_SIZE: Final = 64 << 20
ALPHA: Final = b"ALPH"
"""Tag of the chunk that holds a picture's alpha; it alone may take all of `MAX_CHUNKS_SIZE`."""
KNOWN_CRITICAL: Final[frozenset[bytes]] = frozenset({ALPHA})
"""Tags of the critical chunks that this version understands; any other critical chunk is an error."""

MIN_BETA: Final = 2.0
MAX_BETA: Final = 4096.0
BETA_OCTAVES: Final = math.log2(MAX_BETA / MIN_BETA)
"""Doublings of beta over all rate steps: 11."""

_FLAG_CHUNKS: Final = 0b0001
_FLAG_GREY: Final = 0b0010
_MODEL_ID_SIZE: Final = 4
_TAG_SIZE: Final = 4

# The most bytes that each varint may take.
_SIDE_VARINT: Final = 3
_COUNT_VARINT: Final = 1
_CHUNK_VARINT: Final = 4
_PAYLOAD_VARINT: Final = 5


@dataclass(frozen=True)
class Chunk:
    """One optional part of a file, such as metadata.

    Attributes:
        tag: Four ASCII letters. As in PNG, an upper-case first letter marks a critical chunk, a lower-case one an
            ancillary chunk, which readers may skip.
        data: At most `MAX_CHUNK_SIZE` bytes, those of `ALPHA` at most `MAX_CHUNKS_SIZE`.
    """

    tag: bytes
    data: bytes

    @property
    def critical(self) -> bool:
        """Whether a reader that does not know the tag must reject the file."""
        return self.tag[:1].isupper()


@dataclass(frozen=True)
class Container:
    """What a file holds.

    Attributes:
        model_id: 4 bytes that identify the model.
        width: Columns of the picture, 1..`MAX_SIDE`.
        height: Rows of the picture, 1..`MAX_SIDE`.
        beta_byte: The rate step, 0..255; see `byte_to_beta`.
        payload: The entropy-coded symbols.
        grey: Whether the picture is shown as a single grey channel.
        chunks: At most `MAX_CHUNKS`, in the order of the file, no tag twice.
    """

    model_id: bytes
    width: int
    height: int
    beta_byte: int
    payload: bytes
    grey: bool = False
    chunks: tuple[Chunk, ...] = ()


def beta_to_byte(beta: float) -> int:
    """Return the step, 0..255, whose beta is nearest (by ratio) to ``beta``.

    Raises:
        UsageError: If ``beta`` is not a number from 2 to 4096.
    """
    if not MIN_BETA <= beta <= MAX_BETA:
        raise UsageError(f"beta must be from {MIN_BETA:g} to {MAX_BETA:g}, not {beta:g}")
    return round(255 * math.log2(beta / MIN_BETA) / BETA_OCTAVES)


def byte_to_beta(b: int) -> float:
    """Return beta(b) = 2 * 2^(11 b / 255), from 2 to 4096.

    Raises:
        UsageError: If ``b`` is outside 0..255.
    """
    if not 0 <= b <= 255:
        raise UsageError(f"the beta byte must be from 0 to 255, not {b}")
    return beta_at(b)


def beta_at(rate_step: float) -> float:
    """Return the formula of `byte_to_beta` at any rate step: the last knot of a model's curves lies beyond 255."""
    return MIN_BETA * math.pow(2.0, BETA_OCTAVES * rate_step / 255)


def pack(container: Container) -> bytes:
    """Write a file.

    The number of pixels is not limited here, only the sides: `MAX_PIXELS` is the reader's caution, which it may raise.

    Raises:
        UsageError: If a field is not what `Container` says.
        LimitError: If a side, a chunk or the payload is too large.
    """
    _check_fields(container)
    _check_limits(container)
    out = bytearray(head(container))
    out += varint(len(container.payload)) + container.payload
    out += zlib.crc32(out).to_bytes(CHECKSUM_SIZE, "little")
    return bytes(out)


def head(container: Container) -> bytes:
    """Return the bytes of a file before the payload's length: header and chunks."""
    chunks = container.chunks
    flags = (_FLAG_CHUNKS if chunks else 0) | (_FLAG_GREY if container.grey else 0)
    out = bytearray(MAGIC)
    out.append(VERSION << 4 | flags)
    out += container.model_id
    out += varint(container.width) + varint(container.height)
    out.append(container.beta_byte)
    if chunks:
        out += varint(len(chunks))
        for chunk in chunks:
            out += chunk.tag + varint(len(chunk.data)) + chunk.data
    return bytes(out)


def unpack(data: bytes, *, max_pixels: int = MAX_PIXELS, salvage: bool = False) -> Container:
    """Read a whole file.

    Unknown ancillary chunks are kept in the result; it is for the caller to ignore them.

    Args:
        data: All bytes of the file, no more and no fewer.
        max_pixels: The largest width times height to accept.
        salvage: Accept a payload that is damaged or broken off, for a caller that checks its parts.

    Raises:
        CorruptFileError: If the bytes are not a valid file.
        LimitError: If the picture or a chunk is larger than allowed.
    """
    layout = _parse(data, salvage=salvage)
    _check_pixels(layout.header, max_pixels)
    return Container(
        model_id=layout.header.model_id,
        width=layout.header.width,
        height=layout.header.height,
        beta_byte=layout.header.beta_byte,
        payload=bytes(layout.payload),
        grey=layout.header.grey,
        chunks=tuple(Chunk(tag, bytes(view)) for tag, view in layout.chunks),
    )


def unpack_header(data: bytes, *, max_pixels: int = MAX_PIXELS, chunks: bool = False) -> Container:
    """Read the fixed fields from the start of a file, without the rest of it.

    Args:
        data: The file or a prefix of it; `MAX_HEADER_SIZE` bytes always suffice where the chunks are not wanted.
        max_pixels: The largest width times height to accept.
        chunks: Whether to read the chunks as well.

    Returns:
        The fields before the payload, with an empty payload, and no chunks unless they were wanted. No checksum covers
        them alone, so they are to be trusted only as far as an identification goes.

    Raises:
        CorruptFileError: If the bytes are not the start of a valid file.
        LimitError: If the picture is larger than allowed.
    """
    reader = Reader(data)
    header, has_chunks = _read_header(reader)
    _check_sides(header)
    _check_pixels(header, max_pixels)
    if not (chunks and has_chunks):
        return header
    found = _read_chunks(reader)
    _check_chunks(found)
    return replace(header, chunks=tuple(Chunk(tag, bytes(view)) for tag, view in found))


def chunks_size(chunks: Sequence[Chunk]) -> int:
    """Return the bytes that chunks take in a file, with their count, tags and lengths."""
    if not chunks:
        return 0
    sizes = [len(chunk.data) for chunk in chunks]
    return len(varint(len(sizes))) + sum(_TAG_SIZE + len(varint(size)) + size for size in sizes)


def part_sizes(data: bytes) -> dict[str, int]:
    """Return the bytes taken by each part of a file: ``header``, ``chunks``, ``payload`` and ``checksum``.

    They add up to ``len(data)``. The header includes the payload's length, the chunks include their count, tags and
    lengths. The number of pixels is not limited, since nothing is decoded.

    Raises:
        CorruptFileError: If the bytes are not a valid file.
        LimitError: If a side or a chunk is larger than the format allows.
    """
    layout = _parse(data)
    payload = len(layout.payload)
    return {
        "header": len(data) - layout.chunks_size - payload - CHECKSUM_SIZE,
        "chunks": layout.chunks_size,
        "payload": payload,
        "checksum": CHECKSUM_SIZE,
    }


@dataclass(frozen=True)
class _Layout:
    """A parsed file whose large parts are still views into it."""

    header: Container
    chunks: tuple[tuple[bytes, memoryview], ...]
    chunks_size: int
    payload: memoryview


def _parse(data: bytes, *, salvage: bool = False) -> _Layout:
    """Read and check everything but the number of pixels, and, where there is something to salvage, the payload.

    The checksum comes before any limit, so that a damaged file is called damaged, not too large.
    """
    reader = Reader(data)
    header, has_chunks = _read_header(reader)
    start = reader.pos
    chunks = _read_chunks(reader) if has_chunks else ()
    chunks_size = reader.pos - start
    length = reader.varint(_PAYLOAD_VARINT, "the payload's length")
    payload = reader.take(min(length, reader.remaining) if salvage else length, "the payload")
    if not salvage:
        reader.check_end()
    _check_sides(header)
    _check_chunks(chunks)
    if len(payload) > _max_payload(header):
        size = f"{header.width}x{header.height}"
        raise CorruptFileError(f"a payload of {len(payload)} bytes is too long for a picture of {size}")
    return _Layout(header, chunks, chunks_size, payload)


def _read_header(reader: Reader) -> tuple[Container, bool]:
    """Return the fields up to the beta byte, and whether chunks follow."""
    start = bytes(reader.view[: len(MAGIC)])
    if not start:
        raise CorruptFileError("not an .shc file: it is empty")
    if not MAGIC.startswith(start):
        raise CorruptFileError("not an .shc file")
    reader.take(len(MAGIC), "the magic number")
    byte = reader.byte("the version")
    version, flags = byte >> 4, byte & 0x0F
    if version != VERSION:
        raise CorruptFileError(f"format version {version} is not known here, only version {VERSION}")
    reserved = flags & ~(_FLAG_CHUNKS | _FLAG_GREY)
    if reserved:
        raise CorruptFileError(f"reserved flags are set (0x{reserved:x})")
    header = Container(
        model_id=bytes(reader.take(_MODEL_ID_SIZE, "the model id")),
        width=reader.varint(_SIDE_VARINT, "the width"),
        height=reader.varint(_SIDE_VARINT, "the height"),
        beta_byte=reader.byte("the beta byte"),
        payload=b"",
        grey=bool(flags & _FLAG_GREY),
    )
    return header, bool(flags & _FLAG_CHUNKS)


def _read_chunks(reader: Reader) -> tuple[tuple[bytes, memoryview], ...]:
    count = reader.varint(_COUNT_VARINT, "the number of chunks")
    if not 1 <= count <= MAX_CHUNKS:
        raise CorruptFileError(f"the number of chunks must be from 1 to {MAX_CHUNKS}, not {count}")
    chunks: dict[bytes, memoryview] = {}
    for _ in range(count):
        tag = bytes(reader.take(_TAG_SIZE, "a chunk's tag"))
        if not tag.isalpha():
            raise CorruptFileError(f"chunk tag {tag!r} is not four letters")
        name = f"chunk {tag.decode()}"
        if tag in chunks:
            raise CorruptFileError(f"{name} occurs twice")
        chunks[tag] = reader.take(reader.varint(_CHUNK_VARINT, f"the length of {name}"), name)
    return tuple(chunks.items())


def _check_sides(header: Container) -> None:
    size = f"{header.width}x{header.height}"
    if header.width < 1 or header.height < 1:
        raise CorruptFileError(f"a picture of {size} has no pixels")
    if max(header.width, header.height) > MAX_SIDE:
        raise LimitError(f"a picture of {size} is too large: a side has at most {MAX_SIDE} pixels")


def _check_pixels(header: Container, max_pixels: int) -> None:
    pixels = header.width * header.height
    if pixels > max_pixels:
        size = f"{header.width}x{header.height}"
        raise LimitError(f"a picture of {size} has {pixels} pixels, more than the limit of {max_pixels}")


def _check_chunks(chunks: tuple[tuple[bytes, memoryview], ...]) -> None:
    _check_chunk_sizes([(tag, len(view)) for tag, view in chunks])
    for tag, _ in chunks:
        if Chunk(tag, b"").critical and tag not in KNOWN_CRITICAL:
            raise CorruptFileError(f"the file needs chunk {tag.decode()}, which is not known here")


def _check_chunk_sizes(sizes: list[tuple[bytes, int]]) -> None:
    for tag, size in sizes:
        limit = MAX_CHUNKS_SIZE if tag == ALPHA else MAX_CHUNK_SIZE
        if size > limit:
            raise LimitError(f"chunk {tag.decode()} has {size} bytes, more than the limit of {limit}")
    total = sum(size for _, size in sizes)
    if total > MAX_CHUNKS_SIZE:
        raise LimitError(f"the chunks have {total} bytes in all, more than the limit of {MAX_CHUNKS_SIZE}")


def _max_payload(header: Container) -> int:
    """Return a generous bound: 16 bytes, and 8 for each pixel of the picture padded to multiples of 64."""
    padded = (-(-header.width // 64) * 64) * (-(-header.height // 64) * 64)
    return min(16 + 8 * padded, (1 << 7 * _PAYLOAD_VARINT) - 1)


def _check_fields(container: Container) -> None:
    """Raise UsageError for what a caller of `pack` got wrong."""
    if len(container.model_id) != _MODEL_ID_SIZE:
        raise UsageError(f"a model id has {_MODEL_ID_SIZE} bytes, not {len(container.model_id)}")
    if container.width < 1 or container.height < 1:
        raise UsageError(f"a picture of {container.width}x{container.height} has no pixels")
    if not 0 <= container.beta_byte <= 255:
        raise UsageError(f"the beta byte must be from 0 to 255, not {container.beta_byte}")
    tags = [chunk.tag for chunk in container.chunks]
    for tag in tags:
        if len(tag) != _TAG_SIZE or not tag.isalpha():
            raise UsageError(f"chunk tag {tag!r} is not four letters")
    if len(set(tags)) != len(tags):
        raise UsageError("a chunk tag occurs twice")


def _check_limits(container: Container) -> None:
    """Raise LimitError for what is too large to be written."""
    _check_sides(container)
    if len(container.chunks) > MAX_CHUNKS:
        raise LimitError(f"a file holds at most {MAX_CHUNKS} chunks, not {len(container.chunks)}")
    _check_chunk_sizes([(chunk.tag, len(chunk.data)) for chunk in container.chunks])
    if len(container.payload) > _max_payload(container):
        size = f"{container.width}x{container.height}"
        raise LimitError(f"a payload of {len(container.payload)} bytes is too long for a picture of {size}")
