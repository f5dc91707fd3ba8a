"""The Pillow plugin: after `import shcodec.pillow_plugin` (or `shcodec.register_pillow()`), .shc is one more format.

    from PIL import Image
    import shcodec.pillow_plugin

    image = Image.open("photo.shc")  # reads the header; the networks run when the samples are needed
    image.save("small.shc", beta=200)

`draft`, which `thumbnail` calls by itself, lets the quick network of the file's model show the picture, if it has one.
`save` takes what `shcodec.encode` takes (`beta`, `quality`, `size`, `bpp`, `psnr`, `model`, `effort`, `strict`,
`strip`), and as for other formats `icc_profile`, `exif` and `xmp`, in place of those in the image's `info`; empty bytes
leave them out. Options of other formats are left aside with a `ShcWarning`.

Pillow empties the file that it is to write before it asks this plugin, so a `save` over an old file that fails leaves
that empty. It stays whole if `save` is given a file that only takes its place when all went well:

    from shcodec.support.atomic import replacing

    with replacing("photo.shc") as file:
        image.save(file, "SHC")
"""

from __future__ import annotations

import threading
from typing import IO, Any, Final

from PIL import Image, ImageFile

from shcodec import container
from shcodec.container.extras import pillow_mode, unpack_metadata
from shcodec.support.errors import CorruptFileError, LimitError, ShcError, UsageError

FORMAT: Final = "SHC"
_HEAD: Final = 1 << 16  # bytes that are read first: they hold the header, and all but large chunks
_METADATA: Final = ("icc_profile", "exif", "xmp")
_OPTIONS: Final = ("beta", "quality", "size", "bpp", "psnr", "model", "effort", "strict", "strip")
_KNOWN: Final = frozenset((*_METADATA, *_OPTIONS, "append"))


class ShcImageFile(ImageFile.ImageFile):
    """An .shc file as Pillow sees it. Only its header and chunks are read until the samples are needed."""

    format = FORMAT
    format_description = "Learned image codec with soft-to-hard vector quantisation"
    _encoded = False  # also of one that was pickled, which is never opened
    _quick = False
    _lock = threading.Lock()

    def _open(self) -> None:
        self._lock = threading.Lock()
        try:
            header = self._header()
            metadata = unpack_metadata(header.chunks)
        except (CorruptFileError, LimitError) as error:
            raise SyntaxError(str(error)) from error
        self._size = (header.width, header.height)
        self._mode = pillow_mode(header)
        self.info.update(metadata.pillow_info)
        self._encoded = True

    def _header(self) -> container.Container:
        """Read fields and chunks. Pillow itself limits the number of pixels."""
        file = self._file()
        head = file.read(_HEAD)
        try:
            return container.unpack_header(head, max_pixels=container.MAX_SIDE**2, chunks=True)
        except CorruptFileError:
            rest = file.read()
            if not rest:
                raise
            return container.unpack_header(head + rest, max_pixels=container.MAX_SIDE**2, chunks=True)

    def _file(self) -> IO[bytes]:
        if self.fp is None:
            raise OSError("the file is closed")
        return self.fp

    def _data(self) -> bytes:
        """Return the whole file."""
        file = self._file()
        file.seek(0)
        return file.read()

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Ask for the quick network where the samples are still to be decoded; mode and size stay what they are."""
        if not self._encoded:
            return None
        self._quick = True
        return self.mode, (0, 0, *self.size)

    def load(self) -> Any:
        """Decode the picture, the first time; raises OSError if it cannot."""
        with self._lock:
            if self._encoded:
                self._decode()
        return super().load()

    def _decode(self) -> None:
        from shcodec.codec import decoding

        try:
            image = decoding.decode(self._data(), quick=self._quick, max_pixels=self.size[0] * self.size[1])
        except ShcError as error:
            raise OSError(str(error)) from error
        if image.size != self.size or image.mode != self.mode:
            raise OSError("the file has changed since it was opened")
        self.im = image.im
        self.readonly = 0
        if self._exclusive_fp:
            self._file().close()
        self.fp = None
        self._encoded = False

    def verify(self) -> None:
        """Check the whole file, without running a network; raises OSError if it is damaged."""
        from shcodec.codec import inspection

        try:
            inspection.verify(self._data())
        except ShcError as error:
            raise OSError(str(error)) from error
        super().verify()


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(container.MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Write an image; raises ValueError for wrong options and OSError for pictures that cannot be encoded."""
    from shcodec.codec import encoding
    from shcodec.pictures.arguments import warn

    given: dict[str, Any] = image.encoderinfo
    if given.get("append"):  # Pillow has opened the old file to be added to
        raise ValueError("a picture cannot be appended to an .shc file")
    unknown = [name for name, value in given.items() if name not in _KNOWN and value is not None]
    if unknown:
        warn(f".shc has no option {', '.join(map(repr, unknown))}: left aside")
    options = {name: given[name] for name in _OPTIONS if given.get(name) is not None}
    try:
        data = encoding.encode(_with_info(image, given), **options)
    except UsageError as error:
        raise ValueError(str(error)) from error
    except ShcError as error:
        raise OSError(str(error)) from error
    file.write(data)


def _with_info(image: Image.Image, given: dict[str, Any]) -> Image.Image:
    """Return the image, or a copy of it whose metadata are those given."""
    entries: dict[str | tuple[int, int], Any] = {key: given[key] for key in _METADATA if key in given}
    if not entries:
        return image
    if isinstance(entries.get("exif"), Image.Exif):
        entries["exif"] = entries["exif"].tobytes()
    image = image.copy()
    image.info.update(entries)
    return image


def register() -> None:
    """Make the format known to Pillow; done when this module is imported."""
    Image.register_open(FORMAT, ShcImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save)  # a file holds one picture: for `save_all=True` the one that is shown
    Image.register_extension(FORMAT, ".shc")
    Image.register_mime(FORMAT, "image/x-shc")


register()
