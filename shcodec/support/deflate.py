"""The compression of chunks: bare DEFLATE streams (RFC 1951). A file's checksum covers them, so they need none."""

from __future__ import annotations

import zlib

from shcodec.support.errors import CorruptFileError

_BARE = -15  # a window of 32 KiB, neither header nor checksum


def deflated(data: bytes, level: int = 9) -> bytes:
    """Compress; data that cannot be compressed grows by 5 bytes every 64 KiB."""
    packer = zlib.compressobj(level, zlib.DEFLATED, _BARE, zlib.DEF_MEM_LEVEL + 1)
    return packer.compress(data) + packer.flush()


def inflated(data: bytes, limit: int, what: str) -> bytes:
    """Decompress exactly one stream that fills `data`; never makes more than `limit` + 1 bytes.

    Args:
        data: the stream.
        limit: bytes that it may hold.
        what: what it is, for messages.

    Raises:
        CorruptFileError: the stream is damaged, does not end with the data, or holds more than `limit` bytes.
    """
    unpacker = zlib.decompressobj(_BARE)
    try:
        out = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise CorruptFileError(f"{what} is damaged") from error
    if len(out) > limit:
        raise CorruptFileError(f"{what} holds more than {limit} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise CorruptFileError(f"{what} does not end where it should")
    return out
