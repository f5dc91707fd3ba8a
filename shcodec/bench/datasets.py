"""The pictures that are measured: benchmark sets by name, or any folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from shcodec.bench.checksums import URBAN100_TAIL, Pin, load_pins, pictures_by_name
from shcodec.bench.download import cache_folder, download
from shcodec.support.errors import PictureError, ShcError, UsageError
from shcodec.support.text import shown

DATA_VARIABLE = "SHC_DATA"
"""Environment variable that names the folder with the benchmark sets."""

_PICTURE_SUFFIXES = (".png", ".webp", ".ppm", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".avif", ".jp2", ".gif")


@dataclass(frozen=True)
class Benchmark:
    """A published set of pictures.

    Attributes:
        title: what tables and plots call it.
        count: how many pictures it has.
        home: where the public copy lives, for people.
        url: address of a picture there, with `{image}` in the place of its name.
    """

    title: str
    count: int
    home: str
    url: str


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "kodak": Benchmark("Kodak", 24, "r0k.us/graphics/kodak", "https://r0k.us/graphics/kodak/kodak/{image}.png"),
        "b100": Benchmark(
            "B100 (BSDS300 test)",
            100,
            "github.com/BIDS/BSDS500, BSDS500/data/images/val",
            "https://raw.githubusercontent.com/BIDS/BSDS500/a04b7c6c3a9f0ace74bf205c72a43d32e1c72722"
            "/BSDS500/data/images/val/{image}.jpg",
        ),
        "urban100": Benchmark(
            "Urban100",
            100,
            "github.com/jbhuang0604/SelfExSR, data/Urban100/image_SRF_4/*_HR.png",
            "https://raw.githubusercontent.com/jbhuang0604/SelfExSR/8f6dd8c1d20cb7e8792a7177b4f6fd677633f598"
            f"/data/Urban100/image_SRF_4/{{image}}{URBAN100_TAIL}.png",
        ),
    }
)
"""The sets known by name; each lies in a folder of that name."""


@dataclass(frozen=True)
class PictureFile:
    """One picture of a set.

    Attributes:
        name: how results call it; the base name without suffix in a benchmark set, in a folder the relative path, fit
            to be shown.
        path: where the file is.
        pin: what its pixels must be, in a benchmark set.
    """

    name: str
    path: Path
    pin: Pin | None = None


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
        return replace(self, pictures=self.pictures[:limit])


def check_name(dataset: str) -> None:
    """Make sure that a name is that of a set or a folder.

    Raises:
        UsageError: if it is neither.
    """
    if dataset not in BENCHMARKS and not Path(dataset).is_dir():
        known = ", ".join(BENCHMARKS)
        raise UsageError(f"no dataset {dataset!r}: give one of {known}, or a folder of pictures")


def find_dataset(
    dataset: str,
    data_root: Path | None = None,
    *,
    progress: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Find a benchmark set by its name, or take every picture of a folder.

    A set is looked for in `data_root`, or in the folder that SHC_DATA names, and then in the user's cache, into which
    it is downloaded where it is nowhere.

    Args:
        dataset: `kodak`, `b100`, `urban100`, or the path of a folder (searched recursively, but for what is hidden). A
            benchmark's name wins over a folder of the same name, which can be given as `./kodak`.
        data_root: folder that holds the benchmark sets; the environment's SHC_DATA if None.
        progress: draw a progress bar on stderr while downloading.
        notify: called with one line before anything is downloaded.

    Raises:
        UsageError: if the name is neither a set nor a folder.
        PictureError: if the folder holds no pictures.
        ShcError: if the set is not on this machine and cannot be downloaded.
    """
    check_name(dataset)
    if dataset in BENCHMARKS:
        return _find_benchmark(dataset, data_root) or _download(dataset, progress, notify)
    folder = Path(dataset)
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _PICTURE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise PictureError(f"no pictures in {folder}")
    pictures = tuple(PictureFile(shown(path.relative_to(folder).as_posix()), path) for path in paths)
    name = shown(folder.resolve().name)
    return Dataset(name, name, pictures, len(pictures), is_benchmark=False)


def _find_benchmark(name: str, data_root: Path | None) -> Dataset | None:
    environment = os.environ.get(DATA_VARIABLE)
    root = data_root or (Path(environment) if environment else None)
    return None if root is None else _in_folder(name, root / name)


def _download(name: str, progress: bool, notify: Callable[[str], None]) -> Dataset:
    """Take a set from the cache, after downloading what the cache lacks."""
    benchmark, pins = BENCHMARKS[name], load_pins(name)
    folder = cache_folder() / name
    if not pins.keys() <= pictures_by_name(folder).keys():
        notify(f"downloading the {benchmark.count} pictures of {name} from {benchmark.home} into {folder}")
        try:
            download(folder, benchmark.url, pins.items(), progress=progress)
        except ShcError as error:
            raise ShcError(
                f"the {name} pictures are not here and cannot be downloaded ({error}): put the {benchmark.count} files "
                f"from {benchmark.home} into {folder}, or into DIR/{name} and name DIR with --data-root or "
                f"{DATA_VARIABLE}"
            ) from error
    found = _in_folder(name, folder)
    if found is None:
        raise ShcError(f"the {name} pictures were downloaded, and are no longer in {folder}")
    return found


def _in_folder(name: str, folder: Path) -> Dataset | None:
    """Return the pictures of a set that lie in a folder; None if there are none."""
    benchmark, pins = BENCHMARKS[name], load_pins(name)
    files = pictures_by_name(folder)
    # Whatever else lies there is not of the set.
    names = [found for found in sorted(files) if found in pins or not pins]
    pictures = tuple(PictureFile(found, files[found], pins.get(found)) for found in names)
    total = max(benchmark.count, len(pictures))
    return Dataset(name, benchmark.title, pictures, total, is_benchmark=True) if pictures else None
