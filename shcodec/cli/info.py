"""`shc info`: what .shc files hold, read without a network."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from shcodec.cli.batch.files import Job, read_shc
from shcodec.cli.batch.inputs import gather_shc
from shcodec.cli.batch.plan import Plan
from shcodec.cli.batch.run import Placement, exit_unless, run
from shcodec.cli.console import print_json, print_table, say
from shcodec.support.text import shown

if TYPE_CHECKING:
    from shcodec.codec.inspection import FileInfo


@click.command(
    short_help="Show what .shc files hold.",
    epilog="""\b
Examples:
  shc info photo.shc
  shc info archive
  shc info --json *.shc""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", type=click.Path(readable=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
def command(files: tuple[str, ...], as_json: bool) -> None:
    """Show what .shc files hold: size, model, beta and the bytes of every part. Loads no network.

    Several files are shown as a table. A folder stands for all .shc files below it.
    """
    inputs, problems = gather_shc(files)
    plan = Plan(tuple(Job(file.path) for file in inputs), tuple(problems))
    rows: list[tuple[str, ...]] = []

    def finish(job: Job, found: FileInfo) -> None:
        if as_json:
            print_json({"file": job.source, **asdict(found)})
        elif len(inputs) == 1:
            say(describe(job.source, found))
        else:
            rows.append(summarise(job.source, found))

    well = run(plan, info_of, finish, Placement(), quiet=as_json)
    if rows:
        print_table(("file", "bytes", "size", "mode", "bpp", "beta", "model", "extras"), rows, left=(0, 6, 7))
    exit_unless(well)


def info_of(job: Job) -> FileInfo:
    """Return what one file holds."""
    from shcodec.codec import inspection

    return inspection.info(read_shc(job))


def summarise(path: str, found: FileInfo) -> tuple[str, ...]:
    """Return the line of the table about one file."""
    return (
        shown(path),
        f"{found.total:,}",
        f"{found.width}x{found.height}",
        found.mode,
        f"{found.bpp:.3f}",
        f"{found.beta:.1f}",
        found.model or f"(id {found.model_id})",
        " ".join(found.metadata),
    )


def describe(path: str, found: FileInfo) -> str:
    """Return a few aligned lines about one file."""
    parts = ", ".join(f"{name} {size:,}" for name, size in found.sizes.items())
    lines = {
        "picture": f"{found.width}x{found.height} {found.mode}",
        "size": f"{found.total:,} B, {found.bpp:.3f} bpp",
        "parts": f"{parts} B",
        "chunks": ", ".join(found.chunks) or "none",
        "metadata": ", ".join(found.metadata) or "none",
        "beta": f"{found.beta:.1f} (quality {found.quality:.0f})",
        "model": f"{found.model or 'not here'} (id {found.model_id})",
        "version": str(found.version),
    }
    return "\n".join([shown(path), *(f"  {name:<8} {text}" for name, text in lines.items())])
