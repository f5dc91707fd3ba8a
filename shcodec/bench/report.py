"""What a run hands out: results.json, curves.csv and the tables on the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shcodec.bench import summary
from shcodec.bench.codecs import SHC_PREFIX
from shcodec.bench.results import STORED, Failure
from shcodec.bench.summary import CodecCurve, Comparison, Point

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

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
        codecs: the codecs that were run or have stored measurements.
        unavailable: codecs that could not be run, with the reason.
        curves: one per codec with results.
        comparisons: each codec against each anchor by each measure.
        failures: whatever could not be measured.
        environment: command, machine, versions.
    """

    dataset: str
    title: str
    images: int
    total: int
    codecs: tuple[CodecInfo, ...]
    unavailable: Mapping[str, str]
    curves: tuple[CodecCurve, ...]
    comparisons: tuple[Comparison, ...]
    failures: tuple[Failure, ...]
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
            curve.codec: {f"{psnr:g}": summary.bpp_at_psnr(curve, psnr) for psnr in summary.PSNR_TARGETS}
            for curve in report.curves
        },
        "environment": dict(report.environment),
    }
    plain: dict[str, Any] = _finite(document)
    return plain


def json_text(document: Mapping[str, Any]) -> str:
    """Format a JSON document, one value a line."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def curves_csv(report: Report) -> str:
    """Format the means over the pictures, one line per codec and setting, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("setting", "size", "bpp", "psnr", "ms_ssim", "ms_ssim_db", "ssim", "enc_mp_s", "dec_mp_s")
    writer.writerow(("codec", "source", "images", *names))
    for curve in report.curves:
        for point in curve.points:
            values = (getattr(point, name) for name in names)
            fields = ("" if value is None else f"{value:.6g}" for value in values)
            writer.writerow((curve.codec, curve.source, len(curve.images), *fields))
    return text.getvalue()


def print_report(report: Report, console: Console) -> None:
    """Print the tables, then whatever is missing."""
    tables = [codecs_table(report), *(anchor_table(report, anchor) for anchor in report.anchors)]
    for table in (*tables, rates_table(report), points_table(report)):
        if table.row_count:
            # Cut to the width of a terminal, or to the 80 columns assumed for a pipe, a table would lose figures.
            wanted = console.measure(table, options=console.options.update(max_width=1000)).maximum
            console.width = max(console.width, wanted)
            console.print(table)
    for name, reason in report.unavailable.items():
        _print_line(console, f"not available: {name}: {reason}")
    for failure in report.failures:
        _print_line(console, f"failed: {failure}")


def codecs_table(report: Report) -> Table:
    """What was run: pictures, range of rates, median speed over the settings."""
    count = (
        f"{report.images} pictures" if report.images == report.total else f"{report.images} of {report.total} pictures"
    )
    table = _table(f"{report.title}, {count}")
    _add_columns(table, ["codec", "pictures", "settings", "bpp", "PSNR dB", "encode MP/s", "decode MP/s"])
    for curve in report.curves:
        first, last = curve.points[0], curve.points[-1]
        table.add_row(
            _label(curve),
            _pictures(len(curve.images), report.images),
            f"{len(curve.points)}",
            f"{first.bpp:.3f}..{last.bpp:.3f}",
            f"{first.psnr:.2f}..{last.psnr:.2f}",
            _number(_median_speed(curve.points, "enc_mp_s"), ".2f"),
            _number(_median_speed(curve.points, "dec_mp_s"), ".2f"),
        )
    return table


def anchor_table(report: Report, anchor: str) -> Table:
    """BD-rates against one anchor, in percent; negative means fewer bytes than the anchor.

    For each measure: that of the mean curve with the range it covers, and the mean of the pictures' own.
    """
    label = next(_label(curve) for curve in report.curves if curve.codec == anchor)
    table = _table(f"BD-rate against {label}: mean curve over a range in dB, and mean of the pictures' own")
    _add_columns(table, ["codec", "pictures", "PSNR", "range", "pictures' own", "MS-SSIM", "range", "pictures' own"])
    for curve in report.curves:
        psnr = report.comparison(curve.codec, anchor, "psnr")
        if psnr is not None:
            fields = [_bd_fields(psnr), _bd_fields(report.comparison(curve.codec, anchor, "ms_ssim_db"))]
            table.add_row(_label(curve), _pictures(psnr.images, report.images), *fields[0], *fields[1])
    return table


def points_table(report: Report) -> Table:
    """Means over the pictures at every setting, of this project's models; of all codecs where none of those was run."""
    own = [curve for curve in report.curves if curve.codec.startswith(SHC_PREFIX)]
    table = _table("Means over the pictures" + (" (other codecs: curves.csv)" if own else ""))
    _add_columns(
        table, ["codec", "setting", "bytes", "bpp", "PSNR dB", "MS-SSIM", "MS-SSIM dB", "SSIM", "enc MP/s", "dec MP/s"]
    )
    for curve in own or report.curves:
        for point in curve.points:
            table.add_row(
                _label(curve),
                f"{point.setting:g}",
                f"{point.size:,.0f}",
                f"{point.bpp:.4f}",
                f"{point.psnr:.3f}",
                _number(point.ms_ssim, ".5f"),
                _number(point.ms_ssim_db, ".3f"),
                _number(point.ssim, ".4f"),
                _number(point.enc_mp_s, ".2f"),
                _number(point.dec_mp_s, ".2f"),
            )
        table.add_section()
    return table


def rates_table(report: Report) -> Table:
    """Bits per pixel that each codec needs for the same PSNR, read from the mean curves."""
    table = _table("Bits per pixel at equal PSNR")
    targets = [
        psnr for psnr in summary.PSNR_TARGETS if any(summary.bpp_at_psnr(c, psnr) is not None for c in report.curves)
    ]
    _add_columns(table, ["codec", *(f"{psnr:g} dB" for psnr in targets)])
    for curve in report.curves if targets else ():
        table.add_row(_label(curve), *(_number(summary.bpp_at_psnr(curve, psnr), ".3f") for psnr in targets))
    return table


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _add_columns(table: Table, headers: Sequence[str]) -> None:
    for header in headers:
        table.add_column(header, justify="left" if header == "codec" else "right", no_wrap=True)


def _label(curve: CodecCurve) -> str:
    return f"{curve.codec} (stored)" if curve.source == STORED else curve.codec


def _print_line(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _pictures(count: int, total: int) -> str:
    return f"{count}" if count == total else f"{count} only"


def _bd_fields(comparison: Comparison | None) -> tuple[str, str, str]:
    """Format BD-rate of the mean curve, range, and mean of the pictures' own."""
    if comparison is None or comparison.mean_curve is None:
        return ("no overlap", "", "")
    mean, own = comparison.mean_curve, comparison.mean_of_images
    excluded = comparison.images - comparison.images_in_mean
    note = f" ({excluded} left out)" if excluded else ""
    return (f"{mean.percent:+.1f} %", f"{mean.low:.1f}..{mean.high:.1f}", "" if own is None else f"{own:+.1f} %{note}")


def _median_speed(points: Sequence[Point], kind: str) -> float | None:
    speeds = sorted(speed for point in points if (speed := getattr(point, kind)) is not None)
    return speeds[len(speeds) // 2] if speeds else None


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _processor() -> str:
    """Name the processor; the standard library does not know it on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
