"""Rate-distortion plots of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from shcodec.bench.codecs import SHC_PREFIX
from shcodec.bench.report import Report
from shcodec.bench.results import STORED
from shcodec.bench.summary import CodecCurve

PLOTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"rd_psnr.png": ("psnr", "PSNR, dB (RGB)"), "rd_ms_ssim.png": ("ms_ssim_db", "MS-SSIM, dB (RGB)")}
)
"""File name of each plot, with the attribute of a point that it shows and the label of its axis."""

_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "jpeg420": "#7f7f7f",
        "jpeg444": "#b0b0b0",
        "j2k": "#8c564b",
        "webp": "#17becf",
        "avif444": "#2ca02c",
        "jxl": "#9467bd",
        "heic444": "#1f77b4",
        "bpg444": "#000000",
    }
)
_OWN_COLOURS = ("#d62728", "#ff7f0e", "#e377c2", "#bcbd22")


def write_plots(report: Report, out: Path) -> list[Path]:
    """Draw one plot per measure that was taken, as PNG.

    Args:
        report: the results.
        out: folder that exists.

    Returns:
        The files written.
    """
    written = []
    for name, (attribute, label) in PLOTS.items():
        curves = [c for c in report.curves if any(getattr(point, attribute) is not None for point in c.points)]
        if curves:
            _plot(report, curves, attribute, label, out / name)
            written.append(out / name)
    return written


def _plot(report: Report, curves: list[CodecCurve], attribute: str, label: str, path: Path) -> None:
    # The Figure alone, without pyplot: no window system, no global state.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    colours = _colours(curves)
    for curve in curves:
        points = [point for point in curve.points if getattr(point, attribute) is not None]
        own = curve.codec.startswith(SHC_PREFIX)
        axes.plot(
            [point.bpp for point in points],
            [getattr(point, attribute) for point in points],
            label=_label(report, curve),
            color=colours[curve.codec],
            linestyle="--" if curve.source == STORED else "-",
            linewidth=2.4 if own else 1.2,
            marker="o" if own else ".",
            zorder=3 if own else 2,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda bpp, _: f"{bpp:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("bits per pixel, whole file")
    axes.set_ylabel(label)
    axes.set_title(f"{report.title}: mean of {report.images} pictures")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def _colours(curves: list[CodecCurve]) -> dict[str, str]:
    others = [curve.codec for curve in curves if curve.codec not in _COLOURS]
    extra = {codec: _OWN_COLOURS[index % len(_OWN_COLOURS)] for index, codec in enumerate(others)}
    return {**_COLOURS, **extra}


def _label(report: Report, curve: CodecCurve) -> str:
    notes = ["stored"] if curve.source == STORED else []
    if len(curve.images) != report.images:
        notes.append(f"{len(curve.images)} pictures only")
    return f"{curve.codec} ({', '.join(notes)})" if notes else curve.codec
