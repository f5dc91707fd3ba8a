"""Measures how quick the codec is: whole commands with their peak memory, and coding inside a process by threads.

    python benchmarks/speed.py [--picture FILE] [--model NAME] [--out benchmarks/speed.json]

All figures are medians. The rate of a dense 3x3 convolution in ONNX Runtime, taken in the same run, says what the
machine gave at the time. Needs the extras `bench` and `train`; without --picture, Kodak in the folder SHC_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from script import make_parser, make_table, write_results

from shcodec import container
from shcodec.bench.datasets import find_dataset
from shcodec.cli.console import run_script
from shcodec.codec import decoding, encoding
from shcodec.model import zoo
from shcodec.model.networks import Model, load_onnxruntime
from shcodec.pictures.picture import Pixels
from shcodec.pictures.reading import read_picture
from shcodec.symbols import stream
from shcodec.symbols.grid import Grid

BETAS = (5.0, 50.0, 500.0)
"""Rates at which coding is timed; a higher rate has more symbols."""

COMMAND_BETA = 50.0
"""Beta of the file that the commands read: the default of `shc encode`."""

# Starts a command and prints its seconds and the peak of its memory. The system counts a parent's memory towards the
# child that it starts, so the parent must be small: this is all that it does.
LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - start
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss]))
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--picture", type=Path, help="the picture to code; the first of Kodak if not given")
    parser.add_argument("--model", default=zoo.DEFAULT_MODEL)
    parser.add_argument("--repeat", type=int, default=9, help="runs that each median is taken over")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("speed.json"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    picture = options.picture or find_dataset("kodak").pictures[0].path
    rgb = read_picture(picture).rgb
    if options.worker:
        print(json.dumps(measure_process(rgb, options.model, options.repeat)))
        return
    document = {
        "picture": picture.name,
        "width": rgb.shape[1],
        "height": rgb.shape[0],
        "model": options.model,
        "model_id": zoo.card(options.model)["id"],
        "commands": measure_commands(rgb, options.model, options.repeat),
        "threads": {str(count): in_worker(picture, options, count) for count in (1, 2)},
    }
    print_tables(document, Console())
    write_results(options.out, document, __file__)


def measure_commands(rgb: Pixels, model: str, repeat: int) -> dict[str, dict[str, float]]:
    """Time whole commands, from the start of the process to its end.

    Returns:
        Median seconds and peak memory in megabytes by command.
    """
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "picture.shc")
        file.write_bytes(encoding.encode_array(rgb, COMMAND_BETA, model=model))
        output = Path(scratch, "picture.png")
        commands = {
            "shc decode": ["decode", "--force", "--quiet", str(file), str(output)],
            "shc info": ["info", str(file)],
            "shc --help": ["--help"],
        }
        for name, command in commands.items():
            runs = [launch([sys.executable, "-m", "shcodec", *command]) for _ in range(repeat)]
            results[name] = {
                "seconds": statistics.median(seconds for seconds, _ in runs),
                "peak_mb": max(peak for _, peak in runs),
            }
    return results


def launch(command: Sequence[str]) -> tuple[float, float]:
    """Run a command on its own; return its seconds and its peak memory in megabytes.

    Raises:
        RuntimeError: if the command fails.
    """
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *command], capture_output=True, text=True, check=True
    )
    code, seconds, peak = json.loads(finished.stdout)
    if code:
        raise RuntimeError(f"{shlex.join(command)} failed: {finished.stderr.strip()}")
    # Linux counts in kilobytes, macOS in bytes.
    return seconds, peak / (1e6 if sys.platform == "darwin" else 1e3)


def in_worker(picture: Path, options: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Run `measure_process` in a process of its own, since libraries fix their threads when they are loaded."""
    count = str(threads)
    environment = {**os.environ, "SHC_THREADS": count, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    command = [sys.executable, __file__, "--worker", "--picture", str(picture), "--model", options.model]
    finished = subprocess.run(
        [*command, "--repeat", str(options.repeat)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def measure_process(rgb: Pixels, model: str, repeat: int) -> dict[str, Any]:
    """Time coding inside this process, on as many threads as the environment says.

    Returns:
        `dense_3x3_gmac_s`, and by beta: megapixels a second encoded and decoded, the share of the decoding time that
        is not spent in networks, symbols and bytes.
    """
    megapixels = rgb.shape[0] * rgb.shape[1] / 1e6
    betas = {}
    for beta in BETAS:
        data = encoding.encode_array(rgb, beta, model=model)
        decoding.decode_array(data)
        encode_s = statistics.median(seconds(partial(encoding.encode_array, rgb, beta, model=model), repeat))
        decode_s, network_s = [], []
        for _ in range(repeat):
            with network_clock() as spent:
                decode_s += seconds(partial(decoding.decode_array, data), 1)
            network_s.append(sum(spent))
        betas[f"{beta:g}"] = {
            "encode_mp_s": megapixels / encode_s,
            "decode_mp_s": megapixels / statistics.median(decode_s),
            "not_networks": statistics.median(1 - n / d for n, d in zip(network_s, decode_s, strict=True)),
            "symbols": count_symbols(data),
            "bytes": len(data),
        }
    threads = int(os.environ.get("SHC_THREADS", "0"))
    return {"dense_3x3_gmac_s": dense_rate(threads, repeat), "betas": betas}


def seconds(work: Callable[[], object], repeat: int) -> list[float]:
    """Time a function several times."""
    spent = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return spent


@contextmanager
def network_clock() -> Iterator[list[float]]:
    """Collect the seconds that models spend in ONNX Runtime."""
    spent: list[float] = []
    run = Model._run

    def timed(self: Model, graph: str, **inputs: Any) -> list[Any]:
        start = time.perf_counter()
        outputs = run(self, graph, **inputs)
        spent.append(time.perf_counter() - start)
        return outputs

    Model._run = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        Model._run = run  # type: ignore[method-assign]


def count_symbols(data: bytes) -> int:
    """Count what the entropy coder decodes from a file: hyper indices and indices of codewords."""
    file = container.unpack(data)
    tables = zoo.load_by_id(file.model_id).tables
    z, _, passes = stream.read(tables, file.payload, file.beta_byte, Grid.of(file.height, file.width))
    return (0 if z is None else z.size) + sum(len(group) for indices in passes for group in indices)


def dense_rate(threads: int, repeat: int) -> float:
    """Measure a dense 3x3 convolution in ONNX Runtime: 4 layers, 128 channels, 96x64 positions; in GMAC/s."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    onnxruntime = load_onnxruntime()
    channels, height, width, layers = 128, 64, 96, 4
    shape = [1, channels, height, width]
    generator = np.random.default_rng(0)
    weights = [generator.normal(0, 0.03, (channels, channels, 3, 3)).astype(np.float32) for _ in range(layers)]
    graph = helper.make_graph(
        [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1]) for i in range(layers)],
        "dense",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x0": generator.normal(0, 1, shape).astype(np.float32)}
    session.run(None, feed)
    macs = layers * channels * channels * 9 * height * width
    return macs / statistics.median(seconds(partial(session.run, None, feed), 3 * repeat)) / 1e9


def print_tables(document: dict[str, Any], console: Console) -> None:
    """Print what was measured."""
    size = f"{document['picture']}, {document['width']}x{document['height']}, model {document['model']}"
    commands = make_table(f"Whole commands: {size}", ("command", "seconds", "peak MB"))
    for name, figures in document["commands"].items():
        commands.add_row(name, f"{figures['seconds']:.3f}", f"{figures['peak_mb']:.0f}")
    headers = ("threads", "beta", "encode MP/s", "decode MP/s", "not networks", "symbols", "bytes", "3x3 GMAC/s")
    process = make_table("Inside a process", headers)
    for threads, figures in document["threads"].items():
        for beta, row in figures["betas"].items():
            process.add_row(
                threads,
                beta,
                f"{row['encode_mp_s']:.2f}",
                f"{row['decode_mp_s']:.2f}",
                f"{100 * row['not_networks']:.0f} %",
                f"{row['symbols']:,}",
                f"{row['bytes']:,}",
                f"{figures['dense_3x3_gmac_s']:.0f}",
            )
    for table in (commands, process):
        console.print(table)


if __name__ == "__main__":
    run_script(main)
