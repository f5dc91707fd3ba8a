"""Steps from one Pillow image to another: orientation, bit depth, alpha, colour. Each says in a note what it changed.

A note is a short phrase for the user, and empty where nothing was changed.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from shcodec.errors import PictureError
from shcodec.metadata import EXIF_PREFIX, LIMIT, Metadata

# Tags of a picture's first IFD that describe the picture. The others of a TIFF file describe the file.
_DESCRIPTIVE: Final = frozenset(
    {
        ExifTags.Base.DocumentName,
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.Orientation,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.HostComputer,
        ExifTags.Base.Rating,
        ExifTags.Base.RatingPercent,
        ExifTags.Base.Copyright,
        ExifTags.Base.ExifOffset,
        ExifTags.Base.GPSInfo,
    }
)
_TIFF_HEADERS: Final = (b"II*\0", b"MM\0*")
_ICC_HEADER: Final = 128  # bytes
ORIENTED: Final = "EXIF orientation applied"
"""The note of a picture that was turned as its EXIF says."""


def metadata_of(image: Image.Image) -> tuple[Metadata, tuple[str, ...]]:
    """What an image carries along, as its file had it; what is beyond use is left out, with a note each."""
    notes = []
    try:
        exif = _exif_of(image)
    except Exception:  # Pillow raises nearly anything on damaged EXIF
        exif, notes = b"", ["unusable EXIF dropped"]
    if exif and not exif.startswith(_TIFF_HEADERS):
        exif, notes = b"", ["unusable EXIF dropped"]
    icc = image.info.get("icc_profile")
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8", "surrogateescape")
    found = {"icc": icc, "exif": exif, "xmp": xmp}
    kept = {name: data for name, data in found.items() if isinstance(data, bytes) and len(data) <= LIMIT}
    if any(isinstance(data, bytes) and len(data) > LIMIT for data in found.values()):
        notes.append(f"metadata of more than {LIMIT >> 20} MiB dropped")
    return Metadata(**kept), tuple(notes)


def _exif_of(image: Image.Image) -> bytes:
    """The EXIF block, beginning with its TIFF header; that of a TIFF file is made of what is not about the file."""
    block = image.info.get("exif")
    if isinstance(block, bytes) and block:
        return block.removeprefix(EXIF_PREFIX)
    exif = described(image.getexif().tobytes())
    return exif.tobytes().removeprefix(EXIF_PREFIX) if len(exif) else b""


def described(block: bytes) -> Image.Exif:
    """EXIF without the tags that are about a file's layout, which another file must not take over."""
    exif = Image.Exif()
    exif.load(block)
    for tag in [tag for tag in exif if tag not in _DESCRIPTIVE]:
        del exif[tag]
    if ExifTags.Base.ExifOffset in exif:
        exif.get_ifd(ExifTags.IFD.Exif).pop(ExifTags.IFD.Interop, None)  # a position in the file that was read
    return exif


def upright(image: Image.Image) -> tuple[Image.Image, str]:
    """The picture turned as its EXIF says; without orientation."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation not in range(2, 9):
            return image, ""
        return ImageOps.exif_transpose(image), ORIENTED
    except Exception:  # Pillow raises nearly anything on damaged EXIF
        return image, "unusable EXIF ignored"


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height that `upright` gives the picture."""
    tall = Image.new("1", (1, 2))
    tall.info = dict(image.info)
    return image.size if upright(tall)[0].size == tall.size else (image.height, image.width)


def from_16_bits(image: Image.Image, largest: int) -> Image.Image:
    """Grey samples of 0..`largest` (modes I;16 and I) scaled to 8 bits, rounded; Pillow itself would clip them.

    A sample value that stands for transparency gives mode LA.

    Raises:
        PictureError: samples are beyond the range.
    """
    samples = np.asarray(image)
    if samples.min() < 0 or samples.max() > largest:
        raise PictureError("32-bit samples beyond 16 bits have no defined range; convert to 8 or 16 bits first")
    grey = Image.fromarray(((samples.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(samples == key, 0, 255).astype(np.uint8)))
    return grey


def is_grey(image: Image.Image, metadata: Metadata) -> bool:
    """Whether a picture is one of grey values: by its mode, or by its palette."""
    if image.mode in ("1", "L", "LA", "La"):
        return True
    if image.mode not in ("P", "PA") or image.palette is None or profile_space(metadata.icc) == b"RGB ":
        return False
    palette = image.getpalette("RGB") or []
    used = [index for index, count in enumerate(image.histogram()[:256]) if count]
    colours = [palette[3 * index : 3 * index + 3] for index in used]
    return all(len(set(colour)) == 1 for colour in colours if colour)


def without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None, str]:
    """The colours alone and the alpha channel (mode L); no channel where all is opaque."""
    deep_key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(deep_key, tuple) and max(deep_key) > 255:
        # The key has the 16 bits of the file's samples, of which Pillow keeps the upper 8.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in deep_key)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")  # a copy would be much for a large picture
    alpha = rgba.getchannel("A")
    colours = rgba.convert("RGB")
    if alpha.getextrema() == (255, 255):
        return colours, None, "alpha dropped (all opaque)"
    return colours, alpha, ""


def on_white(image: Image.Image) -> tuple[Image.Image, str]:
    """The picture as it looks on white; modes LA and RGBA become L and RGB."""
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image.convert("RGBA"))
    return flat.convert(image.mode.removesuffix("A")), "alpha dropped (laid on white)"


def profile_space(icc: bytes) -> bytes:
    """The colour space that a profile's header names: b"RGB ", b"GRAY", b"CMYK"; empty if it is no profile."""
    return icc[16:20] if len(icc) >= _ICC_HEADER and icc[36:40] == b"acsp" else b""


def fitting_profile(icc: bytes, *, grey: bool) -> tuple[bytes, str]:
    """A profile as it is if it can belong to a coded picture, else none."""
    space = profile_space(icc)
    if not icc or space == (b"GRAY" if grey else b"RGB "):
        return icc, ""
    return (
        b"",
        "colour profile of another kind of picture dropped" if space else "unusable colour profile dropped",
    )


def to_srgb(image: Image.Image, icc: bytes) -> tuple[Image.Image, str]:
    """Follows a colour profile to sRGB; grey pictures stay grey, alpha stays, others become RGB.

    A profile that cannot be followed changes nothing.
    """
    if image.mode in ("LA", "RGBA"):
        colours, note = to_srgb(image.convert(image.mode.removesuffix("A")), icc)
        colours.putalpha(image.getchannel("A"))
        return colours, note
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if "sRGB" in ImageCms.getProfileDescription(source) and image.mode != "CMYK":
            return image, ""
        if image.mode not in ("L", "RGB", "CMYK"):
            image = image.convert("RGB")
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image, "unusable colour profile ignored"
    if converted is None:
        return image, ""
    return converted.convert("L") if image.mode == "L" else converted, "colour profile converted to sRGB"
