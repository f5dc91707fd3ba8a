"""Picture files opened: Pillow's reader for the samples, and beside it what the file says and Pillow does not show."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Final

import numpy as np
from PIL import ExifTags, Image, ImageFile, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from shcodec.pictures.colour import Meaning, adobe_rgb, of_cicp, of_gamma
from shcodec.pictures.formats import file_facts, mending, png_facts, tiff_facts
from shcodec.pictures.formats.file_facts import FileFacts
from shcodec.pictures.formats.png_facts import PngFacts
from shcodec.pictures.formats.tiff_facts import TiffFacts
from shcodec.support.errors import LimitError, PictureError, ShcError
from shcodec.support.limits import BY_OTHER_PROGRAMS, MAGIC, MAX_PIXELS
from shcodec.support.text import one_line

_METADATA: Final = ("icc_profile", "exif", "xmp")
# Programs that do not use alpha often leave it at 0 in these: an invisible picture is not meant.
_FORGETFUL: Final = frozenset({"BMP", "DIB", "TGA"})


@dataclass
class OpenedPicture:
    """A picture that is open, its samples not decoded yet.

    Attributes:
        image: as Pillow opened it; it has the size, and after decoding the metadata.
        png, tiff, file: what else the file says.
        notes: what was left out so far.
    """

    image: Image.Image
    png: PngFacts | None = None
    tiff: TiffFacts | None = None
    file: FileFacts = field(default_factory=FileFacts)
    notes: list[str] = field(default_factory=list)

    @property
    def frames(self) -> str:
        """Return a note about frames that are left out."""
        if self.tiff is not None and self.tiff.page:
            return f"page {self.tiff.page + 1} of {self.tiff.pages}; those before it are small versions"
        frames = self.png.frames if self.png else getattr(self.image, "n_frames", "several")
        several = self.png.frames > 1 if self.png else getattr(self.image, "is_animated", False)
        return f"first frame of {frames}" if several else ""

    @property
    def lost(self) -> str:
        """Return a note about metadata for which .shc has no place; after decoding."""
        return file_facts.lost(self.image, self.png.texts if self.png else 0)

    def decoded(self) -> Image.Image:
        """Apply to the picture all that is known of its file; adds to `notes` and to the image's `info`."""
        picture = self._decoded()
        if picture is not self.image:
            picture.info.update({key: self.image.info[key] for key in _METADATA if key in self.image.info})
        return picture

    def _decoded(self) -> Image.Image:
        deep = _raw_modes(self.image)
        if self.png is not None:
            picture, icc, notes = png_facts.loaded(self.image, self.png)
            self.notes += notes
            if icc:
                self.image.info.setdefault("icc_profile", icc)
            return picture
        if self.image.mode == "I" and not _has_16_bits(self.image, deep):
            raise PictureError("32-bit integer samples have no defined range; convert to 8 or 16 bits first")
        if self.tiff is not None:
            picture, notes = tiff_facts.loaded(self.image, self.tiff)
            self.notes += notes
        else:
            self.image.load()
            picture = self.image
        for key, data in self.file.info().items():
            self.image.info.setdefault(key, data)
        if self.file.grey and picture.mode in ("RGB", "RGBA"):
            alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
            picture = picture.convert("L")
            if alpha is not None:
                picture.putalpha(alpha)
        if picture.mode.startswith("I"):
            self.notes.append(f"{self.file.bits or 16} bits reduced to 8")
            picture = from_16_bits(picture, 4095 if "I;12" in deep else 65535)
        elif self.file.bits or any(";16" in raw for raw in deep):
            self.notes += [note for note in [f"{self.file.bits or 16} bits reduced to 8"] if note not in self.notes]
        return self._without_empty_alpha(self._in_srgb(picture))

    def _in_srgb(self, picture: Image.Image) -> Image.Image:
        """Return the picture with sRGB's curve, where the file's header names another and no profile is there."""
        if self.image.info.get("icc_profile"):
            return picture
        meaning, note = self._meaning()
        if note:
            self.notes.append(note)
        if meaning is None:
            if picture.mode == "RGB" and _is_adobe_rgb(self.image):
                self.image.info["icc_profile"] = adobe_rgb()
            return picture
        if meaning.bends and picture.mode in ("L", "LA", "P", "RGB", "RGBA"):
            picture = png_facts.bent(picture, meaning)
            self.notes.append(f"{'CICP' if self.file.cicp else 'gAMA'} converted to sRGB's curve")
        icc = meaning.profile() if picture.mode in ("P", "RGB", "RGBA") else b""
        if icc:
            self.image.info["icc_profile"] = icc
        return picture

    def _meaning(self) -> tuple[Meaning | None, str]:
        """Return what a header says of colours, and a note."""
        info = self.image.info
        if self.file.cicp is not None:
            meaning, note = of_cicp(*self.file.cicp)
            return meaning, note and f"CICP: {note}"
        if self.tiff is not None and self.tiff.chromaticities:
            return of_gamma(None, self.tiff.chromaticities)
        if isinstance(self.image, ImageFile.ImageFile) and self.image.format == "PNG" and "srgb" not in info:
            return of_gamma(info.get("gamma"), info.get("chromaticity"))
        return None, ""

    def _without_empty_alpha(self, picture: Image.Image) -> Image.Image:
        if self.image.format not in _FORGETFUL or picture.mode not in ("LA", "RGBA"):
            return picture
        if picture.getchannel("A").getextrema() != (0, 0):
            return picture
        self.notes.append("alpha dropped (0 everywhere)")
        return picture.convert(picture.mode.removesuffix("A"))


def open_file(file: BinaryIO) -> OpenedPicture:
    """Read a picture's header; turn what Pillow raises into the package's errors."""
    try:
        file = file if file.seekable() else io.BytesIO(file.read())
        file.seek(0)
        return _opened(file, file.read(8))
    except (PictureError, LimitError):
        raise
    except Image.DecompressionBombError as error:
        raise LimitError("too many pixels for a picture file; a larger --max-pixels admits them") from error
    except OSError as error:
        if error.errno is not None:
            raise
        kind = mending.jpeg_kind(file)
        what = f"{kind}, which Pillow cannot read; convert it first" if kind else "not a picture that Pillow can read"
        raise PictureError(what) from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged headers
        raise PictureError(f"damaged picture: {one_line(error)}") from error


def open_image(image: Image.Image) -> OpenedPicture:
    """Wrap a Pillow image; one whose file is still open is read again where that tells more than Pillow does."""
    file: Any = getattr(image, "fp", None)
    kinds = (PngImagePlugin.PngImageFile, TiffImagePlugin.TiffImageFile)
    if not isinstance(image, kinds) or not image.tile or image.tell() or file is None or not file.seekable():
        return OpenedPicture(image)
    place = file.tell()
    try:
        again = open_file(file)
    finally:
        file.seek(place)
    if again.image.size != image.size:  # the file does not begin where the picture does
        return OpenedPicture(image)
    if getattr(again.image, "fp", None) is file:  # Pillow reads it as it is
        return OpenedPicture(image, tiff=again.tiff)
    given = {key: image.info[key] for key in _METADATA if image.info.get(key)}
    if again.png is not None and given.get("icc_profile") == again.png.profile()[0]:  # or else it was put there
        given.pop("icc_profile", None)
    again.image.info.update(given)
    return again


class Unlimited:
    """A context in which Pillow opens pictures of any size, where more is asked for than it allows by itself.

    Pillow's limit belongs to the whole process; the last one out puts it back.
    """

    _lock: ClassVar = threading.Lock()
    _inside: ClassVar[int] = 0
    _limit: ClassVar[int | None] = None

    @classmethod
    @contextlib.contextmanager
    def to(cls, max_pixels: int) -> Iterator[None]:
        """Lift the limit if `max_pixels` is above that of the format's own."""
        if max_pixels <= MAX_PIXELS:
            yield
            return
        with cls._lock:
            if not cls._inside:
                cls._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            cls._inside += 1
        try:
            yield
        finally:
            with cls._lock:
                cls._inside -= 1
                if not cls._inside:
                    Image.MAX_IMAGE_PIXELS = cls._limit


@contextlib.contextmanager
def foreign_errors(what: str) -> Iterator[None]:
    """Let our own errors and the system's pass, and turn Pillow's, which may be nearly anything, into PictureError.

    Args:
        what: what went wrong, before the error's own words.
    """
    try:
        yield
    except ShcError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PictureError(f"{what}: {one_line(error)}") from error


def from_16_bits(image: Image.Image, largest: int) -> Image.Image:
    """Scale grey samples of 0..`largest` (modes I;16 and I) to 8 bits, rounded; Pillow itself would clip them.

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


def _opened(file: BinaryIO, head: bytes) -> OpenedPicture:
    if head.startswith(MAGIC):  # which Pillow would read, too, once the plugin is registered
        raise PictureError("an .shc file already; decode it first")
    if head == png_facts.SIGNATURE:
        png = png_facts.read_facts(file)
        png.samples.seek(0)
        source = OpenedPicture(Image.open(png.samples, formats=["PNG"]), png=png, notes=png.notes)
        source.image.info.update(png.info())
        return source
    if head.startswith(tiff_facts.HEADERS):
        tiff = tiff_facts.read_facts(file)
        file.seek(0)
        if tiff is not None:
            try:
                dropped = ["damaged metadata dropped"] if tiff.broken else []
                return OpenedPicture(tiff.open() or Image.open(file), tiff=tiff, notes=dropped)
            except UnidentifiedImageError as error:
                raise tiff.refusal() from error
    file.seek(0)
    notes: list[str] = []
    try:
        image = Image.open(file)
    except Image.DecompressionBombError:
        raise
    except Exception:  # Pillow's readers raise nearly anything on damaged headers
        mended = mending.mended(file)
        if mended is None:
            raise
        image, notes = Image.open(mended, formats=["JPEG", "WEBP", "AVIF"]), ["damaged metadata dropped"]
    if image.format in BY_OTHER_PROGRAMS:  # none has run yet: that comes with the samples
        raise PictureError(f"Pillow reads {image.format} with the help of another program only; convert it first")
    place = file.tell()
    facts = file_facts.read_facts(file, image.format)
    file.seek(place)
    return OpenedPicture(image, file=facts, notes=notes)


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Whether a camera's EXIF names its optional colour space, in which case it often adds no profile."""
    if not isinstance(image.info.get("exif"), bytes):
        return False
    try:
        return image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03"
    except Exception:  # Pillow raises nearly anything on damaged EXIF
        return False


def _raw_modes(image: Image.Image) -> tuple[str, ...]:
    """Return the sample layouts in the file, as Pillow names them: "RGB;16B", where `image.mode` only says "RGB"."""
    found: list[str] = []
    tiles: list[Any] = getattr(image, "tile", [])
    for tile in tiles:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        found += [argument for argument in arguments if isinstance(argument, str)]
    return tuple(found)


def _has_16_bits(image: Image.Image, raw_modes: tuple[str, ...]) -> bool:
    """Whether mode I, which has 32 bits, holds samples of 16: the file's, or those that Pillow has scaled to that."""
    return image.format == "PPM" or any(";16" in raw for raw in raw_modes)
