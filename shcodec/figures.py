"""Plots as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from shcodec.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_png(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as a PNG file with a palette of 256 colours, which takes a quarter of the bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    with Image.open(buffer) as picture, replacing(path) as file:
        # An octree keeps the colours of thin lines, which the median cut gives to its neighbours.
        flat = picture.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        flat.save(file, "PNG", optimize=True)
