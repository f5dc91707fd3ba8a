"""Plots of a training log."""

from __future__ import annotations

import csv
from pathlib import Path

from shcodec.support.plots import load_matplotlib, save_png

PANELS = (("loss", True), ("bpp", False), ("psnr", False), ("sigma", True), ("gap", False), ("usage", False))


def plot_log(run: Path) -> Path:
    """Draw loss, rate, PSNR, sigma, gap and codebook usage of `run`/log.csv into `run`/log.png."""
    load_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with (run / "log.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    figure, axes = plt.subplots(2, 3, figsize=(13, 6.5), constrained_layout=True)
    steps = [int(row["step"]) for row in rows]
    for (name, logarithmic), axis in zip(PANELS, axes.flat, strict=True):
        values = [float(row[name]) for row in rows]
        axis.plot(steps, values, linewidth=0.3, alpha=0.5, color="tab:blue")
        axis.plot(steps, _smoothed(values), linewidth=1.3, color="tab:blue")
        axis.set_title(name)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if logarithmic and values and min(values) > 0:
            axis.set_yscale("log")
    path = run / "log.png"
    save_png(figure, path, dpi=90)
    plt.close(figure)
    return path


def _smoothed(values: list[float], decay: float = 0.95) -> list[float]:
    out: list[float] = []
    for value in values:
        out.append(value if not out else decay * out[-1] + (1 - decay) * value)
    return out
