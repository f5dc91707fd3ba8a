"""What can be told of a file without running its networks."""

from __future__ import annotations

from dataclasses import dataclass

from shcodec import container
from shcodec.codec.quality import quality_of
from shcodec.container.extras import metadata_names, pillow_mode, unpack_extras
from shcodec.model import zoo
from shcodec.pictures.arguments import File, read_bytes


@dataclass(frozen=True)
class FileInfo:
    """What can be said of a file without loading a network.

    Attributes:
        version: of the container.
        model_id: 8 hexadecimal digits.
        model: name of the installed model of that id, or None.
        width, height: pixels.
        beta: what the encoder aimed at.
        quality: the same from 0 to 100.
        colour: "RGB" or "grey".
        mode: Pillow's mode of the decoded picture: "RGB", "L", or with alpha "RGBA", "LA".
        metadata: which of "ICC", "EXIF" and "XMP" the file holds.
        sizes: bytes of header, chunks, payload and checksum.
        total: bytes of the file.
        bpp: bits of the file per pixel.
        chunks: tags of the optional chunks.
    """

    version: int
    model_id: str
    model: str | None
    width: int
    height: int
    beta: float
    quality: float
    colour: str
    mode: str
    metadata: tuple[str, ...]
    sizes: dict[str, int]
    total: int
    bpp: float
    chunks: list[str]


def info(data: File) -> FileInfo:
    """Tell what a file holds, from its header and chunks; loads no network.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.

    Raises:
        CorruptFileError: not an intact .shc file.
    """
    data = read_bytes(data)
    file = container.unpack(data, max_pixels=container.MAX_SIDE**2)
    return FileInfo(
        version=container.VERSION,
        model_id=file.model_id.hex(),
        model=zoo.name_of(file.model_id),
        width=file.width,
        height=file.height,
        beta=container.byte_to_beta(file.beta_byte),
        quality=quality_of(container.byte_to_beta(file.beta_byte)),
        colour="grey" if file.grey else "RGB",
        mode=pillow_mode(file),
        metadata=metadata_names(file.chunks),
        sizes=container.part_sizes(data),
        total=len(data),
        bpp=8 * len(data) / (file.width * file.height),
        chunks=[chunk.tag.decode("ascii") for chunk in file.chunks],
    )


def verify(data: File, *, max_pixels: int = container.MAX_PIXELS) -> None:
    """Check the checksum, alpha and metadata, and that all symbols decode; runs no network.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused.

    Raises:
        ShcError: what is wrong.
    """
    from shcodec.codec.synthesis import decode_latent  # not at the start: `info` needs no numpy

    file = container.unpack(read_bytes(data), max_pixels=max_pixels)
    unpack_extras(file)
    decode_latent(file, zoo.load_by_id(file.model_id))
