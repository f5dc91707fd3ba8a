"""The pictures that are measured: benchmark sets by name, or any folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from shcodec.errors import PictureError, UsageError

DATA_VARIABLE = "SHC_DATA"
"""Environment variable that names the folder with the benchmark sets."""

_PICTURE_SUFFIXES = (".png", ".webp", ".ppm", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".avif", ".jp2", ".gif")


@dataclass(frozen=True)
class Benchmark:
    """A published set of pictures.

    Attributes:
        title: what tables and plots call it.
        count: how many pictures it has.
        home: where the public copy lives.
    """

    title: str
    count: int
    home: str


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "kodak": Benchmark("Kodak", 24, "r0k.us/graphics/kodak"),
        "b100": Benchmark("B100 (BSDS300 test)", 100, "github.com/BIDS/BSDS500, BSDS500/data/images/val"),
        "urban100": Benchmark("Urban100", 100, "github.com/jbhuang0604/SelfExSR, data/Urban100/image_SRF_4/*_HR.png"),
    }
)
"""The sets known by name; each lies in a folder of that name, as lossless WebP or PNG."""


@dataclass(frozen=True)
class PictureFile:
    """One picture of a set.

    Attributes:
        name: how results call it; the base name without suffix in a benchmark set, the relative path in a folder.
        path: where the file is.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Dataset:
    """Pictures to measure, sorted by name.

    Attributes:
        name: the name of a benchmark set, or of the folder.
        title: what tables and plots call it.
        pictures: the files.
        total: pictures in the whole set, of which `pictures` may be a part.
        is_benchmark: whether this is one of `BENCHMARKS`, for which stored measurements exist.
    """

    name: str
    title: str
    pictures: tuple[PictureFile, ...]
    total: int
    is_benchmark: bool

    def first(self, limit: int | None) -> Dataset:
        """Return the set cut down to its first `limit` pictures (None keeps all)."""
        return Dataset(self.name, self.title, self.pictures[:limit], self.total, self.is_benchmark)


def check_name(dataset: str) -> None:
    """Make sure that a name is that of a set or a folder.

    Raises:
        UsageError: if it is neither.
    """
    if dataset not in BENCHMARKS and not Path(dataset).is_dir():
        known = ", ".join(BENCHMARKS)
        raise UsageError(f"no dataset {dataset!r}: give one of {known}, or a folder of pictures")


def find_dataset(dataset: str, data_root: Path | None = None, *, progress: bool = False) -> Dataset:
    """Find a benchmark set by its name, or take every picture of a folder.

    Args:
        dataset: `kodak`, `b100`, `urban100`, or the path of a folder (searched recursively). A benchmark's name wins
            over a folder of the same name, which can be given as `./kodak`.
        data_root: folder that holds the benchmark sets; the environment's SHC_DATA if None.

    Raises:
        UsageError: if the name is neither a set nor a folder, or the set is not on this machine.
        PictureError: if the folder holds no pictures.
    """
    check_name(dataset)
    if dataset in BENCHMARKS:
        return _find_benchmark(dataset, data_root)
    folder = Path(dataset)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PICTURE_SUFFIXES and p.is_file())
    if not paths:
        raise PictureError(f"no pictures in {folder}")
    pictures = tuple(PictureFile(path.relative_to(folder).as_posix(), path) for path in paths)
    return Dataset(folder.resolve().name, folder.resolve().name, pictures, len(pictures), is_benchmark=False)


def load_pins(name: str) -> Mapping[str, str]:
    return {}


def _find_benchmark(name: str, data_root: Path | None) -> Dataset:
    benchmark = BENCHMARKS[name]
    environment = os.environ.get(DATA_VARIABLE)
    roots = [data_root] if data_root is not None else [Path(environment)] if environment else []
    for root in roots:
        files: dict[str, Path] = {}
        # The order of suffixes decides which copy is read where a picture lies there twice; all are lossless.
        for suffix in (".webp", ".png"):
            for path in sorted((root / name).glob(f"*{suffix}")):
                files.setdefault(path.stem, path)
        if files:
            pictures = tuple(PictureFile(stem, files[stem]) for stem in sorted(files))
            return Dataset(name, benchmark.title, pictures, max(benchmark.count, len(pictures)), is_benchmark=True)
    where = f"{roots[0] / name}" if roots else f"DIR/{name}, and name DIR with --data-root or {DATA_VARIABLE}"
    raise UsageError(
        f"the {name} pictures are not here: put the {benchmark.count} files (PNG or lossless WebP, from "
        f"{benchmark.home}) into {where}"
    )
