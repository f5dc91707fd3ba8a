"""The payload of a file: the streams of its tiles, one after the other, behind a table of lengths and checksums."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from shcodec.support.bytestream import CHECKSUM_SIZE, Reader, varint
from shcodec.support.errors import CorruptFileError

_LENGTH_VARINT = 5


def join(head: bytes, streams: Sequence[bytes]) -> bytes:
    """Return the payload of a file: a single stream as it is; several after a table of their lengths and checksums.

    Args:
        head: what the file holds before its payload (`container.head`); the table's own checksum covers it too, so
            that a reader can trust both where a stream is damaged.
        streams: one per tile.
    """
    if len(streams) == 1:
        return streams[0]
    table = b"".join(varint(len(stream)) + _checksum(stream) for stream in streams)
    return table + _checksum(head + table) + b"".join(streams)


def split(head: bytes, payload: bytes, count: int, *, salvage: bool = False) -> list[bytes | None]:
    """Return the streams of a payload.

    Args:
        head: as in `join`.
        payload: of the file.
        count: number of tiles.
        salvage: give None for a stream that is damaged or missing, instead of failing.

    Raises:
        CorruptFileError: the table, or a stream, is damaged. A single stream has no checksum of its own.
    """
    if count == 1:
        return [payload]
    reader = Reader(payload)
    entries = []
    for number in range(count):
        length = reader.varint(_LENGTH_VARINT, f"the length of tile {number}")
        entries.append((length, bytes(reader.take(CHECKSUM_SIZE, f"the checksum of tile {number}"))))
    table = bytes(reader.view[: reader.pos])
    if bytes(reader.take(CHECKSUM_SIZE, "the checksum of the tiles' table")) != _checksum(head + table):
        raise CorruptFileError("the table of tiles does not match its checksum: the file is damaged")
    streams: list[bytes | None] = []
    for number, (length, checksum) in enumerate(entries):
        stream = bytes(reader.take(min(length, reader.remaining) if salvage else length, f"tile {number}"))
        intact = _checksum(stream) == checksum
        if not intact and not salvage:
            raise CorruptFileError(f"tile {number} does not match its checksum: the file is damaged")
        streams.append(stream if intact else None)
    if reader.remaining and not salvage:
        raise CorruptFileError(f"unexpected bytes after the last tile ({reader.remaining})")
    return streams


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(CHECKSUM_SIZE, "little")
