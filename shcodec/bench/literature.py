"""Curves that others published for their codecs; nothing here was measured by this project."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from importlib import resources

from shcodec.support.errors import UsageError

FOLDER = "published"


@dataclass(frozen=True)
class PublishedPoint:
    """Means over a whole set.

    Attributes:
        bpp: bits per pixel.
        psnr: dB.
        ms_ssim: 0..1; None where none was published.
    """

    bpp: float
    psnr: float
    ms_ssim: float | None


@dataclass(frozen=True)
class PublishedCurve:
    """A curve with its source.

    Attributes:
        name: what its authors call the codec.
        source: repository, commit and file.
        points: ascending in rate.
    """

    name: str
    source: str
    points: tuple[PublishedPoint, ...]


def load(dataset: str) -> tuple[PublishedCurve, ...]:
    """Load the published curves of a set (`published/README.md` says where they are from).

    Args:
        dataset: name of the set.

    Raises:
        UsageError: if there are none for it.
    """
    folder = resources.files("shcodec.bench") / FOLDER
    tables = {entry.name.removesuffix(".csv"): entry for entry in folder.iterdir() if entry.name.endswith(".csv")}
    if dataset not in tables:
        raise UsageError(f"no published curves for {dataset}: there are some for {', '.join(sorted(tables))}")
    curves: dict[tuple[str, str], list[PublishedPoint]] = {}
    for row in csv.DictReader(io.StringIO(tables[dataset].read_text(encoding="utf-8"))):
        ms_ssim = float(row["ms_ssim"]) if row["ms_ssim"] else None
        point = PublishedPoint(float(row["bpp"]), float(row["psnr"]), ms_ssim)
        curves.setdefault((row["codec"], row["source"]), []).append(point)
    return tuple(
        PublishedCurve(name, source, tuple(sorted(points, key=lambda point: point.bpp)))
        for (name, source), points in curves.items()
    )
