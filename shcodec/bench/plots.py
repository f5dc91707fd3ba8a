"""Plots of a report: rate against distortion, and speed against BD-rate."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from shcodec.bench.cells import STORED
from shcodec.bench.codecs import SHC_PREFIX
from shcodec.bench.curves import CodecCurve, Point, median_speed
from shcodec.bench.literature import PublishedCurve, PublishedPoint
from shcodec.bench.metrics import to_db
from shcodec.bench.report import Report
from shcodec.bench.tables import count_of_pictures, label
from shcodec.support.plots import load_matplotlib, save_png
from shcodec.support.quiet import Quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Quality = Callable[[Point | PublishedPoint], float | None]

PSNR_PLOT = "rd_psnr.png"
MS_SSIM_PLOT = "rd_ms_ssim.png"
SPEED_PLOT = "speed.png"

TITLES: Mapping[str, str] = MappingProxyType(
    {
        PSNR_PLOT: "Rate and PSNR",
        MS_SSIM_PLOT: "Rate and MS-SSIM",
        SPEED_PLOT: "Speed and BD-rate",
    }
)
"""What each plot shows, by the name of its file."""

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
_PUBLISHED_COLOURS = ("#6a8caf", "#c28e5c", "#7da87b", "#b5838d", "#8d7fb0", "#8f8f8f")
_PUBLISHED_MARKERS = "^vs*DpP"


def draw(report: Report) -> dict[str, Figure]:
    """Draw every plot that has something to show.

    Args:
        report: the results.

    Returns:
        Figures by the name of their file, a key of `TITLES`.
    """
    figures = {
        PSNR_PLOT: _rate_distortion(report, _psnr, "PSNR, dB (RGB)"),
        MS_SSIM_PLOT: _ms_ssim(report),
        SPEED_PLOT: _speed(report, report.anchors[-1]) if report.anchors else None,
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def write_png(figures: Mapping[str, Figure], out: Path) -> None:
    """Write figures into a folder; a plot of an earlier run that has no figure now is removed."""
    for name in TITLES:
        if name in figures:
            save_png(figures[name], out / name, 150)
        else:
            (out / name).unlink(missing_ok=True)


def to_svg(figure: Figure) -> bytes:
    """Format a figure as an SVG file, the same for the same figure."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "shc"}), Quiet():  # signs that the font lacks
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _psnr(point: Point | PublishedPoint) -> float | None:
    return point.psnr


def _ms_ssim(report: Report) -> Figure | None:
    if not report.published:
        return _rate_distortion(report, lambda point: getattr(point, "ms_ssim_db", None), "MS-SSIM, dB (RGB)")
    # Published means are of MS-SSIM itself, and their decibels lie below the mean of the pictures' own.
    return _rate_distortion(report, _db_of_mean, "MS-SSIM, dB of the mean (RGB)")


def _db_of_mean(point: Point | PublishedPoint) -> float | None:
    return None if point.ms_ssim is None else to_db(point.ms_ssim)


def _rate_distortion(report: Report, quality: Quality, unit: str) -> Figure | None:
    curves = [curve for curve in report.curves if any(quality(point) is not None for point in curve.points)]
    if not curves:
        return None
    figure = _figure(8, 5.5)
    axes = figure.add_subplot()
    colours = _colours(report)
    for curve in curves:
        own = curve.codec.startswith(SHC_PREFIX)
        axes.plot(
            *_coordinates(curve.points, quality),
            label=_legend(report, curve),
            color=colours[curve.codec],
            linestyle="--" if curve.source == STORED else "-",
            linewidth=2.4 if own else 1.2,
            marker="o" if own else ".",
            zorder=3 if own else 2,
        )
    for number, other in enumerate(report.published):
        _plot_published(axes, other, quality, number)
    axes.set_xscale("log", base=2)
    _plain_numbers(axes)
    axes.set_xlabel("bits per pixel, whole file")
    axes.set_ylabel(unit)
    axes.set_title(f"{report.title}: mean of {count_of_pictures(report)}", parse_math=False)
    axes.grid(alpha=0.3)
    if report.published:
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.set_size_inches(10.5, 6)
    else:
        axes.legend(fontsize="small")
    return figure


def _plot_published(axes: Axes, curve: PublishedCurve, quality: Quality, number: int) -> None:
    """Draw a curve that was not measured here: thin, dotted, with open markers, behind the others."""
    rates, qualities = _coordinates(curve.points, quality)
    if rates:
        axes.plot(
            rates,
            qualities,
            label=f"{curve.name} (published)",
            color=_PUBLISHED_COLOURS[number % len(_PUBLISHED_COLOURS)],
            marker=_PUBLISHED_MARKERS[number % len(_PUBLISHED_MARKERS)],
            markersize=4.5,
            markerfacecolor="white",
            linestyle=":",
            linewidth=1,
            zorder=1,
        )


def _speed(report: Report, anchor: str) -> Figure | None:
    """Draw BD-rate by PSNR against the speed of encoding and of decoding, one dot a codec."""
    rates = {anchor: 0.0}
    for comparison in report.comparisons:
        if (comparison.anchor, comparison.measure) == (anchor, "psnr") and comparison.mean_curve is not None:
            rates[comparison.codec] = comparison.mean_curve.percent
    timed = [c for c in report.curves if c.codec in rates and median_speed(c, "dec_mp_s") is not None]
    if not timed:
        return None
    figure = _figure(10, 4.8)
    left, right = figure.subplots(1, 2, sharey=True)
    name = next(label(curve) for curve in report.curves if curve.codec == anchor)
    _speed_panel(left, report, timed, rates, "enc_mp_s")
    _speed_panel(right, report, timed, rates, "dec_mp_s")
    left.set_xlabel("encoding, megapixels a second")
    right.set_xlabel("decoding, megapixels a second")
    left.set_ylabel(f"BD-rate (PSNR) against {name}, %")
    figure.suptitle(f"{report.title}: further right is faster, further down is smaller", parse_math=False)
    return figure


def _speed_panel(
    axes: Axes,
    report: Report,
    curves: Sequence[CodecCurve],
    rates: Mapping[str, float],
    kind: Literal["enc_mp_s", "dec_mp_s"],
) -> None:
    colours = _colours(report)
    places = {c.codec: (speed, rates[c.codec]) for c in curves if (speed := median_speed(c, kind)) is not None}
    for codec, place in places.items():
        axes.plot(*place, "o", color=colours[codec])
        # The lower one of two dots side by side has its name below, clear of the other's.
        lower = any(_are_near(place, other, places.values()) and other[1] > place[1] for other in places.values())
        offset = (0, -14) if lower else (0, 6)
        axes.annotate(codec, place, xytext=offset, textcoords="offset points", ha="center", fontsize="small")
    axes.axhline(0, color="#000000", linewidth=0.8, linestyle="--", zorder=1)
    axes.set_xscale("log")
    _plain_numbers(axes)
    axes.margins(x=0.15, y=0.12)
    axes.grid(alpha=0.3)


def _are_near(one: tuple[float, float], other: tuple[float, float], places: Iterable[tuple[float, float]]) -> bool:
    """Whether two dots of a plot with a logarithmic x axis are so close that their names would overlap."""
    speeds, rates = zip(*places, strict=True)
    width, height = math.log(max(speeds) / min(speeds)), max(rates) - min(rates)
    return abs(math.log(one[0] / other[0])) <= 0.2 * width and abs(one[1] - other[1]) <= 0.1 * height


def _figure(width: float, height: float) -> Figure:
    # The Figure alone, without pyplot: no window system, no global state.
    load_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _plain_numbers(axes: Axes) -> None:
    """Write 0.25 on a logarithmic axis, and not a power."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _coordinates(
    points: Sequence[Point] | Sequence[PublishedPoint], quality: Quality
) -> tuple[list[float], list[float]]:
    """Return rates and qualities of the points that have the measure; a lossless one has no finite PSNR."""
    found = [(point.bpp, value) for point in points if (value := quality(point)) is not None and math.isfinite(value)]
    return [bpp for bpp, _ in found], [value for _, value in found]


def _colours(report: Report) -> dict[str, str]:
    others = [curve.codec for curve in report.curves if curve.codec not in _COLOURS]
    extra = {codec: _OWN_COLOURS[index % len(_OWN_COLOURS)] for index, codec in enumerate(others)}
    return {**_COLOURS, **extra}


def _legend(report: Report, curve: CodecCurve) -> str:
    notes = ["stored"] if curve.source == STORED else []
    if len(curve.images) != report.images:
        notes.append(f"{len(curve.images)} pictures only")
    return f"{curve.codec} ({', '.join(notes)})" if notes else curve.codec
