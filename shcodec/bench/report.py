"""What a run hands out: the report, and its plain forms results.json and curves.csv."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from shcodec.bench.cells import Failure
from shcodec.bench.curves import PSNR_TARGETS, CodecCurve, Comparison, Point, bpp_at_psnr
from shcodec.bench.literature import PublishedCurve
from shcodec.support.finite import finite

_PACKAGES = (
    "shcodec",
    "numpy",
    "pillow",
    "pillow-heif",
    "imagecodecs",
    "onnxruntime",
    "constriction",
    "torch",
    "pytorch-msssim",
    "scikit-image",
    "scipy",
)


@dataclass(frozen=True)
class CodecInfo:
    """What is known of a codec before it runs.

    Attributes:
        name: short name.
        description: what is run, with all settings that matter.
        version: the implementation; for stored measurements, why they are used.
        settings: points of the curve.
        source: `measured` or `stored`.
    """

    name: str
    description: str
    version: str
    settings: tuple[float, ...]
    source: str


@dataclass(frozen=True)
class Report:
    """The outcome of a run.

    Attributes:
        dataset: name of the set or folder.
        title: what tables and plots call it.
        images: pictures that were measured.
        total: pictures of the whole set.
        is_benchmark: whether it is one of the published sets, and not any folder.
        codecs: the codecs that were run or have stored measurements.
        unavailable: codecs that could not be run, and whatever else could not be shown, with the reason.
        curves: one per codec with results.
        comparisons: each codec against each anchor by each measure.
        failures: whatever could not be measured.
        published: curves of other codecs that were not measured here.
        environment: command, machine, versions.
    """

    dataset: str
    title: str
    images: int
    total: int
    is_benchmark: bool
    codecs: tuple[CodecInfo, ...]
    unavailable: Mapping[str, str]
    curves: tuple[CodecCurve, ...]
    comparisons: tuple[Comparison, ...]
    failures: tuple[Failure, ...]
    published: tuple[PublishedCurve, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def anchors(self) -> tuple[str, ...]:
        """Codecs that the others are compared with."""
        return tuple(dict.fromkeys(comparison.anchor for comparison in self.comparisons))

    def comparison(self, codec: str, anchor: str, measure: str) -> Comparison | None:
        """Find one comparison; None if it was not made."""
        wanted = (codec, anchor, measure)
        return next((c for c in self.comparisons if (c.codec, c.anchor, c.measure) == wanted), None)


def describe_environment(command: str) -> dict[str, Any]:
    """Record what results depend on besides the codecs.

    Args:
        command: the command line that started the run.
    """
    versions: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": command,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "packages": versions,
    }


def to_json(report: Report) -> dict[str, Any]:
    """Turn a report into plain values; numbers that JSON cannot hold become null."""
    document = {
        "dataset": report.dataset,
        "title": report.title,
        "images": report.images,
        "images_in_set": report.total,
        "codecs": [asdict(codec) for codec in report.codecs],
        "unavailable": dict(report.unavailable),
        "failures": [asdict(failure) for failure in report.failures],
        "curves": {
            curve.codec: {
                "source": curve.source,
                "images": len(curve.images),
                "points": [asdict(point) for point in curve.points],
            }
            for curve in report.curves
        },
        "bd_rate": [asdict(comparison) for comparison in report.comparisons],
        "bpp_at_psnr": {
            curve.codec: {f"{psnr:g}": bpp_at_psnr(curve, psnr) for psnr in PSNR_TARGETS} for curve in report.curves
        },
        "published": [asdict(curve) for curve in report.published],
        "environment": dict(report.environment),
    }
    plain: dict[str, Any] = finite(document)
    return plain


def json_text(document: Mapping[str, Any]) -> str:
    """Format a JSON document, one value a line."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def curves_csv(report: Report) -> str:
    """Format the means over the pictures, one line per codec and setting, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = tuple(part.name for part in fields(Point))
    writer.writerow(("codec", "source", "images", *names))
    for curve in report.curves:
        for point in curve.points:
            values = (getattr(point, name) for name in names)
            texts = ("" if value is None else f"{value:.6g}" for value in values)
            writer.writerow((curve.codec, curve.source, len(curve.images), *texts))
    return text.getvalue()


def _processor() -> str:
    """Name the processor; the standard library does not know it on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
