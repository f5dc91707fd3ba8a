"""`shc decode`: .shc files to pictures."""

from __future__ import annotations

import io
import re
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import click

from shcodec.cli.batch.files import Job, read_shc, write_output
from shcodec.cli.batch.inputs import STDIO, is_shc
from shcodec.cli.batch.plan import plan
from shcodec.cli.batch.totals import Totals
from shcodec.cli.options import Conversion, conversion_options, parse_quality, pixels_option
from shcodec.support.errors import CorruptFileError
from shcodec.support.progress import Report, unheard
from shcodec.support.text import shown


@dataclass(frozen=True)
class Result:
    """What `--json` tells of one file; sizes in pixels and bytes, times in seconds.

    `seconds` are those of decoding, loading the model included, and of making the picture's file; `times` and `sizes`
    go by step and by part of the file. `width` and `height` are those of the picture that was written, `output_bytes`
    its file's.
    `damaged` are left, top, width and height of tiles that `--keep-going` painted grey.
    """

    input: str
    output: str
    output_bytes: int
    width: int
    height: int
    bytes: int
    bpp: float
    seconds: float
    sizes: dict[str, int]
    times: dict[str, float]
    notes: tuple[str, ...]
    damaged: tuple[tuple[int, int, int, int], ...]

    def __str__(self) -> str:
        """Return the result line."""
        return (
            f"{shown(self.input)} {self.bytes:,} B {self.bpp:.3f} bpp -> "
            f"{shown(self.output)} {self.width}x{self.height} {self.seconds:.2f} s"
        )


Region = tuple[int, int, int, int]


def parse_region(ctx: click.Context, option: click.Parameter, text: str | None) -> Region | None:
    """Return left, top, width and height from "X,Y,W,H"."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
    if match is None:
        raise click.BadParameter(f"'{text}' is not X,Y,W,H in pixels, like 0,0,800,600")
    left, top, width, height = (int(number) for number in match.groups())
    return left, top, width, height


@click.command(
    short_help="Decompress .shc files to pictures.",
    epilog="""\b
Examples:
  shc decode photo.shc
  shc decode photo.shc photo.webp
  shc decode photo.shc mail.jpg -q 80
  shc decode *.shc -o pictures --format tiff
  shc decode huge.shc corner.png --region 0,0,800,600
  shc decode archive -o pictures -j 0 --skip-existing
  shc decode - < photo.shc > photo.png""",
)
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR... [OUT]", type=click.Path(readable=False))
@click.option(
    "--format",
    "format_name",
    metavar="SUFFIX",
    help="Kind of picture, such as png, webp, tiff or jpg.  [default: by the suffix of OUT, else png]",
)
@click.option(
    "-q",
    "--quality",
    callback=parse_quality,
    metavar="0-100",
    help="Quality of a JPEG (else 95), AVIF (else 90) or WebP picture (else lossless).",
)
@pixels_option
@click.option(
    "--region",
    callback=parse_region,
    metavar="X,Y,W,H",
    help="Decode only W x H pixels from column X and row Y on.",
)
@click.option("--keep-going", is_flag=True, help="Paint what is damaged in a large picture grey, and save the rest.")
@click.option("--quick", is_flag=True, help="Show the picture sooner and not quite as well, where its model can.")
@conversion_options("file")
def command(
    paths: tuple[str, ...],
    format_name: str | None,
    quality: float | None,
    max_pixels: int,
    region: Region | None,
    keep_going: bool,
    quick: bool,
    conversion: Conversion,
) -> None:
    """Decompress .shc files to pictures.

    Of exactly two paths the second is the output unless it ends in .shc; otherwise all are inputs, and the outputs lie
    beside them or in DIR. A folder stands for all .shc files below it. "-" stands for standard input or output.
    """
    from shcodec.pictures.writing import check_quality, format_for

    suffix = f".{format_name.lower().lstrip('.')}" if format_name else ".png"
    kind = format_for(f"picture{suffix}")
    planned = plan(paths, conversion.folder, suffix, lambda path: not is_shc(path), is_shc)
    if format_name is None and planned.jobs and planned.jobs[0].target != STDIO:
        kind = format_for(planned.jobs[0].target)
    if quality is not None:
        check_quality(kind)
    planned = conversion.pending(planned)
    totals = Totals()

    def finish(job: Job, done: tuple[Result, bytes]) -> None:
        result, picture = done
        write_output(job, picture, new=not conversion.force)
        conversion.show(job, result)
        if result.damaged:
            places = "; ".join(",".join(map(str, box)) for box in result.damaged)
            raise CorruptFileError(f"damaged, and grey in what was saved: {places} (left, top, width, height)")
        pixels = round(8 * result.bytes / result.bpp)  # of the whole picture, where a region was written
        totals.add(read=result.bytes, written=len(picture), coded=result.bytes, pixels=pixels)

    work = partial(
        decode_one,
        kind=kind,
        quality=quality,
        max_pixels=max_pixels,
        region=region,
        keep_going=keep_going,
        quick=quick,
    )
    conversion.run(planned, work, finish, totals)


def decode_one(
    job: Job,
    *,
    kind: str,
    max_pixels: int,
    quality: float | None = None,
    region: Region | None = None,
    keep_going: bool = False,
    quick: bool = False,
    report: Report = unheard,
) -> tuple[Result, bytes]:
    """Read and decode one file.

    Args:
        job: the file and where the picture goes.
        kind: Pillow's name of the picture's format.
        max_pixels: larger pictures are refused before anything is allocated.
        quality: of the picture's file, 0 to 100; None is what `write_picture` takes.
        region: left, top, width and height of what is wanted.
        keep_going: paint damaged tiles grey.
        quick: as for `shcodec.decode`.
        report: told how the work goes on.

    Returns:
        What there is to tell, and the picture as a file of that format.

    Raises:
        ShcError: the file is damaged, too large, or of a model that is not here.
        OSError: the system refuses to read.
    """
    from shcodec import container
    from shcodec.codec import decoding
    from shcodec.pictures.conversions import ORIENTED, upright_size
    from shcodec.pictures.writing import write_picture

    marks = [time.perf_counter()]
    data = read_shc(job, max_pixels=max_pixels)
    marks.append(time.perf_counter())
    decoded = decoding.decode_picture(
        data, max_pixels=max_pixels, region=region, keep_going=keep_going, quick=quick, report=report
    )
    image = decoded.image()
    marks.append(time.perf_counter())
    buffer = io.BytesIO()
    notes = write_picture(image, buffer, kind, quality=quality)
    width, height = upright_size(image) if ORIENTED in notes else image.size
    marks.append(time.perf_counter())
    result = Result(
        input=job.source,
        output=job.target,
        output_bytes=buffer.getbuffer().nbytes,
        width=width,
        height=height,
        bytes=len(data),
        bpp=8 * len(data) / (decoded.file.width * decoded.file.height),
        seconds=marks[3] - marks[1],
        sizes={} if decoded.damaged else container.part_sizes(data),
        times=dict(zip(("reading", "decoding", "writing"), (b - a for a, b in pairwise(marks)), strict=True)),
        notes=notes,
        damaged=decoded.damaged,
    )
    return result, buffer.getvalue()
