"""Many files in one command: one after the other, in worker processes, or on a Dask cluster.

The work for a file is a function from its job to a result. It may run anywhere and writes nothing: what came of it is
written and printed here, in the process of the command. So a worker can be killed at any time and leaves no half file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from click.exceptions import Exit

from shcodec.cli.batch.files import Job
from shcodec.cli.batch.inputs import STDIO
from shcodec.cli.batch.plan import Plan
from shcodec.cli.console import StandardOutputError, note, report_error, require_extra
from shcodec.support.errors import ShcError, UsageError
from shcodec.support.progress import counting_bar
from shcodec.support.text import one_line, shown

if TYPE_CHECKING:
    from shcodec.cli.batch.workers import Outcome, Result

ENGINES = ("local", "dask")


@dataclass(frozen=True)
class Placement:
    """Where the work is done.

    Attributes:
        jobs: processes of this machine; 0 is one per core.
        engine: one of `ENGINES`.
        scheduler: address or scheduler file of a Dask cluster; None is what Dask's own configuration says.
        threads: of each worker's networks; 0 is one per core. This process's are set elsewhere.
    """

    jobs: int = 1
    engine: str = "local"
    scheduler: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse options that contradict one another."""
        if self.engine == "dask" and self.jobs != 1:
            raise UsageError("-j is for --engine local; a cluster uses all its workers")
        if self.engine == "local" and self.scheduler is not None:
            raise UsageError("--scheduler is for --engine dask")


def run(
    plan: Plan,
    work: Callable[[Job], Result],
    finish: Callable[[Job, Result], None],
    placement: Placement,
    *,
    quiet: bool,
) -> bool:
    """Do the work for each job and finish it here; a failure is reported and the rest still done.

    Args:
        plan: the jobs, and problems that were found before; those are reported first.
        work: see `workers.outcomes`.
        finish: writes and prints a result.
        placement: where the work is done.
        quiet: no progress bar, and no word about jobs that were left out.

    Returns:
        Whether all went well.

    Raises:
        UsageError: at once; wrong usage is the same for every job.
    """
    for text in () if quiet else plan.notes:
        note(text)
    for problem in plan.problems:
        report_error(problem)
    well = not plan.problems
    written: dict[tuple[int, int], Job] = {}
    with (
        counting_bar(len(plan.jobs), shown=not quiet and len(plan.jobs) > 1) as advance,
        contextlib.closing(_outcomes(work, plan.jobs, placement)) as outcomes,
    ):
        for job, outcome in outcomes:
            try:
                result = outcome()
                _check_not_written(job, written)
                finish(job, result)
                written |= dict.fromkeys(_identity(job), job)
            except (UsageError, StandardOutputError):
                raise  # no other job would fare better
            except Exception as error:  # whatever it is, the other files are still done
                _report(job, error)
                well = False
            advance()
    if plan.left_out and not quiet:
        note(f"{plan.left_out} left out, as their outputs are there already")
    return well


def _identity(job: Job) -> tuple[tuple[int, int], ...]:
    """Return device and inode of the output, the same under every name of the file; nothing if there is none."""
    if job.target == STDIO:
        return ()
    try:
        status = os.stat(job.target)
    except OSError:
        return ()
    return ((status.st_dev, status.st_ino),) if stat.S_ISREG(status.st_mode) else ()


def _check_not_written(job: Job, written: Mapping[tuple[int, int], Job]) -> None:
    """Refuse to replace what another job has written: on some disks a.shc and A.shc are one file."""
    for identity in _identity(job):
        if identity in written:
            other = written[identity]
            names = f"{shown(other.target)} and {shown(job.target)}"
            raise ShcError(f"has the output of {shown(other.source)}: {names} are one file")


def exit_unless(well: bool) -> None:
    """End the command with exit code 1 if something failed."""
    if not well:
        raise Exit(1)


def _outcomes(
    work: Callable[[Job], Result], jobs: Sequence[Job], placement: Placement
) -> Generator[tuple[Job, Outcome[Result]], None, None]:
    """Yield each job with its outcome, as it comes. A single job is done in this process, on all threads."""
    if placement.engine == "dask" and jobs:
        require_extra("--engine dask", "dask", ("joblib", "dask", "distributed"))
        from shcodec.cli.batch.cluster import cluster_outcomes

        yield from cluster_outcomes(work, jobs, placement.scheduler, placement.threads)
        return
    processes = min(placement.jobs or _cores(), len(jobs))
    if processes > 1:
        from shcodec.cli.batch import workers

        yield from workers.outcomes(work, jobs, processes, placement.threads)
    else:
        yield from ((job, functools.partial(work, job)) for job in jobs)


def _report(job: Job, error: Exception) -> None:
    """Report a job that failed, in one line."""
    where = shown(job.source)
    known = isinstance(error, (ShcError, OSError))
    if not known and os.environ.get("SHC_TRACEBACK"):
        raise error
    if isinstance(error, OSError) and error.filename:
        report_error(one_line(error))
    elif known:
        report_error(f"{where}: {one_line(error)}")
    elif isinstance(error, MemoryError):
        report_error(f"{where}: out of memory")
    elif isinstance(error, RecursionError):
        report_error(f"{where}: something is nested too deeply")
    else:
        what = f"{type(error).__name__}: {one_line(error)}"
        report_error(f"{where}: internal error: {what} (SHC_TRACEBACK=1 shows where)")


def _cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
