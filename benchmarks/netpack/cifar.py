"""CIFAR-10 from a folder or an archive that the user names, and its augmentation.

Two forms are known, in a folder at any depth or in a .tar, .tar.gz, .tgz or .zip archive:

- the binary version: ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``; each picture is a byte of
  label and 3072 bytes of pixels, channel by channel;
- sprites: ``data_batch_1.png`` to ``data_batch_5.png`` and ``test_batch.png``, each picture a row of 1024 RGB pixels,
  with ``train_lables.json`` and ``test_lables.json`` (so spelt), lists of numbers.

The version for Python consists of pickles, which could run anything; it is not read. Batches that are absent are left
out, so a part of the set will do for a rehearsal.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from shcodec.support.errors import UsageError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
CLASSES = 10
MAX_PICTURES = 10_000  # of one batch
MAX_FILE = 64 << 20
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.2470, 0.2435, 0.2616]).view(1, 3, 1, 1)
BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
LABELS = {"train": "train_lables.json", "test": "test_lables.json"}

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """Pictures with their labels.

    Attributes:
        images: uint8 of shape (n, 3, 32, 32).
        labels: int64 of shape (n,), 0..9.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)

    def to(self, device: torch.device) -> Pictures:
        """Return the same pictures on a device."""
        return Pictures(self.images.to(device), self.labels.to(device))

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised pictures, channels last, and their labels."""
        device = self.images.device
        pictures = (self.images[index].float() / 255 - MEAN.to(device)) / DEVIATION.to(device)
        return pictures.contiguous(memory_format=torch.channels_last), self.labels[index]


@dataclass(frozen=True)
class Epochs:
    """Augmented batches, one epoch after the other: padded by 4, cropped anywhere, flipped at random.

    Attributes:
        pictures: What they are made of.
        size: Pictures of a batch.
        seed: Every epoch depends on this and its number alone.
    """

    pictures: Pictures
    size: int = 128
    seed: int = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return max(len(self.pictures) // self.size, 1)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the first epoch."""
        return self.epoch(0)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through an epoch from its batch `start`; batches before it are made as well, but not augmented."""
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        order = torch.randperm(len(self.pictures), generator=generator)
        shifts = torch.randint(0, 9, (2, len(order)), generator=generator)
        flips = torch.rand(len(order), generator=generator) < 0.5
        device = self.pictures.images.device
        order, shifts, flips = order.to(device), shifts.to(device), flips.to(device)
        for i in range(start, len(self)):
            part = slice(i * self.size, (i + 1) * self.size)
            images, labels = self.pictures.batch(order[part])
            yield augmented(images, shifts[0, part], shifts[1, part], flips[part]), labels


def augmented(images: Tensor, down: Tensor, right: Tensor, flips: Tensor) -> Tensor:
    """Crop padded pictures at offsets 0..8 and flip some."""
    padded = F.pad(images, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    every = torch.arange(SIDE, device=images.device)
    columns = torch.where(flips[:, None], SIDE - 1 - every, every) + right[:, None]
    rows = down[:, None] + every
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def read_cifar(source: Path, part: str) -> Pictures:
    """Read one part of the set.

    Args:
        source: A folder or an archive.
        part: "train" or "test".

    Raises:
        UsageError: If there is nothing of a known form, or a file is damaged.
    """
    with _files(source) as read:
        images, labels = [], []
        listed = read(LABELS[part])
        numbers = None if listed is None else _labels(listed)
        for i, name in enumerate(BATCHES[part]):
            data = read(f"{name}.bin")
            if data is not None:
                found, own = _from_binary(data, name)
            else:
                data = read(f"{name}.png")
                if data is None:
                    continue
                if numbers is None:
                    raise UsageError(f"{source}: {name}.png is there, but {LABELS[part]} is not")
                found = _from_sprite(data, name)
                own = numbers[i * MAX_PICTURES : i * MAX_PICTURES + len(found)]
                if len(own) != len(found):
                    raise UsageError(f"{source}: {LABELS[part]} has too few labels for {name}.png")
            images.append(found)
            labels.append(own)
    if not images:
        raise UsageError(f"{source}: no CIFAR-10 in a known form (see the README)")
    return Pictures(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels).astype(np.int64)))


def _from_binary(data: bytes, name: str) -> tuple[Bytes, Bytes]:
    if len(data) % (PIXELS + 1) or not 0 < len(data) <= MAX_PICTURES * (PIXELS + 1):
        raise UsageError(f"{name}.bin has {len(data)} bytes, not {PIXELS + 1} for each of 1 to {MAX_PICTURES} pictures")
    rows = np.frombuffer(data, np.uint8).reshape(-1, PIXELS + 1)
    if rows[:, 0].max() >= CLASSES:
        raise UsageError(f"{name}.bin has labels beyond {CLASSES - 1}")
    return rows[:, 1:].reshape(-1, 3, SIDE, SIDE), rows[:, 0]


def _from_sprite(data: bytes, name: str) -> Bytes:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        width, height = picture.size
        if width != SIDE * SIDE or not 1 <= height <= MAX_PICTURES:
            raise UsageError(f"{name}.png is {width}x{height}, not {SIDE * SIDE} wide and 1 to {MAX_PICTURES} high")
        pixels = np.asarray(picture.convert("RGB"))
    return np.ascontiguousarray(pixels.reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2))


def _labels(data: bytes) -> Bytes:
    try:
        numbers = json.loads(data)
    except ValueError as error:
        raise UsageError("the labels are no JSON") from error
    if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < CLASSES for n in numbers):
        raise UsageError(f"the labels are no list of numbers from 0 to {CLASSES - 1}")
    return np.array(numbers, dtype=np.uint8)


class _files:
    """Context manager: a function that returns the bytes of a file by its name, wherever it lies, or None."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.archive: tarfile.TarFile | zipfile.ZipFile | None = None

    def __enter__(self) -> Callable[[str], bytes | None]:
        found: dict[str, Callable[[], bytes]] = {}
        if self.source.is_dir():
            for path in sorted(self.source.rglob("*")):
                if path.is_file():
                    found.setdefault(path.name, path.read_bytes)
            return lambda name: found[name]() if name in found else None
        if not self.source.is_file():
            raise UsageError(f"{self.source}: neither a folder nor an archive")
        if zipfile.is_zipfile(self.source):
            zipped = self.archive = zipfile.ZipFile(self.source)
            sizes = {
                PurePosixPath(item.filename).name: item for item in zipped.infolist() if item.file_size <= MAX_FILE
            }
            return lambda name: zipped.read(sizes[name]) if name in sizes else None
        if not tarfile.is_tarfile(self.source):
            raise UsageError(f"{self.source}: neither a folder nor an archive")
        tarred = self.archive = tarfile.open(self.source)
        members = {PurePosixPath(m.name).name: m for m in tarred if m.isfile() and m.size <= MAX_FILE}

        def read(name: str) -> bytes | None:
            file = tarred.extractfile(members[name]) if name in members else None
            return None if file is None else file.read()

        return read

    def __exit__(self, *details: object) -> None:
        if self.archive is not None:
            self.archive.close()
