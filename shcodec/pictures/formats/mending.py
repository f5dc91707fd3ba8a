"""Files that Pillow cannot open because of damaged metadata, mended by leaving these out."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

_HEAD: Final = 1 << 20  # bytes in which headers lie
_JPEG: Final = b"\xff\xd8\xff"
_METADATA: Final = (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0")
_WEBP_FLAGS: Final = {0x20: b"ICCP", 0x08: b"EXIF", 0x04: b"XMP "}


def mended(file: BinaryIO) -> io.BytesIO | None:
    """Remove the metadata for which Pillow may have given a file up; None if it is of no kind that is known here.

    What is whole stays: of a JPEG file EXIF, XMP and the profile, of a WebP file all chunks that do not lead out of it.
    """
    file.seek(0)
    head = file.read(12)
    if head.startswith(_JPEG):
        return io.BytesIO(_mended_jpeg(head + file.read()))
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return io.BytesIO(_mended_webp(file.read()))
    if head[4:8] == b"ftyp":
        return io.BytesIO(_mended_avif(head + file.read()))
    return None


def _mended_jpeg(data: bytes) -> bytes:
    """Leave out Photoshop segments and JFIF headers that are too short, and damaged tables of pictures."""
    kept = [data[:2]]
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        jfif = marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12
        known = marker in (0xE1, 0xE2) and body.startswith(_METADATA) and len(body) > 14
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or jfif or known or (marker == 0xEE and len(body) >= 12):
            kept.append(data[start:end])
    return b"".join(kept)


def _mended_webp(chunks: bytes) -> bytes:
    """Leave out chunks that lead out of the file, and clear their flags in VP8X."""
    found: list[tuple[bytes, bytes]] = []
    place = 0
    while place + 8 <= len(chunks):
        tag, size = struct.unpack_from("<4sI", chunks, place)
        end = place + 8 + size
        if end <= len(chunks) or tag in (b"VP8 ", b"VP8L"):
            found.append((tag, chunks[place + 8 : end]))
        place = end + size % 2
    there = {tag for tag, _ in found}
    body = b""
    for tag, data in found:
        if tag == b"VP8X" and data:
            announced = sum(bit for bit, name in _WEBP_FLAGS.items() if name not in there)
            data = bytes([data[0] & ~announced]) + data[1:]
        body += struct.pack("<4sI", tag, len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _mended_avif(data: bytes) -> bytes:
    """Leave out EXIF: its item is renamed to a kind that readers skip."""
    at = data.find(b"meta", 0, _HEAD)
    end = at - 4 + int.from_bytes(data[at - 4 : at], "big") if at >= 4 else 0
    return data[:at] + data[at:end].replace(b"Exif", b"none") + data[end:] if end > at else data


def jpeg_kind(file: BinaryIO) -> str:
    """Return what is unusual about a JPEG file that cannot be read; empty if nothing is."""
    file.seek(0)
    data = file.read(_HEAD)
    if not data.startswith(_JPEG):
        return ""
    for marker, start, _ in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(data) > start + 4:
            bits = data[start + 4]
            lossless = "lossless " if marker in (0xC3, 0xC7, 0xCB, 0xCF) else ""
            return f"a {lossless}JPEG of {bits} bits a sample" if lossless or bits != 8 else ""
    return ""


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of a JPEG file's segments; the last is that of the scan and all that follows."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        end = len(data) if marker == 0xDA else place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield marker, place, min(end, len(data))
        place = end
