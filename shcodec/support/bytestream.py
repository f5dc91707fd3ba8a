"""Reading and writing bytes that nobody vouches for: a bounded cursor, and numbers of variable length."""

from __future__ import annotations

import zlib
from typing import Final

from shcodec.support.errors import CorruptFileError

CHECKSUM_SIZE: Final = 4
"""Bytes of a CRC-32, little-endian."""


class Reader:
    """A cursor over bytes that never reads past their end and never copies."""

    def __init__(self, data: bytes) -> None:
        self.view = memoryview(data)
        self.pos = 0

    @property
    def remaining(self) -> int:
        """Bytes that have not been read."""
        return len(self.view) - self.pos

    def take(self, count: int, what: str) -> memoryview:
        """Return the next ``count`` bytes."""
        if count > self.remaining:
            raise CorruptFileError(f"truncated: the file ends within {what}")
        self.pos += count
        return self.view[self.pos - count : self.pos]

    def byte(self, what: str) -> int:
        """Return the next byte."""
        return self.take(1, what)[0]

    def varint(self, max_bytes: int, what: str) -> int:
        """Return a canonical LEB128 number of at most ``max_bytes`` bytes."""
        value = 0
        for i in range(max_bytes):
            byte = self.byte(what)
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                if byte == 0 and i > 0:
                    raise CorruptFileError(f"{what} is not written in its shortest form")
                return value
        raise CorruptFileError(f"{what} is written in more than the allowed bytes ({max_bytes})")

    def check_end(self) -> None:
        """Read the CRC-32 over all that has been read, which must be right and end the file."""
        end = self.pos
        checksum = self.take(CHECKSUM_SIZE, "the checksum")
        if self.remaining:
            raise CorruptFileError(f"unexpected bytes after the end ({self.remaining})")
        if zlib.crc32(self.view[:end]) != int.from_bytes(checksum, "little"):
            raise CorruptFileError("checksum does not match: the file is damaged")


def varint(value: int) -> bytes:
    """Return ``value`` >= 0 as LEB128: seven bits a byte, lowest first, the eighth bit set on all but the last."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
