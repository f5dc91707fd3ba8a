"""`shc verify`: are .shc files whole?"""

from __future__ import annotations

from functools import partial

import click

from shcodec.cli.batch.files import Job, read_shc
from shcodec.cli.batch.inputs import gather_shc
from shcodec.cli.batch.plan import Plan
from shcodec.cli.batch.run import Placement, exit_unless, run
from shcodec.cli.batch.totals import Totals
from shcodec.cli.console import details, print_json, say
from shcodec.cli.options import batch_options, pixels_option
from shcodec.support.errors import ShcError
from shcodec.support.limits import MAX_PIXELS
from shcodec.support.text import one_line, shown


@click.command(
    short_help="Check that .shc files are whole.",
    epilog="""\b
Examples:
  shc verify photo.shc
  shc verify *.shc && echo all fine
  shc verify archive -j 0 -q
  shc verify --json archive""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", type=click.Path(readable=False))
@pixels_option
@batch_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file, whole or not.")
@click.option("-v", "--verbose", is_flag=True, help="Print the sizes of the parts of every file as well.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    files: tuple[str, ...], max_pixels: int, placement: Placement, as_json: bool, verbose: bool, quiet: bool
) -> None:
    """Check the checksum of .shc files and that their symbols decode to the end. Exit code 0 if all are whole.

    A folder stands for all .shc files below it.
    """
    inputs, problems = gather_shc(files)
    plan = Plan(tuple(Job(file.path) for file in inputs), tuple(problems))
    totals = Totals()

    def finish(job: Job, found: dict[str, int] | ShcError | OSError) -> None:
        wrong = found if isinstance(found, Exception) else None
        sizes = {} if isinstance(found, Exception) else found
        if as_json and not quiet:
            error = None if wrong is None else one_line(wrong)
            print_json({"file": job.source, "ok": wrong is None, "error": error, "sizes": sizes})
        if wrong is not None:
            raise wrong
        totals.add(read=sum(sizes.values()))
        if not (quiet or as_json):
            say(f"{shown(job.source)} OK")
            if verbose:
                say(details(sizes, {}))

    well = run(plan, partial(verify_one, max_pixels=max_pixels), finish, placement, quiet=quiet)
    if not quiet:
        totals.report(plan, as_json=as_json)
    exit_unless(well)


def verify_one(job: Job, *, max_pixels: int = MAX_PIXELS) -> dict[str, int] | ShcError | OSError:
    """Check one file; pictures of more than `max_pixels` are refused.

    Returns:
        The bytes of its parts, or what is wrong with it: an error of the system or our own.
    """
    from shcodec import container
    from shcodec.codec import inspection

    try:
        data = read_shc(job, max_pixels=max_pixels)
        inspection.verify(data, max_pixels=max_pixels)
        return container.part_sizes(data)
    except (ShcError, OSError) as error:
        return error
