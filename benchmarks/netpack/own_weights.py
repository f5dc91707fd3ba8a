"""The codec's own weights packed: a model as its `.shcn` files would give it, with their sizes and times.

    python benchmarks/netpack/own_weights.py models/fast --out MODELS --sqnr 46 52 58 62
    SHC_MODELS=MODELS shc bench --dataset PICTURES --codecs shc-whole,shc-packed-62 --anchor shc-whole

Writes a model for each ratio, `packed-DB`, of weights that were packed and unpacked, and `whole`, the model as it is.
The second command tells what was lost. Every tensor has the same ratio of energy to error: a common step for all would
spoil those of small spread. One state instead of a trellis of 64: 1.1 dB less, but found in less time.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import time
from pathlib import Path

import tomli_w

from shcodec import netpack
from shcodec.cli.console import run_script
from shcodec.model.card import CARD, DECODER, ENCODER, read_card
from shcodec.model.tensors import Tensors, model_id, write_tensors
from shcodec.netpack.packing.plan import PackConfig

CONFIG = PackConfig(states=1, weighting="relative", fine_bits=10)
REPEATS = 5


def write_model(model: Path, folder: Path, weights: dict[str, Tensors]) -> None:
    """Copy a model under its folder's name, with other tensors in some of its files."""
    shutil.copytree(model, folder)
    card = read_card(model) | {"name": folder.name}
    for file, tensors in weights.items():
        write_tensors(folder / file, tensors)
        card["sha256"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    if DECODER in weights:
        card["id"] = model_id(weights[DECODER]).hex()
    (folder / CARD).write_text(tomli_w.dumps(card), encoding="utf-8")


def unpacked(data: bytes) -> tuple[Tensors, float]:
    """Return the tensors of a file, and the median of the seconds that it takes."""
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        tensors = netpack.unpack(data)
        seconds.append(time.perf_counter() - begun)
    return tensors, statistics.median(seconds)


def main() -> None:
    """Write the models, print a table of bytes and of seconds that unpacking takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="folder of a model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the models")
    parser.add_argument("--sqnr", type=float, nargs="+", default=[46.0, 52.0, 58.0, 62.0], metavar="DB")
    args = parser.parse_args()
    write_model(args.model, args.out / "whole", {})
    print("| | decoder, bytes | unpacked in | encoder, bytes | unpacked in |\n|---|---|---|---|---|")
    for sqnr in args.sqnr:
        weights, cells = {}, [f"{sqnr:g} dB"]
        for file in (DECODER, ENCODER):
            path = args.model / file
            data = netpack.pack(path, sqnr=sqnr, config=CONFIG)
            weights[file], seconds = unpacked(data)
            cells += [f"{len(data):,} ({len(data) / path.stat().st_size:.0%})", f"{seconds:.2f} s"]
        write_model(args.model, args.out / f"packed-{sqnr:g}", weights)
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run_script(main)
