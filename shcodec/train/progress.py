"""Progress of a training: a bar on a terminal, a line now and then elsewhere; always on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shcodec.support.progress import fraction_bar
from shcodec.train.objective import Outcome
from shcodec.train.state import RunState

LINE_EVERY = 30.0  # seconds between lines where there is no terminal


@contextmanager
def progress() -> Iterator[Callable[[float, RunState, Outcome, str], None]]:
    """Yield a function that shows the state after a step: share of the budget, run, outcome and pace."""
    with fraction_bar(LINE_EVERY) as bar:

        def show(fraction: float, run: RunState, outcome: Outcome, pace: str) -> None:
            loss = float(outcome.loss.detach())
            quality = f"{outcome.bpp:.3f} bpp  {outcome.psnr:.2f} dB"
            bar(fraction, run.phase.value, f"{run.gpx:.3f} Gpx  loss {loss:.3f}  {quality}  {pace}")

        yield show
