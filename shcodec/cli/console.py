"""What the commands print: results, notes and errors, each on its stream."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from shcodec.support.errors import MissingExtraError, ShcError, UsageError
from shcodec.support.text import one_line, shown


class StandardOutputError(OSError):
    """Standard output cannot be written: no file would fare better, so a batch ends."""


def prepare_streams() -> None:
    """Make the standard streams fit for any text: what their encoding lacks is escaped, and no error.

    A stream that is closed gets the null device in its place, since the next file to be opened would take its number,
    and messages of libraries would end up in that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape", "surrogatepass"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str, *, err: bool = False) -> None:
    """Write a line to stdout, or to stderr, if that is open.

    `click.echo` would not do: it goes around the streams that a progress bar puts in place to keep lines above it.

    Raises:
        StandardOutputError: stdout cannot be written. If stderr cannot, there is no way to say so.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if not err:
            raise StandardOutputError(error.errno, error.strerror, "standard output") from error


def give_up_stdout() -> None:
    """Discard what is left for stdout, which cannot be written: Python would try again at its end."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)


def report_error(message: str) -> None:
    """Write an error to stderr as one line."""
    say(f"shc: error: {shown(message)}", err=True)


def run_script(main: Callable[[], object]) -> None:
    """Run the main function of a script such as a benchmark: errors are one line on stderr, not a traceback.

    The exit code is 1, or 2 for wrong usage.
    """
    prepare_streams()
    try:
        main()
    except (ShcError, OSError) as error:
        say(f"{os.path.basename(sys.argv[0])}: error: {one_line(error)}", err=True)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None


def note(text: str) -> None:
    """Write a note to stderr: something that is no error."""
    say(f"shc: note: {shown(text)}", err=True)


def report_notes(path: str, notes: Sequence[str]) -> None:
    """Write what was changed in a picture on its way to stderr."""
    if notes:
        note(f"{shown(path)}: {', '.join(notes)}")


def details(sizes: Mapping[str, int], times: Mapping[str, float]) -> str:
    """Return the line of `--verbose` about one file: bytes of its parts, and seconds of what was done with it."""
    parts = ", ".join(f"{name} {size:,} B" for name, size in sizes.items())
    steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items())
    return "  " + "; ".join(text for text in (parts, steps) if text)


def print_json(value: Any, *, err: bool = False) -> None:
    """Write one value as one line of JSON; what JSON cannot hold becomes null (infinity) or text (paths, dates)."""
    import json

    from shcodec.support.finite import finite

    say(json.dumps(finite(value), default=str, allow_nan=False), err=err)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] | None = None) -> None:
    """Write aligned columns, two spaces apart: easy to read, and easy to cut with other tools.

    Args:
        header: names of the columns.
        rows: one text per column each.
        left: which columns begin at the left; the others end at the right. All of them by default.
    """
    lines = [tuple(map(_as_printed, line)) for line in (header, *rows)]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        gaps = (" " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
        cells = (
            cell + gap if left is None or column in left else gap + cell
            for column, (cell, gap) in enumerate(zip(line, gaps, strict=True))
        )
        say("  ".join(cells).rstrip())


def require_extra(command: str, extra: str, modules: Sequence[str]) -> None:
    """Make sure that the modules of an optional dependency are there, without importing them.

    Raises:
        MissingExtraError: at least one of them is absent.
    """
    if any(importlib.util.find_spec(module) is None for module in modules):
        raise MissingExtraError(f"shc {command} needs the extra '{extra}': pip install 'shcodec[{extra}]'")


def _as_printed(text: str) -> str:
    """Return a cell of a table as `say` puts it on stdout."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return shown(text.encode(encoding, "backslashreplace").decode(encoding))


def _width(text: str) -> int:
    """Count the columns of a terminal that a text takes: two for a wide character, none for a combining one."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )
