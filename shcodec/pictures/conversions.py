"""Steps from one Pillow image to another: metadata, orientation, alpha. Each says in a note what it changed.

A note is a short phrase for the user, and empty where nothing was changed.
"""

from __future__ import annotations

import re
from typing import Final

from PIL import ExifTags, Image, ImageOps

from shcodec.pictures.colour import profile_space
from shcodec.pictures.exif import EXIF_PREFIX, with_resolution
from shcodec.pictures.metadata import Metadata, fits
from shcodec.support.limits import MAX_METADATA_SIZE

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
# TIFF has it in its tags, and is read with them; None is a picture in memory.
_WITH_RESOLUTION: Final = frozenset({"PNG", "JPEG", "MPO", "JPEG2000", "BMP", None})
_TIFF_HEADERS: Final = (b"II*\0", b"MM\0*")
ORIENTED: Final = "EXIF orientation applied"
"""The note of a picture that was turned as its EXIF says."""


def metadata_of(image: Image.Image) -> tuple[Metadata, tuple[str, ...]]:
    """Return what an image carries along, as its file had it; what is beyond use is left out, with a note each.

    A resolution that the file keeps elsewhere goes into the EXIF block.
    """
    notes = []
    try:
        exif = _exif_of(image)
    except Exception:  # Pillow raises nearly anything on damaged EXIF
        exif, notes = b"", ["unusable EXIF dropped"]
    if exif and not exif.startswith(_TIFF_HEADERS):
        exif, notes = b"", ["unusable EXIF dropped"]
    if image.format in _WITH_RESOLUTION:
        exif = with_resolution(exif, image.info.get("dpi"), default=96 if image.format == "BMP" else 72)
    icc = image.info.get("icc_profile")
    if "icc_profile" in image.info and not icc and image.format in ("JPEG", "MPO"):
        notes.append("colour profile with missing parts dropped")
    xmp, note = _utf8(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"))
    notes += [note] if note else []
    found = {"icc": icc, "exif": exif, "xmp": xmp}
    kept = {name: data for name, data in found.items() if isinstance(data, bytes) and fits(data)}
    if any(isinstance(data, bytes) and name not in kept for name, data in found.items()):
        notes.append(f"metadata of more than {MAX_METADATA_SIZE >> 20} MiB dropped")
    return Metadata(**kept), tuple(notes)


def _utf8(xmp: object) -> tuple[bytes, str]:
    """Return an XMP packet in the encoding that a file has it in, and a note where it is in none."""
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8", "surrogateescape")
    if not isinstance(xmp, bytes):
        return b"", ""
    try:
        if xmp.startswith((b"\xff\xfe", b"\xfe\xff")):
            return xmp.decode("utf-16").encode("utf-8"), ""
        xmp.decode("utf-8")
    except UnicodeError:
        return b"", "XMP that is not UTF-8 dropped"
    return xmp, ""


def _exif_of(image: Image.Image) -> bytes:
    """Return the EXIF block from its TIFF header on; that of a TIFF file is made of what is not about the file."""
    block = image.info.get("exif")
    if isinstance(block, bytes) and block:
        return block.removeprefix(EXIF_PREFIX)
    whole = image.getexif()
    big, whole.bigtiff = whole.bigtiff, False  # a file may be BigTIFF, EXIF never is
    exif = described(whole.tobytes())
    whole.bigtiff = big
    if exif.get(ExifTags.Base.Orientation) == _orientation_in_xmp(image):
        del exif[ExifTags.Base.Orientation]  # Pillow has put it there
    return exif.tobytes().removeprefix(EXIF_PREFIX) if len(exif) else b""


def _orientation_in_xmp(image: Image.Image) -> int:
    """Return the orientation that an XMP packet tells and no tag of a TIFF file; 0 where there is none."""
    if ExifTags.Base.Orientation in getattr(image, "tag_v2", {}):
        return 0
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    match = re.search(r'tiff:Orientation(?:="|>)([0-9])', xmp if isinstance(xmp, str) else xmp.decode("latin-1"))
    return int(match[1]) if match else 0


def described(block: bytes) -> Image.Exif:
    """Return EXIF without the tags about a file's layout, which another file must not take over."""
    exif = Image.Exif()
    exif.load(block)
    for tag in [tag for tag in exif if tag not in _DESCRIPTIVE]:
        del exif[tag]
    if ExifTags.Base.ExifOffset in exif:
        exif.get_ifd(ExifTags.IFD.Exif).pop(ExifTags.IFD.Interop, None)  # a position in the file that was read
    return exif


def orientation_of(exif: bytes) -> int:
    """Return the orientation that an EXIF block tells; 0 where there is none."""
    block = Image.Exif()
    try:
        block.load(exif)
        orientation = block.get(ExifTags.Base.Orientation, 0)
    except Exception:  # Pillow raises nearly anything on damaged EXIF
        return 0
    return orientation if orientation in range(1, 9) else 0


def upright(image: Image.Image) -> tuple[Image.Image, str]:
    """Return the picture turned as its EXIF says; without orientation."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation not in range(2, 9):
            return image, ""
        return ImageOps.exif_transpose(image), ORIENTED
    except Exception:  # Pillow raises nearly anything on damaged EXIF
        return image, "unusable EXIF ignored"


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height that `upright` gives the picture."""
    tall = Image.new("1", (1, 2))
    tall.info = dict(image.info)
    return image.size if upright(tall)[0].size == tall.size else (image.height, image.width)


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
    """Return the colours alone and the alpha channel (mode L); no channel where all is opaque."""
    note = ""
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # The key has the 16 bits of the file's samples, of which Pillow keeps the upper 8.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
        note = "transparent colour of 16 bits compared with 8"
    elif image.mode == "L" and isinstance(key, int):
        image = image.copy()
        image.info["transparency"] = _spread_key(image, key)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")  # a copy would be much for a large picture
    alpha = rgba.getchannel("A")
    colours = rgba.convert("RGB")
    if alpha.getextrema() == (255, 255):
        return colours, None, "alpha dropped (all opaque)"
    return colours, alpha, note


def _spread_key(image: Image.Image, key: int) -> int:
    """Return the transparent grey of an image in memory: that of a file of 2 or 4 bits is in the file's terms.

    The samples are spread to 8 bits then, and the key as it stands is none of them.
    """
    there = {value for value, count in enumerate(image.histogram()) if count}
    for step in (17, 85):
        if key not in there and key * step in there and not any(value % step for value in there):
            return key * step
    return key


def on_white(image: Image.Image) -> tuple[Image.Image, str]:
    """Return the picture as it looks on white; modes LA and RGBA become L and RGB."""
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image.convert("RGBA"))
    return flat.convert(image.mode.removesuffix("A")), "alpha dropped (laid on white)"
