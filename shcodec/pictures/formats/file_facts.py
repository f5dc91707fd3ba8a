"""What AVIF, BMP, JPEG 2000, PPM and PSD files say and Pillow does not show: sample depth, colours, metadata."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from PIL import Image

from shcodec.pictures.exif import EXIF_PREFIX

_HEAD: Final = 1 << 20  # bytes in which headers lie
_MOST_PROFILE: Final = (16 << 20) + 1
_JP2_EXIF: Final = b"JpgTiffExif->JP2"  # sixteen bytes, as a UUID has
_JP2_XMP: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_PSD_EXIF, _PSD_XMP = 1058, 1060
_IPTC: Final = 0x0404  # among Photoshop's resources, and
_IPTC_TAG, _PHOTOSHOP_TAG = 33723, 34377  # among TIFF's tags


@dataclass(frozen=True)
class FileFacts:
    """What else a file says.

    Attributes:
        bits: of a sample, where there are more than 8 and Pillow does not tell.
        grey: whether the file has one channel of light, which Pillow makes three of.
        cicp: code points of primaries and transfer curve, after ITU-T H.273.
        icc, exif, xmp: metadata that Pillow does not hand on.
    """

    bits: int = 0
    grey: bool = False
    cicp: tuple[int, int] | None = None
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""

    def info(self) -> dict[str, bytes]:
        """Return the metadata as entries of a Pillow image's `info`."""
        exif = EXIF_PREFIX + self.exif if self.exif else b""
        entries = {"icc_profile": self.icc, "exif": exif, "xmp": self.xmp}
        return {key: data for key, data in entries.items() if data}


def read_facts(file: BinaryIO, format: str | None) -> FileFacts:
    """Look into the header of a file; what is damaged is not there."""
    if format not in ("AVIF", "BMP", "JPEG2000", "PPM", "PSD"):
        return FileFacts()
    file.seek(0)
    if format == "BMP":
        return FileFacts(icc=_profile_of_bmp(file))
    head = file.read(_HEAD)
    try:
        return {"AVIF": _of_avif, "JPEG2000": _of_jpeg_2000, "PPM": _of_ppm, "PSD": _of_psd}[format](head)
    except (struct.error, IndexError, ValueError):
        return FileFacts()


def lost(image: Image.Image, texts: int = 0) -> str:
    """Return a note about metadata that .shc has no place for; `texts` are those of a PNG file."""
    info: dict[Any, Any] = image.info
    photoshop = info.get("photoshop")
    tags: Any = getattr(image, "tag_v2", {})
    segments: Any = getattr(image, "applist", ())
    number = texts or len([key for key in getattr(image, "text", {}) if key != "XML:com.adobe.xmp"])
    found = {
        "comment": bool(info.get("comment")) and image.format != "JPEG2000",  # where it names the encoder
        "IPTC": (isinstance(photoshop, dict) and bool(photoshop.get(_IPTC)))
        or _IPTC_TAG in tags
        or b"8BIM\x04\x04" in _bytes(tags.get(_PHOTOSHOP_TAG)),
        f"{number} text{'s' * (number > 1)}": number > 0,
        "extended XMP": any(data.startswith(b"http://ns.adobe.com/xmp/extension/") for _, data in segments),
        "content credentials": any(name == "APP11" and data.startswith(b"JP") for name, data in segments),
    }
    names = [name for name, is_there in found.items() if is_there]
    return f"{', '.join(names)} dropped" if names else ""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of the boxes that a file or a box consists of."""
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, place + 8)[0], 16
        end = len(data) if size == 0 else place + size
        if size and size < head:
            return
        yield kind, data[place + head : end]
        place = end


def _profile_of_bmp(file: BinaryIO) -> bytes:
    """Return the profile that a header of version 5 points to, behind the samples."""
    head = file.read(14 + 124)
    if len(head) < 138 or head[14:18] != struct.pack("<I", 124) or head[70:74] != b"DEBM":  # "MBED", the other way
        return b""
    start, size = struct.unpack_from("<2I", head, 14 + 112)
    file.seek(14 + start)
    return file.read(min(size, _MOST_PROFILE))


def _of_avif(data: bytes) -> FileFacts:
    found = _properties(next((meta[4:] for kind, meta in _boxes(data) if kind == b"meta"), b""))
    depths = found.get(b"pixi", b"")[4:]
    bits, grey = max(depths[1:], default=8), depths[:1] == b"\1"
    if len(found.get(b"av1C", b"")) >= 4:
        flags = found[b"av1C"][2]
        bits, grey = (12 if flags & 0x20 else 10) if flags & 0x40 else 8, bool(flags & 0x10)
    codes = found.get(b"colrnclx", b"")
    cicp = struct.unpack_from(">HH", codes, 4) if len(codes) >= 8 else None
    return FileFacts(bits=bits if bits > 8 else 0, grey=grey, cicp=cicp)


def _properties(meta: bytes) -> dict[bytes, bytes]:
    """Return the properties of an AVIF file's picture itself, not those of its alpha or thumbnails."""
    boxes = dict(_boxes(meta))
    inner = dict(_boxes(boxes.get(b"iprp", b"")))
    properties = list(_boxes(inner.get(b"ipco", b"")))
    primary, table = boxes.get(b"pitm", b""), inner.get(b"ipma", b"")
    wanted = int.from_bytes(primary[4:], "big")
    found: dict[bytes, bytes] = {}
    name, wide = (">I" if table[0] else ">H"), 2 if table[3] & 1 else 1
    place = 8
    for _ in range(struct.unpack_from(">I", table, 4)[0]):
        item = struct.unpack_from(name, table, place)[0]
        place += struct.calcsize(name)
        count = table[place]
        place += 1
        for number in range(count if item == wanted else 0):
            index = int.from_bytes(table[place + number * wide : place + (number + 1) * wide], "big")
            index &= (1 << (8 * wide - 1)) - 1
            tag, content = properties[index - 1]
            found.setdefault(tag + content[:4] if tag == b"colr" else tag, content)
        place += count * wide
    return found


def _of_jpeg_2000(data: bytes) -> FileFacts:
    if data.startswith(b"\xff\x4f\xff\x51"):
        return FileFacts(bits=_deep(data[42:]))
    bits, icc, told = 0, b"", dict[bytes, bytes]()
    for kind, header in _boxes(data):
        if kind == b"uuid":
            told.setdefault(header[:16], header[16:])
        for name, content in _boxes(header) if kind == b"jp2h" else ():
            if name == b"ihdr" and content[10] != 255:
                bits = _deep(content[10:11])
            elif name == b"bpcc":
                bits = _deep(content)
            elif name == b"colr" and content[0] in (2, 3) and not icc:
                icc = content[3:]
    return FileFacts(bits=bits, icc=icc, exif=told.get(_JP2_EXIF, b""), xmp=told.get(_JP2_XMP, b""))


def _of_psd(data: bytes) -> FileFacts:
    """Read EXIF and XMP among the resources, which come behind the header and a table of colours."""
    place = 30 + struct.unpack_from(">I", data, 26)[0]
    end = min(place + 4 + struct.unpack_from(">I", data, place)[0], len(data))
    place += 4
    told: dict[int, bytes] = {}
    while place + 12 <= end and data[place : place + 4] == b"8BIM":
        number, name = struct.unpack_from(">HB", data, place + 4)
        place += 7 + name + (name + 1) % 2
        size = struct.unpack_from(">I", data, place)[0]
        told.setdefault(number, data[place + 4 : place + 4 + size])
        place += 4 + size + size % 2
    return FileFacts(exif=told.get(_PSD_EXIF, b""), xmp=told.get(_PSD_XMP, b""))


def _deep(sizes: bytes) -> int:
    """Return the bits of a sample from a JPEG 2000 component's size; 0 where there are at most 8."""
    bits = (sizes[0] & 0x7F) + 1
    return bits if bits > 8 else 0


def _of_ppm(data: bytes) -> FileFacts:
    words = re.sub(rb"#[^\r\n]*", b"", data[:4096]).split(maxsplit=4)
    if words[0] not in (b"P2", b"P3", b"P5", b"P6"):
        return FileFacts()
    largest = int(words[3])
    return FileFacts(bits=largest.bit_length() if largest > 255 else 0)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""
