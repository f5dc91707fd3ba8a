"""numpy's BLAS on one thread: thin matrices are multiplied slower on several, by far when cores are busy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

_LOCK = threading.Lock()  # the limit is the process's: two threads must not restore each other's


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS to one thread in a `with` block or a decorated function: one at a time, not nested."""
    with _LOCK, _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
