"""Plots as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shcodec.support.plots import save_png

figures = pytest.importorskip("matplotlib.figure", reason="needs the extra 'bench'")


def test_thin_lines_keep_their_colours(tmp_path: Path) -> None:
    colours = [(31, 119, 180), (23, 190, 207), (214, 39, 40), (255, 127, 14), (127, 127, 127), (176, 176, 176)]
    figure = figures.Figure(figsize=(7, 4))
    axes = figure.add_subplot()
    for i, colour in enumerate(colours):
        axes.plot([0, 1], [i, i], color=np.array(colour) / 255)
    save_png(figure, tmp_path / "plot.png", dpi=100)
    with Image.open(tmp_path / "plot.png") as picture:
        assert (picture.mode, picture.size) == ("P", (700, 400))
        found = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in colours:
        assert np.abs(found - colour).max(1).min() < 12, colour
