"""Quantisers on equal terms: the same small autoencoder around each, real bitstreams, equal K and equal bytes.

    python benchmarks/quantisers/laboratory.py --data cifar10=PATH gtsrb=PATH --seeds 3 1 [--only NAME] [--steps N]

The trials are those of trials.toml. Each is trained on the training pictures of each data set, with so many seeds, and
measured on its test pictures: error and bytes of files that are decoded again, use of the codebook, milliseconds of the
quantiser. A finished run is kept in --work, and the same command goes on where it was interrupted; a run takes at most
--time-limit seconds of training. Writes results.csv, results.json, plots, and the tables of README.md.
What PATH may hold is told in pictures.py. Needs the extras `train` and `bench`.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from autoencoder import Budget, Trial, run
from comparison import write_report
from pictures import Pictures, load

from shcodec.cli.console import run_script
from shcodec.support.atomic import write_text
from shcodec.support.errors import UsageError

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A trial as trials.toml has it."""

    name: str
    family: str
    equal_codebook: bool
    trial: Trial


def entries(path: Path) -> tuple[list[Entry], Budget]:
    """Return the trials and budget of a TOML file.

    Raises:
        UsageError: a key or a value is not valid.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    budget = Budget.from_dict(document.get("budget", {}))
    found = []
    for name, values in document["trials"].items():
        rest = dict(values)
        try:
            family, equal = rest.pop("family"), rest.pop("equal_codebook", False)
            found.append(Entry(name, family, equal, Trial(**rest)))
        except (KeyError, TypeError) as error:
            raise UsageError(f"{path}: trial '{name}': {error}") from None
        found[-1].trial.build(budget.channels)
    return found, budget


def run_once(entry: Entry, budget: Budget, dataset: str, pictures: Pictures, seed: int, work: Path) -> dict[str, Any]:
    """Run a trial, or read what is there.

    Raises:
        UsageError: the folder holds a run with another budget.
    """
    stem = re.sub(r"[^a-z0-9]+", "-", f"{dataset} {entry.name} {seed}".lower()).strip("-")
    path = work / f"{stem}.json"
    asked = {
        "trial": asdict(entry.trial),
        "budget": asdict(budget),
        "pictures": [len(pictures.train), len(pictures.test)],
    }
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if kept["asked"] != asked:
            raise UsageError(f"{path}: made with other settings; use another --work")
        found: dict[str, Any] = kept["found"]
    else:
        found = run(entry.trial, budget, pictures, seed)
        write_text(path, json.dumps({"asked": asked, "found": found}, indent=1))
    name = {"dataset": dataset, "trial": entry.name, "family": entry.family, "equal_codebook": entry.equal_codebook}
    return name | found


def sources(data: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, Path, int]]:
    """Return the names, paths and numbers of seeds of the data sets.

    Raises:
        UsageError: they do not belong together.
    """
    if len(seeds) not in (1, len(data)):
        raise UsageError("--seeds needs one number, or one for each data set")
    pairs = [text.partition("=") for text in data]
    if not all(path for _, _, path in pairs):
        raise UsageError("--data needs NAME=PATH")
    counts = list(seeds) * (len(data) if len(seeds) == 1 else 1)
    return [(name, Path(path), count) for (name, _, path), count in zip(pairs, counts, strict=True)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, write tables and plots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=PATH", help="folders or archives of pictures")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="number of seeds, for each data set")
    parser.add_argument("--only", action="append", metavar="NAME", help="a trial or a family; all if none is named")
    parser.add_argument("--steps", type=int, help="of every run, instead of those in the trials' file")
    parser.add_argument("--time-limit", type=float, help="seconds of training of a run, the same")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=Path, default=HERE / "trials.toml")
    parser.add_argument("--work", type=Path, default=Path("runs/quantisers"), help="where finished runs are kept")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of tables and plots")
    options = parser.parse_args(arguments)
    try:
        every, budget = entries(options.trials)
        datasets = sources(options.data, options.seeds)
    except UsageError as error:
        parser.error(str(error))
    limit = options.time_limit or budget.time_limit
    budget = replace(budget, steps=options.steps or budget.steps, time_limit=limit)
    chosen = [e for e in every if not options.only or {e.name, e.family} & set(options.only)]
    if not chosen:
        parser.error(f"no trial or family of that name (there are {', '.join(e.name for e in every)})")
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    read = functools.lru_cache(maxsize=1)(load)
    rows = []
    for dataset, path, count in datasets:
        for seed in range(1, count + 1):  # all trials with one seed, then the next: a part is of use, too
            for entry in chosen:
                begun = time.monotonic()
                rows.append(run_once(entry, budget, dataset, read(path), seed, options.work))
                row = rows[-1]
                print(
                    f"{dataset}, seed {seed}, {entry.name}: {1000 * row['mse']:.3f}e-3 at {row['bytes']:.1f} bytes, "
                    f"{row['steps']} steps, {time.monotonic() - begun:.0f} s",
                    flush=True,
                )
            write_report(options.out, rows, asdict(budget))


if __name__ == "__main__":
    run_script(main)
