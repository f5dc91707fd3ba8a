"""Tables and plots of the laboratory: at equal codebook size, and at equal bytes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from autoencoder import psnr

from shcodec.bench.bd_rate import bd_rate, curve
from shcodec.support.plots import load_matplotlib, save_png

Row = dict[str, Any]

MARKS = ("<!-- laboratory: begin -->", "<!-- laboratory: end -->")
"""Between these lines of README.md the tables are written."""
EQUAL_BYTES = (60, 90, 120, 160, 200)
"""Bytes per picture at which errors are compared."""
ANCHOR = "averages"
"""The family that BD-rates are against."""


def write_report(out: Path, rows: Sequence[Row], budget: Row) -> None:
    """Write results.csv, results.json, a plot for each data set, and the tables into README.md, if that is there.

    Args:
        out: folder.
        rows: one for each run.
        budget: what all runs have in common.
    """
    (out / "results.json").write_text(json.dumps({"budget": budget, "runs": rows}, indent=1) + "\n", encoding="utf-8")
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (out / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        ours = [row for row in rows if row["dataset"] == dataset]
        draw(out / f"{dataset}.png", ours, dataset)
        lines += [*section(ours, dataset), ""]
    text = "\n".join(lines).rstrip() + "\n"
    (out / "tables.md").write_text(text, encoding="utf-8")
    readme = out / "README.md"
    if readme.exists():
        before, rest = readme.read_text(encoding="utf-8").split(MARKS[0], 1)
        after = rest.split(MARKS[1], 1)[1]
        readme.write_text(f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}", encoding="utf-8")


def section(rows: Sequence[Row], dataset: str) -> list[str]:
    """Return the lines of Markdown about one data set."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [f"### {dataset}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}", ""]
    equal = [row for row in rows if row["equal_codebook"]]
    if equal:
        size = f"K = {equal[0]['codewords']}, one vector for each of 64 positions"
        lines += [f"At equal codebook size ({size}):", "", *equal_codebook(equal), ""]
    lines += ["All trials:", "", *all_trials(rows), ""]
    lines += ["At equal bytes, mean squared error in 1e-3 and BD-rate:", "", *equal_bytes(rows), ""]
    return [*lines, f"![error against bytes]({dataset}.png)"]


def equal_codebook(rows: Sequence[Row]) -> list[str]:
    """Return what papers compare: what the decoder is trained on, whatever it would take to store it."""
    columns: list[tuple[str, Callable[[Row], Any], int]] = [
        ("MSE, uncoded, 1e-3", lambda row: 1000 * row["mse_uncoded"], 2),
        ("perplexity", lambda row: row["perplexity"], 1),
        ("codewords used, %", lambda row: 100 * row["used"], 0),
        ("forward, ms", lambda row: row["forward_ms"], 1),
        ("forward and backward, ms", lambda row: row["training_ms"], 1),
        ("bytes", lambda row: row["bytes"], 1),
        ("MSE of the files, 1e-3", lambda row: 1000 * row["mse"], 2),
    ]
    return _table(rows, columns)


def all_trials(rows: Sequence[Row]) -> list[str]:
    """Return what was measured of every trial."""
    columns: list[tuple[str, Callable[[Row], Any], int]] = [
        ("bytes", lambda row: row["bytes"], 1),
        ("MSE, 1e-3", lambda row: 1000 * row["mse"], 2),
        ("PSNR, dB", lambda row: psnr(row["mse"]), 2),
        ("corners", lambda row: row.get("corners"), 2),
        ("squared error of the scalable form", lambda row: row.get("relaxed_error"), 4),
        ("of the exact form", lambda row: row.get("exact_error"), 4),
        ("steps", lambda row: row["steps"], 0),
    ]
    return _table(rows, columns)


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, Callable[[Row], Any], int]]) -> list[str]:
    lines = ["| trial | " + " | ".join(name for name, _, _ in columns) + " |", "|---|" + "---|" * len(columns)]
    for trial in dict.fromkeys(row["trial"] for row in rows):
        ours = [row for row in rows if row["trial"] == trial]
        cells = [figure([value(row) for row in ours], digits) for _, value, digits in columns]
        lines.append(f"| {trial} | " + " | ".join(cells) + " |")
    return lines


def figure(values: Iterable[float | None], digits: int) -> str:
    """Return the mean over seeds, and half their range; empty where a seed has no value."""
    known = list(values)
    if not known or any(value is None for value in known):
        return ""
    numbers = np.array(known, dtype=np.float64)
    mean = f"{numbers.mean():.{digits}f}"
    return mean if len(numbers) == 1 else f"{mean} ± {(numbers.max() - numbers.min()) / 2:.{digits}f}"


def equal_bytes(rows: Sequence[Row]) -> list[str]:
    """Return every family's error at the same bytes, along its curve, and its BD-rate; by seed, then averaged."""
    seeds = sorted({row["seed"] for row in rows})
    header = [*(f"{size} bytes" for size in EQUAL_BYTES), f"BD-rate against {ANCHOR}, %"]
    lines = ["| family | " + " | ".join(header) + " |", "|---|" + "---|" * len(header)]
    for family in dict.fromkeys(row["family"] for row in rows):
        curves = [points(rows, family, seed) for seed in seeds]
        cells = [figure([error_at(*c, size) for c in curves], 2) for size in EQUAL_BYTES]
        percents = [_percent(points(rows, ANCHOR, s), c) for s, c in zip(seeds, curves, strict=True)]
        lines.append(f"| {family} | " + " | ".join([*cells, figure(percents, 1)]) + " |")
    return lines


def points(rows: Sequence[Row], family: str, seed: int) -> tuple[list[float], list[float]]:
    """Return the bytes and PSNR of a family's trials, fewest bytes first."""
    ours = sorted((r["bytes"], float(psnr(r["mse"]))) for r in rows if r["family"] == family and r["seed"] == seed)
    return [size for size, _ in ours], [quality for _, quality in ours]


def error_at(sizes: Sequence[float], qualities: Sequence[float], size: float) -> float | None:
    """Return the mean squared error in 1e-3 at so many bytes, linear in PSNR over log bytes; None outside the curve."""
    if len(sizes) < 2 or not sizes[0] <= size <= sizes[-1]:
        return None
    return float(1000 * 10 ** (-np.interp(np.log(size), np.log(sizes), qualities) / 10))


def _percent(anchor: tuple[list[float], list[float]], test: tuple[list[float], list[float]]) -> float | None:
    result = bd_rate(curve(*anchor), curve(*test))
    return None if result is None else result.percent


def draw(path: Path, rows: Sequence[Row], dataset: str) -> None:
    """Draw PSNR over bytes: a curve for each family, its points averaged over seeds, bars from worst to best."""
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chart = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.add_subplot()
    for number, family in enumerate(dict.fromkeys(row["family"] for row in rows)):
        marks = []
        for trial in dict.fromkeys(row["trial"] for row in rows if row["family"] == family):
            ours = [row for row in rows if row["trial"] == trial]
            qualities = psnr(np.array([row["mse"] for row in ours]))
            size = float(np.mean([row["bytes"] for row in ours]))
            marks.append((size, float(qualities.mean()), float(qualities.min()), float(qualities.max())))
        sizes, means, lows, highs = (np.array(column) for column in zip(*sorted(marks), strict=True))
        bars = np.stack([means - lows, highs - means])
        axes.errorbar(sizes, means, bars, marker="o", markersize=4, capsize=2, color=f"C{number}", label=family)
    axes.set_xscale("log")
    axes.set_xlabel("bytes per picture, decoded again")
    axes.set_ylabel("PSNR of the mean squared error, dB")
    axes.set_title(dataset)
    axes.grid(linewidth=0.3, which="both")
    axes.legend(fontsize=8)
    save_png(chart, path, dpi=130)
