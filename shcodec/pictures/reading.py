"""Pictures read through Pillow: each becomes 8-bit RGB or grey, with a note about everything that was changed.

The codec knows two kinds of samples, RGB and grey, 8 bits each; alpha and metadata lie beside them.
Whatever else Pillow can read is converted here, and each conversion leaves a note, so that nothing is lost silently.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
from PIL import Image

from shcodec.pictures.colour import fitting_profile, lab_to_srgb, profile_space, shows_srgb, to_srgb
from shcodec.pictures.conversions import is_grey, metadata_of, upright, without_alpha
from shcodec.pictures.hidden import fill_hidden
from shcodec.pictures.metadata import Metadata
from shcodec.pictures.opening import OpenedPicture, Unlimited, foreign_errors, open_file, open_image
from shcodec.pictures.picture import Picture
from shcodec.support.errors import LimitError, PictureError, ShcError
from shcodec.support.limits import MAX_PIXELS, MAX_SIDE
from shcodec.support.quiet import Quiet

_quiet = Quiet()  # Pillow warns of odd metadata and large pictures: no matter here, or an error of its own

_MODE_NOTES: Mapping[str, str] = MappingProxyType(
    {
        "1": "1-bit coded as grey",
        "CMYK": "CMYK converted to RGB",
        "YCbCr": "YCbCr converted to RGB",
        "HSV": "HSV converted to RGB",
        "LAB": "Lab converted to sRGB",
    }
)


def read_picture(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image,
    *,
    strip: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Read anything that Pillow reads as 8-bit RGB or grey.

    Args:
        source: a path, the bytes of a file, a binary file object (need not be seekable) or a Pillow image, which is
            left as it is.
        strip: leave out all metadata, after turning the picture as its EXIF says and converting it to sRGB.
        max_pixels: the largest width x height accepted, checked before the samples are decoded.
            Up to the default, Pillow's own limit (`PIL.Image.MAX_IMAGE_PIXELS`, twice over) applies to files as well.

    Raises:
        PictureError: not a picture, damaged, of a kind that has no defined conversion, or not readable.
        LimitError: more than `max_pixels`, or a side longer than a file can hold.
    """
    if isinstance(source, (str, os.PathLike)):
        try:
            with open(source, "rb") as file:
                return read_picture(file, strip=strip, max_pixels=max_pixels)
        except ShcError as error:
            raise type(error)(f"{os.fspath(source)}: {error}") from error
        except OSError as error:
            raise PictureError(f"{os.fspath(source)}: {error.strerror or error}") from error
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    with _quiet, Unlimited.to(max_pixels):
        if isinstance(source, Image.Image):
            return _guarded(open_image(source), strip, max_pixels)
        opened = open_file(source)
        with opened.image:
            return _guarded(opened, strip, max_pixels)


def _guarded(source: OpenedPicture, strip: bool, max_pixels: int) -> Picture:
    """Check the size of an opened picture and convert it; what Pillow raises on damaged data becomes `PictureError`."""
    width, height = source.image.size
    if width < 1 or height < 1:
        raise PictureError("the picture has no pixels")
    if width * height > max_pixels:
        raise LimitError(f"{width}x{height} is {width * height:,} pixels; the limit is {max_pixels:,}")
    if max(width, height) > MAX_SIDE:
        raise LimitError(f"{width}x{height} has a side of more than {MAX_SIDE:,} pixels")
    with foreign_errors("damaged picture"):
        return _convert(source, strip)


def _convert(source: OpenedPicture, strip: bool) -> Picture:
    """Convert frame, bit depth, orientation, alpha and colour, one after the other, each with its note."""
    frames = source.frames
    image = source.decoded()
    metadata, more = metadata_of(source.image)
    notes = [frames, *source.notes, *more]
    if strip:
        image, note = upright(image)
        notes.append(note)
    else:
        notes.append(source.lost)
    if image.mode == "F":
        raise PictureError("floating-point samples have no defined range; convert to 8 or 16 bits first")
    grey = is_grey(image, metadata)
    if image.mode in ("P", "PA"):
        notes.append(f"palette coded as {'grey' if grey else 'RGB'}")
    notes.append(_MODE_NOTES.get(image.mode, ""))
    alpha = None
    if image.has_transparency_data:
        image, alpha, note = without_alpha(image)
        notes.append(note)
    image, icc, note = _coloured(image.convert("L") if grey else image, metadata.icc, strip)
    metadata = Metadata() if strip else replace(metadata, icc=icc)
    samples = np.array(image, dtype=np.uint8)  # (H, W) of mode L
    del image, source  # of a large picture, much memory that filling needs
    plane = None
    if alpha is not None:
        plane = np.array(alpha, dtype=np.uint8)
        fill_hidden(samples, plane)
    return Picture(samples, plane, metadata, tuple(text for text in (*notes, note) if text))


def _coloured(image: Image.Image, icc: bytes, strip: bool) -> tuple[Image.Image, bytes, str]:
    """Return the picture as RGB or L, the profile that still belongs to it, and a note."""
    note = ""
    if image.mode == "LAB":
        image, icc = lab_to_srgb(image), b""
    foreign = image.mode == "L" and profile_space(icc) == b"RGB " and not shows_srgb(icc)
    if icc and (strip or foreign or image.mode == "CMYK"):
        image, note = to_srgb(image, icc)
        icc = b""
    if image.mode not in ("RGB", "L"):
        try:
            image = image.convert("RGB")
        except ValueError as error:
            raise PictureError(f"pictures of the kind {image.mode} have no defined conversion to RGB") from error
    icc, unfit = fitting_profile(icc, grey=image.mode == "L")
    return image, icc, note or unfit
