"""Figure and tables of the quantiser's ablations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.support.plots import load_matplotlib, save_png

MARKS = ("<!-- quantiser: begin -->", "<!-- quantiser: end -->")
"""Between these lines of README.md the tables are written."""
CLIP = 12.0
"""Percent at which the bars of the figure end."""


@dataclass(frozen=True)
class About:
    """What the tables' head says.

    Attributes:
        model: name of the model.
        identity: its id.
        typical_spread: median difference of the two seeds' changes, in percent.
        seeds_apart: BD-rate of the base of one seed against that of the other, in percent.
        weight: lambda of the base's choice of indices.
        bpp: bits per pixel of the base by beta.
        psnr: dB of the base by beta.
        slope: squared grey levels per squared unit of the latent, by beta.
        steepness: -dD/dR of the base's own curve over beta, 1 for a model in equilibrium.
    """

    model: str
    identity: str
    typical_spread: float
    seeds_apart: float
    weight: float
    bpp: npt.NDArray[np.float64]
    psnr: npt.NDArray[np.float64]
    slope: npt.NDArray[np.float64]
    steepness: npt.NDArray[np.float64]


def write_report(
    out: Path, rows: Sequence[dict[str, Any]], shares: Sequence[dict[str, Any]], about: About, betas: Sequence[float]
) -> None:
    """Draw quantiser.png and write the tables into README.md, if that is there.

    Args:
        out: folder of the results.
        rows: rows of quantiser.csv.
        shares: rows of quantiser_shares.csv.
        about: the head.
        betas: the rates measured.
    """
    draw(out / "quantiser.png", rows)
    readme = out / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
        before, rest = text.split(MARKS[0], 1)
        after = rest.split(MARKS[1], 1)[1]
        tables = "\n".join((MARKS[0], *_head(about, betas), "", *_trials(rows), "", *_shares(shares, betas), MARKS[1]))
        readme.write_text(before + tables + after, encoding="utf-8")


def _head(about: About, betas: Sequence[float]) -> list[str]:
    lines = [
        f"Model `{about.model}` ({about.identity}). Two seeds of the base are {abs(about.seeds_apart):.2f} % apart, "
        f"their changes by a trial {about.typical_spread:.2f} % (median). "
        f"Base: lambda {about.weight:g}.",
        "",
        "| beta | " + " | ".join(f"{beta:g}" for beta in betas) + " |",
        "|---|" + "---|" * len(betas),
    ]
    for name, values, digits in (
        ("bits per pixel of the base", about.bpp, 4),
        ("PSNR of the base, dB (estimated)", about.psnr, 2),
        ("squared grey levels per squared unit of the latent", about.slope, 0),
        ("-dD/dR of the base's curve, over beta", about.steepness, 2),
    ):
        lines.append(f"| {name} | " + " | ".join(f"{value:.{digits}f}" for value in values) + " |")
    return lines


def _trials(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| question | trial | BD-rate, % | of the classes' own bits, % | verdict |", "|---|---|---|---|---|"]
    for question, group in itertools.groupby(rows, lambda row: row["question"]):
        for number, row in enumerate(group):
            label = question if number == 0 else ""
            figures = " | ".join(_signed(row[column]) for column in ("bd_rate", "of_its_bits"))
            lines.append(f"| {label} | {row['trial']} | {figures} | {row['verdict']} |")
    return lines


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.2f}"


def _shares(shares: Sequence[dict[str, Any]], betas: Sequence[float]) -> list[str]:
    columns = [f"beta_{beta:g}" for beta in betas]
    lines = [
        "| percent of the file at beta | d | " + " | ".join(f"{beta:g}" for beta in betas) + " |",
        "|---|---|" + "---|" * len(betas),
    ]
    for row in shares:
        lines.append(f"| {row['part']} | {row['dim']} | " + " | ".join(f"{row[c]:.1f}" for c in columns) + " |")
    return lines


def draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Draw one bar per trial, a dot per seed; bars that go further end at the edge with their figure."""
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = {"better": "#2a7f3f", "worse": "#b0413e", "undecided": "#9a9a9a"}
    figure = Figure(figsize=(9, 0.19 * len(rows) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        value = row["bd_rate"]
        shown = CLIP if math.isnan(value) else min(max(value, -CLIP), CLIP)
        axes.barh(place, shown, color=colours[row["verdict"]], height=0.7)
        seeds = [row[name] for name in row if name.startswith("seed_") and abs(row[name]) <= CLIP]
        axes.plot(seeds, [place] * len(seeds), "k.", markersize=3)
        if shown == CLIP:
            label = "no common range" if math.isnan(value) else f"{value:+.0f} %"
            axes.text(CLIP, place, label, va="center", fontsize=6)
    axes.set_yticks(range(len(rows)), [f"{row['question']}: {row['trial']}" for row in rows], fontsize=6.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.grid(axis="x", linewidth=0.3)
    axes.set_xlim(-4, CLIP * 1.15)
    axes.set_xlabel("BD-rate against the model's own bands, % (negative is better)")
    save_png(figure, path, dpi=130)
