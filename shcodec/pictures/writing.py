"""Pictures written through Pillow, with all that their format can hold, and a note about the rest."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from PIL import ExifTags, Image, PngImagePlugin

from shcodec.pictures.colour import fitting_profile, to_srgb
from shcodec.pictures.conversions import described, on_white, orientation_of, upright
from shcodec.pictures.exif import EXIF_PREFIX, Resolution, resolution_of, tells_resolution_alone
from shcodec.pictures.opening import foreign_errors
from shcodec.support.errors import PictureError, UsageError
from shcodec.support.quiet import Quiet

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
_WITH_DPI = frozenset({"PNG", "JPEG", "TIFF", "BMP"})
_JPEG_LIMITS: Mapping[str, int] = MappingProxyType({"exif": 65_533, "xmp": 65_504})  # bytes of one segment
_TIFF_XMP = 700
_SUB_IFDS = frozenset({ExifTags.Base.ExifOffset, ExifTags.Base.GPSInfo})

_quiet = Quiet()  # Pillow warns of odd metadata: no matter here, or an error of its own


def write_picture(
    image: Image.Image, file: BinaryIO, format: str = "PNG", *, quality: float | None = None
) -> tuple[str, ...]:
    """Write a picture: lossless where the format can be, at high quality otherwise, unless told the quality.

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
    options = dict(_SAVE_OPTIONS.get(format, {}))
    if quality is not None:
        check_quality(format)
        options |= {"quality": round(quality)} | ({"lossless": False} if "lossless" in options else {})
    held = _held(image, format)
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
    """Raise UsageError for a format that is written without loss, or at one quality only."""
    if format not in _WITH_QUALITY:
        raise UsageError(f"{format} has no quality to choose; JPEG, WebP and AVIF have")


def format_for(path: str | os.PathLike[str]) -> str:
    """Return Pillow's name of the format that the suffix of `path` stands for.

    Raises:
        UsageError: the suffix is missing or not one of `FORMATS`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        what = f"unknown picture suffix '{suffix}'" if suffix else "no picture suffix"
        raise UsageError(f"{os.fspath(path)}: {what} (one of {' '.join(FORMATS)})")
    return FORMATS[suffix]


def _held(image: Image.Image, format: str) -> frozenset[str]:
    """Return the keys in `info` of the metadata that a file of this format can hold."""
    present = {key: image.info[key] for key in _KEYS if image.info.get(key)}
    held = set(present) if format in _HOLDING else set()
    if format == "JPEG":
        held -= {key for key, limit in _JPEG_LIMITS.items() if len(present.get(key, b"")) > limit}
    if format == "WEBP" and image.mode in ("L", "LA"):
        held -= {"icc_profile"}  # WebP has no grey, and a profile of grey fits nothing else
    if "icc_profile" in held and not fitting_profile(present["icc_profile"], grey=image.mode in ("L", "LA"))[0]:
        held -= {"icc_profile"}
    return frozenset(key for key in held if _taken(key, present[key], format, image.mode))


def _taken(key: str, data: bytes, format: str, mode: str) -> bool:
    """Whether the format's writer takes these bytes, tried on a pixel: one that is bad must not cost the others."""
    mode = mode if format in _WITH_ALPHA else mode.removesuffix("A")
    try:
        _save(Image.new(mode, (1, 1)), io.BytesIO(), {key: data}, format, _SAVE_OPTIONS.get(format, {}))
    except Exception:  # Pillow's writers raise nearly anything on odd metadata
        return False
    return True


def _made_up_for(image: Image.Image, format: str, lost: list[str]) -> tuple[Image.Image, list[str]]:
    """Return the picture turned where EXIF or XMP that are lost tell how it stands, and notes."""
    exif = image.info.get("exif", b"").removeprefix(EXIF_PREFIX)
    if "exif" in lost and tells_resolution_alone(exif):
        lost = [key for key in lost if key != "exif"]
        resolution = [] if format in _WITH_DPI else [f"resolution dropped ({format} cannot hold it)"]
    else:
        resolution = []
    names = " and ".join(_KEYS[key] for key in lost if key != "icc_profile")
    if not names:
        return image, resolution
    told = f"{names} dropped ({format} cannot hold {'it' if names.isalpha() else 'them'})"
    if "exif" not in lost and orientation_of(exif):
        return image, [told, *resolution]  # EXIF stays, and comes first where both tell
    image, note = upright(image)
    return image, [note, told, *resolution]


def _write(
    image: Image.Image, file: BinaryIO, format: str, held: frozenset[str], options: Mapping[str, Any]
) -> tuple[str, ...]:
    """Write a picture with the metadata that its file can hold, after making up for the others."""
    lost = [key for key in _KEYS if image.info.get(key) and key not in held]
    exif = image.info.get("exif", b"").removeprefix(EXIF_PREFIX)
    dpi, before = resolution_of(exif), image
    image, notes = _made_up_for(image, format, lost)
    if dpi is not None and image is not before and orientation_of(exif) >= 5:
        dpi = dpi[1], dpi[0]  # the picture lies on its side now
    info = image.info
    if "icc_profile" in lost:
        image, note = to_srgb(image, info["icc_profile"])
        notes.append(note)
    if image.mode in ("LA", "RGBA") and format not in _WITH_ALPHA:
        image, note = on_white(image)
        notes.append(note)
    with foreign_errors(f"cannot be written as {format}"):
        try:
            _save(image, file, {key: info[key] for key in held}, format, options, dpi)
        except KeyError as error:
            raise PictureError(f"Pillow cannot write {format} here") from error
    return tuple(note for note in notes if note)


def _save(
    image: Image.Image,
    file: BinaryIO,
    info: Mapping[str, bytes],
    format: str,
    given: Mapping[str, Any],
    dpi: Resolution | None = None,
) -> None:
    """Call Pillow's `save`; an empty profile is given too, or it would take the one in the image's `info`."""
    icc, exif, xmp = (info.get(key, b"") for key in _KEYS)
    if format in _WITH_DPI and tells_resolution_alone(exif.removeprefix(EXIF_PREFIX)):
        exif = b""  # the format says it in its own way
    options: dict[str, Any] = {"icc_profile": icc, "exif": exif, "xmp": xmp, **given}
    if dpi is not None and format in _WITH_DPI:
        options["dpi"] = dpi
    if format == "PNG" and xmp:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"))
    if format == "AVIF" and image.mode in ("L", "LA"):
        options["subsampling"] = "4:0:0"  # a profile of grey would not fit anything else
    if format == "TIFF":
        options["exif"] = described(exif)
        if options["exif"].keys() & _SUB_IFDS:
            options["compression"] = "raw"  # Pillow writes these in no compressed file, and pixels are not lost so
        if xmp:
            options["exif"][_TIFF_XMP] = xmp
    image.save(file, format=format, **options)
