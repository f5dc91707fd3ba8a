"""What a file holds besides its pixels, alpha and metadata, and the chunks that hold them.

This module needs neither numpy nor Pillow, so that the header of a file can be read without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shcodec.container import ALPHA, Chunk, Container
from shcodec.pictures.metadata import Metadata
from shcodec.support.deflate import deflated, inflated
from shcodec.support.errors import CorruptFileError
from shcodec.support.limits import MAX_METADATA_SIZE

if TYPE_CHECKING:
    from shcodec.pictures.picture import Picture, Pixels

_ICC, _EXIF, _XMP = b"iccp", b"exif", b"xmlp"
_NAMES: Final = {_ICC: "ICC", _EXIF: "EXIF", _XMP: "XMP"}


@dataclass(frozen=True)
class Extras:
    """What a file holds besides its pixels.

    Attributes:
        alpha: (H, W) uint8, 0 transparent, 255 opaque; None where the picture is opaque.
        metadata: colour profile, EXIF and XMP.
    """

    alpha: Pixels | None
    metadata: Metadata

    def cropped(self, rows: slice, columns: slice) -> Extras:
        """Return those of a part of the picture."""
        alpha = None if self.alpha is None else self.alpha[rows, columns].copy()  # the whole need not be kept for it
        return Extras(alpha, self.metadata.of_a_crop(columns.stop - columns.start, rows.stop - rows.start))


def pack_extras(picture: Picture) -> tuple[Chunk, ...]:
    """Return the chunks that hold all of a picture but its samples."""
    chunks = []
    if picture.alpha is not None:
        from shcodec.container import alpha

        chunks.append(Chunk(ALPHA, alpha.pack(picture.alpha)))
    metadata = picture.metadata
    parts = ((_ICC, metadata.icc), (_EXIF, metadata.exif), (_XMP, metadata.xmp))
    return (*chunks, *(Chunk(tag, deflated(data)) for tag, data in parts if data))


def unpack_extras(file: Container) -> Extras:
    """Decode the chunks of a file; those of other tags are skipped.

    Raises:
        CorruptFileError: one of them is damaged.
    """
    metadata, plane = unpack_metadata(file.chunks), None
    for chunk in file.chunks:
        if chunk.tag == ALPHA:
            from shcodec.container import alpha

            plane = alpha.unpack(chunk.data, file.width, file.height)
    return Extras(plane, metadata)


def unpack_metadata(chunks: Iterable[Chunk]) -> Metadata:
    """Decode the chunks of metadata alone.

    Raises:
        CorruptFileError: one of them is damaged, empty, or holds more than `MAX_METADATA_SIZE` bytes.
    """
    found = {chunk.tag: _inflated(chunk) for chunk in chunks if chunk.tag in _NAMES}
    return Metadata(found.get(_ICC, b""), found.get(_EXIF, b""), found.get(_XMP, b""))


def metadata_names(chunks: Iterable[Chunk]) -> tuple[str, ...]:
    """Tell which of "ICC", "EXIF" and "XMP" a file holds, without decoding them."""
    tags = {chunk.tag for chunk in chunks}
    return tuple(name for tag, name in _NAMES.items() if tag in tags)


def pillow_mode(file: Container) -> str:
    """Return Pillow's mode of the decoded picture: "RGB", "L", "RGBA" or "LA"."""
    return ("L" if file.grey else "RGB") + ("A" if any(chunk.tag == ALPHA for chunk in file.chunks) else "")


def _inflated(chunk: Chunk) -> bytes:
    what = f"chunk {chunk.tag.decode()}"
    data = inflated(chunk.data, MAX_METADATA_SIZE, what)
    if not data:
        raise CorruptFileError(f"{what} is empty")
    return data
