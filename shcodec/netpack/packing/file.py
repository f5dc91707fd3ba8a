"""The ``.shcn`` file, versions 1 and 2: directory, lossless bytes and symbols of tensors as one byte string.

``netpack/FORMAT.md`` describes every byte. All input is treated as hostile: sizes are checked before anything
of that size is made, and what is not canonical is rejected; only how the parts are deflated is left to the writer.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from shcodec.netpack.packing.directory import parse_directory, write_directory
from shcodec.netpack.packing.layout import Directory
from shcodec.support.bytestream import CHECKSUM_SIZE, Reader, varint
from shcodec.support.deflate import deflated, inflated
from shcodec.support.errors import CorruptFileError, LimitError

# As in a picture's file: the first byte shows a channel that strips the eighth bit, the last one that rewrites lines.
MAGIC: Final = b"\x89SHCN\n"
VERSION: Final = 2
"""The last version that is known; a file has the first one that can tell what it holds."""
MAX_WEIGHTS: Final = 1 << 28
"""Elements that a reader accepts unless told otherwise: 1 GiB as float32."""
MAX_DIRECTORY: Final = 64 << 20
PER_BYTE: Final = 512
"""Coded elements that a byte of symbols may stand for, beyond the first `FREE`: no small file becomes gigabytes."""
FREE: Final = 1 << 16
_PART = 6  # the most bytes of a part's length


@dataclass(frozen=True)
class Parts:
    """A file whose checksum matches and whose parts are still deflated.

    Attributes:
        version: Of the format.
        directory: What it says of its tensors.
        plain: The deflated bytes of the tensors that are kept as they are.
        symbols: The stream of all others.
        sizes: Bytes of the file by part; they add up to the file's length.
    """

    version: int
    directory: Directory
    plain: memoryview
    symbols: memoryview
    sizes: dict[str, int]

    def inflated_plain(self) -> bytes:
        """Return the bytes of the tensors that are kept as they are, in planes.

        Raises:
            CorruptFileError: If they are damaged or of another number.
        """
        expected = sum(entry.nbytes for entry in self.directory.entries if entry.coding is None)
        found = inflated(bytes(self.plain), expected, "the lossless part")
        if len(found) != expected:
            raise CorruptFileError(f"the lossless part holds {len(found)} bytes, not {expected}")
        return found


def join(directory: Directory, plain: bytes, symbols: bytes) -> bytes:
    """Write a file.

    Args:
        directory: What is said of the tensors.
        plain: The bytes of the tensors that are kept as they are, in planes.
        symbols: The stream of all others.

    Raises:
        LimitError: If the directory is too large, or there are too few symbols for so many elements.
    """
    described = write_directory(directory)
    if len(described) > MAX_DIRECTORY:
        raise LimitError(f"a directory of {len(described)} bytes is larger than the limit of {MAX_DIRECTORY}")
    _check_density(directory, len(symbols))
    head = deflated(described)
    out = bytearray(MAGIC)
    out.append(directory.version)
    out += varint(len(described)) + varint(len(head)) + head
    packed = deflated(plain)
    out += varint(len(packed)) + packed
    out += varint(len(symbols)) + symbols
    out += zlib.crc32(out).to_bytes(CHECKSUM_SIZE, "little")
    return bytes(out)


def split(data: bytes, *, max_weights: int = MAX_WEIGHTS) -> Parts:
    """Read everything but the tensors' elements.

    The checksum comes before any limit, so that a damaged file is called damaged, not too large.

    Raises:
        CorruptFileError: If the bytes are not a valid file.
        LimitError: If it has more than ``max_weights`` elements, or something exceeds what the format allows.
    """
    reader = Reader(data)
    check_magic(data[: len(MAGIC)])
    reader.take(len(MAGIC), "the magic number")
    version = reader.byte("the version")
    if not 1 <= version <= VERSION:
        raise CorruptFileError(f"format version {version} is not known here, only versions 1 to {VERSION}")
    described = reader.varint(_PART, "the directory's size")
    head, head_size = _part(reader, "the directory")
    plain, plain_size = _part(reader, "the lossless part")
    symbols, symbols_size = _part(reader, "the symbols")
    reader.check_end()
    if described > MAX_DIRECTORY:
        raise LimitError(f"a directory of {described} bytes is larger than the limit of {MAX_DIRECTORY}")
    text = inflated(bytes(head), described, "the directory")
    if len(text) != described:
        raise CorruptFileError(f"the directory has {len(text)} bytes, not {described}")
    directory = parse_directory(text, version)
    if directory.elements > max_weights:
        raise LimitError(f"{directory.elements} elements are more than the limit of {max_weights}")
    _check_density(directory, len(symbols))
    sizes = {
        "header": len(data) - head_size - plain_size - symbols_size - CHECKSUM_SIZE,
        "directory": head_size,
        "lossless": plain_size,
        "symbols": symbols_size,
        "checksum": CHECKSUM_SIZE,
    }
    return Parts(version, directory, plain, symbols, sizes)


def check_magic(start: bytes) -> None:
    """Raise CorruptFileError unless a file with these first bytes, or fewer of them, may be one of this format."""
    if not start or not MAGIC.startswith(start):
        raise CorruptFileError("not an .shcn file" if start else "not an .shcn file: it is empty")


def _part(reader: Reader, what: str) -> tuple[memoryview, int]:
    """Return a part, and the bytes that it takes together with its length."""
    start = reader.pos
    view = reader.take(reader.varint(_PART, f"the length of {what}"), what)
    return view, reader.pos - start


def _check_density(directory: Directory, symbols: int) -> None:
    allowed = FREE + PER_BYTE * symbols
    if directory.coded > allowed:
        raise LimitError(f"{directory.coded} elements in {symbols} bytes of symbols are too many ({allowed} at most)")
