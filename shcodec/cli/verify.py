"""`shc verify`: are .shc files whole?"""

from __future__ import annotations

import click

from shcodec.cli.console import say, shown
from shcodec.cli.files import read_shc, run_each


@click.command(
    short_help="Check that .shc files are whole.",
    epilog="""\b
Examples:
  shc verify photo.shc
  shc verify *.shc && echo all fine""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(files: tuple[str, ...], quiet: bool) -> None:
    """Check the checksum of .shc files and that their symbols decode to the end. Exit code 0 if all are whole."""
    from shcodec import codec

    def work(path: str) -> None:
        codec.verify(read_shc(path))
        if not quiet:
            say(f"{shown(path)} OK")

    run_each(files, work, str, quiet=quiet)
