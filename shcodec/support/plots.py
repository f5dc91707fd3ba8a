"""Plots as files."""

from __future__ import annotations

import functools
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from shcodec.support.atomic import replacing
from shcodec.support.quiet import Quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@functools.cache
def load_matplotlib() -> None:
    """Import what matplotlib needs for any plot, and leave no trace.

    It would keep a list of fonts in the user's home, make folders for its settings there, and let fontconfig do
    likewise. Where MPLCONFIGDIR in the environment names a place for that, the place is used.
    """
    if os.environ.get("MPLCONFIGDIR"):
        return
    before = {name: os.environ.pop(name, None) for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME")}
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(dict.fromkeys(before, folder))
            import matplotlib.font_manager  # noqa: F401
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def save_png(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as a PNG file with a palette of 256 colours, which takes a quarter of the bytes."""
    buffer = io.BytesIO()
    with Quiet():  # signs that the font lacks
        figure.savefig(buffer, format="png", dpi=dpi)
    with Image.open(buffer) as picture, replacing(path) as file:
        # An octree keeps the colours of thin lines, which the median cut gives to its neighbours.
        flat = picture.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        flat.save(file, "PNG", optimize=True)
