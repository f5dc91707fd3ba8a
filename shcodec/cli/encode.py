"""`shc encode`: pictures to .shc files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import click

from shcodec.cli.batch.files import Job, bytes_read, open_input, write_output
from shcodec.cli.batch.inputs import is_picture, is_shc
from shcodec.cli.batch.plan import plan
from shcodec.cli.batch.totals import Totals
from shcodec.cli.options import Conversion, complete_model, conversion_options, parse_quality, parse_size, pixels_option
from shcodec.support.errors import UsageError
from shcodec.support.limits import MAX_SIDE
from shcodec.support.progress import Report, unheard
from shcodec.support.text import shown

if TYPE_CHECKING:
    from shcodec.codec.request import Request


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
@conversion_options("picture")
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
    conversion: Conversion,
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
    planned = plan(paths, conversion.folder, ".shc", is_shc, is_picture)
    planned = conversion.pending(planned)
    zoo.load(chosen)
    totals = Totals()

    def finish(job: Job, done: tuple[Result, bytes]) -> None:
        result, data = done
        write_output(job, data, new=not conversion.force)
        totals.add(read=result.input_bytes, written=len(data), coded=len(data), pixels=result.width * result.height)
        asked = "" if result.beta_wanted is None else f" for {result.beta_wanted:g}"
        conversion.show(job, result, result.missed, f"; beta {result.beta:.1f}{asked}")

    work = partial(encode_one, request=request)
    conversion.run(planned, work, finish, totals)


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
    data, beta_byte, probes, missed = outcome.coded.data, outcome.coded.beta_byte, outcome.probes, outcome.missed
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
        beta=container.byte_to_beta(beta_byte),
        beta_wanted=request.wanted_beta,
        probes=probes,
        model=str(request.model),
        missed=missed,
        sizes=container.part_sizes(data),
        times=dict(zip(("reading", "encoding", "checking"), (b - a for a, b in pairwise(marks)), strict=True)),
        notes=picture.notes,
    )
    return result, data
