"""What the commands print: results, notes, errors and a progress bar, each on its stream."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import os
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from shcodec.support.errors import MissingExtraError, ShcError, UsageError
from shcodec.support.progress import Report, unheard
from shcodec.support.text import one_line as one_line
from shcodec.support.text import shown as shown

if TYPE_CHECKING:
    from rich.progress import TaskID


class StandardOutputError(OSError):
    """Standard output cannot be written: no file would fare better, so a batch ends."""


def prepare_streams() -> None:
    """Make the standard streams fit for any text: what their encoding lacks is escaped and not an error.

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


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is open, and a terminal."""
    return stream is not None and stream.isatty()


def say(text: str, *, err: bool = False) -> None:
    """Write a line to stdout, or to stderr, if that is open.

    Not `click.echo`: that goes around the streams which a progress bar puts in place to keep lines out of its way.

    Raises:
        StandardOutputError: stdout cannot be written. Of stderr there is nobody to tell.
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
    """Send what is left of stdout nowhere: it cannot be written, and Python would try again at its end."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)


def report_error(message: str) -> None:
    """Write one line of error to stderr, whatever the message says."""
    say(f"shc: error: {shown(message)}", err=True)


def run_script(main: Callable[[], object]) -> None:
    """Run the main function of a script such as a benchmark: errors are one line on stderr, not a traceback.

    The exit code is 1, or 2 for wrong usage.
    """
    prepare_streams()
    try:
        main()
    except (ShcError, OSError) as error:
        say(f"{Path(sys.argv[0]).name}: error: {one_line(error)}", err=True)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None


def note(text: str) -> None:
    """Write something to stderr that is no error."""
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
    say(json.dumps(_finite(value), default=str, allow_nan=False), err=err)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] | None = None) -> None:
    """Write aligned columns, two spaces apart: as easy to read as to cut with other tools.

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


@contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Yield a progress bar on stderr with the time left, for several files; yields the function that says one is done.

    Nothing is drawn for a single file, with `quiet`, or where stderr is no terminal.
    """
    if quiet or total < 2 or not is_terminal(sys.stderr):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    # Lines on a terminal must pass above the bar; a redirected stdout must reach its file untouched.
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    above = is_terminal(sys.stdout)
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=above) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


@contextmanager
def work_bar() -> Iterator[Report]:
    """Yield a progress bar on stderr for several steps on a single picture; it appears with the first of them."""
    if not is_terminal(sys.stderr):
        yield unheard
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=is_terminal(sys.stdout))
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if total < 2:
            return
        bar.start()
        for other, task in tasks.items():
            bar.update(task, visible=other == what)
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    try:
        yield report
    finally:
        bar.stop()


def _as_printed(text: str) -> str:
    """Return a cell of a table as `say` puts it on stdout."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return shown(text.encode(encoding, "backslashreplace").decode(encoding))


def _width(text: str) -> int:
    """Columns of a terminal that a text takes: two for a wide sign, none for one that sits on another."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def _finite(value: Any) -> Any:
    """Replace infinities and NaN, which JSON does not know, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
