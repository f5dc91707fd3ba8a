"""`shc net`: a neural network's weights to .shcn files and back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from shcodec.cli.batch.files import Job, descriptor_of, open_input, write_output
from shcodec.cli.batch.inputs import STDIO
from shcodec.cli.batch.plan import Plan, pending
from shcodec.cli.batch.run import Placement, exit_unless, run
from shcodec.cli.console import note, print_json, print_table, say
from shcodec.cli.options import parse_size
from shcodec.support.errors import UsageError
from shcodec.support.progress import step_bar
from shcodec.support.text import shown

if TYPE_CHECKING:
    from shcodec.netpack.api import NetInfo
    from shcodec.netpack.packing.report import PackReport

Result = TypeVar("Result")


@click.group(
    short_help="Compress the weights of neural networks.",
    epilog="""\b
Examples:
  shc net pack weights.safetensors --bits 3
  shc net info weights.shcn
  shc net unpack weights.shcn back.safetensors""",
)
def command() -> None:
    """Compress the weights of neural networks: safetensors to .shcn and back."""


@command.command(
    short_help="Compress a safetensors file.",
    epilog="""\b
Examples:
  shc net pack weights.safetensors
  shc net pack weights.safetensors small.shcn --bits 2.5
  shc net pack weights.safetensors --size 400k
  shc net pack weights.safetensors fine.shcn --sqnr 40""",
)
@click.argument("source", metavar="IN.safetensors", type=click.Path(readable=False))
@click.argument("target", metavar="[OUT.shcn]", required=False, type=click.Path(readable=False))
@click.option("--bits", type=float, metavar="B", help="Mean bits per quantised weight, at most.  [default: 4]")
@click.option("--size", callback=parse_size, metavar="BYTES", help="Size of the file, at most; 40k is 40000 bytes.")
@click.option("--sqnr", type=float, metavar="DB", help="Energy of the weights over that of their error, in dB.")
@click.option(
    "--weighting",
    type=click.Choice(("mse", "relative")),
    default="mse",
    show_default=True,
    help="What counts: the squared error of all weights alike (but for other orders of magnitude), or relative to the "
    "spread of each tensor.",
)
@click.option("--states", type=int, default=64, show_default=True, metavar="N", help="States of the trellis, 1 to 128.")
@click.option(
    "--fine-bits",
    type=int,
    default=8,
    show_default=True,
    metavar="N",
    help="Bits of mantissa that biases, norms and other small tensors keep.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite an output that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with a report on every tensor.")
@click.option("-v", "--verbose", is_flag=True, help="Print a line about every tensor as well.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def pack(
    source: str,
    target: str | None,
    bits: float | None,
    size: int | None,
    sqnr: float | None,
    weighting: str,
    states: int,
    fine_bits: int,
    force: bool,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Compress the tensors of a safetensors file.

    Floats of at least two axes are quantised; small tensors, biases and norms keep more of their precision, all other
    dtypes all of it. Elements far outside the rest, infinities and NaN are kept exactly. Names, dtypes, shapes and
    metadata are kept. "-" stands for standard input or output.
    """
    from shcodec.netpack.api import make_target, pack_report
    from shcodec.netpack.packing.plan import PackConfig

    wanted = make_target(bits, size, sqnr)
    config = PackConfig(states=states, weighting=weighting, fine_bits=fine_bits, threads=os.cpu_count() or 1)

    def work(job: Job) -> tuple[bytes, PackReport, float]:
        start = time.perf_counter()
        with step_bar() as report, open_input(job) as file:
            data, found = pack_report(file.read(), target=wanted, config=config, report=report)
        return data, found, time.perf_counter() - start

    def finish(job: Job, done: tuple[bytes, PackReport, float]) -> None:
        data, found, seconds = done
        write_output(job, data, new=not force)
        if quiet:
            return
        err = job.target == STDIO
        for text in (found.missed, *found.notes):
            if text:
                note(f"{shown(job.source)}: {shown(text)}")
        if as_json:
            print_json({"input": job.source, "output": job.target, "seconds": seconds, **asdict(found)}, err=err)
            return
        figures = [f"{found.bits:.2f} bits/weight"] if found.bits is not None else []
        figures += [f"{found.sqnr:.1f} dB"] if found.sqnr is not None else []
        figures += worst_figure(found)
        texts = (f"{found.weights:,} weights ->", shown(job.target), f"{found.total:,} B", *figures, f"{seconds:.2f} s")
        say(" ".join((shown(job.source), *texts)), err=err)
        if verbose:
            print_tensors(found, err=err)

    convert(source, target, ".shcn", force, work, finish)


@command.command(
    short_help="Decompress an .shcn file.",
    epilog="""\b
Examples:
  shc net unpack weights.shcn
  shc net unpack weights.shcn back.safetensors""",
)
@click.argument("source", metavar="FILE.shcn", type=click.Path(readable=False))
@click.argument("target", metavar="[OUT.safetensors]", required=False, type=click.Path(readable=False))
@click.option("--max-weights", type=click.IntRange(min=1), metavar="N", help="The most elements to accept.")
@click.option("-f", "--force", is_flag=True, help="Overwrite an output that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def unpack(source: str, target: str | None, max_weights: int | None, force: bool, as_json: bool, quiet: bool) -> None:
    """Decompress an .shcn file to a safetensors file. "-" stands for standard input or output."""
    from shcodec.netpack.api import unpack_safetensors
    from shcodec.netpack.packing.file import MAX_WEIGHTS

    def work(job: Job) -> tuple[bytes, float]:
        start = time.perf_counter()
        data = unpack_safetensors(read_shcn(job), max_weights=max_weights or MAX_WEIGHTS)
        return data, time.perf_counter() - start

    def finish(job: Job, done: tuple[bytes, float]) -> None:
        data, seconds = done
        write_output(job, data, new=not force)
        err = job.target == STDIO
        if as_json:
            print_json({"input": job.source, "output": job.target, "bytes": len(data), "seconds": seconds}, err=err)
        elif not quiet:
            say(f"{shown(job.source)} -> {shown(job.target)} {len(data):,} B {seconds:.2f} s", err=err)

    convert(source, target, ".safetensors", force, work, finish)


@command.command(
    short_help="Show what .shcn files hold.",
    epilog="""\b
Examples:
  shc net info weights.shcn
  shc net info --json *.shcn""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(readable=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
def info(files: tuple[str, ...], as_json: bool) -> None:
    """Show what .shcn files hold, without decompressing them."""
    from shcodec.netpack import api

    if STDIO in files and len(files) > 1:
        raise UsageError("- (standard input) goes alone")

    def finish(job: Job, found: NetInfo) -> None:
        print_json({"file": job.source, **asdict(found)}) if as_json else describe(job.source, found)

    plan = Plan(tuple(Job(path) for path in files))
    exit_unless(run(plan, lambda job: api.info(read_shcn(job)), finish, Placement(), quiet=as_json))


def convert(
    source: str,
    target: str | None,
    suffix: str,
    force: bool,
    work: Callable[[Job], Result],
    finish: Callable[[Job, Result], None],
) -> None:
    """Run a command for its one input; the output lies beside it unless it is named."""
    if target is None:
        target = STDIO if source == STDIO else str(Path(source).with_suffix(suffix))
    elif descriptor_of(target) == 1:
        target = STDIO
    plan = pending(Plan((Job(source, target),)), force=force, skip_existing=False)
    exit_unless(run(plan, work, finish, Placement(), quiet=True))


def read_shcn(job: Job) -> bytes:
    """Read an .shcn file whole, once its first bytes have shown that it is one.

    Raises:
        CorruptFileError: it does not begin like one.
        OSError: the system cannot read it.
    """
    from shcodec.netpack.packing.file import MAGIC, check_magic

    with open_input(job) as file:
        head = file.read(len(MAGIC))
        check_magic(head)
        return head + file.read()


def worst_figure(found: PackReport) -> list[str]:
    """Return the part of the result line about the tensor that has lost most, where there are others."""
    quantised = [tensor for tensor in found.tensors if tensor.sqnr is not None]
    worst = [tensor for tensor in quantised if tensor.name == found.worst and len(quantised) > 1]
    return [f"worst {tensor.sqnr:.1f} dB ({shown(tensor.name)})" for tensor in worst]


def print_tensors(found: PackReport, *, err: bool) -> None:
    """Print a table of how each tensor was coded."""
    if err:  # a table would go to stdout, where the file is
        return
    rows = [
        (
            shown(tensor.name),
            tensor.dtype,
            "x".join(map(str, tensor.shape)) or "scalar",
            tensor.coding,
            f"{tensor.bits:.2f}",
            "" if tensor.sqnr is None else f"{tensor.sqnr:.1f}",
            "" if tensor.sqnr is None else f"{tensor.zeroed:.1%}",
            str(tensor.exact or ""),
            f"{tensor.share:.1%}",
        )
        for tensor in found.tensors
    ]
    print_table(
        ("tensor", "dtype", "shape", "coding", "bits", "dB", "zeroed", "exact", "share"), rows, left=(0, 1, 2, 3)
    )


def describe(path: str, found: NetInfo) -> None:
    """Print a few aligned lines about one file, and a table of its tensors."""
    parts = ", ".join(f"{name} {size:,}" for name, size in found.sizes.items())
    bits = "" if found.bits is None else f", {found.bits:.2f} bits per quantised weight"
    lines = {
        "weights": f"{found.weights:,} in {len(found.tensors):,} tensors, {found.quantised:,} quantised",
        "size": f"{found.total:,} B of {found.unpacked:,} B ({found.unpacked / found.total:.1f} times smaller){bits}",
        "parts": f"{parts} B",
        "states": str(found.states or "none"),
        "worst": "not told" if found.worst is None else shown(found.worst),
        "metadata": ", ".join(map(shown, found.metadata)) or "none",
        "version": str(found.version),
    }
    say("\n".join([shown(path), *(f"  {name:<8} {text}" for name, text in lines.items())]))
    rows = [
        (
            shown(tensor.name),
            tensor.dtype,
            "x".join(map(str, tensor.shape)) or "scalar",
            tensor.coding,
            "" if tensor.step is None else f"{tensor.step:.3g}",
            "" if tensor.sqnr is None else f"{tensor.sqnr:.1f}" + (", nearly all 0" if tensor.gone else ""),
            str(tensor.exact or ""),
        )
        for tensor in found.tensors
    ]
    print_table(
        ("  tensor", "dtype", "shape", "coding", "step", "dB", "exact"), [("  " + row[0], *row[1:]) for row in rows]
    )
