"""`shc decode`: .shc files to pictures."""

from __future__ import annotations

import io
import time
from dataclasses import asdict, dataclass

import click

from shcodec.cli.console import print_json, say, shown
from shcodec.cli.files import STDIO, Job, make_folder, plan, read_shc, run_jobs, write_output
from shcodec.container import MAX_PIXELS


@dataclass(frozen=True)
class Result:
    """What `--json` tells of one file; sizes in pixels and bytes, time in seconds."""

    input: str
    output: str
    width: int
    height: int
    bytes: int
    bpp: float
    seconds: float

    def __str__(self) -> str:
        """The result line."""
        return (
            f"{shown(self.input)} {self.bytes:,} B {self.bpp:.3f} bpp -> "
            f"{shown(self.output)} {self.width}x{self.height} {self.seconds:.2f} s"
        )


@click.command(
    short_help="Decompress .shc files to pictures.",
    epilog="""\b
Examples:
  shc decode photo.shc
  shc decode photo.shc photo.webp
  shc decode *.shc -o pictures --format tiff
  shc decode - < photo.shc > photo.png""",
)
@click.argument("paths", nargs=-1, required=True, metavar="FILE... [OUT]")
@click.option("-o", "folder", metavar="DIR", help="Put the outputs into this folder.")
@click.option("-f", "--force", is_flag=True, help="Overwrite outputs that exist.")
@click.option(
    "--format",
    "format_name",
    metavar="SUFFIX",
    help="Kind of picture, such as png, webp, tiff or jpg.  [default: by the suffix of OUT, else png]",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse larger pictures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    paths: tuple[str, ...],
    folder: str | None,
    force: bool,
    format_name: str | None,
    max_pixels: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Decompress .shc files to pictures.

    Of exactly two paths the second is the output unless it ends in .shc; otherwise all are inputs, and the outputs lie
    beside them or in DIR. "-" stands for standard input or output.
    """
    from shcodec.pictures import format_for

    suffix = f".{format_name.lower().lstrip('.')}" if format_name else ".png"
    format_for(f"picture{suffix}")
    jobs = plan(paths, folder, suffix, lambda path: not path.lower().endswith(".shc"))
    by_suffix = format_name is None and jobs[0].target != STDIO
    kind = format_for(jobs[0].target if by_suffix else f"picture{suffix}")
    make_folder(folder)

    def work(job: Job) -> None:
        result = decode_one(job, kind, max_pixels)
        if not quiet:
            # Where the picture itself goes to stdout, words go to stderr.
            err = job.target == STDIO
            print_json(asdict(result), err=err) if as_json else say(str(result), err=err)

    run_jobs(jobs, work, force=force, quiet=quiet)


def decode_one(job: Job, kind: str, max_pixels: int) -> Result:
    """Reads, decodes and writes one file; the time is that of decoding, loading the model included.

    Args:
        job: the file and where the picture goes.
        kind: Pillow's name of the picture's format.
        max_pixels: larger pictures are refused before anything is allocated.

    Raises:
        ShcError: the file is damaged, too large, or of a model that is not here.
        OSError: the system refuses to read or write.
    """
    import numpy as np

    from shcodec import codec
    from shcodec.pictures import write_picture

    data = read_shc(job.source, max_pixels=max_pixels)
    start = time.perf_counter()
    samples = np.asarray(codec.decode(data, max_pixels=max_pixels))
    seconds = time.perf_counter() - start
    buffer = io.BytesIO()
    write_picture(samples, buffer, kind)
    write_output(job, buffer.getbuffer())
    height, width = samples.shape[:2]
    return Result(
        input=job.source,
        output=job.target,
        width=width,
        height=height,
        bytes=len(data),
        bpp=8 * len(data) / (width * height),
        seconds=seconds,
    )
