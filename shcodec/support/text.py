"""Texts from outside, such as names of files and errors, made fit to be shown."""

from __future__ import annotations

import os


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path that is safe to print on one line: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in os.fspath(path))


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line; for the system's errors the file and the reason, without the number."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{shown(os.fsdecode(error.filename))}: " if isinstance(error.filename, (str, bytes)) else ""
        return where + error.strerror
    return shown(" ".join(str(error).split())) or type(error).__name__
