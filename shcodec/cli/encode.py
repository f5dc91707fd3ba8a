"""`shc encode`: pictures to .shc files."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import click

from shcodec.cli.console import print_json, report_notes, say, shown
from shcodec.cli.files import STDIO, Job, make_folder, open_input, plan, run_jobs, write_output
from shcodec.container import beta_to_byte, byte_to_beta
from shcodec.errors import UsageError

UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class Result:
    """What `--json` tells of one picture; sizes in pixels and bytes, time in seconds, PSNR in dB.

    `probes` counts the files that were made on the way; `missed` tells how far the last is from what was wanted.
    """

    input: str
    output: str
    width: int
    height: int
    bytes: int
    bpp: float
    psnr: float
    seconds: float
    beta: float
    probes: int
    model: str
    missed: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """The result line."""
        return (
            f"{shown(self.input)} {self.width}x{self.height} -> {shown(self.output)} "
            f"{self.bytes:,} B {self.bpp:.3f} bpp {self.psnr:.1f} dB {self.seconds:.2f} s"
        )


@dataclass(frozen=True)
class Wanted:
    """What the options ask of every file; at most one of the first four is given."""

    beta: float | None
    size: int | None
    bpp: float | None
    psnr: float | None
    effort: int | None
    strict: bool
    model: str

    def check(self) -> None:
        """Raises what is wrong with the options, before any picture is read."""
        from shcodec.effort import effort_of
        from shcodec.search import goal_of

        if sum(value is not None for value in (self.beta, self.size, self.bpp, self.psnr)) > 1:
            raise UsageError("--beta, --size, --bpp and --psnr exclude each other")
        if self.beta is not None:
            beta_to_byte(self.beta)
        elif (self.size, self.bpp, self.psnr) != (None, None, None):
            goal_of(1, size=self.size, bpp=self.bpp, psnr=self.psnr)
        effort_of(self.effort)


def parse_size(ctx: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Bytes from "40000", "40k" or "1.5M": k is a thousand, M a million."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKM]?)B?", text)
    if match is None:
        raise click.BadParameter(f"'{text}' is not a number of bytes, like 40000, 40k or 1.5M")
    return int(float(match[1]) * UNITS[match[2].replace("K", "k")])


@click.command(
    short_help="Compress pictures to .shc files.",
    epilog="""\b
Examples:
  shc encode photo.png
  shc encode photo.png small.shc --beta 300
  shc encode photo.png --size 40k
  shc encode photo.png --psnr 32 --effort 6
  shc encode *.jpg -o packed
  shc encode - < photo.png > photo.shc""",
)
@click.argument("paths", nargs=-1, required=True, metavar="IMG... [OUT.shc]")
@click.option(
    "-b",
    "--beta",
    type=float,
    help="Trade of size for quality, 2 to 4096; larger gives smaller files.  [default: 50]",
)
@click.option("--size", callback=parse_size, metavar="BYTES", help="Size of the file, at most; 40k is 40000 bytes.")
@click.option("--bpp", type=float, help="The same in bits per pixel.")
@click.option("--psnr", type=float, metavar="DB", help="PSNR of the decoded picture in dB.")
@click.option("--strict", is_flag=True, help="Fail where a size or a PSNR cannot be met.")
@click.option(
    "-e",
    "--effort",
    type=int,
    metavar="0-9",
    help="How hard to try, 0 to 9; from 7 on minutes, and with torch.  [default: 3]",
)
@click.option("-m", "--model", default=None, help="Name of the model; 'shc models' lists them.")
@click.option("-o", "folder", metavar="DIR", help="Put the outputs into this folder.")
@click.option("-f", "--force", is_flag=True, help="Overwrite outputs that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per picture.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    paths: tuple[str, ...],
    beta: float | None,
    size: int | None,
    bpp: float | None,
    psnr: float | None,
    strict: bool,
    effort: int | None,
    model: str | None,
    folder: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compress pictures to .shc files.

    Takes any picture that Pillow reads. Of exactly two paths the second is the output if it ends in .shc; otherwise
    all are inputs, and the outputs lie beside them or in DIR. "-" stands for standard input or output.
    """
    from shcodec import zoo

    wanted = Wanted(beta, size, bpp, psnr, effort, strict, zoo.DEFAULT_MODEL if model is None else model)
    wanted.check()
    jobs = plan(paths, folder, ".shc", lambda path: path.lower().endswith(".shc"))
    zoo.load(wanted.model)
    make_folder(folder)

    def work(job: Job) -> None:
        with refinement_bar(draw=len(jobs) == 1 and not quiet) as report:
            result = encode_one(job, wanted, report)
        if not quiet:
            # Where the file itself goes to stdout, words go to stderr.
            err = job.target == STDIO
            report_notes(job.source, result.notes)
            if result.missed:
                report_notes(job.source, (result.missed,))
            print_json(asdict(result), err=err) if as_json else say(str(result), err=err)

    run_jobs(jobs, work, force=force, quiet=quiet)


@contextmanager
def refinement_bar(*, draw: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr for the steps of the highest efforts, which appears with the first of them.

    Only one bar can be drawn at a time: with several pictures, the one that counts them.
    """
    if not draw or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())

    def report(done: int, total: int) -> None:
        if not bar.tasks:
            bar.start()
            bar.add_task("refining", total=total)
        bar.update(bar.task_ids[0], completed=done, total=total)

    try:
        yield report
    finally:
        bar.stop()


def encode_one(job: Job, wanted: Wanted, report: Callable[[int, int], None]) -> Result:
    """Reads, encodes and writes one picture; the PSNR is that of the decoded file, outside the time given.

    Raises:
        ShcError: the picture cannot be read or encoded.
        OSError: the system refuses to read or write.
    """
    from shcodec import codec
    from shcodec.pictures import psnr, read_picture

    with open_input(job.source) as file:
        picture = read_picture(file)
    start = time.perf_counter()
    found = codec.encode_found(
        picture.rgb,
        wanted.beta,
        model=wanted.model,
        size=wanted.size,
        bpp=wanted.bpp,
        psnr=wanted.psnr,
        effort=wanted.effort,
        strict=wanted.strict,
        report=report,
    )
    seconds = time.perf_counter() - start
    data = found.coded.data
    quality = psnr(picture.rgb, codec.decode_array(data))
    write_output(job, data)
    height, width = picture.rgb.shape[:2]
    return Result(
        input=job.source,
        output=job.target,
        width=width,
        height=height,
        bytes=len(data),
        bpp=8 * len(data) / (width * height),
        psnr=quality,
        seconds=seconds,
        beta=byte_to_beta(found.coded.beta_byte),
        probes=found.probes,
        model=wanted.model,
        missed=found.missed,
        notes=picture.notes,
    )
