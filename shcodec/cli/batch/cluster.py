"""A Dask cluster as the engine of a batch, through joblib's backend. Needs the extra `dask`.

Files travel with the work in both directions: the workers need this package and its models, but no common disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import dask
import joblib
from distributed import Client
from distributed.scheduler import KilledWorker
from joblib._dask import DaskDistributedBackend

from shcodec.cli.batch.files import Job
from shcodec.cli.batch.workers import Outcome, Reply, Result, reply_to
from shcodec.support.errors import ShcError, UsageError
from shcodec.support.text import one_line, shown

_TIMEOUT = 10.0
"""Seconds to wait for the scheduler, and then for its first worker."""


def cluster_outcomes(
    work: Callable[[Job], Result], jobs: Sequence[Job], scheduler: str | None, threads: int = 1
) -> Iterator[tuple[Job, Outcome[Result]]]:
    """Do the work for every job on the cluster; see `workers.outcomes`.

    Args:
        work: see there.
        jobs: their inputs are read here, a few ahead of the workers.
        scheduler: address of the cluster's scheduler or the path of its scheduler file; None asks Dask's configuration.
        threads: of the networks of each worker.

    Raises:
        UsageError: it is nowhere said where the scheduler is.
        ShcError: it does not answer, or has no workers.
    """
    tasks = (joblib.delayed(_reply)(work, number, _carried(job), threads) for number, job in enumerate(jobs))
    where = _address(scheduler)
    with _silence(), _connected(where) as client:
        parallel = joblib.Parallel(
            n_jobs=-1,
            batch_size=1,
            return_as="generator_unordered",
            backend=_Backend(client=client, wait_for_workers_timeout=_TIMEOUT),
        )
        try:
            replies = parallel(tasks)
        except TimeoutError:
            raise ShcError(f"the Dask cluster at {where} has no workers") from None
        with contextlib.closing(replies):
            try:
                for number, reply in replies:
                    yield jobs[number], reply.unwrap
            except CancelledError:
                raise ShcError(f"lost the Dask scheduler at {where}") from None


class _Backend(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's backend, but for one thing: it hears of tasks that the cluster gave up, and not only of those it did.

    Otherwise joblib (1.6) waits for ever for a task whose workers were killed.
    """

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Hand one task to the cluster."""
        [(_, (_, number, *_), _)] = func.items  # one call of `_reply` each
        future = super().submit(func, callback)

        def listen(done: Future[Any]) -> None:
            error = done.exception()
            if error is not None:
                died = isinstance(error, KilledWorker)
                why = "the workers died that ran it (out of memory?)" if died else one_line(error)
                callback([(number, Reply(None, ShcError(f"the cluster gave it up: {why}")))])

        future.add_done_callback(listen)
        return future


def _reply(work: Callable[[Job], Any], number: int, job: Job | Exception, threads: int) -> tuple[int, Reply]:
    """Do one job on the cluster; returns its number and what came of it."""
    return number, Reply(None, job) if isinstance(job, Exception) else reply_to(work, job, threads)


def _carried(job: Job) -> Job | Exception:
    """Return a job with its input, or why that cannot be read: joblib asks for it where an error would be lost."""
    try:
        return job.with_content()
    except Exception as error:  # reported with the job's outcome
        return error


def _address(scheduler: str | None) -> str:
    """Return address or file of the scheduler.

    Raises:
        UsageError: there is none, or it looks like neither.
    """
    where = scheduler or dask.config.get("scheduler-address", None)
    if where is None:
        raise UsageError("--engine dask needs --scheduler ADDRESS, or DASK_SCHEDULER_ADDRESS in the environment")
    if not os.path.isfile(where) and re.fullmatch(r"\w+://.+:\d+", where) is None:
        raise UsageError(f"--scheduler {shown(where)}: neither an address like tcp://HOST:PORT nor a scheduler file")
    return str(where)


@contextlib.contextmanager
def _connected(where: str) -> Iterator[Client]:
    """Yield a connection to the scheduler, closed without waiting for what was not done."""
    named = {"scheduler_file": where} if os.path.isfile(where) else {"address": where}
    try:
        client = Client(**named, timeout=_TIMEOUT, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, KeyError) as error:
        raise ShcError(f"no Dask scheduler at {shown(where)}: {one_line(error)}") from error
    try:
        yield client
    finally:
        client.close(timeout=1)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress logs and warnings of Dask and joblib; what matters reaches the user as an error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
