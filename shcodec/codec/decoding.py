"""From a file to its picture: the whole way, in the order of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shcodec import container
from shcodec.codec.synthesis import decode_latent, fill_damaged, synthesise
from shcodec.container.extras import Extras, unpack_extras
from shcodec.model import zoo
from shcodec.model.networks import Model
from shcodec.pictures.arguments import File, read_bytes
from shcodec.pictures.picture import Pixels, as_rgb
from shcodec.support.errors import CorruptFileError, UsageError
from shcodec.support.progress import Report, unheard
from shcodec.symbols.grid import Area, Grid, tiles_of

if TYPE_CHECKING:
    from PIL import Image


def decode(data: File, *, quick: bool = False, max_pixels: int = container.MAX_PIXELS) -> Image.Image:
    """Decompress a picture.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        quick: let the quick synthesis network show the picture, if the file's model has one: sooner, not quite as well.
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
    return decode_picture(data, max_pixels=max_pixels, quick=quick).image()


def decode_array(
    data: File, *, max_pixels: int = container.MAX_PIXELS, model: Model | None = None, quick: bool = False
) -> Pixels:
    """Decompress to (H, W, 3) uint8 pixels, those of a grey picture with equal channels; see `decode_picture`."""
    return as_rgb(decode_picture(data, max_pixels=max_pixels, model=model, quick=quick).samples)


@dataclass(frozen=True)
class Decoded:
    """What could be decoded of a file.

    Attributes:
        file: header and chunks; the payload is not kept.
        samples: of the picture or the region, (H, W, 3) uint8 of RGB or (H, W) of grey.
        extras: alpha and metadata of the picture or the region.
        damaged: left, top, width and height of what could not be decoded and is grey; the region may hold none of it.
    """

    file: container.Container
    samples: Pixels
    extras: Extras
    damaged: tuple[tuple[int, int, int, int], ...]

    def image(self) -> Image.Image:
        """Return all of it as a Pillow image; see `decode`."""
        from PIL import Image

        image = Image.fromarray(self.samples)
        if self.extras.alpha is not None:
            image.putalpha(Image.fromarray(self.extras.alpha))
        image.info.update(self.extras.metadata.pillow_info)
        return image


def decode_picture(
    data: File,
    *,
    max_pixels: int = container.MAX_PIXELS,
    model: Model | None = None,
    region: tuple[int, int, int, int] | None = None,
    keep_going: bool = False,
    quick: bool = False,
    report: Report = unheard,
) -> Decoded:
    """Decompress a picture, a region of it, or as much of a damaged one as there is.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused, whatever the region.
        model: a loaded model to use if the file names it; otherwise the installed ones are searched.
        region: left, top, width and height in pixels; only what it needs is decoded.
        keep_going: fill damaged tiles with grey instead of failing.
        quick: as for `decode`.
        report: told how the work goes on.

    Raises:
        CorruptFileError: not an intact .shc file; with `keep_going`, one of which nothing can be decoded.
        UsageError: the region is not within the picture.
    """
    data = read_bytes(data)
    file = _salvaged(data, max_pixels) if keep_going else container.unpack(data, max_pixels=max_pixels)
    extras = unpack_extras(file)  # first: what is damaged there must not be found after minutes of networks
    if model is None or model.id != file.model_id:
        model = zoo.load_by_id(file.model_id)
    area = None if region is None else _area(region, file)
    if area is not None and area != (slice(0, file.height), slice(0, file.width)):
        extras = extras.cropped(*area)
    latent, damaged = decode_latent(file, model, region=area, salvage=keep_going)
    samples = synthesise(latent, (file.height, file.width), area, grey=file.grey, quick=quick, report=report)
    fill_damaged(samples, damaged, area)
    boxes = tuple(tile.box(file.width, file.height) for tile in damaged)
    return Decoded(replace(file, payload=b""), samples, extras, boxes)


def _salvaged(data: bytes, max_pixels: int) -> container.Container:
    """Read a file, damaged or not, if it has tiles: a single tile has no other checksum than the file's."""
    try:
        return container.unpack(data, max_pixels=max_pixels)
    except CorruptFileError:
        file = container.unpack(data, max_pixels=max_pixels, salvage=True)
        if len(tiles_of(Grid.of(file.height, file.width))) == 1:
            raise
        return file


def _area(region: tuple[int, int, int, int], file: container.Container) -> Area:
    """Return the rows and columns of a region."""
    left, top, width, height = region
    if width < 1 or height < 1 or min(left, top) < 0 or left + width > file.width or top + height > file.height:
        told = ",".join(map(str, region))
        raise UsageError(f"the region {told} is not within the picture of {file.width}x{file.height}")
    return slice(top, top + height), slice(left, left + width)
