"""What every room must know: how an `.shc` file begins, how much it may hold, and which pictures are never opened."""

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

BY_OTHER_PROGRAMS: Final = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Kinds of picture, as Pillow names them, that it reads with the help of other programs at most.

An input must never be handed to an interpreter (EPS is a program, for Ghostscript), whatever its name says it is.
"""
