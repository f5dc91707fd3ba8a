"""What a file tells besides its pixels: colour profile, EXIF and XMP, and which chunks hold them.

This module needs neither numpy nor Pillow, so that the header of a file can be read without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from shcodec.container import ALPHA, MAX_CHUNK_SIZE, Chunk
from shcodec.deflate import deflated, inflated
from shcodec.errors import CorruptFileError
from shcodec.exif_block import resolution_of, with_size, without_thumbnail

if TYPE_CHECKING:
    from shcodec.pictures import Picture

LIMIT: Final = 16 << 20
"""Bytes that each of the three may have."""
EXIF_PREFIX: Final = b"Exif\0\0"
"""What stands before an EXIF block in JPEG, and in Pillow's `info`; our chunk is without it, as PNG's."""

_ICC, _EXIF, _XMP = b"iccp", b"exif", b"xmlp"
_XMP_THUMBNAILS: Final = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)
_NAMES: Final = {_ICC: "ICC", _EXIF: "EXIF", _XMP: "XMP"}


@dataclass(frozen=True)
class Metadata:
    """What a picture carries along; empty bytes where there is none.

    Attributes:
        icc: an ICC colour profile, as the picture's file had it.
        exif: an EXIF block, beginning with its TIFF header.
        xmp: an XMP packet.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""

    @property
    def pillow_info(self) -> dict[str, Any]:
        """The same as entries of a Pillow image's `info`, as Pillow's own readers set them; `dpi` if EXIF tells it."""
        exif = EXIF_PREFIX + self.exif if self.exif else b""
        entries = {"icc_profile": self.icc, "exif": exif, "xmp": self.xmp, "dpi": resolution_of(self.exif)}
        return {key: data for key, data in entries.items() if data}

    def of_a_crop(self, width: int, height: int) -> Metadata:
        """The same for a part of the picture: its size, and no thumbnail, which would show the whole."""
        exif = with_size(without_thumbnail(self.exif), width, height)
        return replace(self, exif=exif, xmp=_XMP_THUMBNAILS.sub(b"", self.xmp))


def fits(data: bytes) -> bool:
    """Whether a file can hold these bytes; some that no DEFLATE makes smaller it cannot, close to `LIMIT`."""
    if len(data) <= LIMIT - (LIMIT >> 10):
        return True
    return len(data) <= LIMIT and len(deflated(data)) <= MAX_CHUNK_SIZE


def chunks_of(picture: Picture) -> tuple[Chunk, ...]:
    """The chunks that hold all of a picture but its samples: alpha and metadata."""
    chunks = []
    if picture.alpha is not None:
        from shcodec import alpha

        chunks.append(Chunk(ALPHA, alpha.pack(picture.alpha)))
    metadata = picture.metadata
    parts = ((_ICC, metadata.icc), (_EXIF, metadata.exif), (_XMP, metadata.xmp))
    return (*chunks, *(Chunk(tag, deflated(data)) for tag, data in parts if data))


def read(chunks: Iterable[Chunk]) -> Metadata:
    """What the chunks of a file tell; chunks of other tags are skipped.

    Raises:
        CorruptFileError: one of them is damaged, empty, or holds more than `LIMIT` bytes.
    """
    found = {chunk.tag: _unpacked(chunk) for chunk in chunks if chunk.tag in _NAMES}
    return Metadata(found.get(_ICC, b""), found.get(_EXIF, b""), found.get(_XMP, b""))


def names(chunks: Iterable[Chunk]) -> tuple[str, ...]:
    """Which of "ICC", "EXIF" and "XMP" a file holds, without reading them."""
    tags = {chunk.tag for chunk in chunks}
    return tuple(name for tag, name in _NAMES.items() if tag in tags)


def mode(chunks: Iterable[Chunk], *, grey: bool) -> str:
    """Pillow's mode of the decoded picture: "RGB", "L", "RGBA" or "LA"."""
    return ("L" if grey else "RGB") + ("A" if any(chunk.tag == ALPHA for chunk in chunks) else "")


def _unpacked(chunk: Chunk) -> bytes:
    what = f"chunk {chunk.tag.decode()}"
    data = inflated(chunk.data, LIMIT, what)
    if not data:
        raise CorruptFileError(f"{what} is empty")
    return data
