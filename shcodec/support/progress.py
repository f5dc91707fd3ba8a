"""Progress of long work: the callback that reports it, and the bars on a terminal that show it.

Bars are drawn on stderr, and only where that is a terminal; rich, which draws them, is imported only then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

Report = Callable[[str, int, int], None]
"""Called with what is being done, how many steps of it are done, and how many there are."""


def unheard(what: str, done: int, total: int) -> None:
    """Ignore a report: the default where nobody watches."""


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is open, and a terminal."""
    return stream is not None and stream.isatty()


@contextmanager
def counting_bar(total: int, what: str = "", *, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Draw a bar that counts steps, with the time left; yields the function that says one is done.

    Args:
        total: number of steps.
        what: what is being done, in a word.
        shown: draw nothing if False.
    """
    if not (shown and total and is_terminal(sys.stderr)):
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    label = (TextColumn("{task.description}"),) if what else ()
    with _bar(*label, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def step_bar() -> Iterator[Report]:
    """Draw a bar for several kinds of steps, one at a time; it appears with the first of them. Yields its callback."""
    if not is_terminal(sys.stderr):
        yield unheard
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    bar = _bar(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
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


@contextmanager
def fraction_bar(line_every: float) -> Iterator[Callable[[float, str, str], None]]:
    """Draw a bar of the share of a budget that is spent; it stays when all is done.

    Yields a function that takes the share, 0 to 1, the phase of the work, and figures to be shown beside it.

    Args:
        line_every: seconds between the lines that are written instead where stderr is no terminal.
    """
    if not is_terminal(sys.stderr):
        last = time.monotonic()

        def tell(fraction: float, phase: str, figures: str) -> None:
            nonlocal last
            if time.monotonic() - last > line_every:
                last = time.monotonic()
                print(f"{fraction:6.1%}  {phase}  {figures}", file=sys.stderr)

        yield tell
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    label, figures_column = TextColumn("{task.description}"), TextColumn("{task.fields[figures]}")
    with _bar(label, BarColumn(), figures_column, TimeRemainingColumn(), transient=False) as bar:
        task = bar.add_task("", total=1.0, figures="")
        yield lambda fraction, phase, figures: bar.update(task, completed=fraction, description=phase, figures=figures)


def _bar(*columns: ProgressColumn, transient: bool = True) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    # Lines on a terminal must pass above the bar; a redirected stdout must reach its file untouched.
    above = is_terminal(sys.stdout)
    return Progress(*columns, console=Console(stderr=True), transient=transient, redirect_stdout=above)
