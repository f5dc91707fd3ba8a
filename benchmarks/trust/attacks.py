"""Runs the long attacks and stores what came of them: `make attacks`.

    python benchmarks/trust/attacks.py [--container N] [--decoder N] [--kills N] [--out FILE]

Fuzzes the container parser and the whole decoder, replays the fuzzers' inputs to see which lines they reach, kills
commands at random moments, measures what rejecting forged files costs, and reads the golden files in every
configuration. Exit code 1 if anything crashed, was lost or differed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ATTACKS = ROOT / "tests" / "attacks"

# Forged files that claim much, one folder per model that they name.
FORGE = """
import sys
from pathlib import Path
import forge
for name, data in forge.giants(sys.argv[1]).items():
    Path(sys.argv[2], name).write_bytes(data)
"""


def run(*arguments: object) -> tuple[int, str]:
    """Run Python in the folder of the attacks; returns exit code and output."""
    path = os.pathsep.join(
        [str(ATTACKS), str(ATTACKS.parent / "helpers"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    ).strip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "SHC_MODELS": str(ROOT / "tests" / "golden")}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ATTACKS, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


def last_object(text: str) -> dict[str, Any]:
    """Return the JSON object on the last line of an output."""
    lines = text.strip().splitlines()
    told: dict[str, Any] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {"failed": lines[-3:]}
    return told


def rejections(folder: Path) -> dict[str, Any]:
    """Return what rejecting each forged file costs, with the frozen model and the default one."""
    told: dict[str, Any] = {}
    for model in ("model", "fast"):
        place = folder / model
        place.mkdir()
        run("-c", FORGE, model, place)
        _, text = run("meter.py", *sorted(place.iterdir()))
        lines = [json.loads(line) for line in text.splitlines()]
        for line in lines:
            line["bytes"] = (place / line["file"]).stat().st_size
        told[model] = lines
    every = [line for lines in told.values() for line in lines]
    told["worst"] = {key: max(line[key] for line in every) for key in ("seconds", "megabytes")}
    told["accepted"] = [line["file"] for line in every if not line["rejected"]]
    return told


def same_symbols() -> dict[str, Any]:
    """Return the golden files under every configuration that this machine has."""
    code, text = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", *map(str, golden_tests()))
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", text)}
    skipped = [line for line in text.splitlines() if line.startswith("SKIPPED")]
    return {"exit code": code, **counts, "reasons": skipped}


def golden_tests() -> list[Path]:
    """Return the test modules that read the golden files."""
    return [ROOT / "tests" / "test_golden.py", ROOT / "tests" / "test_same_symbols.py"]


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description="Run the long attacks; see the module's text.")
    parser.add_argument("--container", type=int, default=1_000_000, metavar="N", help="Executions of the parser.")
    parser.add_argument("--decoder", type=int, default=20_000, metavar="N", help="Executions of the whole decoder.")
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="Commands to kill.")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    options = parser.parse_args()
    packages = ("numpy", "constriction", "onnxruntime", "pillow", "atheris")
    told: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine(), "versions": {}}
    for package in packages:
        try:
            told["versions"][package] = version(package)
        except ImportError:
            told["versions"][package] = None
    codes = []
    with tempfile.TemporaryDirectory() as folder:
        corpora = [Path(folder, target) for target in ("container", "decoder")]
        for corpus, executions in zip(corpora, (options.container, options.decoder), strict=True):
            code, text = run("fuzz.py", corpus.name, "--executions", executions, "--corpus", corpus)
            told[corpus.name] = last_object(text)
            codes.append(code)
        told["lines reached"] = last_object(run("fuzz.py", "coverage", *corpora)[1])
        told["rejections"] = rejections(Path(folder))
        codes.append(bool(told["rejections"]["accepted"]))
    code, text = run("kill.py", "--runs", options.kills)
    told["kills"] = last_object(text)
    told["same symbols"] = same_symbols()
    codes += [code, told["same symbols"]["exit code"]]
    options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"{options.out}: {'all held' if not any(codes) else 'something did not hold'}")
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
