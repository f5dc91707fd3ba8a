"""Picture files put together by hand, such as no library here writes: PNG chunks, TIFF tags, JPEG segments."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from made_up_metadata import srgb
from PIL import Image

Order = Literal["<", ">"]  # little-endian, big-endian
SIGNATURE = b"\x89PNG\r\n\x1a\n"
KINDS = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's colour types by the number of channels


def saved(image: Image.Image, format: str = "PNG", **options: Any) -> io.BytesIO:
    """Return an image as a file of Pillow's."""
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def chunk(tag: bytes, data: bytes, *, well: bool = True) -> bytes:
    """Return a chunk of a PNG file; its checksum is wrong if it is not `well`."""
    check = zlib.crc32(tag + data) ^ (0 if well else 1)
    return struct.pack(">I", len(data)) + tag + data + check.to_bytes(4, "big")


def png_of(width: int, height: int, *chunks: bytes, depth: int = 8, kind: int = 2) -> bytes:
    """Return a PNG file that claims these sides and holds these chunks between its first and its last."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def png(
    samples: np.ndarray,
    depth: int = 8,
    *chunks: bytes,
    after: bytes = b"",
    kind: int | None = None,
    palette: bytes = b"",
) -> io.BytesIO:
    """Write a PNG file of (H, W) or (H, W, channels) samples of any depth, with chunks before and after the samples."""
    samples = samples.reshape(*samples.shape[:2], -1)
    height, width, channels = samples.shape
    rows = b""
    for row in samples:
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        else:
            bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
            packed = np.packbits(bits.reshape(-1)).tobytes()
        rows += b"\0" + packed
    body = (chunk(b"PLTE", palette) if palette else b"") + chunk(b"IDAT", zlib.compress(rows)) + after
    return io.BytesIO(png_of(width, height, *chunks, body, depth=depth, kind=KINDS[channels] if kind is None else kind))


def tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    order: Order = "<",
    planes: bool = False,
    packed: bool = False,
    predicted: bool = False,
    strip: int = 5,
    tags: Mapping[int, tuple[int, tuple[int, ...]] | None] = {},
) -> io.BytesIO:
    """Write a TIFF file of (H, W, channels) samples of the array's type, in strips; `tags` come on top."""
    height, width, channels = samples.shape
    bits = 8 * samples.dtype.itemsize
    parts = []
    for part in np.split(samples, channels, axis=2) if planes else [samples]:
        if predicted:
            part = np.diff(part, axis=1, prepend=part.dtype.type(0))
        for top in range(0, height, strip):
            data = part[top : top + strip].astype(part.dtype.newbyteorder(order)).tobytes()
            parts.append(zlib.compress(data) if packed else data)
    entries: dict[int, tuple[int, tuple[int, ...]] | None] = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (bits,) * channels),
        259: (3, (8 if packed else 1,)),
        262: (3, (photometric,)),
        277: (3, (channels,)),
        278: (3, (strip,)),
        284: (3, (2 if planes else 1,)),
        317: (3, (2 if predicted else 1,)),
        **tags,
    }
    body = b"".join(parts) + bytes(len(b"".join(parts)) % 2)
    starts = np.cumsum([8, *map(len, parts)])[:-1]
    entries[273] = (4, tuple(int(start) for start in starts))
    entries[279] = (4, tuple(map(len, parts)))
    codes = {1: "B", 2: "B", 3: "H", 4: "I"}
    extra, table, place = b"", b"", 8 + len(body)
    for tag, entry in sorted(entries.items()):
        if entry is None:
            continue
        kind, values = entry
        content = struct.pack(f"{order}{len(values)}{codes[kind]}", *values)
        if len(content) > 4:
            extra += content + bytes(len(content) % 2)
            content = struct.pack(f"{order}I", place + len(extra) - len(content) - len(content) % 2)
        table += struct.pack(f"{order}HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place + len(extra))
    return io.BytesIO(head + body + extra + struct.pack(f"{order}H", len(table) // 12) + table + bytes(4))


def segment(marker: int, data: bytes) -> bytes:
    """Return a segment of a JPEG file."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(image: Image.Image, *segments: bytes, **options: Any) -> io.BytesIO:
    """Return a JPEG file with segments behind its JFIF header."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, **options)
    data = file.getvalue()
    end = 4 + int.from_bytes(data[4:6], "big")
    return io.BytesIO(data[:end] + b"".join(segments) + data[end:])


def iccp(profile: bytes) -> bytes:
    """Return a chunk iCCP."""
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def long_profile(size: int) -> bytes:
    """Return a profile of sRGB with that many bytes, which no DEFLATE makes small: a private tag of noise."""
    icc = srgb()
    noise = np.random.default_rng(1).bytes(size - len(icc) - 12)
    count = int.from_bytes(icc[128:132], "big")
    table = icc[132 : 132 + 12 * count]
    moved = b"".join(
        table[at : at + 4]
        + struct.pack(">I", int.from_bytes(table[at + 4 : at + 8], "big") + 12)
        + table[at + 8 : at + 12]
        for at in range(0, len(table), 12)
    )
    own = b"nois" + struct.pack(">2I", len(icc) + 12, len(noise))
    body = struct.pack(">I", count + 1) + moved + own + icc[132 + 12 * count :] + noise
    return struct.pack(">I", 128 + len(body)) + icc[4:128] + body
