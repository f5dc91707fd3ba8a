"""Measures what worker processes bring: `shc encode` and `shc decode` on a folder, with -j 2 and with one process.

    python benchmarks/batch.py [--data-root FOLDER] [--limit N] [--jobs 2] [--out benchmarks/batch.json]

Whole commands, from the start of the process to its end. The ways take turns in each round, so that a machine that
is busy for a while is so for all of them; the seconds are medians over the rounds. Reads the Kodak pictures below
--data-root, or SHC_DATA.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from script import make_parser, write_results

from shcodec.bench.datasets import find_dataset
from shcodec.cli.console import run_script
from shcodec.model import zoo
from shcodec.pictures.reading import read_picture

ONE_THREAD = {"SHC_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--data-root", type=Path, help="folder that holds kodak/; SHC_DATA if not given")
    parser.add_argument("--limit", type=int, help="take only the first N pictures")
    parser.add_argument("--jobs", type=int, default=2, help="processes to compare with one")
    parser.add_argument("--rounds", type=int, default=3, help="runs that each median is taken over")
    parser.add_argument("--model", default=zoo.DEFAULT_MODEL)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("batch.json"))
    options = parser.parse_args(arguments)
    pictures = [picture.path for picture in find_dataset("kodak", options.data_root).first(options.limit).pictures]
    ways = {
        "one process, one thread": (1, ONE_THREAD),
        "one process, all threads": (1, {}),
        f"{options.jobs} processes, one thread each": (options.jobs, {}),
    }
    with tempfile.TemporaryDirectory(prefix="shc-batch-") as scratch:
        pixels = lay_out(pictures, Path(scratch, "pictures"))
        rounds = [
            {way: measure(Path(scratch), options.model, *ways[way]) for way in ways} for _ in range(options.rounds)
        ]
    results = summarise(rounds, pixels / 1e6, baseline="one process, one thread")
    document = {
        "pictures": len(pictures),
        "megapixels": pixels / 1e6,
        "model": options.model,
        "model_id": zoo.card(options.model)["id"],
        "rounds": options.rounds,
        "ways": results,
    }
    print_table(results, Console())
    write_results(options.out, document, __file__)


def lay_out(pictures: Sequence[Path], folder: Path) -> int:
    """Copy the pictures into a folder; return the number of their pixels."""
    folder.mkdir()
    pixels = 0
    for path in pictures:
        shutil.copy(path, folder)
        pixels += read_picture(path).rgb[..., 0].size
    return pixels


def measure(scratch: Path, model: str, jobs: int, environment: Mapping[str, str]) -> dict[str, float]:
    """Encode the folder of pictures and decode what came of it.

    Returns:
        Seconds of each command.
    """
    common = ["--force", "--quiet", "--jobs", str(jobs)]
    coded, decoded = str(scratch / "coded"), str(scratch / "decoded")
    return {
        "encode": seconds(["encode", *common, "--model", model, "-o", coded, str(scratch / "pictures")], environment),
        "decode": seconds(["decode", *common, "-o", decoded, coded], environment),
    }


def seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run a command of shc as a process; return its seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "shcodec", *command], env={**os.environ, **environment}, check=True)
    return time.perf_counter() - start


def summarise(
    rounds: Sequence[Mapping[str, Mapping[str, float]]], megapixels: float, baseline: str
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return medians of the seconds, the megapixels a second, and how much quicker than `baseline` that is.

    Args:
        rounds: seconds by way and command.
        megapixels: of all pictures together.
        baseline: one of the ways.
    """
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for way in rounds[0]:
        results[way] = {}
        for command in ("encode", "decode"):
            runs = [measured[way][command] for measured in rounds]
            against = statistics.median(measured[baseline][command] for measured in rounds)
            median = statistics.median(runs)
            results[way][command] = {
                "seconds": median,
                "runs": runs,
                "megapixels_per_second": megapixels / median,
                "ratio": against / median,
            }
    return results


def print_table(results: Mapping[str, Mapping[str, Mapping[str, Any]]], console: Console) -> None:
    """Print one line per way and command."""
    table = Table("way", "command", "s", "MP/s", "ratio")
    for way, commands in results.items():
        for command, result in commands.items():
            figures = (f"{result[name]:.2f}" for name in ("seconds", "megapixels_per_second", "ratio"))
            table.add_row(way, command, *figures)
    console.print(table)


if __name__ == "__main__":
    run_script(main)
