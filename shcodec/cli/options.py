"""Options that several commands share, and what encode and decode have in common besides."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, Final, Protocol, TypeVar

import click

from shcodec.cli.batch.files import Job
from shcodec.cli.batch.inputs import STDIO
from shcodec.cli.batch.plan import Plan, make_folder, pending
from shcodec.cli.batch.run import ENGINES, Placement, exit_unless, run
from shcodec.cli.batch.totals import Totals
from shcodec.cli.console import details, print_json, report_notes, say
from shcodec.support.limits import MAX_PIXELS
from shcodec.support.progress import step_bar

THREADS_VARIABLE: Final = "SHC_THREADS"
"""Where a model that is loaded looks for its number of threads."""
_MOST_THREADS: Final = 1024
_UNITS: Final = {"": 1, "k": 1_000, "M": 1_000_000}


def parse_size(ctx: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Return the bytes of "40000", "40k" or "1.5M": k is a thousand, M a million."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKM]?)B?", text)
    if match is None:
        raise click.BadParameter(f"'{text}' is not a number of bytes, like 40000, 40k or 1.5M")
    return int(float(match[1]) * _UNITS[match[2].replace("K", "k")])


def parse_quality(ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Return a number from 0 to 100; the error names --quiet, which -q stands for in other commands."""
    if text is None:
        return None
    try:
        quality = float(text)
    except ValueError:
        raise click.BadParameter(f"'{text}' is not a number from 0 to 100 (fewer words: --quiet)") from None
    if not 0 <= quality <= 100:
        raise click.BadParameter(f"{text} is not from 0 to 100")
    return quality


def complete_model(ctx: click.Context, option: click.Parameter, text: str) -> list[str]:
    """Return names of models for the shell's completion."""
    from shcodec.model import zoo

    return [name for name in zoo.model_names() if name.startswith(text)]


def pixels_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --max-pixels to a command: `max_pixels`."""
    option = click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=MAX_PIXELS,
        show_default=True,
        help="Refuse larger pictures.",
    )
    return option(command)


def threads_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option --threads, which a command gets as `threads`; `text` is its help."""
    return click.option("--threads", type=click.IntRange(0, _MOST_THREADS), metavar="N", help=text)


def with_threads(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --threads to a command, and set that number while the command runs."""

    @threads_option("Threads of the networks; 0: one per core.  [default: SHC_THREADS, else 0]")
    @functools.wraps(command)
    def on_threads(*args: Any, threads: int | None, **others: Any) -> Any:
        with threads_set(threads):
            return command(*args, **others)

    return on_threads


@contextmanager
def threads_set(number: int | None) -> Iterator[None]:
    """Set on how many threads networks run that are loaded in the block; None leaves that to the environment."""
    before = os.environ.get(THREADS_VARIABLE)
    if number is not None:
        os.environ[THREADS_VARIABLE] = str(number)
    try:
        yield
    finally:
        if number is not None:
            if before is None:
                del os.environ[THREADS_VARIABLE]
            else:
                os.environ[THREADS_VARIABLE] = before


def batch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add -j, --threads, --engine and --scheduler to a command, which gets them as one argument `placement`."""

    @click.option(
        "-j",
        "--jobs",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        metavar="N",
        help="Do N files at a time, in processes of one thread each; 0: one per core.",
    )
    @threads_option(
        "Threads of the networks; 0: one per core.  [default: SHC_THREADS, else 0; 1 in every process of -j]"
    )
    @click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="local",
        show_default=True,
        help="Work on this machine or on a Dask cluster.",
    )
    @click.option("--scheduler", metavar="ADDRESS", help="The cluster: tcp://HOST:PORT, or its scheduler file.")
    @functools.wraps(command)
    def with_placement(
        *args: Any, jobs: int, threads: int | None, engine: str, scheduler: str | None, **others: Any
    ) -> Any:
        placement = Placement(jobs, engine, scheduler, 1 if threads is None else threads)
        with threads_set(threads):
            return command(*args, placement=placement, **others)

    return with_placement


class Result(Protocol):
    """What is reported of one file that was encoded or decoded: a dataclass whose `str` is the result line."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what was changed in the picture on its way."""

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of the parts of the .shc file."""

    @property
    def times(self) -> dict[str, float]:
        """Seconds of every step."""


Done = TypeVar("Done")


@dataclass(frozen=True)
class Conversion:
    """The options that encode and decode share, and the way from their jobs to the exit code.

    Attributes:
        folder: where the outputs go, as given by -o.
        force: whether outputs that exist are overwritten.
        skip_existing: whether jobs with an output are left out.
        placement: where the work is done.
        as_json, verbose, quiet: what is printed about every file.
    """

    folder: str | None
    force: bool
    skip_existing: bool
    placement: Placement
    as_json: bool
    verbose: bool
    quiet: bool

    def pending(self, plan: Plan) -> Plan:
        """Return the plan without what is done already; see `pending` of `shcodec.cli.batch.plan`."""
        return pending(plan, force=self.force, skip_existing=self.skip_existing)

    def show(self, job: Job, result: Result, missed: str = "", more: str = "") -> None:
        """Print notes and result of one file.

        Args:
            job: the file.
            result: what is reported of it.
            missed: a target that was not met.
            more: added to the line of `--verbose`.
        """
        if self.quiet:
            return
        err = job.target == STDIO  # where the file itself goes to stdout, words go to stderr
        report_notes(job.source, result.notes)
        if missed:
            report_notes(job.source, (missed,))
        if self.as_json:
            print_json(asdict(result), err=err)
            return
        say(str(result), err=err)
        if self.verbose:
            say(details(result.sizes, result.times) + more, err=err)

    def run(self, plan: Plan, work: Callable[..., Done], finish: Callable[[Job, Done], None], totals: Totals) -> None:
        """Do the work for every job, finish each, and report the totals; a single job shows how far it is.

        Args:
            plan: what is to be done.
            work: makes the result of a job; takes a callback `report` as well.
            finish: writes and prints the result of a job, and adds it to the totals.
            totals: of the batch.

        Raises:
            Exit: something failed.
        """
        make_folder(plan)
        if len(plan.jobs) == 1 and self.placement.engine == "local" and not self.quiet:
            with step_bar() as report:
                well = run(plan, partial(work, report=report), finish, self.placement, quiet=False)
        else:
            well = run(plan, work, finish, self.placement, quiet=self.quiet)
        if not self.quiet:
            totals.report(plan, as_json=self.as_json)
        exit_unless(well)


def conversion_options(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options that encode and decode share to a command, which gets them as one argument `conversion`.

    Args:
        what: what each object of --json is about, for the help.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "-o",
            "folder",
            metavar="DIR|FILE",
            help="Put the outputs into DIR, where the tree of a folder is kept; or the only output into FILE.",
        )
        @click.option("-f", "--force", is_flag=True, help="Overwrite outputs that exist.")
        @click.option(
            "--skip-existing", is_flag=True, help="Leave out what has its output already: go on with a batch."
        )
        @batch_options
        @click.option("--json", "as_json", is_flag=True, help=f"Print one JSON object per {what}.")
        @click.option("-v", "--verbose", is_flag=True, help="Print the sizes of parts and the times of steps as well.")
        @click.option("--quiet", is_flag=True, help="Print errors only.")
        @functools.wraps(command)
        def with_conversion(
            *args: Any,
            folder: str | None,
            force: bool,
            skip_existing: bool,
            placement: Placement,
            as_json: bool,
            verbose: bool,
            quiet: bool,
            **others: Any,
        ) -> Any:
            conversion = Conversion(folder, force, skip_existing, placement, as_json, verbose, quiet)
            return command(*args, conversion=conversion, **others)

        return with_conversion

    return add
