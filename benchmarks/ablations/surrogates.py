"""Ablations that need a training each: surrogates, phases, vector lengths, at equal budget.

    python benchmarks/ablations/surrogates.py --steps 6000 [--seeds 1 2] [--only NAME] [--data DIR] [--work DIR]

The trials are those of surrogates.toml, a base configuration and its changes. Each is trained on the packs of the data
folder, exported, and measured on the validation pictures by real files; what is reported is the BD-rate of the mean
curve against the base of the same seed. A finished trial is kept and an interrupted one goes on. Writes surrogates.csv.
Needs the extras `train` and `bench`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from shcodec.bench.bd_rate import bd_rate, curve
from shcodec.cli.console import run_script
from shcodec.codec.analysis import analyse, bits_per_pixel, distortion, encode_latent, own_rate_weight
from shcodec.container import beta_to_byte
from shcodec.model.networks import Model
from shcodec.support.errors import UsageError
from shcodec.train import checkpoint
from shcodec.train.config import TrainConfig, laid_over
from shcodec.train.data import load_pictures
from shcodec.train.export import export
from shcodec.train.loop import train

HERE = Path(__file__).parent
BETAS = (5.0, 20.0, 80.0, 300.0, 1200.0)
BASE = "base"


def configurations(path: Path) -> dict[str, dict[str, Any]]:
    """Return the base and every trial as whole configurations, the base first.

    Args:
        path: TOML with the tables [base] and [trials.NAME].
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    base = document["base"]
    return {BASE: base} | {name: laid_over(base, change) for name, change in document["trials"].items()}


def run_trial(
    config: dict[str, Any], folder: Path, packs: Path, validation: Path, time_limit: float | None, device: str
) -> dict[str, Any]:
    """Train, export and measure one trial, or read what is there.

    Args:
        config: the whole configuration, budget and seed included.
        folder: of the trial; what it holds is used.
        packs: folder of training pictures.
        validation: folder of validation pictures.
        time_limit: seconds of training, or None.
        device: as for `shc train`.

    Returns:
        `bpp` and `psnr` by beta, and the steps trained.

    Raises:
        UsageError: the configuration is not valid, or the folder holds a trial of another one.
    """
    TrainConfig.from_dict(config)
    asked = {"config": config, "time_limit": time_limit}
    settings, result = folder / "settings.json", folder / "result.json"
    folder.mkdir(parents=True, exist_ok=True)
    if settings.exists() and json.loads(settings.read_text()) != asked:
        raise UsageError(f"{folder}: holds a trial with other settings; use another --work")
    settings.write_text(json.dumps(asked, indent=1))
    if not result.exists():
        run, model = folder / "run", folder / "model"
        (folder / "config.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
        begun = (run / checkpoint.FILE).exists()
        train(str(folder / "config.toml"), packs, run, resume=begun, time_limit=time_limit, device=device)
        export(run, model)
        measured = measure(model, validation) | {"steps": checkpoint.read(run)[1]["step"]}
        result.write_text(json.dumps(measured))
    told: dict[str, Any] = json.loads(result.read_text())
    return told


def measure(model_dir: Path, validation: Path) -> dict[str, Any]:
    """Return the mean bits per pixel and PSNR over the validation pictures, by beta, from whole files."""
    pictures, _ = load_pictures(validation, least=1)
    model = Model(model_dir)
    bpp, psnr = [], []
    for beta in BETAS:
        step, points = beta_to_byte(beta), []
        for rgb in pictures:
            analysis = analyse(model, rgb, step)
            coded = encode_latent(analysis, step, own_rate_weight(model, step))
            quality = 10 * np.log10(255**2 / distortion(analysis, coded))
            points.append((bits_per_pixel(analysis, coded), quality))
        means = np.mean(points, 0)
        bpp.append(float(means[0]))
        psnr.append(float(means[1]))
    return {"bpp": bpp, "psnr": psnr}


def table(results: dict[tuple[str, int], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return BD-rates against the base of the same seed; `undecided` where the mean is below the seeds' difference."""
    rows = []
    seeds = sorted({seed for _, seed in results})
    for name in dict.fromkeys([name for name, _ in results]):
        percents = [change(results[BASE, s], results[name, s]) for s in seeds if (name, s) in results]
        finite = [p for p in percents if p is not None]
        mean = float(np.mean(finite)) if finite else None
        spread = max(finite) - min(finite) if len(finite) > 1 else None
        row: dict[str, Any] = {"trial": name, "bd_rate": _figure(mean), "seeds_apart": _figure(spread)}
        row["verdict"] = _verdict(name, mean, spread)
        row["steps"] = " ".join(str(results[name, s]["steps"]) for s in seeds if (name, s) in results)
        rows.append(row)
    return rows


def change(anchor: dict[str, Any], test: dict[str, Any]) -> float | None:
    """Return the BD-rate in percent; None where the curves share no quality."""
    result = bd_rate(curve(anchor["bpp"], anchor["psnr"]), curve(test["bpp"], test["psnr"]))
    return None if result is None else result.percent


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _verdict(name: str, mean: float | None, spread: float | None) -> str:
    if name == BASE:
        return ""
    if mean is None:
        return "no common range"
    if spread is None:
        return "one seed only"
    return "undecided" if abs(mean) <= spread else "better" if mean < 0 else "worse"


def packs_of(data: Path, work: Path, number: int | None) -> Path:
    """Return a folder with the training packs alone: pictures for tests and validation must not be trained on."""
    folder = work / "packs"
    folder.mkdir(parents=True, exist_ok=True)
    for pack in sorted(data.glob("train-*.tar"))[:number]:
        if not (folder / pack.name).exists():
            (folder / pack.name).symlink_to(pack.resolve())
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, measure, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=6000, help="steps of every trial")
    parser.add_argument("--time-limit", type=float, help="seconds of every trial, if they end before the steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", action="append", metavar="NAME", help="a trial beside the base; all if none is named")
    parser.add_argument("--trials", type=Path, default=HERE / "surrogates.toml")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SHC_DATA"), help="folder with train-*.tar and val/"
    )
    parser.add_argument("--packs", type=int, help="training packs to take; all if not given")
    parser.add_argument("--work", type=Path, default=Path("runs/surrogates"), help="where the trainings lie")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=HERE / "surrogates.csv")
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data or SHC_DATA must name the folder of pictures")
    every = configurations(options.trials)
    unknown = set(options.only or ()) - set(every)
    if unknown:
        parser.error(f"no trial named {min(unknown)!r}")
    packs = packs_of(options.data, options.work, options.packs)
    results: dict[tuple[str, int], dict[str, Any]] = {}
    for seed in options.seeds:
        for name in every if not options.only else dict.fromkeys([BASE, *options.only]):
            budget = {"training": {"seed": seed}, "schedule": {"steps": options.steps}}
            folder = options.work / f"{re.sub(r'[^a-z0-9]+', '-', name).strip('-')}-{seed}"
            print(f"{name}, seed {seed}", flush=True)
            results[name, seed] = run_trial(
                laid_over(every[name], budget), folder, packs, options.data / "val", options.time_limit, options.device
            )
            write(options.out, table(results))
    for row in table(results):
        print(", ".join(f"{k} {v}" for k, v in row.items() if v))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    run_script(main)
