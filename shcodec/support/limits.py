"""What every room must know of the `.shc` format: how a file begins, and how much it may hold."""

from __future__ import annotations

from typing import Final

# PNG's trick: the first byte shows a channel that strips the eighth bit, the last one that rewrites line endings.
MAGIC: Final = b"\x89SHC\n"
MAX_SIDE: Final = 65_535
MAX_PIXELS: Final = 178_956_970
"""Pixels that a reader accepts unless told otherwise: the number above which Pillow, too, refuses a picture."""
MAX_CHUNK_SIZE: Final = 16 << 20
MAX_METADATA_SIZE: Final = 16 << 20
"""Bytes that a colour profile, an EXIF block or an XMP packet may have."""
