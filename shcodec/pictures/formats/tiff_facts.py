"""TIFF beyond what Pillow shows: tags that say how samples lie are read here, and Pillow gets what it reads well.

Separate planes become one grey picture each; samples whose 0 is white, at depths where Pillow overlooks that, are
turned round here. A layout whose values have no defined meaning is refused: a wrong picture would be worse.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from shcodec.pictures import ifd
from shcodec.pictures.ifd import Directory
from shcodec.pictures.picture import Pixels
from shcodec.support.errors import PictureError

HEADERS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _ROWS_PER_STRIP = 254, 258, 259, 262, 277, 278
_WHITE_POINT, _PRIMARIES = 318, 319
_PLANAR, _COLOUR_MAP, _SUB_IFDS, _INK_SET, _EXTRA, _FORMAT, _SUBSAMPLING = 284, 320, 330, 332, 338, 339, 530
_PLACES: Final = (273, 279, 324, 325)  # offsets and lengths of strips and tiles
_MOST_PAGES: Final = 64
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _CMYK, _YCBCR, _LAB = 0, 1, 2, 5, 6, 8
_MODES: Final = {_MIN_IS_WHITE: "L", _MIN_IS_BLACK: "L", _RGB: "RGB", _CMYK: "CMYK", _YCBCR: "YCbCr", _LAB: "LAB"}
_COLOURS: Final = {"L": 1, "RGB": 3, "CMYK": 4, "YCbCr": 3, "LAB": 3}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_XMP: Final = 700
_ABOUT_SAMPLES: Final = frozenset(
    {*range(254, 267), *range(273, 282), *range(284, 294), *range(317, 348), *range(512, 533)}
)
_FAXES: Final = (2, 3, 4)


@dataclass(frozen=True)
class TiffFacts:
    """How the samples of a TIFF file lie.

    Attributes:
        directory: of the picture that is meant.
        page: its number.
        pages: how many there are.
        photometric: what the samples mean; as it should be where the file does not say it.
        bits: of each sample of a pixel.
        extra: meaning of the samples beyond the colours.
        planes: whether every sample has a plane of its own.
        inverted: whether Pillow has to be told that 0 is black, and the samples turned round here.
        broken: tags about anything but the samples that lead out of the file, or are of an unfit type.
    """

    directory: Directory
    page: int
    pages: int
    photometric: int
    bits: tuple[int, ...]
    extra: tuple[int, ...]
    planes: bool
    inverted: bool
    broken: tuple[int, ...] = ()

    @property
    def largest(self) -> int:
        """Return the largest value of a sample of more than 8 bits, as Pillow gives it."""
        return 4095 if self.bits[0] == 12 else 65535

    def open(self, plane: int | None = None) -> Image.Image | None:
        """Open the file, or one of its planes as a grey picture; None if Pillow can read it as it is."""
        changes: dict[int, tuple[int, tuple[int, ...]] | None] = {}
        if self.planes:
            changes = self._of_plane(plane or 0)
        elif self.inverted or self.directory.number(_PHOTOMETRIC, -1) != self.photometric:
            photometric = _MIN_IS_BLACK if self.inverted else self.photometric
            changes = {_PHOTOMETRIC: (ifd.SHORT, (photometric,))}
        changes |= dict.fromkeys(self.broken)
        if not changes and not self.page:
            return None
        try:
            return Image.open(io.BytesIO(ifd.changed(self.directory, changes)), formats=["TIFF"])
        except ValueError as error:
            raise PictureError(f"damaged picture: {error}") from error
        except OSError as error:
            raise self.refusal() from error

    @property
    def chromaticities(self) -> tuple[float, ...] | None:
        """Return x and y of white, red, green and blue, where both of their tags are there."""
        points = self.directory.fractions(_WHITE_POINT) + self.directory.fractions(_PRIMARIES)
        return points if len(points) == 8 else None

    def refusal(self) -> PictureError:
        """Return the error for a layout that cannot be read."""
        bits = "+".join(map(str, self.bits))
        how = f"photometric interpretation {self.photometric}, {bits} bits{' in planes' if self.planes else ''}"
        return PictureError(f"a TIFF layout that Pillow cannot read: {how}; convert it first")

    def _of_plane(self, plane: int) -> dict[int, tuple[int, tuple[int, ...]] | None]:
        """Return the tags of one plane as a grey picture."""
        changes: dict[int, tuple[int, tuple[int, ...]] | None] = {
            _BITS: (ifd.SHORT, (self.bits[plane],)),
            _PHOTOMETRIC: (ifd.SHORT, (_MIN_IS_BLACK,)),
            _SAMPLES: (ifd.SHORT, (1,)),
            _PLANAR: (ifd.SHORT, (1,)),
            _EXTRA: None,
            _FORMAT: None,
            _COLOUR_MAP: None,
        }
        wide = ifd.LONG8 if self.directory.big else ifd.LONG
        for tag in _PLACES:
            places = self.directory.numbers(tag)
            if places:
                each, odd = divmod(len(places), len(self.bits))
                if odd or not each:
                    raise PictureError("damaged picture: a TIFF file whose planes are not equally long")
                changes[tag] = (wide, places[plane * each : (plane + 1) * each])
        return changes


def read_facts(file: BinaryIO) -> TiffFacts | None:
    """Read the tags of a TIFF file; None where there are none that can be read, which Pillow then says.

    Raises:
        PictureError: a layout that has no defined meaning as a picture.
    """
    try:
        directory = ifd.first(ifd.Window(file))
    except ValueError:
        return None
    pages = _pages(directory)
    page = _main_page(pages)
    directory = pages[page]
    samples = directory.number(_SAMPLES, 1)
    bits = (directory.numbers(_BITS) or (1,))[:samples]
    if not 1 <= samples <= 64 or not bits or 0 in bits:
        raise PictureError("damaged picture: a TIFF file whose samples have no sensible number or size")
    bits = bits * samples if len(bits) == 1 else bits
    _check(directory, bits)
    compression = directory.number(_COMPRESSION, 1)
    photometric = directory.number(_PHOTOMETRIC, -1)
    if photometric < 0:  # as libtiff guesses; Pillow takes white for 0
        photometric = _RGB if samples >= 3 else _MIN_IS_WHITE if compression in _FAXES else _MIN_IS_BLACK
    planes = directory.number(_PLANAR, 1) == 2 and samples > 1
    inverted = photometric == _MIN_IS_WHITE and (planes or bits[0] not in (1, 2, 4, 8))
    facts = TiffFacts(
        directory,
        page,
        len(pages),
        photometric,
        bits,
        directory.numbers(_EXTRA),
        planes,
        inverted and not planes,
        _broken(directory),
    )
    if planes and (photometric not in _MODES or samples < _COLOURS[_MODES[photometric]] or len(bits) != samples):
        raise facts.refusal()
    if (planes or inverted) and not set(bits) <= {1, 2, 4, 8, 12, 16}:
        raise facts.refusal()
    if planes and photometric == _YCBCR and (directory.numbers(_SUBSAMPLING) or (2, 2)) != (1, 1):
        raise facts.refusal()
    return facts


def loaded(image: Image.Image, facts: TiffFacts) -> tuple[Image.Image, list[str]]:
    """Decode the samples.

    Args:
        image: what `facts.open()` gave, or the file as Pillow opens it; afterwards it still has the metadata.
        facts: of the file.

    Returns:
        The picture, and notes.
    """
    if facts.planes:
        return _of_planes(image, facts)
    _mend_tiles(image, facts)
    image.load()
    if facts.inverted:
        samples = np.asarray(image)
        turned = facts.largest - samples.astype(np.int64)
        return Image.fromarray(turned.clip(0, facts.largest).astype(np.uint16)), []
    if image.mode == "P" and not any(value >> 8 for value in facts.directory.numbers(_COLOUR_MAP)):
        # A map of 16 bits whose writer took it for one of 8; libtiff reads it so, too.
        values = np.array(facts.directory.numbers(_COLOUR_MAP), np.uint8)
        image.putpalette(values.reshape(3, -1).T.tobytes(), "RGB")
    return image, []


def _pages(directory: Directory) -> list[Directory]:
    """Return the directories of a file, as far as they can be read; the first alone where that is the picture."""
    pages, seen = [directory], {0}
    while pages[0].number(_SUBFILE, 0) & 1 and pages[-1].following not in seen and len(pages) < _MOST_PAGES:
        seen.add(pages[-1].following)
        try:
            pages.append(ifd.at(directory.data, pages[-1].following))
        except ValueError:
            break
    return pages


def _main_page(pages: list[Directory]) -> int:
    """Return the first page that is no smaller version of another picture.

    Raises:
        PictureError: there is none; the picture itself is hidden where cameras put their raw samples.
    """
    if not pages[0].number(_SUBFILE, 0) & 1:
        return 0
    for number, page in enumerate(pages):
        if not page.number(_SUBFILE, 0) & 1:
            return number
    if pages[0].numbers(_SUB_IFDS):
        raise PictureError(
            "the file shows a small version of its picture only, like a camera's raw file; convert it first"
        )
    return 0


def _check(directory: Directory, bits: tuple[int, ...]) -> None:
    """Refuse samples whose values have no defined range."""
    formats = set(directory.numbers(_FORMAT)) or {_UNSIGNED}
    if _FLOAT in formats:
        raise PictureError("floating-point samples have no defined range; convert to 8 or 16 bits first")
    if _SIGNED in formats and bits[0] != 32:  # Pillow's mode I, which is refused as such
        raise PictureError("signed samples have no defined range; convert to unsigned ones first")
    if formats & {5, 6}:
        raise PictureError("complex samples are no picture")
    if directory.number(_PHOTOMETRIC, 0) == _CMYK and directory.number(_INK_SET, 1) != 1:
        raise PictureError("inks other than CMYK have no defined conversion to RGB")


def _broken(directory: Directory) -> tuple[int, ...]:
    """Return the damaged tags that Pillow would stop at, though the picture is the same without them."""
    words = directory.entries.get(_XMP)
    odd = {_XMP} if words is not None and words.kind not in (1, 2, 7) else set()
    others = directory.entries.keys() - _ABOUT_SAMPLES
    return tuple(sorted(odd | {tag for tag in others if not directory.is_whole(tag)}))


def _mend_tiles(image: Image.Image, facts: TiffFacts) -> None:
    """Tell Pillow where it has to decode in another way than it would."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.tile:
        return
    directory = facts.directory
    packed = directory.number(_COMPRESSION, 1) != 1
    subsampled = (directory.numbers(_SUBSAMPLING) or (2, 2)) != (1, 1)
    if facts.photometric == _YCBCR and not packed and len(facts.bits) == 3 and subsampled:
        # libtiff spreads the colours, Pillow does not
        width, height = image._tile_size
        image._mode, image.use_load_libtiff = "RGB", True
        image.tile = [ImageFile._Tile("libtiff", (0, 0, width, height), 0, ("RGBX", False, image.tag_v2.offset))]


def _of_planes(image: Image.Image, facts: TiffFacts) -> tuple[Image.Image, list[str]]:
    """Put planes together."""
    mode = _MODES[facts.photometric]
    colours = _COLOURS[mode]
    extra = facts.extra[:1] or ((_UNASSOCIATED,) if facts.photometric == _RGB and len(facts.bits) == 4 else ())
    has_alpha = mode in ("L", "RGB") and len(facts.bits) > colours and extra[:1] in ((_ASSOCIATED,), (_UNASSOCIATED,))
    planes = [_plane(image, facts, 0)]
    for number in range(1, colours + has_alpha):
        other = facts.open(number)
        planes.append(_plane(other or image, facts, number))
    if facts.photometric == _MIN_IS_WHITE:
        planes[0] = 255 - planes[0]
    if mode == "LAB":  # a and b are signed in the file, and moved by half the range in Pillow
        planes[1:] = [plane ^ np.uint8(128) for plane in planes[1:]]
    if has_alpha:
        mode += "a" if extra[0] == _ASSOCIATED else "A"
    notes = [f"{max(facts.bits)} bits reduced to 8"] if max(facts.bits) > 8 else []
    return Image.merge(mode, [Image.fromarray(plane) for plane in planes]), notes


def _plane(image: Image.Image, facts: TiffFacts, number: int) -> Pixels:
    """Return one plane, rounded to 8 bits."""
    image.load()
    if image.mode == "1":
        image = image.convert("L")
    samples = np.asarray(image)
    if samples.dtype == np.uint8:
        return samples
    largest = 4095 if facts.bits[number] == 12 else 65535
    return ((samples.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)
