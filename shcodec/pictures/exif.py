"""EXIF blocks: the resolution that other formats keep elsewhere, and the thumbnail that a crop must not carry along.

All else in a block keeps its place and its bytes.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Final

from shcodec.pictures import ifd
from shcodec.pictures.ifd import Directory

_X, _Y, _UNIT = 282, 283, 296
_EXIF, _WIDTH, _HEIGHT = 34665, 40962, 40963
_INCH, _CENTIMETRE = 2, 3
_THUMBNAIL: Final = ((513, 514), (273, 279))  # offsets and lengths
_EMPTY: Final = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
_MOST_DPI: Final = 65_535

EXIF_PREFIX: Final = b"Exif\0\0"
"""What stands before an EXIF block in JPEG, and in Pillow's `info`; our chunk is without it, as PNG's."""

Resolution = tuple[float, float]


def resolution_of(exif: bytes) -> Resolution | None:
    """Return the pixels per inch across and down that an EXIF block tells; None where it does not."""
    directory = _first(exif)
    if directory is None:
        return None
    unit = directory.number(_UNIT, _INCH)
    values = directory.fractions(_X)[:1] + directory.fractions(_Y)[:1]
    if unit not in (_INCH, _CENTIMETRE) or len(values) < 2 or not all(0 < value <= _MOST_DPI for value in values):
        return None
    scale = 2.54 if unit == _CENTIMETRE else 1.0
    return values[0] * scale, values[1] * scale


def with_resolution(exif: bytes, dpi: object, default: float = 72) -> bytes:
    """Add a resolution to an EXIF block; it stays as it is where it has one, or where there is none to tell.

    Args:
        exif: a block, beginning with its TIFF header; empty where the picture has none.
        dpi: what Pillow's `info` holds.
        default: what programs write that know of none, so that it is worth no block; 72 is EXIF's own.
    """
    known = _sensible(dpi)
    directory = _first(exif or _EMPTY)
    if known is None or directory is None or directory.entries.keys() & {_X, _Y}:
        return exif
    if all(abs(value - default) < 0.05 for value in known):
        return exif
    across, down = (_fraction(value) for value in known)
    try:
        return ifd.changed(
            directory if exif else Directory(_EMPTY[:8], {}, 0, 0),
            {
                _X: (ifd.RATIONAL, (across.numerator, across.denominator)),
                _Y: (ifd.RATIONAL, (down.numerator, down.denominator)),
                _UNIT: (ifd.SHORT, (_INCH,)),
            },
        )
    except ValueError:
        return exif


def tells_resolution_alone(exif: bytes) -> bool:
    """Whether a block has nothing that a format with a resolution of its own would miss."""
    directory = _first(exif)
    return directory is not None and not directory.following and directory.entries.keys() == {_X, _Y, _UNIT}


def without_thumbnail(exif: bytes) -> bytes:
    """Remove a block's second directory and the small picture that it describes, with all their bytes."""
    directory = _first(exif)
    if directory is None or not directory.following:
        return exif
    data = bytearray(exif)
    gone: list[tuple[int, int]] = []
    try:
        second = ifd.at(exif, directory.following)
        gone.append((directory.following, second.link + 4))
        for entry in second.entries.values():
            size = ifd.SIZES.get(entry.kind, 1) * entry.count
            if size > 4:
                start = struct.unpack(second.order + "I", entry.field)[0]
                gone.append((start, start + size))
        for places, lengths in _THUMBNAIL:
            pairs = zip(second.numbers(places), second.numbers(lengths), strict=False)
            gone += [(place, place + length) for place, length in pairs]
    except ValueError:
        gone.append((directory.following, len(data)))  # a directory that cannot be read: all of the rest
    struct.pack_into(directory.order + "I", data, directory.link, 0)
    kept = directory.link + 4  # the first directory stays, whatever the second says
    for start, end in sorted(gone, reverse=True):
        start, end = max(start, kept), min(end, len(data))
        if start >= end:
            continue
        data[start:end] = bytes(end - start)
        if end >= len(data) - 1:
            del data[start:]
    return bytes(data)


def with_size(exif: bytes, width: int, height: int) -> bytes:
    """Return the block with other sides of the picture, where it tells them; nothing moves."""
    directory = _first(exif)
    start = 0 if directory is None else directory.number(_EXIF, 0)
    if not start:
        return exif
    try:
        inner = ifd.at(exif, start)
    except ValueError:
        return exif
    if inner.link != start + 2 + 12 * len(inner.entries):  # tags that are there twice
        return exif
    data = bytearray(exif)
    for number, tag in enumerate(inner.entries):
        code = {ifd.SHORT: "H", ifd.LONG: "I"}.get(inner.entries[tag].kind)
        if tag in (_WIDTH, _HEIGHT) and code and inner.entries[tag].count == 1:
            value = width if tag == _WIDTH else height
            struct.pack_into(inner.order + code, data, start + 2 + 12 * number + 8, value)
    return bytes(data)


def _first(exif: bytes) -> Directory | None:
    try:
        directory = ifd.first(exif)
    except ValueError:
        return None
    return None if directory.big else directory


def _sensible(dpi: object) -> Resolution | None:
    """Return a resolution of two positive numbers; None for anything else."""
    try:
        across, down = (float(value) for value in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (across, down) if 0 < across <= _MOST_DPI and 0 < down <= _MOST_DPI else None


def _fraction(value: float) -> Fraction:
    """Round to a whole number where one is meant: PNG counts pixels per metre, in steps of 0.0127 per inch."""
    return Fraction(round(value)) if abs(value - round(value)) < 0.013 else Fraction(value).limit_denominator(10_000)
