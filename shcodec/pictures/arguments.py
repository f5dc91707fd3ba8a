"""What callers from Python hand over (bytes, paths, file objects, Pillow images, arrays), and how they are warned."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

from shcodec.support.errors import PictureError, ShcWarning, UsageError
from shcodec.support.limits import MAX_PIXELS

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

    from shcodec.pictures.picture import Picture

File = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""A file: its bytes, its path, or a binary file object."""

_PACKAGES = frozenset({"shcodec", "PIL"})


def read_bytes(source: File) -> bytes:
    """Return all bytes of a file.

    Args:
        source: see `File`; a file object is read from where it stands to its end.

    Raises:
        UsageError: it is none of these.
        OSError: the system cannot read it.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            return file.read()
    read = getattr(source, "read", None)
    data: Any = read() if callable(read) else None
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise UsageError(f"expected bytes, a path or a binary file object, not {_kind(source)}")
    return bytes(data)


def picture_of(
    source: Image.Image | Picture | npt.NDArray[Any] | File, *, strip: bool = False, max_pixels: int = MAX_PIXELS
) -> tuple[Picture, tuple[str, ...]]:
    """Return the picture that a caller means.

    Args:
        source: a file of any kind that Pillow reads (see `File`), a Pillow image, a picture that has been read, or
            uint8 samples: (H, W) and (H, W, 1) are grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGB and
            alpha.
        strip, max_pixels: as for `read_picture`.

    Returns:
        The picture, and what was changed in it here, one short phrase each with the path before it where there is one.

    Raises:
        UsageError: it is none of these.
        PictureError: not a readable picture, or samples of another kind.
        LimitError: too many pixels.
    """
    import numpy as np
    from PIL import Image

    from shcodec.pictures.picture import Picture
    from shcodec.pictures.reading import read_picture

    if isinstance(source, Picture):
        return source, ()
    if isinstance(source, np.ndarray):
        return _picture_of_array(source)
    files = (bytes, bytearray, memoryview, str, os.PathLike)
    if not isinstance(source, (*files, Image.Image)) and not callable(getattr(source, "read", None)):
        raise UsageError(f"expected a picture: an image, an array, bytes, a path or a file, not {_kind(source)}")
    picture = read_picture(source, strip=strip, max_pixels=max_pixels)
    where = f"{os.fspath(source)}: " if isinstance(source, (str, os.PathLike)) else ""
    return picture, tuple(where + note for note in picture.notes)


def _picture_of_array(samples: npt.NDArray[Any]) -> tuple[Picture, tuple[str, ...]]:
    """Return a picture of samples as they are; two and four channels go through Pillow, for the alpha."""
    import numpy as np
    from PIL import Image

    from shcodec.pictures.picture import Picture, check_samples
    from shcodec.pictures.reading import read_picture

    plane = samples[..., 0] if samples.ndim == 3 and samples.shape[2] == 1 else samples
    if plane.dtype == np.uint8 and plane.ndim == 2:
        check_samples(plane)
        return Picture(plane), ()
    if plane.dtype == np.uint8 and plane.ndim == 3 and plane.shape[2] in (2, 4) and plane.size:
        picture = read_picture(Image.fromarray(plane), max_pixels=plane.size)
        return picture, picture.notes
    if plane.ndim != 3 or plane.shape[2] != 3 or plane.dtype != np.uint8:
        raise PictureError(
            "an array must be uint8 of shape (H, W) or (H, W, 1 to 4), with values from 0 to 255; "
            f"this one is {samples.dtype} of shape {samples.shape}"
        )
    return Picture(plane), ()


def warn(text: str) -> None:
    """Tell a caller from Python what it did not ask for, as a warning that names the line which called this package.

    The way there may lead through Pillow.
    """
    frame = sys._getframe(0)
    level = 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PACKAGES:
        frame = frame.f_back
        level += 1
    warnings.warn(text, ShcWarning, stacklevel=level)


def _kind(value: object) -> str:
    return type(value).__name__
