"""Measures whether the quality ever falls where beta does: every picture at many betas, real files, decoded.

    python benchmarks/monotone.py [--data FOLDER] [--model NAME ...] [--betas N] [--out FILE]

Pictures are those of a folder (without --data, the validation pictures in the folder SHC_DATA) and small ones that are
made here: flat, gradients, saturated, black, white, noise. Needs the extra `bench`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from script import make_parser, validation_folder, write_results

from shcodec.cli.console import run_script
from shcodec.codec import decoding
from shcodec.codec.rate_choice import FilesByRate
from shcodec.container import beta_to_byte, byte_to_beta
from shcodec.model import zoo
from shcodec.model.networks import Model
from shcodec.pictures.picture import Pixels, psnr
from shcodec.pictures.reading import read_picture

SLACK = 0.05  # dB that the quality may fall
HEIGHT, WIDTH = 256, 320


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print what falls and write JSON; exit code 1 where anything falls."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder of pictures")
    parser.add_argument("--model", nargs="+", default=["fast", "best"])
    parser.add_argument("--betas", type=int, default=24, help="how many, from 2 to 4096")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("monotone.json"))
    options = parser.parse_args(arguments)
    folder = validation_folder(parser, options.data)
    pictures = made_up() | {path.name: read_picture(path).rgb for path in sorted(folder.iterdir()) if path.is_file()}
    betas = np.geomspace(2, 4096, options.betas).tolist()
    rows = [
        {"model": name, "picture": picture} | measured(zoo.load(name), rgb, betas)
        for name in options.model
        for picture, rgb in track(pictures.items(), name, console=Console(stderr=True), transient=True)
    ]
    falling = [row for row in rows if row["fall_db"] > SLACK]
    document = {"betas": betas, "files": rows, "falling": len(falling)}
    write_results(options.out, document, __file__)
    for row in falling:
        print(f"{row['model']} {row['picture']}: falls by {row['fall_db']:.2f} dB")
    print(f"{len(rows)} curves, {len(falling)} fall by more than {SLACK} dB")
    sys.exit(1 if falling else 0)


def measured(model: Model, rgb: Pixels, betas: list[float]) -> dict[str, Any]:
    """Measure PSNR, bytes and coded beta at every beta asked for, and the largest fall of quality where beta falls."""
    files = FilesByRate(model, rgb)
    steps = [files.choose(beta_to_byte(beta)) for beta in betas]
    qualities = {step: psnr(decoding.decode_array(files.coded(step).data, model=model), rgb) for step in set(steps)}
    curve = [qualities[step] for step in steps]
    return {
        "psnr": curve,
        "bytes": [len(files.coded(step).data) for step in steps],
        "coded_beta": [byte_to_beta(step) for step in steps],
        "fall_db": max(max(curve[i:]) - curve[i] for i in range(len(curve))),
    }


def made_up() -> dict[str, Pixels]:
    """Make synthetic pictures, without noise of a camera that could hide what the codec does."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    y, x = y / (HEIGHT - 1), x / (WIDTH - 1)
    zero, rng = np.zeros_like(x), np.random.default_rng(1)
    colours = {
        "white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128), "light": (245, 245, 247),
        "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255),
        "cyan": (0, 255, 255), "magenta": (255, 0, 255), "yellow": (255, 255, 0),
    }  # fmt: skip
    planes = {name: [zero + value for value in colour] for name, colour in colours.items()} | {
        "grey gradient": [255 * x] * 3,
        "gradients": [255 * x, 255 * y, 255 - 255 * x],
        "bright gradient": [235 + 20 * x, 230 + 25 * y, 250 + zero],
        "halves": [255.0 * (x > 0.5)] * 3,
        "fields": [255 * (8 * x // 1 % 2), 255 * (8 * y // 1 % 2), 255 * (4 * x // 1 % 2)],
        "noise": list(rng.uniform(0, 255, (3, HEIGHT, WIDTH))),
        "bright noise": list(240 + rng.normal(0, 6, (3, HEIGHT, WIDTH))),
        "dark noise": list(10 + rng.normal(0, 5, (3, HEIGHT, WIDTH))),
    }
    return {
        name: np.clip(np.rint(np.stack(parts, -1)), 0, 255).astype(np.uint8)  # (HEIGHT, WIDTH, 3)
        for name, parts in planes.items()
    }


if __name__ == "__main__":
    run_script(main)
