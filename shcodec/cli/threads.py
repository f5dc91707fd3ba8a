"""The option --threads: how many the networks of this process run on."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

VARIABLE: Final = "SHC_THREADS"
"""Where a model that is loaded looks."""
_MOST: Final = 1024


def threads_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option, as an argument `threads`; `text` is its help."""
    return click.option("--threads", type=click.IntRange(0, _MOST), metavar="N", help=text)


def with_threads(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option to a command, which works on so many threads and need not know."""

    @threads_option("Threads of the networks; 0: one per core.  [default: SHC_THREADS, else 0]")
    @functools.wraps(command)
    def on_threads(*args: Any, threads: int | None, **others: Any) -> Any:
        with threads_set(threads):
            return command(*args, **others)

    return on_threads


@contextmanager
def threads_set(number: int | None) -> Iterator[None]:
    """Lets the networks that are loaded meanwhile run on so many threads; None leaves it to the environment."""
    before = os.environ.get(VARIABLE)
    if number is not None:
        os.environ[VARIABLE] = str(number)
    try:
        yield
    finally:
        if number is not None:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before
