"""Image file directories (IFD) of TIFF files and EXIF blocks, changed without moving anything else.

Offsets in such files are absolute, and cameras' maker notes hold some in formats that are not public. So a changed
directory goes to the end, and the header points to it; all else stays where it is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type."""

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16


class Window:
    """A file of which slices are read as they are asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._length)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))


Bytes = bytes | Window

_CODES: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST: Final = 4096  # entries that are believed


@dataclass(frozen=True)
class Entry:
    """One tag: its type, number of values, and the values as bytes or where they are."""

    kind: int
    count: int
    field: bytes


@dataclass(frozen=True)
class Directory:
    """One directory of a file.

    Attributes:
        data: the whole file.
        entries: by tag.
        following: offset of the next directory; 0 is none.
        link: where that offset stands.
    """

    data: Bytes
    entries: dict[int, Entry]
    following: int
    link: int

    @property
    def order(self) -> str:
        """Return the byte order as `struct` writes it."""
        return "<" if self.data[:2] == b"II" else ">"

    @property
    def big(self) -> bool:
        """Whether it is BigTIFF, with offsets of 8 bytes."""
        return _is_big(self.data)

    def content(self, tag: int) -> bytes:
        """Return the bytes of a tag's values; empty where it is absent or leads out of the file."""
        entry = self.entries.get(tag)
        if entry is None:
            return b""
        size = SIZES.get(entry.kind, 0) * entry.count
        if size <= len(entry.field):
            return entry.field[:size]
        start = struct.unpack(self.order + ("Q" if self.big else "I"), entry.field)[0]
        return self.data[start : start + size] if start + size <= len(self.data) else b""

    def is_whole(self, tag: int) -> bool:
        """Whether a tag's values are in the file."""
        entry = self.entries[tag]
        return not entry.count or entry.kind not in SIZES or len(self.content(tag)) > 0

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return the values of a tag of whole numbers; none where it is absent, damaged or of another type."""
        content, entry = self.content(tag), self.entries.get(tag)
        if entry is None or entry.kind not in _CODES:
            return ()
        code = _CODES[entry.kind]
        return struct.unpack(f"{self.order}{len(content) // SIZES[entry.kind]}{code}", content)

    def fractions(self, tag: int) -> tuple[float, ...]:
        """Return the values of a tag of fractions; none where it is absent, damaged or of another type."""
        content, entry = self.content(tag), self.entries.get(tag)
        if entry is None or entry.kind != RATIONAL:
            return ()
        parts = struct.unpack(f"{self.order}{len(content) // 8 * 2}I", content)
        return tuple(a / b for a, b in zip(parts[::2], parts[1::2], strict=True)) if all(parts[1::2]) else ()

    def number(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        return next(iter(self.numbers(tag)), default)


def first(data: Bytes) -> Directory:
    """Return the first directory of a file.

    Raises:
        ValueError: there is none.
    """
    if data[:2] not in (b"II", b"MM"):
        raise ValueError("no TIFF header")
    order = "<" if data[:2] == b"II" else ">"
    try:
        start = _number(order + ("Q" if _is_big(data) else "I"), data, 8 if _is_big(data) else 4)
    except struct.error as error:
        raise ValueError("no TIFF header") from error
    return at(data, start)


def at(data: Bytes, start: int) -> Directory:
    """Return the directory at an offset.

    Raises:
        ValueError: there is none.
    """
    order, big = "<" if data[:2] == b"II" else ">", _is_big(data)
    width = 8 if big else 4
    try:
        count = _number(order + ("Q" if big else "H"), data, start)
        place = start + (8 if big else 2)
        if count > _MOST or start == 0:
            raise ValueError("no directory")
        entries: dict[int, Entry] = {}
        length = 20 if big else 12
        table = data[place : place + count * length]
        for line in range(0, count * length, length):
            tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), table, line)
            entries.setdefault(tag, Entry(kind, number, table[line + length - width : line + length]))
        place += count * length
        following = _number(order + ("Q" if big else "I"), data, place)
    except struct.error as error:
        raise ValueError("a directory that is cut off") from error
    return Directory(data, entries, following, place)


def changed(directory: Directory, changes: Mapping[int, tuple[int, Sequence[int]] | None]) -> bytes:
    """Return the file with another first directory, at its end.

    Args:
        directory: what it is made from.
        changes: type and values of tags that are new or other (of a `RATIONAL` numerator and denominator); None takes
            a tag out.

    Raises:
        ValueError: a value does not fit its type, or the file would be too long for its offsets.
    """
    order, big = directory.order, directory.big
    pointer, width = ("Q", 8) if big else ("I", 4)
    data = bytearray(directory.data[:])
    data += bytes(len(data) % 2)
    entries = dict(directory.entries)
    try:
        for tag, change in changes.items():
            if change is None:
                entries.pop(tag, None)
                continue
            kind, values = change
            code = "I" if kind == RATIONAL else _CODES[kind]
            content = struct.pack(f"{order}{len(values)}{code}", *values)
            count = len(values) // 2 if kind == RATIONAL else len(values)
            if len(content) > width:
                content, place = struct.pack(order + pointer, len(data)), content
                data += place + bytes(len(place) % 2)
            entries[tag] = Entry(kind, count, content.ljust(width, b"\0"))
        start = len(data)
        data += struct.pack(order + ("Q" if big else "H"), len(entries))
        for tag, entry in sorted(entries.items()):
            data += struct.pack(order + ("HHQ" if big else "HHI"), tag, entry.kind, entry.count) + entry.field
        data += struct.pack(order + pointer, directory.following)
        struct.pack_into(order + pointer, data, 8 if big else 4, start)
    except struct.error as error:
        raise ValueError("a value does not fit") from error
    return bytes(data)


def _number(code: str, data: Bytes, start: int) -> int:
    return int(struct.unpack(code, data[start : start + struct.calcsize(code)])[0])


def _is_big(data: Bytes) -> bool:
    return data[2:4] in (b"+\0", b"\0+")
