"""Pictures in and out through Pillow: every readable picture becomes 8-bit RGB, and says what was changed.

The codec knows one kind of picture: an array of RGB samples, 8 bits each, upright, sRGB. Whatever
else Pillow can read is converted here, and each conversion leaves a note, so that nothing is lost silently.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps

from shcodec.container import MAX_PIXELS, MAX_SIDE
from shcodec.errors import LimitError, PictureError, ShcError, UsageError

RGBArray = npt.NDArray[np.uint8]

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".png": "PNG",
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".webp": "WEBP",
        ".avif": "AVIF",
        ".jp2": "JPEG2000",
        ".tif": "TIFF",
        ".tiff": "TIFF",
        ".bmp": "BMP",
        ".ppm": "PPM",
    }
)
"""Suffixes that can be written, with Pillow's name of the format."""

# Writing must not undo the codec's work: lossless where the format can be, next to it where it cannot.
# PNG at level 3 is both quicker and smaller than the default on photographs.
_SAVE_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "PNG": {"compress_level": 3},
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 90, "subsampling": "4:4:4"},
        "TIFF": {"compression": "tiff_deflate"},
    }
)

_MODE_NOTES: Mapping[str, str] = MappingProxyType(
    {
        "1": "1-bit coded as RGB",
        "L": "grey coded as RGB",
        "P": "palette coded as RGB",
        "CMYK": "CMYK converted to RGB",
        "YCbCr": "YCbCr converted to RGB",
        "HSV": "HSV converted to RGB",
    }
)


@dataclass(frozen=True)
class Picture:
    """A picture as the codec takes it.

    Attributes:
        rgb: samples, (H, W, 3) uint8, C-contiguous, upright, sRGB.
        notes: what was changed on the way, one short phrase each; empty for a plain RGB picture.
    """

    rgb: RGBArray
    notes: tuple[str, ...] = ()


def read_picture(source: str | os.PathLike[str] | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads anything that Pillow reads as 8-bit RGB.

    Args:
        source: a path, a binary file object (need not be seekable) or a Pillow image, which is left as it is.
        max_pixels: the largest width x height accepted, checked before the samples are decoded.
            Pillow's own limit (`PIL.Image.MAX_IMAGE_PIXELS`, twice over) applies to files as well.

    Raises:
        PictureError: not a picture, damaged, of a kind that has no defined conversion, or not readable.
        LimitError: more than `max_pixels`, or a side longer than a file can hold.
    """
    if isinstance(source, (str, os.PathLike)):
        try:
            with open(source, "rb") as file:
                return read_picture(file, max_pixels=max_pixels)
        except ShcError as error:
            raise type(error)(f"{os.fspath(source)}: {error}") from error
        except OSError as error:
            raise PictureError(f"{os.fspath(source)}: {error.strerror or error}") from error
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of pictures from half its limit on: no matter here, or an error of its own.
        warnings.simplefilter("ignore")
        if isinstance(source, Image.Image):
            return _guarded(source, max_pixels)
        with _open(source) as image:
            return _guarded(image, max_pixels)


def write_picture(rgb: RGBArray, file: BinaryIO, format: str = "PNG") -> None:
    """Writes a picture: lossless where the format can be, at high quality otherwise.

    Args:
        rgb: samples, (H, W, 3) or, for a grey picture, (H, W) uint8.
        file: a binary file object open for writing.
        format: Pillow's name of the format, one of the values of `FORMATS`.

    Raises:
        PictureError: the array is no RGB picture, or the format cannot hold it (JPEG ends at 65,500 pixels a side).
        OSError: the system refused to write.
    """
    if not (rgb.ndim == 2 or (rgb.ndim == 3 and rgb.shape[2] == 3)) or rgb.dtype != np.uint8:
        raise PictureError(f"expected an (H, W, 3) or (H, W) uint8 array, got {rgb.shape} {rgb.dtype}")
    try:
        Image.fromarray(rgb).save(file, format=format, **_SAVE_OPTIONS.get(format, {}))
    except KeyError as error:
        raise PictureError(f"Pillow cannot write {format} here") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PictureError(f"cannot be written as {format}: {_one_line(error)}") from error


def format_for(path: str | os.PathLike[str]) -> str:
    """Pillow's name of the format that the suffix of `path` stands for.

    Raises:
        UsageError: the suffix is missing or not one of `FORMATS`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        what = f"unknown picture suffix '{suffix}'" if suffix else "no picture suffix"
        raise UsageError(f"{os.fspath(path)}: {what} (one of {' '.join(FORMATS)})")
    return FORMATS[suffix]


def psnr(a: RGBArray, b: RGBArray) -> float:
    """Peak signal-to-noise ratio in dB over all samples of two (H, W, 3) uint8 arrays; infinite if they are equal."""
    difference = a.astype(np.int16)
    difference -= b
    # Row by row in float64: exact, and no temporary array of the picture's size in 8 bytes a sample.
    squares = sum(float(np.square(row, dtype=np.int32).sum(dtype=np.int64)) for row in difference)
    return float("inf") if squares == 0 else 10.0 * float(np.log10(255.0**2 * a.size / squares))


def _open(file: BinaryIO) -> Image.Image:
    """Reads a picture's header; turns what Pillow raises into the package's errors."""
    try:
        return Image.open(file if file.seekable() else io.BytesIO(file.read()))
    except Image.DecompressionBombError as error:
        raise LimitError("too many pixels for a picture file") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise PictureError("not a picture that Pillow can read") from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged headers
        raise PictureError(f"damaged picture: {_one_line(error)}") from error


def _guarded(image: Image.Image, max_pixels: int) -> Picture:
    """Converts an opened image; turns what Pillow raises on damaged data into `PictureError`."""
    width, height = image.size
    if width < 1 or height < 1:
        raise PictureError("the picture has no pixels")
    if width * height > max_pixels:
        raise LimitError(f"{width}x{height} is {width * height:,} pixels; the limit is {max_pixels:,}")
    if max(width, height) > MAX_SIDE:
        raise LimitError(f"{width}x{height} has a side of more than {MAX_SIDE:,} pixels")
    try:
        return _convert(image)
    except ShcError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise PictureError(f"damaged picture: {_one_line(error)}") from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged samples
        raise PictureError(f"damaged picture: {_one_line(error)}") from error


def _convert(image: Image.Image) -> Picture:
    """Frame, orientation, bit depth, alpha, colour: one after the other, each with its note."""
    notes: list[str] = []
    if getattr(image, "is_animated", False):
        notes.append(f"first frame of {getattr(image, 'n_frames', 'several')}")
    deep = _raw_modes(image)
    profile = image.info.get("icc_profile")
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        image = ImageOps.exif_transpose(image)
        notes.append("EXIF orientation applied")
    if image.mode.startswith("I"):
        image = _from_16_bits(image, 4095 if "I;12" in deep else 65535)
        notes.append("16 bits reduced to 8")
    elif any(";16" in raw for raw in deep):
        notes.append("16 bits reduced to 8")
    if image.mode == "F":
        raise PictureError("floating-point samples have no defined range; convert to 8 or 16 bits first")
    if image.has_transparency_data:
        image, note = _without_alpha(image)
        notes.append(note)
    if image.mode in _MODE_NOTES:
        notes.append(_MODE_NOTES[image.mode])
    if isinstance(profile, bytes) and profile:
        image, note = _to_srgb(image, profile)
        notes += [note] if note else []
    if image.mode != "RGB":
        try:
            image = image.convert("RGB")
        except ValueError as error:
            raise PictureError(f"pictures of the kind {image.mode} have no defined conversion to RGB") from error
    return Picture(np.ascontiguousarray(np.array(image, dtype=np.uint8)), tuple(notes))


def _raw_modes(image: Image.Image) -> tuple[str, ...]:
    """The sample layouts inside the file, as Pillow names them: "RGB;16B", where `image.mode` only says "RGB"."""
    found: list[str] = []
    tiles: list[Any] = getattr(image, "tile", [])
    for tile in tiles:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        found += [argument for argument in arguments if isinstance(argument, str)]
    return tuple(found)


def _from_16_bits(image: Image.Image, largest: int) -> Image.Image:
    """Grey samples of 0..`largest` (modes I;16 and I) scaled to 8 bits, rounded; Pillow itself would clip them."""
    samples = np.asarray(image)
    if samples.min() < 0 or samples.max() > largest:
        raise PictureError("32-bit samples beyond 16 bits have no defined range; convert to 8 or 16 bits first")
    scaled = (samples.astype(np.uint32) * 255 + largest // 2) // largest
    return Image.fromarray(scaled.astype(np.uint8))


def _without_alpha(image: Image.Image) -> tuple[Image.Image, str]:
    """The picture as it looks on white: the colours hidden under transparent pixels are nobody's choice."""
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() == (255, 255):
        return rgba.convert("RGB"), "alpha dropped (all opaque)"
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB"), "alpha dropped (laid on white)"


def _to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """Follows the embedded colour profile to sRGB, since the file will not carry it; "" where there is no change."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source) and image.mode != "CMYK":
            return image, ""
        if image.mode not in ("L", "RGB", "CMYK"):
            image = image.convert("RGB")
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image, "unusable colour profile ignored"
    return (image, "") if converted is None else (converted, "colour profile converted to sRGB")


def _one_line(error: BaseException) -> str:
    """The text of an error on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
