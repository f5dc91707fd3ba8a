"""Worker processes of one thread each, or of as many as are asked for.

Each is connected by a pipe of its own. Hence it is known on which item a killed one was at work, the others go on, and
when this process ends, however it does, the workers notice and end as well. (The pools of concurrent.futures and of
joblib break as a whole when one worker is lost, and leave theirs behind when the parent is killed.)
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar, cast

from shcodec.support.errors import ShcError

Item = TypeVar("Item")
Result = TypeVar("Result")

Outcome = Callable[[], Result]
"""Called in the process that asked for the work: returns the result or raises what went wrong."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Reply:
    """What came of one item: the error if there was one, else the result."""

    result: Any
    error: Exception | None = None

    def unwrap(self) -> Any:
        """Return the result, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.result


def reply_to(work: Callable[[Item], Any], item: Item, threads: int = 1) -> Reply:
    """Do the work for one item inside a worker; whatever goes wrong is part of the reply, which can be pickled."""
    # before the work imports numpy, and before a model is loaded
    os.environ.update(_ONE_THREAD, SHC_THREADS=str(threads))
    try:
        return Reply(work(item))
    except Exception as error:  # it is raised again where it can be reported
        if os.environ.get("SHC_TRACEBACK"):
            error.add_note(traceback.format_exc())
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # pickling calls what the error's class defines
            return Reply(None, RuntimeError(f"{type(error).__name__}: {error}"))
        return Reply(None, error)


def outcomes(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int, threads: int = 1
) -> Iterator[tuple[Item, Outcome[Result]]]:
    """Do the work for every item in processes of its own and yield each with its outcome as it comes.

    Close the iterator (`contextlib.closing`) to end the processes before all is done.

    Args:
        work: can be pickled, as can the items, the results and the errors. It must write nothing: a worker may be
            killed at any moment.
        items: what to work on.
        processes: how many at a time.
        threads: of the networks of each; 0 is one per core.
    """
    waiting = deque(items)
    team: dict[Connection, SpawnProcess] = {}
    in_hand: dict[Connection, Item] = {}
    try:
        while waiting or in_hand:
            while waiting and len(team) < processes:
                pipe = _start_worker(work, team, threads)
                in_hand[pipe] = _hand_over(waiting.popleft(), pipe)
            for pipe in cast(list[Connection], wait(in_hand)):
                item = in_hand.pop(pipe)
                try:
                    reply = pipe.recv()
                except (EOFError, OSError):
                    reply = Reply(None, ShcError(_ending(team.pop(pipe))))
                    pipe.close()
                else:
                    if waiting:
                        in_hand[pipe] = _hand_over(waiting.popleft(), pipe)
                yield item, reply.unwrap
    finally:
        # They hold nothing that could be lost, so there is no need to wait until they have ended what they do.
        for worker in team.values():
            worker.kill()
        for pipe, worker in team.items():
            worker.join()
            pipe.close()


def _start_worker(work: Callable[[Item], Any], team: dict[Connection, SpawnProcess], threads: int) -> Connection:
    """Start a worker and add it to the team; Ctrl-C interrupts before or after that, and never the worker."""
    context = multiprocessing.get_context("spawn")  # a fork would copy thread pools in an unknown state
    with _without_interrupts():
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, work, threads), daemon=True)
        process.start()
        theirs.close()  # the worker alone holds it, so that its end is seen here
        team[ours] = process
    return ours


def _hand_over(item: Item, pipe: Connection) -> Item:
    """Send an item to a worker; that it is gone shows when its reply is waited for."""
    with contextlib.suppress(OSError):
        pipe.send(item)
    return item


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C in the block, and for ever in processes that are started there: they inherit the signal mask."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started inside, it would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, work: Callable[[Any], Any], threads: int) -> None:
    """Answer items with replies until the pipe is closed: all that a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            pipe.send(reply_to(work, pipe.recv(), threads))
        except (EOFError, OSError):  # `reply_to` raises neither
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _ending(worker: SpawnProcess) -> str:
    """Say how a worker ended that should not have."""
    worker.join()
    code = worker.exitcode or 0
    if code >= 0:
        return f"the worker process ended with exit code {code}"
    hint = "; out of memory?" if code == -9 else ""
    return f"the worker process was killed (signal {-code}{hint})"
