"""Picture <-> bytes: the whole way in one readable function each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shcodec import container
from shcodec.codec import synthesis
from shcodec.container import alpha, picture_chunks
from shcodec.model import zoo
from shcodec.model.networks import Model
from shcodec.pictures.given import Source, read_bytes
from shcodec.pictures.picture import Pixels, luma
from shcodec.support.errors import CorruptFileError, UsageError
from shcodec.support.progress import Report, unheard
from shcodec.symbols.grid import Grid, tiles_of

if TYPE_CHECKING:
    from PIL import Image


def decode(data: Source, *, max_pixels: int = container.MAX_PIXELS) -> Image.Image:
    """Decompresses a picture.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused before anything is allocated.

    Returns:
        A picture of mode RGB or, where the file says that it is grey, L; with alpha RGBA or LA. What the file holds of
        `icc_profile`, `exif`, `xmp` and resolution is in its `info`, as Pillow's own readers set it; the EXIF's
        orientation is not applied (`PIL.ImageOps.exif_transpose` does that).

    Raises:
        CorruptFileError: not an intact .shc file.
        LimitError: the picture is too large.
        UnknownModelError: the file's model is not installed.
    """
    parts = decode_parts(data, max_pixels=max_pixels)
    return image_of(parts.file, parts.rgb)


def image_of(file: container.Container, rgb: Pixels, region: tuple[int, int, int, int] | None = None) -> Image.Image:
    """Return the picture that a file shows: its decoded samples as grey if it is grey, with its alpha and metadata.

    Args:
        file: the unpacked file.
        rgb: (H, W, 3) uint8, its decoded samples or those of the region.
        region: left, top, width and height, as for `decode_parts`.

    Returns:
        As `decode`.

    Raises:
        CorruptFileError: alpha or metadata are damaged.
    """
    from PIL import Image

    told = picture_chunks.read(file.chunks)
    if rgb.shape[:2] != (file.height, file.width):
        told = told.of_a_crop(rgb.shape[1], rgb.shape[0])
    image = Image.fromarray(rgb)
    if file.grey:
        image = image.convert("L")
    for chunk in file.chunks:
        if chunk.tag == container.ALPHA:
            left, top, width, height = region or (0, 0, file.width, file.height)
            plane = alpha.unpack(chunk.data, file.width, file.height)
            image.putalpha(Image.fromarray(plane[top : top + height, left : left + width]))
    image.info.update(told.pillow_info)
    return image


def decode_array(data: Source, *, max_pixels: int = container.MAX_PIXELS, model: Model | None = None) -> Pixels:
    """Decompresses to (H, W, 3) uint8 pixels; see `decode`.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused.
        model: a loaded model to use if the file names it; otherwise the installed ones are searched.
    """
    return decode_parts(data, max_pixels=max_pixels, model=model).rgb


@dataclass(frozen=True)
class Parts:
    """What could be decoded of a file.

    Attributes:
        file: what the file holds besides; its payload is not kept.
        rgb: (H, W, 3) uint8 of the picture or the region; of a grey one with equal channels.
        damaged: left, top, width and height of what could not be decoded and is grey; the region may hold none of it.
    """

    file: container.Container
    rgb: Pixels
    damaged: tuple[tuple[int, int, int, int], ...]


def decode_parts(
    data: Source,
    *,
    max_pixels: int = container.MAX_PIXELS,
    model: Model | None = None,
    region: tuple[int, int, int, int] | None = None,
    keep_going: bool = False,
    report: Report = unheard,
) -> Parts:
    """Decompresses a region of a picture, or as much of a damaged one as there is.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused, whatever the region.
        model: as for `decode_array`.
        region: left, top, width and height in pixels; only what it needs is decoded.
        keep_going: paint damaged tiles grey instead of failing.
        report: told how the work goes on.

    Raises:
        CorruptFileError: not an intact .shc file; with `keep_going`, one of which nothing can be decoded.
        UsageError: the region is not within the picture.
    """
    data = read_bytes(data)
    file = _salvaged(data, max_pixels) if keep_going else container.unpack(data, max_pixels=max_pixels)
    picture_chunks.check(file)  # a picture may take minutes, and be for nothing
    if model is None or model.id != file.model_id:
        model = zoo.load_by_id(file.model_id)
    area = None if region is None else _area(region, file)
    latent, damaged = synthesis.read(file, model, region=area, salvage=keep_going)
    rgb = synthesis.pixels(latent, (file.height, file.width), area, report)
    if file.grey:
        rgb[:] = luma(rgb)[..., None]
    synthesis.paint(rgb, damaged, area)
    return Parts(replace(file, payload=b""), rgb, tuple(tile.box(file.width, file.height) for tile in damaged))


def _salvaged(data: bytes, max_pixels: int) -> container.Container:
    """Read a file, damaged or not, if it has tiles: a single tile has no other checksum than the file's."""
    try:
        return container.unpack(data, max_pixels=max_pixels)
    except CorruptFileError:
        file = container.unpack(data, max_pixels=max_pixels, salvage=True)
        if len(tiles_of(Grid.of(file.height, file.width))) == 1:
            raise
        return file


def _area(region: tuple[int, int, int, int], file: container.Container) -> tuple[slice, slice]:
    left, top, width, height = region
    if width < 1 or height < 1 or min(left, top) < 0 or left + width > file.width or top + height > file.height:
        told = ",".join(map(str, region))
        raise UsageError(f"the region {told} is not within the picture of {file.width}x{file.height}")
    return slice(top, top + height), slice(left, left + width)
