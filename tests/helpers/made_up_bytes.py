"""Checksums and compressed streams for bytes that are put together by hand."""

from __future__ import annotations

import zlib


def sealed(data: bytes | bytearray) -> bytes:
    """Return bytes with the checksum that matches them."""
    return bytes(data) + zlib.crc32(data).to_bytes(4, "little")


def deflated(data: bytes) -> bytes:
    """Return a bare DEFLATE stream, as small as it can be."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()
