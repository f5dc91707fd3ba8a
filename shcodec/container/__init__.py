"""The `.shc` file: its bytes, and what its chunks hold of a picture."""

from shcodec.container.file import (
    ALPHA,
    MAX_BETA,
    MAX_CHUNKS_SIZE,
    MAX_HEADER_SIZE,
    MIN_BETA,
    VERSION,
    Chunk,
    Container,
    beta_to_byte,
    byte_to_beta,
    chunks_size,
    head,
    pack,
    part_sizes,
    unpack,
    unpack_header,
)
from shcodec.support.limits import MAGIC, MAX_CHUNK_SIZE, MAX_PIXELS, MAX_SIDE

__all__ = [
    "ALPHA",
    "MAGIC",
    "MAX_BETA",
    "MAX_CHUNKS_SIZE",
    "MAX_CHUNK_SIZE",
    "MAX_HEADER_SIZE",
    "MAX_PIXELS",
    "MAX_SIDE",
    "MIN_BETA",
    "VERSION",
    "Chunk",
    "Container",
    "beta_to_byte",
    "byte_to_beta",
    "chunks_size",
    "head",
    "pack",
    "part_sizes",
    "unpack",
    "unpack_header",
]
