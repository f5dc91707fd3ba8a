"""What a file tells besides its pixels: colour profile, EXIF and XMP, and which chunks hold them.

This module needs neither numpy nor Pillow, so that the header of a file can be read without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from shcodec.container import ALPHA, Chunk, Container
from shcodec.pictures.metadata import LIMIT, Metadata
from shcodec.support.deflate import deflated, inflated
from shcodec.support.errors import CorruptFileError

if TYPE_CHECKING:
    from shcodec.pictures.picture import Picture


_ICC, _EXIF, _XMP = b"iccp", b"exif", b"xmlp"
_NAMES: Final = {_ICC: "ICC", _EXIF: "EXIF", _XMP: "XMP"}


def chunks_of(picture: Picture) -> tuple[Chunk, ...]:
    """Return the chunks that hold all of a picture but its samples: alpha and metadata."""
    chunks = []
    if picture.alpha is not None:
        from shcodec.container import alpha

        chunks.append(Chunk(ALPHA, alpha.pack(picture.alpha)))
    metadata = picture.metadata
    parts = ((_ICC, metadata.icc), (_EXIF, metadata.exif), (_XMP, metadata.xmp))
    return (*chunks, *(Chunk(tag, deflated(data)) for tag, data in parts if data))


def read(chunks: Iterable[Chunk]) -> Metadata:
    """Return what the chunks of a file tell; chunks of other tags are skipped.

    Raises:
        CorruptFileError: one of them is damaged, empty, or holds more than `LIMIT` bytes.
    """
    found = {chunk.tag: _unpacked(chunk) for chunk in chunks if chunk.tag in _NAMES}
    return Metadata(found.get(_ICC, b""), found.get(_EXIF, b""), found.get(_XMP, b""))


def check(file: Container) -> None:
    """Read alpha and metadata; raises CorruptFileError if they are damaged."""
    read(file.chunks)
    for chunk in file.chunks:
        if chunk.tag == ALPHA:
            from shcodec.container import alpha

            alpha.unpack(chunk.data, file.width, file.height)


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
