"""Metadata for tests: colour profiles, an EXIF block and an XMP packet, made here."""

from __future__ import annotations

import functools
import struct

from PIL import ExifTags, Image, ImageCms

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="gr\xc3\xbcn"/></rdf:RDF></x:xmpmeta>'
)


def exif_block(orientation: int = 6) -> bytes:
    """EXIF with a description, an orientation and the time at which the picture was taken, from its TIFF header on."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "a made-up picture"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ExifOffset] = {ExifTags.Base.DateTimeOriginal: "2020:01:01 00:00:00"}
    return exif.tobytes().removeprefix(b"Exif\0\0")


@functools.cache  # a profile tells the second in which it was made
def srgb(swapped: bool = False) -> bytes:
    """Return the sRGB profile, or one whose red is sRGB's green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if swapped:
        profile = profile.replace(b"rXYZ", b"tmpX").replace(b"gXYZ", b"rXYZ").replace(b"tmpX", b"gXYZ")
        profile = profile.replace("sRGB".encode("utf-16-be"), "SWAP".encode("utf-16-be")).replace(b"sRGB ", b"SWAP ")
    return profile


def grey_profile() -> bytes:
    """Return a profile of grey pictures whose samples are linear light; Pillow can follow it, but not make it."""
    curve = b"curv" + bytes(8)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    name = b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(79)
    tags, offset, body = b"", 128 + 4 + 3 * 12, b""
    for tag, data in ((b"kTRC", curve), (b"wtpt", white), (b"desc", name)):
        data += bytes(-len(data) % 4)
        tags += tag + struct.pack(">2I", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ") + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", 3) + tags + body
