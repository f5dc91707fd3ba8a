"""Kills `shc encode` and `shc decode` at random moments and looks at what is left.

    python kill.py [--runs 200] [--seed 0]

Prints one JSON object: how many runs were killed, how many came through, and how many outputs were neither the old nor
the new one or had left something behind after the next run, both of which must be 0.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
OLD = b"what was there before"


def environment() -> dict[str, str]:
    """Of the commands: the frozen model, one thread."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    models = str(ROOT / "tests" / "golden")
    return {**os.environ, "SHC_MODELS": models, "SHC_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def run(arguments: Sequence[object], kill_after: float | None = None) -> tuple[int, float]:
    """Run `shc`; returns its exit code and the seconds that it took, or was given."""
    start = time.monotonic()
    command = [sys.executable, "-m", "shcodec", *map(str, arguments)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return process.returncode, time.monotonic() - start


def left_behind(folder: Path) -> list[str]:
    """Temporary files."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".shc-")]


def attack(folder: Path, arguments: Sequence[object], target: Path, runs: int, random: Random) -> dict[str, int]:
    """Kills a command again and again while it replaces a file; returns what came of it."""
    complete = [run(arguments) for _ in range(3)]
    if any(code for code, _ in complete):
        raise RuntimeError(f"the command fails without being killed: {arguments}")
    seconds = min(seconds for _, seconds in complete)
    new = target.read_bytes()
    told = {"killed": 0, "whole": 0, "broken": 0, "temporaries": 0, "left after the next run": 0}
    for _ in range(runs):
        target.write_bytes(OLD)
        # the second half of a run is when it works and writes; before that it loads
        code, _ = run(arguments, random.uniform(0.5, 1.05) * seconds)
        told["killed" if code else "whole"] += 1
        told["broken"] += target.read_bytes() not in ((OLD, new) if code else (new,))
        told["temporaries"] += len(left_behind(folder))
    run(arguments)
    told["broken"] += target.read_bytes() != new
    told["left after the next run"] = len(left_behind(folder))
    return told


def attack_both(folder: Path, runs: int, seed: int) -> dict[str, dict[str, int]]:
    """Half of the runs against encode, half against decode."""
    random = Random(seed)
    picture, coded, decoded = folder / "photo.png", folder / "photo.shc", folder / "photo.bmp"
    Image.effect_mandelbrot((600, 400), (-2, -1.5, 1, 1.5), 30).convert("RGB").save(picture)
    encode = ("encode", "-f", "-m", "model", picture, coded)
    run(encode)
    kept = folder / "kept.shc"
    kept.write_bytes(coded.read_bytes())
    return {
        "encode": attack(folder, encode, coded, runs - runs // 2, random),
        "decode": attack(folder, ("decode", "-f", kept, decoded), decoded, runs // 2, random),
    }


def main() -> None:
    """Attacks as often as the command line says."""
    parser = argparse.ArgumentParser(description="Kill shc at random moments; see the module's text.")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        told = attack_both(Path(folder), options.runs, options.seed)
    print(json.dumps({"runs": options.runs, "seconds": round(time.monotonic() - start), **told}))
    sys.exit(any(counts["broken"] or counts["left after the next run"] for counts in told.values()))


if __name__ == "__main__":
    main()
