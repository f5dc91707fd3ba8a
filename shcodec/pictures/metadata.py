"""Colour profile, EXIF and XMP of a picture. Needs neither numpy nor Pillow: `shc info` runs without them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from shcodec.pictures.exif import EXIF_PREFIX, resolution_of, with_size, without_thumbnail
from shcodec.support.deflate import deflated
from shcodec.support.limits import MAX_CHUNK_SIZE, MAX_METADATA_SIZE

_XMP_THUMBNAILS: Final = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)


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
        """Return entries of a Pillow image's `info` as Pillow's own readers set them; with `dpi` if EXIF has it."""
        exif = EXIF_PREFIX + self.exif if self.exif else b""
        entries = {"icc_profile": self.icc, "exif": exif, "xmp": self.xmp, "dpi": resolution_of(self.exif)}
        return {key: data for key, data in entries.items() if data}

    def of_a_crop(self, width: int, height: int) -> Metadata:
        """Return the same for a part of the picture: its size, and no thumbnail, which would show the whole."""
        exif = with_size(without_thumbnail(self.exif), width, height)
        return replace(self, exif=exif, xmp=_XMP_THUMBNAILS.sub(b"", self.xmp))


def fits(data: bytes) -> bool:
    """Whether a file can hold these bytes; some that no DEFLATE makes smaller it cannot, close to the limit."""
    if len(data) <= MAX_METADATA_SIZE - (MAX_METADATA_SIZE >> 10):
        return True
    return len(data) <= MAX_METADATA_SIZE and len(deflated(data)) <= MAX_CHUNK_SIZE
