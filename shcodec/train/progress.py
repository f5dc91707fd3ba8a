"""Progress of a training: a bar on a terminal, a line now and then elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from shcodec.train.objective import Outcome
from shcodec.train.state import RunState

LINE_EVERY = 30.0  # seconds between lines where there is no terminal


class Progress:
    """Context manager around a bar that follows the fraction of the budget."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        self.bar = Bar(*columns, TimeRemainingColumn(), console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task("train", total=1.0, figures="")
        self.last_line = time.monotonic()

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, fraction: float, run: RunState, outcome: Outcome, pace: str) -> None:
        """Show the state after a step."""
        phase = run.phase.value
        loss = float(outcome.loss.detach())
        figures = f"{run.gpx:.3f} Gpx  loss {loss:.3f}  {outcome.bpp:.3f} bpp  {outcome.psnr:.2f} dB  {pace}"
        self.bar.update(self.task, completed=fraction, description=phase, figures=figures)
        if not self.console.is_terminal and time.monotonic() - self.last_line > LINE_EVERY:
            self.last_line = time.monotonic()
            print(f"{fraction:6.1%}  {phase}  {figures}", file=sys.stderr)
