"""Training pictures: any folder tree of pictures or tar packs, and the crops of every step."""

from __future__ import annotations

import io
import itertools
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from shcodec.pictures.picture import Pixels
from shcodec.pictures.reading import read_picture
from shcodec.support.errors import PictureError, ShcError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm"}


def _sources(root: Path) -> Iterator[tuple[str, bytes]]:
    if not root.is_dir():
        paths = [root]
    else:  # without what is hidden, and without folders and pipes, which have no bytes to be read
        paths = [path for path in sorted(root.rglob("*")) if not _hidden(path.relative_to(root)) and path.is_file()]
    for path in paths:
        if path.suffix == ".tar":
            yield from _members(path)
        elif path.suffix.lower() in SUFFIXES:
            yield str(path), path.read_bytes()


def _hidden(path: PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as pack:
            for member in pack:
                name = PurePosixPath(member.name)
                stream = pack.extractfile(member)
                if stream is not None and name.suffix.lower() in SUFFIXES and not _hidden(name):
                    yield f"{path.name}/{member.name}", stream.read()
    except tarfile.TarError:
        yield str(path), b""  # a pack that breaks off counts as one damaged picture


def _decode(source: tuple[str, bytes]) -> Pixels | None:
    try:
        return read_picture(io.BytesIO(source[1]), strip=True).rgb  # upright, sRGB
    except (ShcError, OSError):
        return None  # a damaged picture among thousands is counted, not fatal


def load_pictures(root: Path, *, least: int = 128, threads: int | None = None) -> tuple[list[Pixels], int]:
    """Decode all pictures under a folder (or in one tar) into memory.

    Args:
        root: folder tree with pictures and tar packs, or one pack.
        least: pictures with a side below are left out.
        threads: decoding threads; by default one per core.

    Returns:
        Pictures (H, W, 3) uint8 in a fixed order, and how many files were left out.

    Raises:
        PictureError: there is no usable picture.
    """
    if not root.exists():
        raise PictureError(f"{root}: no such folder")
    sources = _sources(root)
    decoded: list[Pixels | None] = []
    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(itertools.islice(sources, 32 * threads)):  # compressed pictures are not all held at once
            decoded += pool.map(_decode, batch)
    pictures = [p for p in decoded if p is not None and min(p.shape[:2]) >= least]
    if not pictures:
        raise PictureError(f"{root}: no picture with sides of at least {least} pixels")
    return pictures, len(decoded) - len(pictures)


def area_shares(pictures: list[Pixels]) -> npt.NDArray[np.float64]:
    """Share of every picture in the area of all: how often crops are cut from it."""
    areas = np.array([p.shape[0] * p.shape[1] for p in pictures], np.float64)
    shares: npt.NDArray[np.float64] = areas / areas.sum()
    return shares


def beta_bytes(rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Return the rates of a batch, stratified over all of them: (count,)."""
    position = (np.arange(count) + rng.random(count)) / count
    return rng.permutation((256 * position).astype(np.int64))


class Crops:
    """Batches of random crops; what a step sees depends on the seed and its number alone."""

    def __init__(self, pictures: list[Pixels], seed: int) -> None:
        self.pictures, self.seed = pictures, seed
        self.weights = area_shares(pictures)

    def batch(self, step: int, size: int, count: int) -> tuple[Pixels, npt.NDArray[np.int64]]:
        """Return the crops and beta bytes of one step.

        Crops are flipped, rotated and rescaled by 0.6 to 1.4, one in ten is brightened or darkened, stretched or
        flattened, one in ten is tinted, one in 25 is grey; the bytes are stratified over all rates.

        Returns:
            (count, size, size, 3) uint8 and (count,) int64.
        """
        rng = np.random.default_rng((self.seed, step))
        crops = np.stack([self._crop(rng, size) for _ in range(count)])
        return crops, beta_bytes(rng, count)

    def _crop(self, rng: np.random.Generator, size: int) -> Pixels:
        picture = self.pictures[rng.choice(len(self.pictures), p=self.weights)]
        height, width = picture.shape[:2]
        scale = rng.uniform(0.6, 1.4) if rng.random() < 0.6 else 1.0
        side = min(max(round(size / scale), 32), height, width)
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop = picture[top : top + side, left : left + side]
        if side != size:
            crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
        if rng.random() < 0.2:
            crop = _toned(crop, rng)
        if rng.random() < 0.04:
            crop = np.asarray(Image.fromarray(crop).convert("L").convert("RGB"))
        crop = np.rot90(crop, int(rng.integers(4)))
        return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _toned(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """Change brightness and contrast, or give each colour a gain: skies and saturated plains are rare in small sets."""
    if rng.random() < 0.5:
        contrast, shift = np.full(3, rng.uniform(0.5, 1.3)), np.full(3, rng.uniform(-70, 70))
    else:
        contrast = rng.uniform(0, 1.3, 3)
        shift = 127.5 * (contrast - 1)  # black stays black
    toned: Pixels = ((crop - 127.5) * contrast + 127.5 + shift).clip(0, 255).round().astype(np.uint8)
    return toned
