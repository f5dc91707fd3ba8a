"""The codec's own weights packed: a model as its `.shcn` files would give it, with their sizes and times.

    python benchmarks/netpack/own_weights.py models/fast --out MODELS --sqnr 46 52 58 62
    SHC_MODELS=MODELS shc bench --dataset PICTURES --codecs shc-whole,shc-packed-62 --anchor shc-whole

Writes a model for each ratio, `packed-DB`, of weights that were packed and unpacked, and `whole`, the model as it is.
The second command tells what was lost. Every tensor has the same ratio of energy to error: a common step for all would
spoil those of small spread. One state instead of a trellis: 1.1 dB less, but unpacked in half the time.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import tomli_w

from shcodec import netpack
from shcodec.netpack.plan import PackConfig
from shcodec.runtime import CARD, DECODER, ENCODER, model_id, read_card, read_tensors, write_tensors

CONFIG = PackConfig(states=1, weighting="relative", fine_bits=10)
REPEATS = 5


def repacked(model: Path, folder: Path, sqnr: float) -> str:
    """Write a model with weights that were packed and unpacked; return a line of the table."""
    card = read_card(model) | {"name": folder.name}
    shutil.copytree(model, folder)
    cells = []
    for file in (DECODER, ENCODER):
        data = netpack.pack(read_tensors(model / file), sqnr=sqnr, config=CONFIG)
        seconds = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            tensors = {name: np.ascontiguousarray(array) for name, array in netpack.unpack(data).items()}
            seconds.append(time.perf_counter() - begun)
        write_tensors(folder / file, tensors)
        card["sha256"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        if file == DECODER:
            card["id"] = model_id(tensors).hex()
        share = len(data) / (model / file).stat().st_size
        cells.append(f"{len(data):,} ({share:.0%}) | {statistics.median(seconds):.2f} s")
    (folder / CARD).write_text(tomli_w.dumps(card), encoding="utf-8")
    return f"| {sqnr:g} dB | {' | '.join(cells)} |"


def main() -> None:
    """Write the models, print a table of bytes and of seconds that unpacking takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="folder of a model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the models")
    parser.add_argument("--sqnr", type=float, nargs="+", default=[46.0, 52.0, 58.0, 62.0], metavar="DB")
    args = parser.parse_args()
    shutil.copytree(args.model, args.out / "whole")
    card = read_card(args.model) | {"name": "whole"}
    (args.out / "whole" / CARD).write_text(tomli_w.dumps(card), encoding="utf-8")
    print("| | decoder, bytes | unpacked in | encoder, bytes | unpacked in |\n|---|---|---|---|---|")
    for sqnr in args.sqnr:
        print(repacked(args.model, args.out / f"packed-{sqnr:g}", sqnr), flush=True)


if __name__ == "__main__":
    main()
