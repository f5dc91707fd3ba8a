"""`shc compare`: how near coded pictures are to their original, in figures and to the eye."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from shcodec.cli.batch.files import Job, open_input, read_shc, write_output
from shcodec.cli.batch.inputs import STDIO, check_names
from shcodec.cli.batch.plan import Plan
from shcodec.cli.batch.run import Placement, exit_unless, run
from shcodec.cli.console import print_json, print_table
from shcodec.cli.options import pixels_option, with_threads
from shcodec.support.errors import ShcError, UsageError
from shcodec.support.limits import MAGIC, MAX_PIXELS
from shcodec.support.text import shown

if TYPE_CHECKING:
    from shcodec.pictures.picture import Pixels

SUFFIXES = (".png", ".html")


@dataclass(frozen=True)
class Comparison:
    """What is told of one file; MS-SSIM is None where it is not defined: sides under 161."""

    file: str
    bytes: int
    bpp: float
    psnr: float
    ms_ssim_db: float | None

    @property
    def row(self) -> tuple[str, ...]:
        """The line of the table."""
        similarity = "" if self.ms_ssim_db is None else f"{self.ms_ssim_db:.2f}"
        return shown(self.file), f"{self.bytes:,}", f"{self.bpp:.3f}", f"{self.psnr:.2f}", similarity


@click.command(
    short_help="Compare coded pictures with their original.",
    epilog="""\b
Examples:
  shc compare photo.png photo.shc
  shc compare photo.png small.shc photo.jpg photo.avif --out crops.png
  shc compare photo.png *.shc --out crops.html
  shc compare --json photo.png photo.shc""",
)
@click.argument("original", type=click.Path(readable=False))
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(readable=False))
@click.option(
    "--out",
    metavar="FILE",
    help="Show the parts that differ most side by side: as a picture (.png) or as a page to switch (.html).",
)
@pixels_option
@click.option("--quick", is_flag=True, help="Show .shc files as 'shc decode --quick' does.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the output if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
@with_threads
def command(
    original: str, files: tuple[str, ...], out: str | None, max_pixels: int, quick: bool, force: bool, as_json: bool
) -> None:
    """Compare coded pictures with their original: bytes, bits per pixel, PSNR and MS-SSIM.

    Takes .shc files and any picture that Pillow reads. What is compared are the samples as they are stored, not turned
    by EXIF, without alpha, 8 bits each.
    """
    from shcodec.cli import sheet

    check_names((original, *files))
    if STDIO in (original, *files):
        raise UsageError("- (standard input) cannot be compared; name files")
    if out is not None:
        check_output(out, (original, *files), force=force)
    try:
        _, reference = load(Job(original), max_pixels)
    except ShcError as error:
        raise type(error)(f"{shown(original)}: {error}") from error
    kept: list[sheet.Version] = []
    found: list[Comparison] = []

    def finish(job: Job, done: tuple[Comparison, Pixels]) -> None:
        told, rgb = done
        found.append(told)
        if as_json:
            print_json(asdict(told))
        if out is not None:
            caption = f"{told.bytes:,} B, {told.bpp:.3f} bpp, {told.psnr:.2f} dB"
            kept.append(sheet.Version(shown(job.source), caption, rgb))

    work = partial(compare_one, reference=reference, max_pixels=max_pixels, quick=quick)
    well = run(Plan(tuple(map(Job, files))), work, finish, Placement(), quiet=as_json)
    if found and not as_json:
        rows = [told.row for told in found]
        print_table(("file", "bytes", "bpp", "PSNR dB", "MS-SSIM dB"), rows, left=(0,))
    if kept and out is not None:
        versions = (sheet.Version(shown(original), "original", reference), *kept)
        write_output(Job(original, out), sheet.render(versions, out))
    exit_unless(well)


def check_output(out: str, inputs: Iterable[str], *, force: bool) -> None:
    """Raise an error if the name of the output is wrong, before any work."""
    if not out.lower().endswith(SUFFIXES):
        raise UsageError(f"--out {shown(out)}: neither {' nor '.join(SUFFIXES)}")
    if os.path.isdir(out):
        raise UsageError(f"the output {shown(out)} is a folder")
    if os.path.realpath(out) in map(os.path.realpath, inputs):
        raise UsageError(f"the output {shown(out)} is an input as well")
    if os.path.exists(out) and not force:
        raise ShcError(f"{shown(out)}: exists already (-f overwrites it)")


def load(job: Job, max_pixels: int = MAX_PIXELS, *, quick: bool = False) -> tuple[int, Pixels]:
    """Read a picture, of this format (perhaps with the quick network) or another, of at most `max_pixels`.

    Returns:
        Bytes of the file, and its samples, (H, W, 3) uint8.
    """
    from shcodec.codec import decoding
    from shcodec.pictures.reading import read_picture

    with open_input(job) as file:
        head = file.read(len(MAGIC))
        if not file.seekable():  # a pipe, which can be opened once
            job = replace(job, content=head + file.read())
        size = os.fstat(file.fileno()).st_size if job.content is None else len(job.content)
    if head == MAGIC:
        data = read_shc(job, max_pixels=max_pixels)
        return len(data), decoding.decode_array(data, max_pixels=max_pixels, quick=quick)
    with open_input(job) as file:
        return size, read_picture(file, max_pixels=max_pixels).rgb


def compare_one(
    job: Job, *, reference: Pixels, max_pixels: int = MAX_PIXELS, quick: bool = False
) -> tuple[Comparison, Pixels]:
    """Read one file and compare it.

    Args:
        job: names the file.
        reference: the original, (H, W, 3) uint8.
        max_pixels: larger pictures are refused.
        quick: as for `shcodec.decode`.

    Returns:
        The figures, and the samples of the file.

    Raises:
        ShcError: the file cannot be read, or is of another size.
    """
    from shcodec.pictures.picture import psnr
    from shcodec.pictures.similarity import ms_ssim_db

    size, rgb = load(job, max_pixels, quick=quick)
    if rgb.shape != reference.shape:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (rgb, reference)]
        raise ShcError(f"{sizes[0]} pixels, but the original has {sizes[1]}")
    told = Comparison(
        file=job.source,
        bytes=size,
        bpp=8 * size / (rgb.shape[0] * rgb.shape[1]),
        psnr=psnr(reference, rgb),
        ms_ssim_db=ms_ssim_db(reference, rgb),
    )
    return told, rgb
