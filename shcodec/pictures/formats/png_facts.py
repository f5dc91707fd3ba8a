"""PNG beyond what Pillow shows: chunks are read here, and Pillow is handed the picture's samples alone.

So a text chunk of any length, a bad checksum beside the samples or an odd chunk costs no picture; the transparent
colour is compared at the file's own depth; and gAMA, cHRM, sRGB, iCCP and cICP count in the order of the PNG
specification, third edition.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from shcodec.pictures.colour import Meaning, of_cicp, of_gamma
from shcodec.pictures.exif import EXIF_PREFIX
from shcodec.support.errors import PictureError
from shcodec.support.limits import MAX_METADATA_SIZE

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CRITICAL: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_KNOWN: Final = frozenset({b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"eXIf", b"pHYs", b"acTL", b"fcTL"})
_TEXTS: Final = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_XMP: Final = b"XML:com.adobe.xmp\0"
_XMP_IN_JPEG: Final = b"http://ns.adobe.com/xap/1.0/\0"
_RAW_PROFILES: Final = {  # texts of hexadecimal digits, from the time before eXIf and iTXt
    b"Raw profile type exif": "exif",
    b"Raw profile type APP1": "exif",
    b"Raw profile type xmp": "xmp",
}
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_TOO_LONG: Final = f"metadata of more than {MAX_METADATA_SIZE >> 20} MiB dropped"
_ROWS: Final = 256  # that are worked on at once, which bounds memory

Samples = npt.NDArray[np.uint16]


@dataclass
class PngFacts:
    """What the chunks of a PNG file say.

    Attributes:
        samples: a PNG file of the same samples without the other chunks, for Pillow.
        depth: bits of a sample.
        kind: colour type of the header.
        found: the content of the ancillary chunks that have a meaning here, by tag; the first of each.
        xmp: an XMP packet.
        texts: how many other texts there are.
        still: whether the samples are no frame of the animation, but shown instead of it.
        notes: what was wrong with chunks that are left out.
    """

    samples: io.BytesIO
    depth: int = 8
    kind: int = 2
    found: dict[bytes, bytes] = field(default_factory=dict)
    xmp: bytes = b""
    texts: int = 0
    still: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Return the number of frames of an animation; 1 if it is none."""
        data = self.found.get(b"acTL", b"")
        return max(1, int.from_bytes(data[:4], "big") + self.still) if len(data) >= 8 else 1

    def info(self) -> dict[str | tuple[int, int], bytes | tuple[float, float]]:
        """Return entries of a Pillow image's `info`; the profile is that which the specification lets count."""
        entries: dict[str | tuple[int, int], bytes | tuple[float, float]] = {}
        if b"eXIf" in self.found:
            entries["exif"] = EXIF_PREFIX + self.found[b"eXIf"]
        if self.xmp:
            entries["xmp"] = self.xmp
        per_metre = self.found.get(b"pHYs", b"")
        if len(per_metre) == 9 and per_metre[8] == 1:
            across, down = struct.unpack(">2I", per_metre[:8])
            entries["dpi"] = (across * 0.0254, down * 0.0254)
        return entries

    def colours(self) -> tuple[Meaning, bytes, str]:
        """Return the meaning of samples, their profile and a note; cICP goes before iCCP, sRGB, gAMA and cHRM."""
        note = ""
        code = self.found.get(b"cICP", b"")
        if len(code) == 4 and code[2] == 0:
            meaning, note = of_cicp(code[0], code[1])
            if meaning is not None:
                return meaning, b"" if self.is_grey else meaning.profile(), ""
            note = f"cICP: {note}"
        profile, wrong = self.profile()
        if profile:
            return Meaning(), profile, ""
        if b"sRGB" in self.found:
            return Meaning(), b"", note or wrong
        gamma = int.from_bytes(self.found[b"gAMA"], "big") / 1e5 if len(self.found.get(b"gAMA", b"")) == 4 else None
        places = self.found.get(b"cHRM", b"")
        points = tuple(x / 1e5 for x in struct.unpack(">8i", places)) if len(places) == 32 else None
        meaning, odd = of_gamma(gamma, points)
        return meaning, b"" if self.is_grey else meaning.profile(), note or wrong or odd

    @property
    def is_grey(self) -> bool:
        """Whether the file has one channel of light."""
        return self.kind in (0, 4)

    @property
    def narrow(self) -> bool:
        """Whether samples go from 16/255 to 235/255, as cICP says."""
        return len(self.found.get(b"cICP", b"")) == 4 and self.found[b"cICP"][3] == 0

    def profile(self) -> tuple[bytes, str]:
        """Return the profile of iCCP, and what is wrong with it."""
        name, end, data = self.found.get(b"iCCP", b"").partition(b"\0")
        if not name and not data:
            return b"", ""
        if not end or data[:1] != b"\0":
            return b"", "unusable colour profile dropped"
        return _inflated(data[1:], "unusable colour profile dropped")


def read_facts(file: BinaryIO) -> PngFacts:
    """Read all chunks of a PNG file without decoding its samples.

    Raises:
        PictureError: a critical chunk that is not known, or no header.
    """
    facts = PngFacts(io.BytesIO())
    facts.samples.write(SIGNATURE)
    for tag, data, well in _chunks(file):
        if tag in _CRITICAL:
            if tag == b"IHDR":
                if not well or len(data) != 13 or data[9] not in _CHANNELS:
                    raise PictureError("damaged picture: the header of a PNG file is broken")
                facts.depth, facts.kind = data[8], data[9]
            facts.still |= tag == b"IDAT" and b"fcTL" not in facts.found
            facts.samples.write(struct.pack(">I", len(data)) + tag)
            facts.samples.write(data)
            facts.samples.write(zlib.crc32(data, zlib.crc32(tag)).to_bytes(4, "big") if well else b"\0\0\0\0")
        elif not tag[0] & 0x20:
            raise PictureError(f"PNG with a critical chunk {tag.decode('ascii')}, which is in no standard")
        elif tag in _KNOWN or tag in _TEXTS:
            _take(facts, tag, data, well=well)
    return facts


def _take(facts: PngFacts, tag: bytes, data: bytes, *, well: bool) -> None:
    """Keep an ancillary chunk, or a note that it is no good."""
    note = ""
    if not well:
        note = f"damaged {tag.decode('ascii')} dropped"
    elif len(data) > MAX_METADATA_SIZE:
        note = _TOO_LONG
    elif tag == b"iTXt" and data.startswith(_XMP):
        xmp, note = _international(data[len(_XMP) :])
        facts.xmp = facts.xmp or xmp
    elif tag in _TEXTS:
        _take_text(facts, tag, data)
    else:
        facts.found.setdefault(tag, data)
    if note and note not in facts.notes:
        facts.notes.append(note)


def _take_text(facts: PngFacts, tag: bytes, data: bytes) -> None:
    """Count a text, or keep the EXIF block or the XMP packet that older programs have written as one."""
    name = _RAW_PROFILES.get(data.partition(b"\0")[0])
    text = data.partition(b"\0")[2]
    if name is None or tag == b"iTXt":
        facts.texts += 1
        return
    if tag == b"zTXt":
        text = _inflated(text[1:], "")[0]
    try:
        content = bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        content = b""
    content = content.removeprefix(EXIF_PREFIX)
    if content.startswith(_XMP_IN_JPEG):
        name, content = "xmp", content.removeprefix(_XMP_IN_JPEG)
    if not content:
        facts.texts += 1
    elif name == "xmp":
        facts.xmp = facts.xmp or content
    else:
        facts.found.setdefault(b"eXIf", content)


def _international(data: bytes) -> tuple[bytes, str]:
    """Return the text of an iTXt chunk without its keyword, and what is wrong with it."""
    parts = data[2:].split(b"\0", 2)
    if len(data) < 2 or len(parts) < 3 or data[1]:
        return b"", "unusable XMP dropped"
    return _inflated(parts[2], "unusable XMP dropped") if data[0] else (parts[2], "")


def _inflated(data: bytes, unusable: str) -> tuple[bytes, str]:
    """Return a zlib stream as far as the limit allows, and a note where there is nothing."""
    unpacker = zlib.decompressobj()
    try:
        out = unpacker.decompress(data, MAX_METADATA_SIZE + 1)
    except zlib.error:
        return b"", unusable
    if len(out) > MAX_METADATA_SIZE:
        return b"", _TOO_LONG
    return (out, "") if out and unpacker.eof else (b"", unusable)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield tag, content and whether the checksum is right, as far as the file goes; of a cut chunk what there is."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, tag = int.from_bytes(head[:4], "big"), head[4:]
        if not tag.isalpha() or not tag.isascii() or length >= 1 << 31:
            raise PictureError("damaged picture: a PNG file with a broken chunk")
        data = file.read(length)
        checksum = file.read(4)
        if tag not in _CRITICAL and len(checksum) < 4:
            return  # cut off: what matters has come, or Pillow will miss it
        yield tag, data, checksum == zlib.crc32(data, zlib.crc32(tag)).to_bytes(4, "big")
        if tag == b"IEND":
            return


def loaded(image: Image.Image, facts: PngFacts) -> tuple[Image.Image, bytes, list[str]]:
    """Decode a PNG file's samples.

    Args:
        image: `facts.samples` as Pillow has opened it.
        facts: of the file.

    Returns:
        An image of mode 1, L, LA, P, RGB or RGBA, 8 bits a sample, with sRGB's curve; a profile that goes with it;
        notes.
    """
    meaning, icc, note = facts.colours()
    notes = [note] if note else []
    key = facts.found.get(b"tRNS", b"")
    if facts.kind == 3:
        image = _of_palette(image, key)
    elif facts.depth == 16:
        image = _of_16_bits(image, facts, _key(facts, key), meaning)
        notes.append("16 bits reduced to 8")
    else:
        image = _of_8_bits(image, facts, _key(facts, key))
    if facts.depth < 16 and (meaning.bends or facts.narrow):
        image = bent(image, meaning, narrow=facts.narrow)
    if facts.narrow:
        notes.append("cICP: narrow range widened")
    if meaning.bends:
        notes.append(f"{'cICP' if b'cICP' in facts.found else 'gAMA'} converted to sRGB's curve")
    return image, icc, notes


def _key(facts: PngFacts, data: bytes) -> tuple[int, ...] | None:
    """Return the transparent colour at the file's depth; a chunk that is too short or out of place says none."""
    wanted = {0: 1, 2: 3}.get(facts.kind, 0)
    if not wanted or len(data) < 2 * wanted:
        return None
    mask = (1 << facts.depth) - 1
    return tuple(value & mask for value in struct.unpack(f">{wanted}H", data[: 2 * wanted]))


def _of_palette(image: Image.Image, alphas: bytes) -> Image.Image:
    """Return a palette picture with its alphas; Pillow puts these into the palette when it loads."""
    if alphas:
        image.info["transparency"] = alphas[:256]
    image.load()
    return image


def _of_8_bits(image: Image.Image, facts: PngFacts, key: tuple[int, ...] | None) -> Image.Image:
    image.load()
    if key is None:
        return image
    image = image.convert("L") if image.mode == "1" else image
    step = 255 // ((1 << facts.depth) - 1)  # to which Pillow spreads 1, 2 and 4 bits
    channels = image.split()
    hit = np.ones((image.height, image.width), np.bool_)
    for channel, value in zip(channels, key, strict=True):
        hit &= np.asarray(channel) == value * step
    image.putalpha(Image.fromarray(np.where(hit, 0, 255).astype(np.uint8)))
    return image


def _of_16_bits(image: Image.Image, facts: PngFacts, key: tuple[int, ...] | None, meaning: Meaning) -> Image.Image:
    """Round to 8 bits, after comparing with the transparent colour and following the curve."""
    deep = _deep(image, facts)
    lights = 1 if facts.is_grey else 3
    straight, bent = Meaning().table(65535), meaning.table(65535)
    height, width, channels = deep.shape
    out = np.empty((height, width, channels + (key is not None)), np.uint8)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        strip = deep[rows]
        if key is not None:
            out[rows, :, -1] = np.where((strip == np.array(key, np.uint16)).all(axis=-1), 0, 255)
        light = _widened(strip[..., :lights], 65535) if facts.narrow else strip[..., :lights]
        out[rows, :, :lights] = bent[light]
        if channels > lights:
            out[rows, :, lights] = straight[strip[..., lights]]
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[out.shape[-1]]
    return Image.fromarray(out[..., 0] if mode == "L" else out, mode)


def _deep(image: Image.Image, facts: PngFacts) -> Samples:
    """Return all 16 bits of each sample, (H, W, channels).

    Pillow shows the upper half of each; the lower comes from reading the file again with its bytes the other way
    around. Grey with alpha is read as four channels of 8 bits, which have its bytes.
    """
    if facts.kind == 0:
        image.load()
        return np.asarray(image).astype(np.uint16)[..., None]
    if facts.kind == 4:
        halves = np.asarray(_read_as(facts, "RGBA", "RGBA"))
        grey: Samples = halves[..., 0::2].astype(np.uint16) << 8 | halves[..., 1::2]
        return grey
    mode = "RGB" if facts.kind == 2 else "RGBA"
    deep: Samples = np.asarray(_read_as(facts, mode, f"{mode};16B")).astype(np.uint16)
    deep <<= 8
    deep |= np.asarray(_read_as(facts, mode, f"{mode};16L"))
    return deep


def _read_as(facts: PngFacts, mode: str, raw: str) -> Image.Image:
    """Return the samples with another layout of the same length."""
    facts.samples.seek(0)
    image = Image.open(facts.samples)
    image._mode = mode
    image.tile = [tile._replace(args=raw) for tile in image.tile]
    image.load()
    return image


def bent(image: Image.Image, meaning: Meaning, *, narrow: bool = False) -> Image.Image:
    """Return the picture with sRGB's curve; alpha as it is."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    table = meaning.table(255)
    if narrow:
        table = table[_widened(np.arange(256, dtype=np.uint16), 255)]
    straight = list(range(256))
    light = [int(value) for value in table]
    return image.point({"L": light, "LA": light + straight, "RGB": light * 3}.get(image.mode, light * 3 + straight))


def _widened(samples: Samples, largest: int) -> Samples:
    """Spread samples from 16/255 to 235/255 over the whole range."""
    unit = (largest + 1) // 256  # 235 of 255 is 235 * 256 of 65535
    wide = (samples.astype(np.float64) - 16 * unit) * (largest / (219 * unit))
    out: Samples = np.clip(np.floor(wide + 0.5), 0, largest).astype(np.uint16)
    return out
