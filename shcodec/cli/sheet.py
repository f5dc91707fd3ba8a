"""Versions of a picture side by side, where they differ most: as one picture, or as a page that switches them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from shcodec.pictures.picture import Pixels

CROP_SIDE = 256
"""Pixels of a crop, where the picture has as many."""

CROPS = 3
"""Parts of the picture that are shown, where it has as many."""

_STRIDE = 16
_GAP, _LINE, _TEXT = 8, 18, 14  # pixels between crops, of a line of text, of its letters


@dataclass(frozen=True)
class Version:
    """A picture with its labels.

    Attributes:
        name: of its file.
        caption: what there is to tell of it.
        rgb: (H, W, 3) uint8, the same size for all versions.
    """

    name: str
    caption: str
    rgb: Pixels


@dataclass(frozen=True)
class Window:
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, rgb: Pixels) -> Pixels:
        """Return the samples of the part."""
        return rgb[self.top : self.top + self.height, self.left : self.left + self.width]

    def overlaps(self, other: Window) -> bool:
        """Whether they have pixels in common."""
        beside = abs(self.left - other.left) >= self.width
        return not beside and abs(self.top - other.top) < self.height


def render(versions: Sequence[Version], name: str) -> bytes:
    """Render versions of a picture as a file.

    Args:
        versions: the original first.
        name: of the file that is to be; its suffix, .png or .html, says what is made.
    """
    windows = worst_windows(versions[0].rgb, [version.rgb for version in versions[1:]])
    return page(versions, windows) if name.lower().endswith(".html") else contact_sheet(versions, windows)


def worst_windows(original: Pixels, others: Sequence[Pixels]) -> list[Window]:
    """Find the parts, `CROPS` at most, where pictures differ most from their original: the largest squared error.

    Each picture counts alike, however good it is; the parts do not overlap.

    Args:
        original: (H, W, 3) uint8.
        others: the same shape each.
    """
    height, width = (min(CROP_SIDE, side) for side in original.shape[:2])
    sums = sum((_window_errors(original, other, height, width) for other in others), np.zeros((1, 1)))
    order = np.argsort(-sums, axis=None, kind="stable")
    found: list[Window] = []
    for row, column in zip(*np.unravel_index(order, sums.shape), strict=True):
        top = min(int(row) * _STRIDE, original.shape[0] - height)
        left = min(int(column) * _STRIDE, original.shape[1] - width)
        window = Window(left, top, width, height)
        if not any(window.overlaps(other) for other in found):
            found.append(window)
        if len(found) == CROPS:
            break
    return found


def contact_sheet(versions: Sequence[Version], windows: Sequence[Window]) -> bytes:
    """Draw one PNG: a row per part of the picture, a column per version, names above."""
    column = max(windows[0].width, CROP_SIDE) + _GAP
    row = windows[0].height + _GAP
    head = 2 * _LINE + _GAP
    sheet = Image.new("RGB", (_GAP + column * len(versions), head + row * len(windows)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_TEXT)
    for number, version in enumerate(versions):
        left = _GAP + number * column
        for line, text in enumerate((version.name, version.caption)):
            draw.text((left, line * _LINE + 2), _shortened(text, font, column - _GAP), fill="black", font=font)
        for place, window in enumerate(windows):
            sheet.paste(Image.fromarray(window.of(version.rgb)), (left, head + place * row))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def page(versions: Sequence[Version], windows: Sequence[Window]) -> bytes:
    """Write one HTML page that fetches nothing: the original, and beside it the version that is chosen."""
    original, *others = versions
    template = Template((resources.files("shcodec.cli") / "sheet.html").read_text(encoding="utf-8"))
    choices = "".join(
        f'<label><input type="radio" name="version" value="{number}"{"" if number else " checked"}> '
        f"{html.escape(version.name)}</label>\n"
        for number, version in enumerate(others)
    )
    text = template.substitute(
        title=html.escape(f"{original.name} and what became of it"),
        choices=choices,
        original=_figure(original, windows),
        others="".join(_figure(version, windows) for version in others),
    )
    return text.encode("utf-8", "backslashreplace")


def _window_errors(original: Pixels, other: Pixels, height: int, width: int) -> npt.NDArray[np.float64]:
    """Compute the share of the squared error that lies in each window of a size, on a grid of `_STRIDE` pixels."""
    error = np.square(original.astype(np.int16) - other, dtype=np.int32).sum(axis=2).astype(np.float64)
    sums = np.pad(error.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    tops = _starts(original.shape[0], height)
    lefts = _starts(original.shape[1], width)
    corners = [sums[np.ix_(rows, columns)] for rows in (tops, tops + height) for columns in (lefts, lefts + width)]
    inside: npt.NDArray[np.float64] = corners[0] - corners[1] - corners[2] + corners[3]
    return inside / max(float(sums[-1, -1]), 1.0)


def _starts(side: int, length: int) -> npt.NDArray[np.intp]:
    """Return where windows begin along a side; the last ends where the picture does."""
    steps = -(-(side - length) // _STRIDE) + 1
    return np.minimum(np.arange(steps) * _STRIDE, side - length)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Cut a text to `width` pixels, leaving out its beginning if need be: names differ at their end."""
    if font.getlength(text) <= width:
        return text
    while len(text) > 1 and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text


def _figure(version: Version, windows: Sequence[Window]) -> str:
    crops = "".join(_image(version, window) for window in windows)
    label = f"{html.escape(version.name)}: {html.escape(version.caption)}"
    return f"<figure><figcaption>{label}</figcaption>{crops}</figure>\n"


def _image(version: Version, window: Window) -> str:
    # Lossless: the crops must show the codecs' faults and no others.
    buffer = io.BytesIO()
    Image.fromarray(window.of(version.rgb)).save(buffer, format="WEBP", lossless=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    place = f"{window.width}x{window.height} at {window.left},{window.top}"
    return (
        f'<img alt="{html.escape(version.name)}, {place}" title="{place}" width="{2 * window.width}" '
        f'height="{2 * window.height}" src="data:image/webp;base64,{data}">\n'
    )
