"""Measures what more effort of the encoder buys: seconds against BD-rate, by level.

    python benchmarks/effort.py [--data FOLDER] [--limit N] [--crop PIXELS] [--levels 0-9] [--model NAME] [--out FILE]

Without --data, the validation pictures in the folder SHC_DATA. BD-rate is that of the mean curve against level 3, the
default; every picture is coded to a real file at each beta, and decoded. Seconds and megapixels per second are medians
over all files. Needs the extra `bench`, and `train` for levels 7 to 9, which take minutes a picture: --limit and --crop
keep them short.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from script import make_parser, make_table, validation_folder, write_results

from shcodec.bench.bd_rate import bd_rate, curve
from shcodec.cli.console import run_script
from shcodec.codec import decoding, encoding
from shcodec.codec.effort import DEFAULT_EFFORT, LEVELS
from shcodec.model import zoo
from shcodec.pictures.picture import Pixels, psnr
from shcodec.pictures.reading import read_picture

BETAS = (8.0, 30.0, 120.0, 500.0)
"""Rates of the curve: the middle of the range, where pictures of any kind differ least."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder of pictures")
    parser.add_argument("--limit", type=int, help="so many of the pictures, spread evenly")
    parser.add_argument("--crop", type=int, help="only the middle of each picture, so many pixels a side at most")
    parser.add_argument("--levels", type=parse_levels, default=tuple(range(len(LEVELS))), help="such as 0-6 or 3,7,8")
    parser.add_argument("--model", default=zoo.DEFAULT_MODEL)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("effort.json"))
    options = parser.parse_args(arguments)
    pictures = load(validation_folder(parser, options.data), options.limit, options.crop)
    levels = sorted({DEFAULT_EFFORT, *options.levels})
    measured = {level: measure(pictures, options.model, level) for level in levels}
    document = {
        "model": options.model,
        "model_id": zoo.card(options.model)["id"],
        "pictures": len(pictures),
        "megapixels": sum(rgb.shape[0] * rgb.shape[1] for rgb in pictures.values()) / 1e6,
        "crop": options.crop,
        "betas": BETAS,
        "levels": {str(level): summary(rows, measured[DEFAULT_EFFORT]) for level, rows in measured.items()},
        "files": {str(level): rows for level, rows in measured.items()},
    }
    write_results(options.out, document, __file__)
    print_table(document, Console())


def parse_levels(text: str) -> tuple[int, ...]:
    """Return the levels of "0-6" or "3,7,8"."""
    if "-" in text:
        first, last = text.split("-")
        return tuple(range(int(first), int(last) + 1))
    return tuple(int(part) for part in text.split(","))


def load(folder: Path, limit: int | None, crop: int | None) -> dict[str, Pixels]:
    """Read the pictures of a folder by name, in whole or their middles."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    if limit is not None and limit < len(paths):
        paths = [paths[int((i + 0.5) * len(paths) / limit)] for i in range(limit)]
    pictures = {}
    for path in paths:
        rgb = read_picture(path).rgb
        if crop is not None:
            top, left = (max(0, (side - crop) // 2) for side in rgb.shape[:2])
            rgb = np.ascontiguousarray(rgb[top : top + crop, left : left + crop])
        pictures[path.name] = rgb
    return pictures


def measure(pictures: dict[str, Pixels], model: str, level: int) -> list[dict[str, Any]]:
    """Code every picture at every beta.

    Returns:
        One row per file: picture, beta, bytes, bpp, psnr, seconds, mp_per_s.
    """
    encoding.encode_array(
        next(iter(pictures.values()))[:64, :64], model=model, effort=min(level, 6)
    )  # loads the networks
    rows = []
    for name, rgb in track(pictures.items(), f"effort {level}", console=Console(stderr=True), transient=True):
        pixels = rgb.shape[0] * rgb.shape[1]
        for beta in BETAS:
            start = time.perf_counter()
            data = encoding.encode_array(rgb, beta, model=model, effort=level)
            spent = time.perf_counter() - start
            rows.append(
                {
                    "picture": name,
                    "beta": beta,
                    "bytes": len(data),
                    "bpp": 8 * len(data) / pixels,
                    "psnr": psnr(decoding.decode_array(data), rgb),
                    "seconds": spent,
                    "mp_per_s": pixels / 1e6 / spent,
                }
            )
    return rows


def summary(rows: list[dict[str, Any]], default: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean curve, median seconds and megapixels per second, and BD-rate against the default level."""
    points, anchor = mean_points(rows), mean_points(default)
    against = bd_rate(curve(*anchor), curve(*points))
    return {
        "seconds": statistics.median(row["seconds"] for row in rows),
        "mp_per_s": statistics.median(row["mp_per_s"] for row in rows),
        "bd_rate_percent": None if against is None else against.percent,
        "bpp": points[0],
        "psnr_db": points[1],
    }


def mean_points(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return bits per pixel and PSNR at each beta, averaged over pictures."""
    by_beta = [[row for row in rows if row["beta"] == beta] for beta in BETAS]
    return tuple([statistics.fmean(row[key] for row in part) for part in by_beta] for key in ("bpp", "psnr"))  # type: ignore[return-value]


def print_table(document: dict[str, Any], console: Console) -> None:
    """Print level, seconds, megapixels per second, BD-rate."""
    headers = ("effort", "seconds a file", "MP/s", "BD-rate against the default")
    table = make_table(f"{document['model']}, {document['pictures']} pictures", headers)
    for level, told in document["levels"].items():
        percent = told["bd_rate_percent"]
        saved = "-" if percent is None else f"{percent:+.2f} %"
        table.add_row(level, f"{told['seconds']:.2f}", f"{told['mp_per_s']:.3g}", saved)
    console.print(table)


if __name__ == "__main__":
    run_script(main)
