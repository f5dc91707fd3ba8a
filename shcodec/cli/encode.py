"""`shc encode`: pictures to .shc files."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import click

from shcodec.cli.console import print_json, report_notes, say, shown
from shcodec.cli.files import STDIO, Job, make_folder, open_input, plan, run_jobs, write_output
from shcodec.container import beta_to_byte, byte_to_beta


@dataclass(frozen=True)
class Result:
    """What `--json` tells of one picture; sizes in pixels and bytes, time in seconds, PSNR in dB."""

    input: str
    output: str
    width: int
    height: int
    bytes: int
    bpp: float
    psnr: float
    seconds: float
    beta: float
    model: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """The result line."""
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
  shc encode *.jpg -o packed
  shc encode - < photo.png > photo.shc""",
)
@click.argument("paths", nargs=-1, required=True, metavar="IMG... [OUT.shc]")
@click.option(
    "-b",
    "--beta",
    type=float,
    default=50.0,
    show_default=True,
    help="Trade of size for quality, 2 to 4096; larger gives smaller files.",
)
@click.option("-m", "--model", default=None, help="Name of the model; 'shc models' lists them.")
@click.option("-o", "folder", metavar="DIR", help="Put the outputs into this folder.")
@click.option("-f", "--force", is_flag=True, help="Overwrite outputs that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per picture.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    paths: tuple[str, ...],
    beta: float,
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
    beta_to_byte(beta)
    jobs = plan(paths, folder, ".shc", lambda path: path.lower().endswith(".shc"))

    from shcodec import zoo

    name = zoo.DEFAULT_MODEL if model is None else model
    zoo.load(name)
    make_folder(folder)

    def work(job: Job) -> None:
        result = encode_one(job, beta, name)
        if not quiet:
            # Where the file itself goes to stdout, words go to stderr.
            err = job.target == STDIO
            report_notes(job.source, result.notes)
            print_json(asdict(result), err=err) if as_json else say(str(result), err=err)

    run_jobs(jobs, work, force=force, quiet=quiet)


def encode_one(job: Job, beta: float, model: str) -> Result:
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
    data = codec.encode_array(picture.rgb, beta, model=model)
    seconds = time.perf_counter() - start
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
        beta=byte_to_beta(beta_to_byte(beta)),
        model=model,
        notes=picture.notes,
    )
