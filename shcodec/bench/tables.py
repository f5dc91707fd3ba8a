"""The tables of a report: the same on the terminal and in the HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shcodec.bench import bd_rate
from shcodec.bench.cells import STORED
from shcodec.bench.codecs import SHC_PREFIX
from shcodec.bench.curves import PSNR_TARGETS, CodecCurve, Comparison, bpp_at_psnr, mean_curve, median_speed
from shcodec.bench.report import Report

if TYPE_CHECKING:
    from rich.console import Console

Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        columns: headers; the first column holds names, the others figures.
        groups: rows; a line is drawn between groups.
    """

    title: str
    columns: Row
    groups: tuple[tuple[Row, ...], ...]


def all_tables(report: Report) -> tuple[Table, ...]:
    """Make every table that has something to show."""
    tables = (
        codecs_table(report),
        *(anchor_table(report, anchor) for anchor in report.anchors),
        *(published_table(report, anchor) for anchor in report.anchors),
        rates_table(report),
        points_table(report),
    )
    return tuple(table for table in tables if any(table.groups))


def print_report(report: Report, console: Console) -> None:
    """Print the tables, then whatever is missing."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text  # what is no Text may hold markup

    for table in all_tables(report):
        title = Text(table.title, "italic")
        rich_table = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for number, header in enumerate(table.columns):
            rich_table.add_column(header, justify="right" if number else "left", no_wrap=True)
        for group in table.groups:
            for row in group:
                rich_table.add_row(*map(Text, row))
            rich_table.add_section()
        # Cut to the width of a terminal, or to the 80 columns assumed for a pipe, a table would lose figures.
        wanted = console.measure(rich_table, options=console.options.update(max_width=1000)).maximum
        console.width = max(console.width, wanted)
        console.print(rich_table)
    for line in missing(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def missing(report: Report) -> tuple[str, ...]:
    """Say what was not measured and why, one line each."""
    return (
        *(f"not available: {name}: {reason}" for name, reason in report.unavailable.items()),
        *(f"failed: {failure}" for failure in report.failures),
    )


def codecs_table(report: Report) -> Table:
    """Return what was run: pictures, range of rates, median speed over the settings."""
    rows = []
    for curve in report.curves:
        first, last = curve.points[0], curve.points[-1]
        rows.append(
            (
                label(curve),
                _pictures(len(curve.images), report.images),
                f"{len(curve.points)}",
                f"{first.bpp:.3f}..{last.bpp:.3f}",
                f"{first.psnr:.2f}..{last.psnr:.2f}",
                _number(median_speed(curve, "enc_mp_s"), ".2f"),
                _number(median_speed(curve, "dec_mp_s"), ".2f"),
            )
        )
    columns = ("codec", "pictures", "settings", "bpp", "PSNR dB", "encode MP/s", "decode MP/s")
    return Table(f"{report.title}, {count_of_pictures(report)}", columns, (tuple(rows),))


def anchor_table(report: Report, anchor: str) -> Table:
    """Return BD-rates against one anchor, in percent; negative means fewer bytes than the anchor.

    For each measure: that of the mean curve with the range it covers, and the mean of the pictures' own.
    """
    name = next(label(curve) for curve in report.curves if curve.codec == anchor)
    rows = []
    for curve in report.curves:
        psnr = report.comparison(curve.codec, anchor, "psnr")
        if psnr is not None:
            fields = [_bd_fields(psnr), _bd_fields(report.comparison(curve.codec, anchor, "ms_ssim_db"))]
            rows.append((label(curve), _pictures(psnr.images, report.images), *fields[0], *fields[1]))
    title = f"BD-rate against {name}: mean curve over a range in dB, and mean of the pictures' own"
    columns = ("codec", "pictures", "PSNR", "range", "pictures' own", "MS-SSIM", "range", "pictures' own")
    return Table(title, columns, (tuple(rows),))


def published_table(report: Report, anchor: str) -> Table:
    """Return BD-rates by PSNR of published mean curves against an anchor of this run."""
    reference = next(curve for curve in report.curves if curve.codec == anchor)
    ours = mean_curve(reference.points)
    rows = []
    for curve in report.published if len(reference.images) == report.total else ():
        found = bd_rate.bd_rate(ours, mean_curve(curve.points))
        fields = (
            ("no overlap", "") if found is None else (f"{found.percent:+.1f} %", f"{found.low:.1f}..{found.high:.1f}")
        )
        rows.append((curve.name, *fields))
    title = f"Published, not measured here: BD-rate against {label(reference)}, mean curve over a range in dB"
    return Table(title, ("codec", "PSNR", "range"), (tuple(rows),))


def rates_table(report: Report) -> Table:
    """Return the bits per pixel that each codec needs for the same PSNR, read from the mean curves."""
    targets = [psnr for psnr in PSNR_TARGETS if any(bpp_at_psnr(c, psnr) is not None for c in report.curves)]
    rows = [
        (label(curve), *(_number(bpp_at_psnr(curve, psnr), ".3f") for psnr in targets))
        for curve in (report.curves if targets else ())
    ]
    return Table("Bits per pixel at equal PSNR", ("codec", *(f"{psnr:g} dB" for psnr in targets)), (tuple(rows),))


def points_table(report: Report) -> Table:
    """Return means over the pictures at every setting: of this project's models, or of all codecs if none was run."""
    own = [curve for curve in report.curves if curve.codec.startswith(SHC_PREFIX)]
    shown = own or report.curves
    columns: Row = (
        "codec",
        "setting",
        "bytes",
        "bpp",
        "PSNR dB",
        "MS-SSIM",
        "MS-SSIM dB",
        "SSIM",
        "enc MP/s",
        "dec MP/s",
    )
    with_processes = any(point.enc_process_s is not None for curve in shown for point in curve.points)
    groups = []
    for curve in shown:
        rows = []
        for point in curve.points:
            row: Row = (
                label(curve),
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
            processes = (_number(point.enc_process_s, ".2f"), _number(point.dec_process_s, ".2f"))
            rows.append((*row, *processes) if with_processes else row)
        groups.append(tuple(rows))
    if with_processes:
        columns = (*columns, "process enc s", "process dec s")
    title = "Means over the pictures" + (" (other codecs: curves.csv)" if own else "")
    return Table(title, columns, tuple(groups))


def count_of_pictures(report: Report) -> str:
    """Say how many pictures were measured, and of how many where those are more."""
    of_all = "" if report.images == report.total else f" of {report.total}"
    return f"{report.images}{of_all} pictures"


def label(curve: CodecCurve) -> str:
    """Name a codec, marked where its figures were not measured here."""
    return f"{curve.codec} (stored)" if curve.source == STORED else curve.codec


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


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)
