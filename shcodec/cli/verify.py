"""`shc verify`: are .shc files whole?"""

from __future__ import annotations

from functools import partial

import click

from shcodec.cli.batch import Spread, batch_options, exit_unless, pixels_option, run
from shcodec.cli.console import details, say, shown
from shcodec.cli.files import Job, Plan, read_shc
from shcodec.cli.inputs import gather_shc
from shcodec.container import MAX_PIXELS


@click.command(
    short_help="Check that .shc files are whole.",
    epilog="""\b
Examples:
  shc verify photo.shc
  shc verify *.shc && echo all fine
  shc verify archive -j 0 -q""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", type=click.Path(readable=False))
@pixels_option
@batch_options
@click.option("-v", "--verbose", is_flag=True, help="Print the sizes of the parts of every file as well.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(files: tuple[str, ...], max_pixels: int, spread: Spread, verbose: bool, quiet: bool) -> None:
    """Check the checksum of .shc files and that their symbols decode to the end. Exit code 0 if all are whole.

    A folder stands for all .shc files below it.
    """
    inputs, problems = gather_shc(files)
    plan = Plan(tuple(Job(file.path) for file in inputs), tuple(problems))

    def finish(job: Job, sizes: dict[str, int]) -> None:
        if not quiet:
            say(f"{shown(job.source)} OK")
            if verbose:
                say(details(sizes, {}))

    exit_unless(run(plan, partial(verify_one, max_pixels=max_pixels), finish, spread, quiet=quiet))


def verify_one(job: Job, *, max_pixels: int = MAX_PIXELS) -> dict[str, int]:
    """Checks one file; pictures of more than `max_pixels` are refused.

    Returns:
        The bytes of its parts.

    Raises:
        ShcError: what is wrong with it.
        OSError: the system cannot read it.
    """
    from shcodec import codec, container

    data = read_shc(job, max_pixels=max_pixels)
    codec.verify(data, max_pixels=max_pixels)
    return container.part_sizes(data)
