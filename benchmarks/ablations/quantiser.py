"""Ablations of the quantiser on fixed latents: codebooks refitted to the residuals of a trained model.

    python benchmarks/ablations/quantiser.py [--model NAME] [--data DIR] [--work DIR]

Residuals of training pictures (a random half of them for each of two seeds) fit the tables, those of the validation
pictures measure them. The rate is the ideal bits of integer histograms plus hyper indices and container as they are.
The error is that of the latent, in pixels by a slope measured through the decoder at every beta. What is reported is
the BD-rate over five betas against the model's own bands. Writes quantiser.csv, quantiser_shares.csv, quantiser.png
and the tables of README.md beside this script. Needs the extras `train` and `bench`.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fitting import CLASSES, MIDDLE, WEIGHTS, Laboratory, TestSample, TrainingSample
from quantiser_report import About, write_report
from residuals import BETAS, Residuals, key, measure_slope, record
from trials import Trial, all_trials, base_units, cut, cuts

from shcodec.bench.bd_rate import bd_rate, curve
from shcodec.cli.console import run_script
from shcodec.model import zoo
from shcodec.model.networks import Model
from shcodec.nets.config import ModelConfig
from shcodec.train.data import load_pictures

HERE = Path(__file__).parent
SEEDS = (1, 2)
TRAINING_PICTURES = 250
"""Training pictures, each at one of the five betas in turn."""
LEAST_ERROR = 0.01
"""Mean squared error in squared grey levels, 68 dB."""
SAMPLES = 3
"""Samples per pixel."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A trial at one seed and one rate weight; arrays are (rates,).

    Attributes:
        bits: per class, (64, rates).
        rate: bits per pixel, everything included.
        error: mean squared error of the samples, as the slope predicts it.
        used: per unit (L,), how often every codeword was chosen.
    """

    bits: Array
    rate: Array
    error: Array
    used: tuple[npt.NDArray[np.int64], ...]

    @property
    def psnr(self) -> Array:
        """Quality in dB, of the mean squared error over all pictures."""
        # far from the base, or with a model that decodes to nothing, the linear estimate may fall below 0
        quality: Array = 10 * np.log10(255**2 / np.maximum(self.error, LEAST_ERROR))
        return quality


class Bench:
    """Measures trials."""

    def __init__(self, laboratory: Laboratory, validation: Residuals) -> None:
        self.laboratory, self.data = laboratory, validation

    def point(self, trial: Trial, seed: int, weight: int = MIDDLE) -> Point:
        """Compose a trial of its units, at one of `WEIGHTS` for all rates."""
        test = self.laboratory.test
        bits, error = np.zeros((2, CLASSES, len(BETAS)))
        error += test.energy
        used = []
        for unit in trial.units:
            measured = self.laboratory.result(unit, seed)
            bits[unit.first : unit.last + 1] = measured.bits[:, :, weight]
            error[unit.first : unit.last + 1] = measured.error[:, :, weight]
            used.append(measured.used)
        data = self.data
        rate = (bits.sum(0) + data.other_bits) / data.pixels
        latent = (error.sum(0) + data.cold_error) / (SAMPLES * data.pixels)
        return Point(bits, rate, data.floor + data.slope * latent, tuple(used))

    def change(self, anchor: Point, trial: Trial, seed: int) -> tuple[float, float]:
        """Return the BD-rate of a trial in percent at the rate weight that suits it best, and that weight."""
        weights = range(len(WEIGHTS)) if trial.weight is None else [trial.weight]
        results = [(change(anchor, self.point(trial, seed, weight)), WEIGHTS[weight]) for weight in weights]
        return min(results, key=lambda result: (math.isnan(result[0]), result[0]))


def change(anchor: Point, test: Point) -> float:
    """Return BD-rate in percent of two points' curves over all betas; not a number where they share no distortion."""
    result = bd_rate(*(curve(list(p.rate), list(p.psnr)) for p in (anchor, test)))
    return float("nan") if result is None else result.percent


def local_change(anchor: Point, test: Point) -> Array:
    """Change of the rate at equal quality near every beta, (rates,), linear along the anchor's own curve."""
    slope = np.gradient(np.log(anchor.rate), anchor.psnr)
    result: Array = np.log(test.rate / anchor.rate) - slope * (test.psnr - anchor.psnr)
    return result


def row_of(trial: Trial, base: Trial, bench: Bench) -> dict[str, Any]:
    """Return one row of the table: changes against the base of the same seed; those by beta at equal rate weights."""
    weight = MIDDLE if trial.weight is None else trial.weight
    pairs = [(bench.point(base, seed), bench.point(trial, seed, weight)) for seed in SEEDS]
    results = [bench.change(anchor, trial, seed) for (anchor, _), seed in zip(pairs, SEEDS, strict=True)]
    percents = [percent for percent, _ in results]
    touched = sorted({k for unit in set(base.units) ^ set(trial.units) for k in range(unit.first, unit.last + 1)})
    relative = [local_change(*pair) for pair in pairs]
    shares = [anchor.bits[touched].sum(0) / (anchor.rate * bench.data.pixels) for anchor, _ in pairs]
    # a share only of classes that the base codes
    paid = touched and trial.weight is None and min(share.mean() for share in shares) > 0
    local = [r.mean() / s.mean() for r, s in zip(relative, shares, strict=True)] if paid else []
    vectors = [used for used, unit in zip(pairs[0][1].used, trial.units, strict=True) if unit.dim > 1]
    return {
        "question": trial.question,
        "trial": trial.name,
        "bd_rate": float(np.mean(percents)),
        **{f"seed_{seed}": percent for seed, percent in zip(SEEDS, percents, strict=True)},
        "lambda": " ".join(f"{weight:g}" for weight in sorted({weight for _, weight in results})),
        "of_its_bits": float(100 * np.mean(local)) if local else float("nan"),
        **{f"beta_{beta:g}": float(100 * v) for beta, v in zip(BETAS, np.mean(relative, 0), strict=True)},
        "unused": float(100 * np.mean([(u == 0).mean() for u in vectors])) if vectors else float("nan"),
        "perplexity": float(100 * np.mean([_perplexity(u) / len(u) for u in vectors])) if vectors else float("nan"),
    }


def _perplexity(used: npt.NDArray[np.int64]) -> float:
    p = used[used > 0] / used.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def best_cut(base: Trial, bench: Bench) -> list[Trial]:
    """Return the limits between vectors of 4, of 2 and scalars with the least BD-rate, both seeds together."""
    anchors = [bench.point(base, seed) for seed in SEEDS]

    def cost(limits: tuple[int, int]) -> float:
        trial = Trial("", "", cut(base.units, *limits))
        pairs = zip(anchors, (bench.point(trial, seed) for seed in SEEDS), strict=True)
        percent = float(np.mean([change(*pair) for pair in pairs]))
        return math.inf if math.isnan(percent) else percent

    ranked = sorted(cuts(base.units), key=cost)
    chosen = [ranked[0], next(limits for limits in ranked if limits[0] >= base.units[0].last)]
    names = [f"fours to class {a}, pairs to {b}" for a, b in chosen]
    words = ("best limits", "best limits with fours")
    return [
        Trial("vector length", f"{word}: {name}", cut(base.units, *limits))
        for word, name, limits in zip(words, names, chosen, strict=True)
    ]


def decide(rows: list[dict[str, Any]]) -> float:
    """Add verdicts: `undecided` below the difference of the seeds, or below the median of all such differences.

    Returns:
        That median, in percent.
    """
    spreads = [abs(row[f"seed_{SEEDS[0]}"] - row[f"seed_{SEEDS[1]}"]) for row in rows]
    typical = float(np.nanmedian(spreads))
    for row, spread in zip(rows, spreads, strict=True):
        certain = not abs(row["bd_rate"]) <= max(spread, typical)  # not a number: far worse
        row["verdict"] = ("better" if row["bd_rate"] < 0 else "worse") if certain else "undecided"
    return typical


def share_rows(base: Trial, bench: Bench) -> list[dict[str, Any]]:
    """Return percentage of the file that every band spends, by beta; what is not residuals; all vectors together."""
    point = bench.point(base, SEEDS[0])
    total = point.rate * bench.data.pixels
    rows: list[tuple[str, str, Array]] = [
        (f"classes {u.first}-{u.last}", str(u.dim), point.bits[u.first : u.last + 1].sum(0)) for u in base.units
    ]
    rows.append(("hyper indices and container", "", bench.data.other_bits))
    vectors = np.sum([bits for _, dim, bits in rows if dim in ("2", "4")], 0)
    rows.append(("all vectors of 2 or 4", "2, 4", vectors))
    return [
        {"part": part, "dim": dim} | {f"beta_{b:g}": float(v) for b, v in zip(BETAS, 100 * bits / total, strict=True)}
        for part, dim, bits in rows
    ]


def dumped(model: Model, data: Path, work: Path) -> tuple[Residuals, Residuals]:
    """Return the residuals of training and validation pictures, from the folder of dumps if it has them."""
    paths = [work / f"{key(model, TRAINING_PICTURES)}-{name}.npz" for name in ("training", "validation")]
    work.mkdir(parents=True, exist_ok=True)
    if not paths[1].exists():
        pictures, _ = load_pictures(data / "val", least=1)
        residuals = record(model, [(rgb, range(len(BETAS))) for rgb in pictures])
        slope, floor = measure_slope(model, pictures)
        Residuals(**{**vars(residuals), "slope": slope, "floor": floor}).save(paths[1])
    if not paths[0].exists():
        pack = next(iter(sorted(data.glob("train-*.tar"))))
        pictures, _ = load_pictures(pack)
        picked = np.random.default_rng(0).permutation(len(pictures))[:TRAINING_PICTURES]
        record(model, [(pictures[p], [n % len(BETAS)]) for n, p in enumerate(picked)]).save(paths[0])
    return Residuals.load(paths[0]), Residuals.load(paths[1])


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows with three decimals; what is not a number stays empty."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: _cell(v) for k, v in row.items()})


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else f"{value:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Dump, fit, measure, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=zoo.DEFAULT_MODEL, help="a model with hyper path")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SHC_DATA"), help="folder with train-*.tar and val/"
    )
    parser.add_argument("--work", type=Path, default=Path("build/ablations"), help="dumps and finished fits")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument("--question", action="append", help="questions to answer; all if none is named")
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data or SHC_DATA must name the folder of pictures")
    started = time.monotonic()
    torch.set_num_threads(1)
    model = Model(zoo.model_dir(options.model), threads=1)
    training, validation = dumped(model, options.data, options.work)
    samples = {seed: TrainingSample(training, seed) for seed in SEEDS}
    folder = options.work / f"fits-{key(model, TRAINING_PICTURES)}"
    bench = Bench(Laboratory(samples, TestSample(validation), model.tables, folder), validation)
    bands = ModelConfig.from_dict(model.card["config"]["model"]).quantiser.bands
    base = Trial("base", "the model's own bands", base_units(bands))
    trials = [t for t in all_trials(base.units) if not options.question or t.question in options.question]
    rows = []
    for number, trial in enumerate(trials, 1):
        rows.append(row_of(trial, base, bench))
        print(f"[{number}/{len(trials)}] {trial.question}: {trial.name}: {rows[-1]['bd_rate']:+.2f} %", flush=True)
    rows[:0] = [row_of(trial, base, bench) for trial in best_cut(base, bench)]
    typical = decide(rows)
    shares = share_rows(base, bench)
    write_csv(options.out / "quantiser.csv", rows)
    write_csv(options.out / "quantiser_shares.csv", shares)
    point = bench.point(base, SEEDS[0])
    about = About(
        model=model.name,
        identity=model.id.hex(),
        typical_spread=typical,
        seeds_apart=change(point, bench.point(base, SEEDS[1])),
        weight=WEIGHTS[MIDDLE],
        bpp=point.rate,
        psnr=point.psnr,
        slope=validation.slope,
        steepness=-np.gradient(np.log(point.error), np.log(point.rate)) * point.error / point.rate / np.array(BETAS),
    )
    write_report(options.out, rows, shares, about, BETAS)
    print(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    run_script(main)
