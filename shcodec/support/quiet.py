"""Warnings kept quiet for a while, also with several threads."""

from __future__ import annotations

import threading
import warnings

from shcodec.support.errors import ShcWarning


class Quiet:
    """A context in which no warnings are shown but our own, which another thread may just be about to give.

    Python's filters belong to the whole process, and `warnings.catch_warnings` in several threads at once would leave
    them as they never were. Here the first thread in sets them, and the last one out puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                for category in Warning.__subclasses__():
                    if category is not ShcWarning:
                        warnings.simplefilter("ignore", category)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)
