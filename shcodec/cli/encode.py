"""`shc encode`: pictures to .shc files."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import click

from shcodec.cli.batch import Spread, batch_options, exit_unless, output_options, pending, pixels_option, run
from shcodec.cli.console import details, print_json, report_notes, say, shown, work_bar
from shcodec.cli.files import Job, bytes_read, make_folder, open_input, plan, write_output
from shcodec.cli.inputs import STDIO, is_picture, is_shc
from shcodec.cli.quality import parse_quality
from shcodec.cli.totals import Totals
from shcodec.support.errors import UsageError
from shcodec.support.limits import MAX_SIDE
from shcodec.support.progress import Report, unheard

if TYPE_CHECKING:
    from shcodec.codec.request import Request

UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class Result:
    """What `--json` tells of one picture; sizes in pixels and bytes, times in seconds, PSNR in dB.

    `seconds` are those of encoding and checking; `times` and `sizes` go by step and by part of the file. `beta` is that
    of the file, `beta_wanted` what was asked for, None where that was a target. `probes` counts the files that were
    made on the way; `missed` tells how far the last is from what was wanted. `input_bytes` are those of the picture's
    file; None for a pipe.
    """

    input: str
    output: str
    input_bytes: int | None
    width: int
    height: int
    bytes: int
    bpp: float
    psnr: float
    seconds: float
    beta: float
    beta_wanted: float | None
    probes: int
    model: str
    missed: str
    sizes: dict[str, int]
    times: dict[str, float]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Return the result line."""
        return (
            f"{shown(self.input)} {self.width}x{self.height} -> {shown(self.output)} "
            f"{self.bytes:,} B {self.bpp:.3f} bpp {self.psnr:.1f} dB {self.seconds:.2f} s"
        )


def parse_size(ctx: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Bytes from "40000", "40k" or "1.5M": k is a thousand, M a million."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKM]?)B?", text)
    if match is None:
        raise click.BadParameter(f"'{text}' is not a number of bytes, like 40000, 40k or 1.5M")
    return int(float(match[1]) * UNITS[match[2].replace("K", "k")])


def complete_model(ctx: click.Context, option: click.Parameter, text: str) -> list[str]:
    """Names of models for the shell's completion."""
    from shcodec.model import zoo

    return [name for name in zoo.model_names() if name.startswith(text)]


@click.command(
    short_help="Compress pictures to .shc files.",
    epilog="""\b
Examples:
  shc encode photo.png
  shc encode photo.png small.shc --beta 300
  shc encode photo.png fine.shc -q 90
  shc encode photo.png --size 40k
  shc encode photo.png --psnr 32 --effort 6
  shc encode *.jpg -o packed --strip
  shc encode photos -o packed -j 0 --skip-existing
  shc encode - < photo.png > photo.shc""",
)
@click.argument("paths", nargs=-1, required=True, metavar="IMG|DIR... [OUT.shc]", type=click.Path(readable=False))
@click.option(
    "-b",
    "--beta",
    type=float,
    help="Trade of size for quality, 2 to 4096; larger gives smaller files.  [default: 50]",
)
@click.option(
    "-q",
    "--quality",
    callback=parse_quality,
    metavar="0-100",
    help="The same trade as other codecs name it: 100 is beta 2, 75 is beta 50, 0 is beta 4096.",
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
    help="How hard to try, 0 to 9: at equal beta a better picture in about as many bytes, at equal --psnr fewer bytes. "
    "From 7 on minutes, and with torch.  [default: 3]",
)
@click.option(
    "-m", "--model", default=None, shell_complete=complete_model, help="Name of the model; 'shc models' lists them."
)
@click.option("--strip", is_flag=True, help="Leave out metadata; turn as it says, and convert to sRGB.")
@pixels_option
@output_options
@batch_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per picture.")
@click.option("-v", "--verbose", is_flag=True, help="Print the sizes of parts and the times of steps as well.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def command(
    paths: tuple[str, ...],
    beta: float | None,
    quality: float | None,
    size: int | None,
    bpp: float | None,
    psnr: float | None,
    strict: bool,
    effort: int | None,
    model: str | None,
    strip: bool,
    max_pixels: int,
    folder: str | None,
    force: bool,
    skip_existing: bool,
    spread: Spread,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Compress pictures to .shc files.

    Takes any picture that Pillow reads. Of exactly two paths the second is the output if it ends in .shc; otherwise
    all are inputs, and the outputs lie beside them or in DIR. A folder stands for all pictures below it. "-" stands
    for standard input or output.
    """
    from shcodec.codec.request import ContradictionError, Request
    from shcodec.model import zoo

    chosen = zoo.DEFAULT_MODEL if model is None else model
    try:
        request = Request(chosen, beta, quality, size, bpp, psnr, effort, strict, strip, max_pixels)
    except ContradictionError:
        raise UsageError("--beta, --quality, --size, --bpp and --psnr exclude each other") from None
    planned = plan(paths, folder, ".shc", is_shc, is_picture)
    planned = pending(planned, force=force, skip_existing=skip_existing)
    zoo.load(chosen)
    make_folder(planned)
    totals = Totals()

    def finish(job: Job, done: tuple[Result, bytes]) -> None:
        result, data = done
        write_output(job, data, new=not force)
        totals.add(read=result.input_bytes, written=len(data), coded=len(data), pixels=result.width * result.height)
        if not quiet:
            # Where the file itself goes to stdout, words go to stderr.
            err = job.target == STDIO
            report_notes(job.source, result.notes)
            if result.missed:
                report_notes(job.source, (result.missed,))
            print_json(asdict(result), err=err) if as_json else say(str(result), err=err)
            if verbose and not as_json:
                beta = "" if result.beta_wanted is None else f" for {result.beta_wanted:g}"
                say(f"{details(result.sizes, result.times)}; beta {result.beta:.1f}{beta}", err=err)

    work = partial(encode_one, request=request)
    if len(planned.jobs) == 1 and spread.engine == "local" and not quiet:
        with work_bar() as report:
            well = run(planned, partial(work, report=report), finish, spread, quiet=quiet)
    else:
        well = run(planned, work, finish, spread, quiet=quiet)
    if not quiet:
        totals.report(planned, as_json=as_json)
    exit_unless(well)


def encode_one(job: Job, *, request: Request, report: Report = unheard) -> tuple[Result, bytes]:
    """Read and encode one picture; the PSNR is that of the decoded file.

    Returns:
        What there is to tell, and the file.

    Raises:
        ShcError: the picture cannot be read or encoded.
        OSError: the system refuses to read.
    """
    from shcodec import container
    from shcodec.codec import decoding, encoding
    from shcodec.pictures.picture import psnr
    from shcodec.pictures.reading import read_picture

    marks = [time.perf_counter()]
    with open_input(job) as file:
        picture = read_picture(file, strip=request.strip, max_pixels=request.max_pixels)
        input_bytes = bytes_read(file)
    marks.append(time.perf_counter())
    outcome = encoding.encode_picture(picture, request, report)
    marks.append(time.perf_counter())
    data, beta, probes, missed = (
        outcome.coded.data,
        container.byte_to_beta(outcome.coded.beta_byte),
        outcome.probes,
        outcome.missed,
    )
    del outcome  # its latent, which is large where the picture is
    quality = psnr(picture.samples, decoding.decode_picture(data, max_pixels=MAX_SIDE**2, report=report).samples)
    marks.append(time.perf_counter())
    height, width = picture.samples.shape[:2]
    result = Result(
        input=job.source,
        output=job.target,
        input_bytes=input_bytes,
        width=width,
        height=height,
        bytes=len(data),
        bpp=8 * len(data) / (width * height),
        psnr=quality,
        seconds=marks[3] - marks[1],
        beta=beta,
        beta_wanted=request.wanted_beta,
        probes=probes,
        model=str(request.model),
        missed=missed,
        sizes=container.part_sizes(data),
        times=dict(zip(("reading", "encoding", "checking"), (b - a for a, b in pairwise(marks)), strict=True)),
        notes=picture.notes,
    )
    return result, data
