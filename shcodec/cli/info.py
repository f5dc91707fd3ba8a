"""`shc info`: what .shc files hold, read from their headers alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from shcodec.cli.console import print_json, say, shown
from shcodec.cli.files import read_shc, run_each

if TYPE_CHECKING:
    from shcodec.codec import FileInfo


@click.command(
    short_help="Show what .shc files hold.",
    epilog="""\b
Examples:
  shc info photo.shc
  shc info --json *.shc""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
def command(files: tuple[str, ...], as_json: bool) -> None:
    """Show what .shc files hold: size, model, beta and the bytes of every part. Loads no network."""
    from shcodec import codec

    def work(path: str) -> None:
        found = codec.info(read_shc(path))
        if as_json:
            print_json({"file": path, **asdict(found)})
        else:
            say(describe(path, found))

    run_each(files, work, str, quiet=True)


def describe(path: str, found: FileInfo) -> str:
    """A few aligned lines about one file."""
    parts = ", ".join(f"{name} {size:,}" for name, size in found.sizes.items())
    lines = {
        "picture": f"{found.width}x{found.height} {found.colour}",
        "size": f"{found.total:,} B, {found.bpp:.3f} bpp",
        "parts": f"{parts} B",
        "chunks": ", ".join(found.chunks) or "none",
        "beta": f"{found.beta:.1f}",
        "model": f"{found.model or 'not here'} (id {found.model_id})",
        "version": str(found.version),
    }
    return "\n".join([shown(path), *(f"  {name:<8} {text}" for name, text in lines.items())])
