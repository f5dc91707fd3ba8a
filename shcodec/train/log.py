"""The log of a run, `log.csv`."""

from __future__ import annotations

import csv
from pathlib import Path

from shcodec.train.objective import Outcome
from shcodec.train.state import RunState

FIELDS = (
    "step", "seconds", "gpx", "phase", "lr", "loss", "mse", "bpp", "hyper_bpp", "psnr", "sigma", "gap", "usage",
    "perplexity", "symbols", "reseeded", "left_out",
)  # fmt: skip


def begin(path: Path, step: int | None) -> None:
    """Write the head of a log; what was logged after the step of a checkpoint will be trained and logged again.

    Args:
        path: of the log.
        step: of the checkpoint that a run resumes from; None begins anew.
    """
    kept: list[list[str]] = []
    if step is not None and path.exists():
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if len(row) == len(FIELDS)]
        kept = [row for row in rows if row[0].isdigit() and int(row[0]) <= step]
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([FIELDS, *kept])


def add(path: Path, run: RunState, outcome: Outcome, rate: float) -> None:
    """Add a row.

    Args:
        path: of the log.
        run: the state after a step.
        outcome: of the step.
        rate: its learning rate.
    """
    usage, perplexity = run.learner.books.usage()
    values = {
        "step": run.step,
        "seconds": round(run.elapsed, 1),
        "gpx": f"{run.gpx:.5f}",
        "phase": run.phase.value,
        "lr": f"{rate:.3g}",
        "loss": f"{float(outcome.loss.detach()):.5g}",
        "mse": f"{outcome.mse:.4g}",
        "bpp": f"{outcome.bpp:.4f}",
        "hyper_bpp": f"{outcome.hyper_bpp:.5f}",
        "psnr": f"{outcome.psnr:.3f}",
        "sigma": f"{run.sigma.value:.4g}",
        "gap": f"{run.sigma.last_gap:.5f}",
        "usage": f"{usage:.4f}",
        "perplexity": f"{perplexity:.4f}",
        "symbols": outcome.symbols,
        "reseeded": run.reseeded,
        "left_out": int(run.guard.left_out),
    }
    with path.open("a", newline="", encoding="utf-8") as stream:
        csv.DictWriter(stream, FIELDS).writerow(values)
