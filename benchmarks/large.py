"""Measures what large pictures and what comes with a picture cost: peak memory, tiles, the container.

    python benchmarks/large.py [--megapixels 1 20 100] [--model NAME] [--out benchmarks/large.json]

Large pictures are mosaics of Kodak. Memory and time are those of whole commands, on as many threads as the machine has
cores. The cost of tiles is the BD-rate of a mosaic of 20 megapixels against itself coded as a single tile; along the
borders of tiles, the PSNR of a band of 32 pixels to either side is compared with that of the same band without tiles.
The overhead is in bytes of the file without its symbols. Needs the extra `bench` and Kodak in the folder SHC_DATA.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from rich.console import Console
from script import make_parser, make_table, write_results
from speed import launch

from shcodec import container
from shcodec.bench.bd_rate import bd_rate, curve
from shcodec.bench.datasets import find_dataset
from shcodec.cli.console import run_script
from shcodec.codec import decoding, encoding
from shcodec.model import zoo
from shcodec.pictures.picture import Pixels, psnr
from shcodec.pictures.reading import read_picture
from shcodec.symbols import grid as grids
from shcodec.symbols.grid import Grid

BETAS = (5.0, 20.0, 80.0, 300.0, 1200.0)
TILED = (4000, 5000)  # rows and columns of the picture on which the cost of tiles is measured
BAND = 32  # pixels to either side of a border between tiles


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--megapixels", type=float, nargs="*", default=[1, 20, 100])
    parser.add_argument("--model", default=zoo.DEFAULT_MODEL)
    parser.add_argument("--betas", type=float, nargs="*", default=BETAS, help="rates at which tiles are measured")
    parser.add_argument("--size", type=int, nargs=2, default=TILED, help="rows and columns of the picture for that")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("large.json"))
    options = parser.parse_args(arguments)
    pictures = [read_picture(entry.path).rgb for entry in find_dataset("kodak").pictures]
    document: dict[str, Any] = {
        "model": options.model,
        "model_id": zoo.card(options.model)["id"],
        "memory": [measure_commands(pictures, million, options.model) for million in options.megapixels],
        "tiles": measure_tiles(mosaic(pictures, *options.size), options.betas, options.model),
        "overhead": measure_overhead(pictures[0], options.model),
    }
    print_tables(document, Console())
    write_results(options.out, document, __file__)


def mosaic(pictures: Sequence[Pixels], height: int, width: int) -> Pixels:
    """Return a picture (height, width, 3) of pictures side by side, cut at its borders."""
    out = np.empty((height, width, 3), np.uint8)
    top = number = 0
    while top < height:
        left, rows = 0, 512
        while left < width:
            piece = pictures[number % len(pictures)]
            piece = piece if piece.shape[0] <= piece.shape[1] else piece.transpose(1, 0, 2)
            piece = piece[: min(rows, height - top), : width - left]
            out[top : top + rows, left : left + piece.shape[1]] = piece
            left, number = left + piece.shape[1], number + 1
        top += rows
    return out


def measure_commands(pictures: Sequence[Pixels], million: float, model: str) -> dict[str, Any]:
    """Measure seconds and peak memory of encoding and decoding so many megapixels, by whole commands."""
    side = round((million * 1e6) ** 0.5)
    with tempfile.TemporaryDirectory() as scratch:
        source, packed, output = (str(Path(scratch, name)) for name in ("in.png", "out.shc", "out.png"))
        Image.fromarray(mosaic(pictures, side, side)).save(source, compress_level=1)
        run = [sys.executable, "-m", "shcodec"]
        encode = launch([*run, "encode", "--quiet", "--model", model, source, packed])
        decode = launch([*run, "decode", "--quiet", packed, output])
        size = Path(packed).stat().st_size
    return {
        "megapixels": million,
        "side": side,
        "bytes": size,
        "encode": {"seconds": encode[0], "peak_mb": encode[1]},
        "decode": {"seconds": decode[0], "peak_mb": decode[1]},
    }


def measure_tiles(rgb: Pixels, betas: Sequence[float], model: str) -> dict[str, Any]:
    """Return what tiles cost in rate, and in quality along their borders."""
    parts = grids.tiles_of(Grid.of(*rgb.shape[:2]))
    band = np.zeros(rgb.shape[:2], bool)
    for tile in parts:
        left, top, _, _ = tile.box(rgb.shape[1], rgb.shape[0])
        band[max(top - BAND, 0) : top + BAND if top else 0] = True
        band[:, max(left - BAND, 0) : left + BAND if left else 0] = True
    with_tiles, whole = (measure_curve(rgb, betas, model, band, side) for side in (grids.TILE_SIDE, 1 << 20))
    cost = bd_rate(curve(whole["bpp"], whole["psnr"]), curve(with_tiles["bpp"], with_tiles["psnr"]))
    return {
        "width": rgb.shape[1],
        "height": rgb.shape[0],
        "tiles": len(parts),
        "betas": list(betas),
        "tiled": with_tiles,
        "single": whole,
        "bd_rate": None if cost is None else cost.percent,
        "largest_loss_in_band_db": max(a - b for a, b in zip(whole["band"], with_tiles["band"], strict=True)),
    }


def measure_curve(
    rgb: Pixels, betas: Sequence[float], model: str, band: np.ndarray, side: int
) -> dict[str, list[float]]:
    """Measure rate and quality by beta, with tiles of a largest side."""
    usual, grids.TILE_SIDE = grids.TILE_SIDE, side
    points: dict[str, list[float]] = {"bpp": [], "psnr": [], "band": []}
    try:
        for beta in betas:
            data = encoding.encode_array(rgb, beta, model=model)
            decoded = decoding.decode_array(data)
            points["bpp"].append(8 * len(data) / band.size)
            points["psnr"].append(psnr(rgb, decoded))
            points["band"].append(psnr(rgb[band][None], decoded[band][None]))
    finally:
        grids.TILE_SIDE = usual
    return points


def measure_overhead(rgb: Pixels, model: str) -> dict[str, dict[str, int]]:
    """Count the bytes of the parts of a file by kind of picture."""
    height, width = rgb.shape[:2]
    colour, y, x = Image.fromarray(rgb), *np.mgrid[0:height, 0:width]
    disc = 255.0 * np.clip(min(height, width) / 3 - np.hypot(y - height / 2, x - width / 2) + 0.5, 0, 1)
    masked = colour.copy()
    masked.putalpha(Image.fromarray(disc.astype(np.uint8)))
    told = colour.copy()
    told.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    told.getexif()[0x0112] = 6  # turned by a quarter
    kinds = {"RGB": colour, "grey": colour.convert("L"), "RGB with a disc as alpha": masked, "RGB, ICC, EXIF": told}
    return {name: container.part_sizes(encoding.encode(image, model=model)) for name, image in kinds.items()}


def print_tables(document: dict[str, Any], console: Console) -> None:
    """Print what was measured."""
    table = make_table(None, ("megapixels", "encode s", "peak MB", "decode s", "peak MB"))
    for row in document["memory"]:
        cells = [row[way][key] for way in ("encode", "decode") for key in ("seconds", "peak_mb")]
        table.add_row(f"{row['megapixels']:g}", *(f"{cell:.1f}" for cell in cells))
    console.print(table)
    found = document["tiles"]
    cost = "no common range" if found["bd_rate"] is None else f"{found['bd_rate']:+.2f} %"
    loss = found["largest_loss_in_band_db"]
    console.print(f"{found['tiles']} tiles: BD-rate {cost}, PSNR along their borders at most {loss:.3f} dB lower")
    table = make_table(None, ("picture", "header", "chunks", "payload", "checksum"))
    for name, sizes in document["overhead"].items():
        table.add_row(name, *(f"{sizes[part]:,}" for part in ("header", "chunks", "payload", "checksum")))
    console.print(table)


if __name__ == "__main__":
    run_script(main)
