"""Post-training packing, measured: quality against uniform quantisation with the same coder at equal bytes, and speed.

    python benchmarks/netpack/post_training.py --json benchmarks/netpack/post_training.json

Sets of weights: made-up tensors, the weights of the models that ship with the codec, and any safetensors files that are
named. Each is packed with the trellis, then into as many bytes with a plain scalar quantiser (a trellis of one state),
once with all the rest the same, once without classes for rows and columns. What little the sizes still differ is
converted at 6.02 dB a bit.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from shcodec.cli.console import run_script
from shcodec.netpack.api import unpack
from shcodec.netpack.packing.packer import pack_tensors
from shcodec.netpack.packing.plan import PackConfig, is_quantised
from shcodec.netpack.packing.report import PackReport
from shcodec.netpack.packing.targets import Target
from shcodec.netpack.packing.tensors import Tensor, from_array, read_safetensors

ROOT = Path(__file__).resolve().parents[2]
DB_PER_BIT = 6.02


@dataclass(frozen=True)
class Row:
    """One set of weights at one rate.

    Attributes:
        name: The set.
        weights: Quantised weights.
        bits: Bits per weight of the trellis's file.
        sqnr: Its quality in dB.
        over_scalar: By how many dB it is better than the scalar quantiser with the same classes at equal bytes.
        over_uniform: By how many dB it is better than that without classes for rows and columns.
        pack_seconds: Processor time of packing with the trellis, all threads together.
        unpack_seconds: Processor time of unpacking.
        unpack_rate: Megabytes of unpacked weights, as float32, per second of it.
    """

    name: str
    weights: int
    bits: float
    sqnr: float
    over_scalar: float
    over_uniform: float
    pack_seconds: float
    unpack_seconds: float
    unpack_rate: float


def made_up(size: int) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield made-up sets of ``size`` x ``size`` weights."""
    rng = np.random.default_rng(0)
    shape = (size, size)
    rows, columns = np.exp(0.5 * rng.normal(size=(size, 1))), np.exp(0.5 * rng.normal(size=(1, size)))
    sets = {
        "Gaussian": rng.normal(size=shape),
        "Laplacian": rng.laplace(size=shape),
        "Student t, 5 degrees": rng.standard_t(5, size=shape),
        "Gaussian, rows and columns of varying spread": rng.normal(size=shape) * rows * columns,
    }
    for name, values in sets.items():
        yield name, [from_array("weight", values.astype(np.float32))]


def from_files(paths: list[Path]) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield the tensors of safetensors files that would be quantised, but no codebooks or tables of the codec."""
    for path in paths:
        tensors, _ = read_safetensors(path.read_bytes())
        chosen = [t for t in tensors if t.name.endswith(".weight") and is_quantised(t, PackConfig())]
        if chosen:
            inside = path.is_relative_to(ROOT)
            yield (path.relative_to(ROOT).as_posix() if inside else path.name), chosen


def quality(report: PackReport, bits: float) -> float:
    """Return the quality in dB at ``bits`` per weight."""
    if report.sqnr is None or report.bits is None:
        raise ValueError("nothing was quantised")
    return report.sqnr + DB_PER_BIT * (bits - report.bits)


def measure(name: str, tensors: list[Tensor], bits: float, threads: int) -> Row:
    """Pack a set in three ways."""
    start = time.process_time()
    data, report = pack_tensors(tensors, target=Target(bits=bits), config=PackConfig(threads=threads))
    packed = time.process_time()
    unpack(data)
    unpacked = time.process_time() - packed
    size = Target(size=len(data))
    _, scalar = pack_tensors(tensors, target=size, config=PackConfig(states=1, threads=threads))
    _, uniform = pack_tensors(tensors, target=size, config=PackConfig(states=1, threads=threads, axes=False))
    reached = report.bits or 0.0
    return Row(
        name=name,
        weights=report.quantised,
        bits=reached,
        sqnr=quality(report, reached),
        over_scalar=quality(report, reached) - quality(scalar, reached),
        over_uniform=quality(report, reached) - quality(uniform, reached),
        pack_seconds=packed - start,
        unpack_seconds=unpacked,
        unpack_rate=4e-6 * report.weights / unpacked,
    )


def main() -> None:
    """Measure, print a table and store it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="safetensors files to measure as well")
    parser.add_argument("--bits", type=float, nargs="+", default=[4.0], help="rates [4]")
    parser.add_argument("--size", type=int, default=1024, help="side of the made-up matrices [1024]")
    parser.add_argument("--threads", type=int, default=2, help="threads of the search [2]")
    parser.add_argument("--json", type=Path, help="where to store the results")
    args = parser.parse_args()
    shipped = sorted((ROOT / "models").glob("*/*.safetensors"))
    rows = []
    for name, tensors in (*made_up(args.size), *from_files([*shipped, *args.files])):
        for bits in args.bits:
            row = measure(name, tensors, bits, args.threads)
            rows.append(row)
            print(
                f"{row.name}: {row.weights:,} weights, {row.bits:.2f} bits, {row.sqnr:.2f} dB, "
                f"+{row.over_scalar:.2f} dB over scalar, +{row.over_uniform:.2f} dB without classes, "
                f"pack {row.pack_seconds:.1f} s, unpack {row.unpack_rate:.0f} MB/s",
                flush=True,
            )
    if args.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
        text = json.dumps({**machine, "threads": args.threads, "rows": [asdict(row) for row in rows]}, indent=1)
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
