"""Statistics of a model's symbols: codewords in use, where the bits go, what the integer class map costs, monotony.

    python benchmarks/model_statistics.py [--model NAME] [--data DIR] [--out benchmarks/statistics.json]

Pictures: `kodak/` of the folder that --data or SHC_DATA names; for the monotony `b100/` as well. Bits by class are the
ideal ones of the model's integer histograms; sizes are those of real files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from script import make_parser, write_results

from shcodec.bench.bd_rate import bd_rate, curve
from shcodec.cli.console import run_script
from shcodec.codec.analysis import analyse, bits_per_pixel, distortion, encode_latent, own_rate_weight
from shcodec.container import beta_to_byte, byte_to_beta, head, unpack
from shcodec.container.payload import split
from shcodec.model import zoo
from shcodec.model.card import TRAINING
from shcodec.model.networks import Model
from shcodec.model.tensors import read_tensors
from shcodec.pictures.picture import Pixels
from shcodec.pictures.reading import read_picture
from shcodec.support.errors import UsageError
from shcodec.symbols import stream
from shcodec.symbols.bands import Floats
from shcodec.symbols.classes import PLACES, ClassMap, spread_places
from shcodec.symbols.grid import Grid, tiles_of
from shcodec.symbols.knots import interpolate
from shcodec.symbols.tables import SymbolTables

BETAS = (5.0, 20.0, 80.0, 300.0, 1200.0)
STEPS = range(0, 256, 17)
"""Rate steps between which files must not grow: 16, from the lowest beta to the highest."""
SUFFIXES = {".png", ".webp"}


@dataclass(frozen=True)
class FloatMap(ClassMap):
    """A class map whose classes follow from weight (16 M, C_z) and bias knots (17, M) before they are rounded."""

    exact_weight: Floats
    exact_knots: Floats

    def apply(self, z: npt.NDArray[np.int8], beta_byte: int, grid: Grid) -> npt.NDArray[np.uint8]:
        """As the base class."""
        shape = len(self.shift), PLACES, *z.shape[1:]
        coordinate = (self.exact_weight @ z.reshape(len(z), -1).astype(np.float32)).reshape(shape)
        coordinate += interpolate(self.exact_knots, beta_byte)[:, None, None, None]
        return spread_places(np.clip(np.floor(coordinate), 0, self.classes - 1).astype(np.uint8), grid)


def use_float_map(model: Model) -> bool:
    """Make a model take its classes from a `FloatMap`; returns whether it can: shipped ones keep integers alone."""
    tensors, hyper = read_tensors(model.folder / TRAINING), model.tables.hyper
    if hyper is None or "class_map.weight" not in tensors:
        return False
    weight, knots = (tensors[f"class_map.{name}"].astype(np.float32) for name in ("weight", "bias_knots"))
    rounded = hyper.class_map
    hyper.class_map = FloatMap(
        rounded.weight, rounded.shift, rounded.bias, rounded.floor, rounded.classes, weight, knots
    )
    return True


class Counts:
    """What files of a model hold.

    Attributes:
        codewords: per band (classes, L), how often each was chosen.
        elements: (classes,) latent elements.
        hyper_bits: ideal bits of z.
    """

    def __init__(self, tables: SymbolTables) -> None:
        self.tables = tables
        self.codewords: list[npt.NDArray[np.int64]] = [np.zeros(b.histograms.shape, np.int64) for b in tables.bands]
        self.elements = np.zeros(tables.classes, np.int64)
        self.hyper_bits = 0.0

    def add(self, data: bytes) -> None:
        """Count the symbols of a file."""
        file, tables = unpack(data), self.tables
        tiles = tiles_of(Grid.of(file.height, file.width))
        for tile, part in zip(tiles, split(head(file), file.payload, len(tiles)), strict=True):
            z, orders, chosen = stream.read(tables, part or b"", file.beta_byte, tile.grid)
            if tables.hyper is not None and z is not None:
                self.hyper_bits += float(stream.row_bits(tables.hyper, z).min())
            classes = tables.classes_of(z, file.beta_byte, tile.grid)
            self.elements += np.bincount(classes.ravel(), minlength=tables.classes)
            for order, indices in zip(orders, chosen, strict=True):
                for (k, _), index in zip(order.numbers, indices, strict=True):
                    number = int(tables.band_of[k])
                    counts = self.codewords[number]
                    counts[k - tables.bands[number].first] += np.bincount(index, minlength=counts.shape[1])


@dataclass(frozen=True)
class Coded:
    """What a set of pictures gave at one beta: sums over all pictures, means for PSNR and bits per pixel."""

    beta: float
    size: int
    pixels: int
    bpp: float
    psnr: float
    hyper_bits: float
    elements: npt.NDArray[np.int64]
    counts: list[npt.NDArray[np.int64]]


def code_all(model: Model, pictures: Sequence[Pixels], beta: float) -> Coded:
    """Encode all pictures at one beta."""
    counts, step = Counts(model.tables), beta_to_byte(beta)
    sizes, bpps, qualities = [], [], []
    for rgb in pictures:
        analysis = analyse(model, rgb, step)
        coded = encode_latent(analysis, step, own_rate_weight(model, step))
        counts.add(coded.data)
        sizes.append(len(coded.data))
        bpps.append(bits_per_pixel(analysis, coded))
        qualities.append(10 * np.log10(255**2 / distortion(analysis, coded)))
    pixels = sum(rgb.shape[0] * rgb.shape[1] for rgb in pictures)
    means = float(np.mean(bpps)), float(np.mean(qualities))
    return Coded(beta, sum(sizes), pixels, *means, counts.hyper_bits, counts.elements, counts.codewords)


def spending(tables: SymbolTables, coded: Coded) -> dict[str, Any]:
    """Return where the bits of one beta go, in percent of the files."""
    bits = [float((counts * band.bits).sum()) for counts, band in zip(coded.counts, tables.bands, strict=True)]
    total = 8 * coded.size
    vectors = sum(b for b, band in zip(bits, tables.bands, strict=True) if band.dim > 1)
    return {
        "beta": coded.beta,
        "bpp": coded.bpp,
        "psnr": coded.psnr,
        "symbols_per_pixel": sum(int(counts.sum()) for counts in coded.counts) / coded.pixels,
        "coded_elements_percent": 100 * coded.elements[tables.skip :].sum() / coded.elements.sum(),
        "hyper_percent": 100 * coded.hyper_bits / total,
        "vectors_percent": 100 * vectors / total,
        "bands_percent": [100 * b / total for b in bits],
    }


def codebook_usage(tables: SymbolTables, runs: Sequence[Coded]) -> list[dict[str, Any]]:
    """Return codewords in use and perplexity of every codebook, all betas together.

    Levels that every histogram holds at its least frequency are a reserve for rare pictures and counted apart.
    """
    rows = []
    for number, band in enumerate(tables.bands):
        counts = np.sum([run.counts[number].sum(0) for run in runs], 0)
        reserve = (band.histograms == 1).all(0)
        wanted = counts[~reserve]
        rows.append(
            {
                "classes": [band.first, band.first + len(band.histograms) - 1],
                "dim": band.dim,
                "codewords": len(wanted),
                "unused": int((wanted == 0).sum()),
                "perplexity": perplexity(counts),
                "reserve": int(reserve.sum()),
                "reserve_used": int((counts[reserve] > 0).sum()),
            }
        )
    return rows


def class_usage(tables: SymbolTables, runs: Sequence[Coded]) -> list[dict[str, Any]]:
    """Return the share of elements and bits of every class, perplexity of its indices, all betas together."""
    elements = np.sum([run.elements for run in runs], 0)
    total = sum(8 * run.size for run in runs)
    rows = []
    for k in range(tables.classes):
        row: dict[str, Any] = {"class": k, "elements_percent": 100 * elements[k] / elements.sum()}
        number = int(tables.band_of[k])
        if number >= 0:
            band = tables.bands[number]
            counts = np.sum([run.counts[number][k - band.first] for run in runs], 0)
            spent = float((counts * band.bits[k - band.first]).sum())
            row |= {"bits_percent": 100 * spent / total, "vectors": int(counts.sum()), "perplexity": perplexity(counts)}
        rows.append(row)
    return rows


def perplexity(counts: npt.NDArray[np.int64]) -> float:
    """Return two to the power of the entropy of counts; 0 where there are none."""
    if not counts.sum():
        return 0.0
    p = counts[counts > 0] / counts.sum()
    return float(2 ** -(p * np.log2(p)).sum())


def map_loss(integer: Sequence[Coded], floating: Sequence[Coded]) -> dict[str, Any]:
    """Return what the integer class map loses against its float version: BD-rate of the mean curves."""
    anchor, test = (curve([run.bpp for run in runs], [run.psnr for run in runs]) for runs in (floating, integer))
    result = bd_rate(anchor, test)
    return {
        "bd_rate_percent": None if result is None else result.percent,
        "float_bpp": [run.bpp for run in floating],
        "float_psnr": [run.psnr for run in floating],
    }


def violations(model: Model, pictures: Iterator[tuple[str, Pixels]]) -> dict[str, Any]:
    """List files that grow with beta, over 16 betas: every case with both sizes in bytes."""
    number, found = 0, []
    for name, rgb in pictures:
        number += 1
        sizes = []
        for step in STEPS:
            analysis = analyse(model, rgb, step)
            sizes.append(len(encode_latent(analysis, step, own_rate_weight(model, step)).data))
        for i in np.flatnonzero(np.diff(sizes) > 0):
            low, high = (byte_to_beta(STEPS[j]) for j in (i, i + 1))
            found.append({"picture": name, "betas": [low, high], "bytes": [sizes[i], sizes[i + 1]]})
    return {"pictures": number, "betas": [byte_to_beta(step) for step in STEPS], "violations": found}


def read_folder(folder: Path, limit: int | None = None) -> Iterator[tuple[str, Pixels]]:
    """Yield names and pixels of a folder's pictures, in order; at most `limit`."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    for path in paths[:limit]:
        yield path.name, read_picture(path).rgb


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one model; write JSON and say what matters most."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", default=zoo.DEFAULT_MODEL, metavar="NAME")
    parser.add_argument("--data", type=Path, default=os.environ.get("SHC_DATA"), help="folder with kodak/ and b100/")
    parser.add_argument("--folder", default="kodak", help="pictures of the statistics, below the data")
    parser.add_argument("--monotone", nargs="*", default=["kodak", "b100"], help="pictures of the monotony")
    parser.add_argument("--betas", type=float, nargs="+", default=list(BETAS))
    parser.add_argument("--limit", type=int, help="pictures of every folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("statistics.json"))
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data or SHC_DATA must name the folder of pictures")
    folder = zoo.model_dir(options.model)
    model = Model(folder)
    if not model.tables.has_hyper:
        raise UsageError(f"{options.model} has one class per picture: there is nothing to count by class")
    pictures = [rgb for _, rgb in read_folder(options.data / options.folder, options.limit)]
    runs = [code_all(model, pictures, beta) for beta in options.betas]
    floating = Model(folder)
    has_floats = use_float_map(floating)
    document: dict[str, Any] = {
        "model": model.name,
        "id": model.id.hex(),
        "pictures": [options.folder, len(pictures)],
        "spending": [spending(model.tables, run) for run in runs],
        "class_map": (
            map_loss(runs, [code_all(floating, pictures, beta) for beta in options.betas]) if has_floats else None
        ),
        "codebooks": codebook_usage(model.tables, runs),
        "classes": class_usage(model.tables, runs),
        "monotone": {
            name: violations(Model(folder), read_folder(options.data / name, options.limit))
            for name in options.monotone
        },
    }
    write_results(options.out, _rounded(document))
    if has_floats:
        print(f"class map: {document['class_map']['bd_rate_percent']:+.3f} % BD-rate against its float version")
    for name, result in document["monotone"].items():
        print(f"{name}: {len(result['violations'])} files grow with beta, of {result['pictures']} x {len(STEPS)}")


def _rounded(value: Any) -> Any:
    """Return the same document with floats of at most five significant digits."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    run_script(main)
