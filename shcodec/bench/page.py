"""The page that shows a run: one HTML file with tables, plots and crops, which fetches nothing."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from PIL import Image

from shcodec.bench import plots
from shcodec.bench.cells import STORED
from shcodec.bench.crops import Crop, Viewer
from shcodec.bench.report import Report
from shcodec.bench.tables import Table, all_tables, count_of_pictures, missing
from shcodec.pictures.picture import Pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ZOOM = 2


def render(report: Report, figures: Mapping[str, Figure], viewers: Iterable[Viewer]) -> str:
    """Make the page.

    Args:
        report: the results.
        figures: the plots by the name of their file, from `plots.draw`.
        viewers: the crops, one entry per picture.

    Returns:
        The text of an HTML file that needs no other.
    """
    template = Template((resources.files("shcodec.bench") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(f"{report.title}: image codecs compared"),
        summary=_summary(report),
        missing=_missing(report),
        tables="\n".join(_table(table) for table in all_tables(report)),
        plots="\n".join(_plot(name, figure) for name, figure in figures.items()),
        crops=_crops([viewer for viewer in viewers if viewer.crops]),
        codecs=_codecs(report),
        command=html.escape(str(report.environment.get("command", ""))),
        environment=_environment(report.environment),
    )


def _summary(report: Report) -> str:
    texts = [
        f"Means over {count_of_pictures(report)}. Rates are those of whole files, every byte counted; quality is that "
        "of the 8-bit RGB picture decoded from them.",
        "BD-rate: mean difference in rate at equal quality; negative means fewer bytes than the anchor.",
    ]
    if any(curve.source == STORED for curve in report.curves):
        texts.append("“Stored” codecs were measured on another machine, on the same pictures.")
    if report.published:
        texts.append("“Published” curves are from the literature; they were not measured here.")
    return html.escape(" ".join(texts))


def _missing(report: Report) -> str:
    lines = missing(report)
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<div class="missing"><h2>Not measured</h2><ul>{items}</ul></div>'


def _table(table: Table, kind: str = "") -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    bodies = "".join(
        "<tbody>"
        + "".join("<tr>" + "".join(f"<td>{html.escape(field)}</td>" for field in row) + "</tr>\n" for row in group)
        + "</tbody>\n"
        for group in table.groups
    )
    caption = f"<caption>{html.escape(table.title)}</caption>"
    return f'<div class="scroll {kind}"><table>{caption}\n<thead><tr>{head}</tr></thead>\n{bodies}</table></div>'


def _plot(name: str, figure: Figure) -> str:
    title = html.escape(plots.TITLES[name])
    source = _data_uri(plots.to_svg(figure), "image/svg+xml")
    return f'<div class="plot"><h3>{title}</h3><img alt="{title}: a plot of the tables above" src="{source}"></div>'


def _crops(viewers: Sequence[Viewer]) -> str:
    if not viewers:
        return ""
    parts = "\n".join(_viewer(number, viewer) for number, viewer in enumerate(viewers))
    return (
        "<h2>Crops at about equal bytes</h2>\n"
        "<p>Pictures are spread evenly over the set, and the window is the one with most detail. Choose a codec; "
        "hold the pointer down on its crop to see the original in its place. PSNR is that of the whole picture.</p>\n"
        + parts
    )


def _viewer(number: int, viewer: Viewer) -> str:
    choices = "".join(
        f'<label><input type="radio" name="viewer-{number}" value="{html.escape(crop.codec)}"'
        f"{' checked' if position == 0 else ''}> {html.escape(crop.codec)}</label>"
        for position, crop in enumerate(viewer.crops)
    )
    coded = "".join(_coded(crop, viewer.target) for crop in viewer.crops)
    original = _figure(viewer.original, "the original", "original")
    return (
        f'<section class="viewer"><h3>{html.escape(viewer.image)}, about {viewer.target:,} bytes</h3>\n'
        f'<fieldset hidden aria-label="codec">{choices}</fieldset>\n'
        f'<div class="panes"><div class="coded">{coded}</div><div class="original">{original}</div></div></section>'
    )


def _coded(crop: Crop, target: int) -> str:
    off = 100 * (crop.size / target - 1)
    caption = f"{crop.codec}: {crop.size:,} bytes ({off:+.0f} %), {crop.bpp:.3f} bpp, {crop.psnr:.2f} dB"
    return _figure(crop.rgb, crop.codec, caption)


def _figure(rgb: Pixels, name: str, caption: str) -> str:
    height, width = rgb.shape[:2]
    # Lossless WebP: the crops must show the codecs' faults and no others.
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="WEBP", lossless=True)
    image = (
        f'<img alt="crop by {html.escape(name)}" width="{_ZOOM * width}" height="{_ZOOM * height}" '
        f'src="{_data_uri(buffer.getvalue(), "image/webp")}">'
    )
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>\n"


def _codecs(report: Report) -> str:
    rows = tuple(
        (codec.name, codec.description, " ".join(f"{setting:g}" for setting in codec.settings), codec.version)
        for codec in report.codecs
    )
    tables = [Table("Codecs", ("codec", "how it is run", "settings", "implementation"), (rows,))]
    if report.published:
        sources = tuple((curve.name, curve.source) for curve in report.published)
        tables.append(Table("Published curves, not measured here", ("codec", "source"), (sources,)))
    return "\n".join(_table(table, "prose") for table in tables)


def _environment(environment: Mapping[str, object]) -> str:
    packages = environment.get("packages")
    rows = [(name, str(value)) for name, value in environment.items() if name not in ("command", "packages")]
    if isinstance(packages, Mapping):
        rows.append(("packages", ", ".join(f"{name} {version}" for name, version in packages.items())))
    return _table(Table("Machine and versions", ("what", "value"), (tuple(rows),)), "prose")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
