"""A watch over a run: one that goes wrong ends with a clear message, if possible within its first minute."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from shcodec.support.errors import ShcError

JUDGED_AFTER = 3  # looks; the first one, with everything that is done once, does not count for the speed
RISEN = 2.0  # times the first loss


@dataclass
class Watch:
    """Speed and loss of a run, from look to look.

    Attributes:
        least_speed: steps per second below which a run is given up after the third look; None: whatever the speed.
        speed: steps per second between the last two looks, 0 before the second.
    """

    least_speed: float | None = None
    speed: float = 0.0
    looks: list[tuple[int, float]] = field(default_factory=list)
    first_loss: float = 0.0

    def look(self, step: int, seconds: float, loss: float) -> None:
        """Take note of a run's state.

        Args:
            step: steps done.
            seconds: spent so far.
            loss: mean since the last look.

        Raises:
            ShcError: the loss is not finite; or, where a least speed is given, the run is slower or its loss rises.
        """
        if not math.isfinite(loss):
            raise ShcError(f"step {step}: the loss is not finite any more; try a smaller learning rate")
        if self.looks:
            last_step, last_seconds = self.looks[-1]
            self.speed = (step - last_step) / max(seconds - last_seconds, 1e-9)
        else:
            self.first_loss = loss
        if len(self.looks) < JUDGED_AFTER:
            self.looks.append((step, seconds))
            if len(self.looks) == JUDGED_AFTER and self.least_speed is not None:
                self._judge(loss)
        else:
            self.looks[-1] = (step, seconds)

    def _judge(self, loss: float) -> None:
        (first, start), (last, end) = self.looks[0], self.looks[-1]
        speed = (last - first) / max(end - start, 1e-9)
        if self.least_speed is not None and speed < self.least_speed:
            raise ShcError(f"given up at step {last}: {speed:.3g} steps/s, {self.least_speed:g} were asked for")
        if loss > RISEN * self.first_loss:
            raise ShcError(f"given up at step {last}: the loss rose from {self.first_loss:.4g} to {loss:.4g}")

    def figures(self, pixels: int) -> str:
        """Return the speed and memory in words.

        Args:
            pixels: of one step.
        """
        text = f"{self.speed:.1f} steps/s  {self.speed * pixels / 1e6:.1f} MP/s"
        if torch.cuda.is_available():
            text += f"  {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
        return text
