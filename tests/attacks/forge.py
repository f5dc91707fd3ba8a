"""Forged files: valid ones taken apart, some part replaced by a lie, and put together again with checksums that match.

The checksum guards against accidents only, so whoever attacks a reader starts from files like these.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
from made_up_bytes import deflated, sealed

from shcodec import container
from shcodec.codec import decoding, encoding
from shcodec.container.payload import join
from shcodec.support.bytestream import varint
from shcodec.support.errors import ShcError
from shcodec.symbols.grid import Grid, tiles_of

GOLDEN_FILES = Path(__file__).resolve().parent.parent / "golden" / "files"
FEW_PIXELS = 1 << 16
"""What a fuzzer lets a picture have: what is larger takes longer, and shows nothing else."""


@dataclass(frozen=True)
class Parts:
    """A file as the bytes of its fields; `length` is None for the true length of the payload."""

    version: int
    model: bytes
    width: bytes
    height: bytes
    beta: int
    chunks: bytes
    payload: bytes
    length: bytes | None = None
    magic: bytes = container.MAGIC


def taken_apart(data: bytes) -> Parts:
    """Return the fields of a valid file."""
    file = container.unpack(data)
    head = container.head(file)
    width, height = varint(file.width), varint(file.height)
    start = len(container.MAGIC) + 5 + len(width) + len(height) + 1
    return Parts(data[5], file.model_id, width, height, file.beta_byte, head[start:], file.payload)


def body(parts: Parts) -> bytes:
    """Return a file without its checksum."""
    length = varint(len(parts.payload)) if parts.length is None else parts.length
    head = parts.magic + bytes([parts.version]) + parts.model + parts.width + parts.height
    return head + bytes([parts.beta]) + parts.chunks + length + parts.payload


def put_together(parts: Parts) -> bytes:
    """Return a file with the checksum that matches it."""
    return sealed(body(parts))


def claiming(parts: Parts, width: int, height: int, streams: Callable[[int], bytes] = lambda number: b"") -> bytes:
    """Forge a file whose size is a lie: every tile of the picture has the stream that `streams` gives for its number.

    All lengths and checksums are right, those of the tiles as well.
    """
    parts = replace(parts, width=varint(width), height=varint(height))
    head = body(replace(parts, payload=b"", length=b""))
    count = len(tiles_of(Grid.of(height, width)))
    return put_together(replace(parts, payload=join(head, [streams(number) for number in range(count)])))


def chunk(tag: bytes, data: bytes, length: bytes | None = None) -> bytes:
    """Return a chunk with its tag and length, or with another length."""
    return tag + (varint(len(data)) if length is None else length) + data


def with_chunks(parts: Parts, *chunks: bytes, count: bytes | None = None) -> Parts:
    """Return the same file with these chunks and no others."""
    told = varint(len(chunks)) if count is None else count
    return replace(parts, version=parts.version | 1, chunks=told + b"".join(chunks))


def read_or_reject(data: bytes, read: Callable[[bytes], object] | None = None) -> str:
    """Decode a file, or have it rejected with a line of text; whatever else comes out of it is a defect.

    Returns:
        Why it was rejected; "" if it was decoded.
    """
    try:
        (read or _decode)(data)
    except ShcError as error:
        message = str(error)
        assert message and "\n" not in message
        return message
    return ""


def _decode(data: bytes) -> None:
    decoding.decode(data, max_pixels=FEW_PIXELS)


# -- structure-aware mutation -----------------------------------------------------------------------

NUMBERS = (0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 2047, 2049, 65_535, 65_536, (1 << 21) - 1, 1 << 28)
TAGS = (b"ALPH", b"iccp", b"exif", b"xmlp", b"noTe", b"TILE", b"\0\0\0\0")
DEFLATED = (b"\x03\x00", b"\x01\x00\x00\xff\xff", b"\x05\xe0", zlib.compress(bytes(5000), 9)[2:-4], b"\x4b\x04\x00")


def mutated(data: bytes, random: Random) -> bytes:
    """Return a valid file with one to three lies in it; the checksum matches nine times of ten."""
    parts = taken_apart(data)
    for _ in range(random.randint(1, 3)):
        parts = random.choice(MUTATIONS)(parts, random)
    return put_together(parts) if random.random() < 0.9 else damaged(put_together(parts), random)


def damaged(data: bytes, random: Random) -> bytes:
    """Bytes that are flipped, cut off, doubled or inserted."""
    if not data:
        return random.randbytes(3)
    at = random.randrange(len(data))
    kind = random.randrange(5)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at : at + random.randint(1, 8)] + data[at:]
    if kind == 3:
        return data[:at] + random.randbytes(random.randint(1, 8)) + data[at:]
    return data[:at] + random.randbytes(random.randint(1, 8)) + data[at + 4 :]


def _number(random: Random) -> bytes:
    """Return a varint: small as a rule, sometimes huge, sometimes longer than it need be."""
    value = random.choice(NUMBERS) if random.random() < 0.7 else random.randrange(300)
    text = varint(value)
    return text if random.random() < 0.9 else text[:-1] + bytes([text[-1] | 0x80]) + bytes(random.randint(1, 3))


def _chunks(parts: Parts, random: Random) -> Parts:
    chosen = []
    for _ in range(random.randint(1, 3)):
        tag, content = random.choice(TAGS), random.choice(DEFLATED)
        if tag == b"ALPH":
            listed = bytes(sorted(random.sample(range(256), random.choice((0, 1, 2, 4, 16)))))
            content = bytes([len(listed)]) + listed + bytes([random.randrange(5)]) + content
        content = content if random.random() < 0.7 else damaged(content, random)
        chosen.append(chunk(tag, content, None if random.random() < 0.9 else _number(random)))
    return with_chunks(parts, *chosen, count=None if random.random() < 0.9 else _number(random))


MUTATIONS: tuple[Callable[[Parts, Random], Parts], ...] = (
    lambda parts, random: replace(parts, version=random.randrange(256)),
    lambda parts, random: replace(parts, version=parts.version ^ 2),
    lambda parts, random: replace(parts, model=damaged(parts.model, random)[:4].ljust(4, b"\0")),
    lambda parts, random: replace(parts, width=_number(random)),
    lambda parts, random: replace(parts, height=_number(random)),
    lambda parts, random: replace(parts, width=parts.height, height=parts.width),
    lambda parts, random: replace(parts, beta=random.randrange(256)),
    _chunks,
    lambda parts, random: replace(parts, chunks=damaged(parts.chunks, random)),
    lambda parts, random: replace(parts, length=_number(random)),
    lambda parts, random: replace(parts, payload=damaged(parts.payload, random)),
    lambda parts, random: replace(parts, payload=random.randbytes(random.randrange(80)).rstrip(b"\0")),
    lambda parts, random: replace(parts, payload=b""),
)


# -- files that claim much -------------------------------------------------------------------------


def giants(model: str) -> dict[str, bytes]:
    """Files of at most some kilobytes that claim much and are to be rejected."""
    grey = np.full((16, 16, 3), 128, np.uint8)
    parts = taken_apart(encoding.encode_array(grey, 4096, model=model))
    random = Random(3)
    bomb = deflated(bytes(container.MAX_CHUNK_SIZE + 1))
    few = dict(
        empty=claiming(parts, 2048, 2048),
        empty_of_178_megapixels=claiming(parts, 16_384, 10_922),
        one_byte_a_tile=claiming(parts, 16_384, 10_922, lambda number: b"\1"),
        first_tile_full=claiming(
            parts, 16_384, 10_922, lambda number: b"" if number else random.randbytes(600) + b"\1"
        ),
        flat=put_together(replace(parts, width=varint(65_535), height=varint(2_730), payload=b"\1" * 900)),
    )
    bombs = {tag.decode(): put_together(with_chunks(parts, chunk(tag, bomb))) for tag in (b"iccp", b"exif", b"xmlp")}
    large = replace(parts, width=varint(2048), height=varint(2048))
    for depth, listed in ((8, b"\0"), (1, b"\2\0\xff"), (4, bytes([16, *range(16)]))):
        content = listed + b"\3" + deflated(bytes(2048 * 2048 * depth // 8 + 1))
        bombs[f"ALPH {depth}"] = put_together(with_chunks(large, chunk(b"ALPH", content)))
    return few | bombs
