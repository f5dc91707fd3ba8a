"""Pictures in and out through Pillow: every readable picture becomes 8-bit RGB, and says what was changed.

The codec knows one kind of picture: an array of RGB samples, 8 bits each. Grey, alpha and metadata lie beside it.
Whatever else Pillow can read is converted here, and each conversion leaves a note, so that nothing is lost silently.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, PngImagePlugin

from shcodec.alpha import Plane, fill_hidden
from shcodec.container import MAGIC, MAX_PIXELS, MAX_SIDE
from shcodec.conversions import (
    described,
    fitting_profile,
    from_16_bits,
    is_grey,
    metadata_of,
    on_white,
    to_srgb,
    upright,
    without_alpha,
)
from shcodec.errors import LimitError, PictureError, ShcError, UsageError
from shcodec.metadata import Metadata
from shcodec.quiet import Quiet

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

_WITH_QUALITY = frozenset({"JPEG", "WEBP", "AVIF"})

# Which formats hold metadata and alpha, as far as Pillow writes them.
_KEYS: Mapping[str, str] = MappingProxyType({"icc_profile": "ICC", "exif": "EXIF", "xmp": "XMP"})
_HOLDING = frozenset({"PNG", "JPEG", "WEBP", "AVIF", "TIFF"})
_WITH_ALPHA = frozenset({"PNG", "WEBP", "AVIF", "TIFF", "JPEG2000"})
_JPEG_LIMITS: Mapping[str, int] = MappingProxyType({"exif": 65_533, "xmp": 65_504})  # bytes of one segment
_TIFF_XMP = 700
_SUB_IFDS = frozenset({ExifTags.Base.ExifOffset, ExifTags.Base.GPSInfo})

# An input must never be handed to an interpreter (EPS is a program, for Ghostscript), whatever its name says it is.
_BY_OTHER_PROGRAMS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})

_quiet = Quiet()  # Pillow warns of odd metadata and large pictures: no matter here, or an error of its own

_MODE_NOTES: Mapping[str, str] = MappingProxyType(
    {
        "1": "1-bit coded as grey",
        "CMYK": "CMYK converted to RGB",
        "YCbCr": "YCbCr converted to RGB",
        "HSV": "HSV converted to RGB",
    }
)


@dataclass(frozen=True)
class Picture:
    """A picture as the codec takes it: what Pillow shows of it, and what it carries along.

    Attributes:
        rgb: samples, (H, W, 3) uint8, C-contiguous; where `alpha` is 0, painted over smoothly.
        grey: whether it is a grey picture; the three channels are then equal.
        alpha: (H, W) uint8, 0 transparent, 255 opaque; None where the picture is opaque.
        metadata: colour profile (to which `rgb` belongs), EXIF (with the orientation, which is not applied), XMP.
        notes: what was changed on the way, one short phrase each; empty for a plain RGB picture.
    """

    rgb: RGBArray
    grey: bool = False
    alpha: Plane | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()


def read_picture(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image,
    *,
    strip: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Reads anything that Pillow reads as 8-bit RGB.

    Args:
        source: a path, the bytes of a file, a binary file object (need not be seekable) or a Pillow image, which is
            left as it is.
        strip: leave out all metadata, after turning the picture as its EXIF says and converting it to sRGB.
        max_pixels: the largest width x height accepted, checked before the samples are decoded.
            Pillow's own limit (`PIL.Image.MAX_IMAGE_PIXELS`, twice over) applies to files as well.

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
    with _quiet:
        if isinstance(source, Image.Image):
            return _guarded(source, strip, max_pixels)
        with _open(source) as image:
            return _guarded(image, strip, max_pixels)


def write_picture(
    image: Image.Image, file: BinaryIO, format: str = "PNG", *, quality: float | None = None
) -> tuple[str, ...]:
    """Writes a picture: lossless where the format can be, at high quality otherwise, unless told the quality.

    Metadata (`info` entries `icc_profile`, `exif`, `xmp`) and alpha go along where the format can hold them. Where not,
    the picture is turned as its EXIF says, converted to sRGB, and laid on white.

    Args:
        image: mode RGB, L, RGBA or LA; left as it is.
        file: an empty, seekable binary file object open for writing.
        format: Pillow's name of the format, one of the values of `FORMATS`.
        quality: 0 to 100 in the format's own terms, rounded to a whole number.

    Returns:
        What was changed or left out, one short phrase each.

    Raises:
        PictureError: the format cannot hold the picture (JPEG ends at 65,500 pixels a side).
        UsageError: a quality for a format that has none.
        OSError: the system refused to write.
    """
    if image.mode not in ("RGB", "L", "RGBA", "LA"):
        raise PictureError(f"expected a picture of mode RGB, L, RGBA or LA, got {image.mode}")
    held = _held(image, format)
    options = dict(_SAVE_OPTIONS.get(format, {}))
    if quality is not None:
        check_quality(format)
        options |= {"quality": round(quality)} | ({"lossless": False} if "lossless" in options else {})
    with _quiet:
        try:
            return _write(image, file, format, held, options)
        except PictureError:
            if not held:
                raise
        # Metadata that the format's writer takes offence at: the picture matters more.
        file.seek(0)
        file.truncate()
        return _write(image, file, format, frozenset(), options)


def check_quality(format: str) -> None:
    """Raises UsageError for a format that is written without loss, or at one quality only."""
    if format not in _WITH_QUALITY:
        raise UsageError(f"{format} has no quality to choose; JPEG, WebP and AVIF have")


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
    # Row by row and exact: no temporary array of the picture's size.
    squares = sum(int(np.square(x.astype(np.int32) - y).sum(dtype=np.int64)) for x, y in zip(a, b, strict=True))
    return float("inf") if squares == 0 else 10.0 * float(np.log10(255.0**2 * a.size / squares))


def _open(file: BinaryIO) -> Image.Image:
    """Reads a picture's header; turns what Pillow raises into the package's errors."""
    try:
        file = file if file.seekable() else io.BytesIO(file.read())
        file.seek(0)
        if file.read(len(MAGIC)) == MAGIC:  # which Pillow would read, too, once the plugin is registered
            raise PictureError("an .shc file already; decode it first")
        image = Image.open(file)
        if image.format in _BY_OTHER_PROGRAMS:  # none has run yet: that comes with the samples
            raise PictureError(f"Pillow reads {image.format} with the help of another program only; convert it first")
        return image
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise LimitError("too many pixels for a picture file") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise PictureError("not a picture that Pillow can read") from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged headers
        raise PictureError(f"damaged picture: {_one_line(error)}") from error


def _guarded(image: Image.Image, strip: bool, max_pixels: int) -> Picture:
    """Converts an opened image; turns what Pillow raises on damaged data into `PictureError`."""
    width, height = image.size
    if width < 1 or height < 1:
        raise PictureError("the picture has no pixels")
    if width * height > max_pixels:
        raise LimitError(f"{width}x{height} is {width * height:,} pixels; the limit is {max_pixels:,}")
    if max(width, height) > MAX_SIDE:
        raise LimitError(f"{width}x{height} has a side of more than {MAX_SIDE:,} pixels")
    try:
        return _convert(image, strip)
    except ShcError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise PictureError(f"damaged picture: {_one_line(error)}") from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged samples
        raise PictureError(f"damaged picture: {_one_line(error)}") from error


def _convert(image: Image.Image, strip: bool) -> Picture:
    """Frame, orientation, bit depth, alpha, colour: one after the other, each with its note."""
    notes: list[str] = []
    if getattr(image, "is_animated", False):
        notes.append(f"first frame of {getattr(image, 'n_frames', 'several')}")
    deep = _raw_modes(image)
    image.load()
    metadata, more = metadata_of(image)
    notes += more
    if strip:
        image, note = upright(image)
        notes.append(note)
    if image.mode == "I" and not _has_16_bits(image, deep):
        raise PictureError("32-bit integer samples have no defined range; convert to 8 or 16 bits first")
    if image.mode.startswith("I"):
        image = from_16_bits(image, 4095 if "I;12" in deep else 65535)
        notes.append("16 bits reduced to 8")
    elif any(";16" in raw for raw in deep):
        notes.append("16 bits reduced to 8")
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
    rgb = np.array(image.convert("RGB") if grey else image, dtype=np.uint8)
    del image  # of a large picture, much memory that filling needs
    plane = None
    if alpha is not None:
        plane = np.array(alpha, dtype=np.uint8)
        fill_hidden(rgb, plane)
    return Picture(rgb, grey, plane, metadata, tuple(text for text in (*notes, note) if text))


def _coloured(image: Image.Image, icc: bytes, strip: bool) -> tuple[Image.Image, bytes, str]:
    """The picture as RGB or L, the profile that still belongs to it, and a note."""
    note = ""
    if icc and (strip or image.mode == "CMYK"):
        image, note = to_srgb(image, icc)
        icc = b""
    if image.mode not in ("RGB", "L"):
        try:
            image = image.convert("RGB")
        except ValueError as error:
            raise PictureError(f"pictures of the kind {image.mode} have no defined conversion to RGB") from error
    icc, unfit = fitting_profile(icc, grey=image.mode == "L")
    return image, icc, note or unfit


def _raw_modes(image: Image.Image) -> tuple[str, ...]:
    """The sample layouts inside the file, as Pillow names them: "RGB;16B", where `image.mode` only says "RGB"."""
    found: list[str] = []
    tiles: list[Any] = getattr(image, "tile", [])
    for tile in tiles:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        found += [argument for argument in arguments if isinstance(argument, str)]
    return tuple(found)


def _has_16_bits(image: Image.Image, raw_modes: tuple[str, ...]) -> bool:
    """Whether mode I, which has 32 bits, holds samples of 16: the file's, or those that Pillow has scaled to that."""
    return image.format == "PPM" or any(";16" in raw for raw in raw_modes)


def _held(image: Image.Image, format: str) -> frozenset[str]:
    """Which of an image's metadata a file of this format can hold, by their keys in `info`."""
    present = {key: len(image.info[key]) for key in _KEYS if image.info.get(key)}
    held = set(present) if format in _HOLDING else set()
    if format == "JPEG":
        held -= {key for key, limit in _JPEG_LIMITS.items() if present.get(key, 0) > limit}
    if format == "WEBP" and image.mode in ("L", "LA"):
        held -= {"icc_profile"}  # WebP has no grey, and a profile of grey fits nothing else
    return frozenset(held)


def _write(
    image: Image.Image, file: BinaryIO, format: str, held: frozenset[str], options: Mapping[str, Any]
) -> tuple[str, ...]:
    """Writes a picture with the metadata that its file can hold, after making up for the others."""
    lost = [key for key in _KEYS if image.info.get(key) and key not in held]
    notes = []
    if "exif" in lost or "xmp" in lost:
        image, note = upright(image)
        names = " and ".join(_KEYS[key] for key in lost if key != "icc_profile")
        notes += [note, f"{names} dropped ({format} cannot hold {'it' if names.isalpha() else 'them'})"]
    info = image.info
    if "icc_profile" in lost:
        image, note = to_srgb(image, info["icc_profile"])
        notes.append(note)
    if image.mode in ("LA", "RGBA") and format not in _WITH_ALPHA:
        image, note = on_white(image)
        notes.append(note)
    try:
        metadata = _metadata_options({key: info[key] for key in held}, format)
        image.save(file, format=format, **(dict(options) | metadata))
    except KeyError as error:
        raise PictureError(f"Pillow cannot write {format} here") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise PictureError(f"cannot be written as {format}: {_one_line(error)}") from error
    except Exception as error:  # Pillow's writers raise nearly anything on odd metadata
        raise PictureError(f"cannot be written as {format}: {_one_line(error)}") from error
    return tuple(note for note in notes if note)


def _metadata_options(info: Mapping[str, bytes], format: str) -> dict[str, Any]:
    """Arguments of Pillow's `save`; an empty profile is given too, or it would take the one in the image's `info`."""
    icc, exif, xmp = (info.get(key, b"") for key in _KEYS)
    options: dict[str, Any] = {"icc_profile": icc, "exif": exif, "xmp": xmp}
    if format == "PNG" and xmp:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"))
    if format == "TIFF":
        options["exif"] = described(exif)
        if options["exif"].keys() & _SUB_IFDS:
            options["compression"] = "raw"  # Pillow writes these in no compressed file, and pixels are not lost so
        if xmp:
            options["exif"][_TIFF_XMP] = xmp
    return options


def _one_line(error: BaseException) -> str:
    """The text of an error on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
