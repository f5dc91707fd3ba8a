"""How sigma, the hardness of the soft assignments, rises."""

from __future__ import annotations

from dataclasses import dataclass

from shcodec.quantize.annealing import after_gap, exponential
from shcodec.train.config import Annealing


@dataclass
class Sigma:
    """The current sigma and, for the gap rule, what it needs to go on after a resume."""

    settings: Annealing
    value: float
    first_gap: float | None = None
    last_gap: float = 0.0

    def by_budget(self, fraction: float) -> None:
        """Set sigma for a fraction (0..1) of the phase."""
        self.value = exponential(self.settings.start, self.settings.end, min(max(fraction, 0.0), 1.0))

    def by_gap(self, soft_loss: float, hard_loss: float, steps: int) -> None:
        """Move sigma by the gap relative to the hard loss, as a running mean; see `after_gap`.

        Args:
            soft_loss: loss as trained.
            hard_loss: loss with hard indices of the same batch.
            steps: steps since the phase began.
        """
        gap = (hard_loss - soft_loss) / max(hard_loss, 1e-9)
        self.last_gap = gap if self.first_gap is None else 0.9 * self.last_gap + 0.1 * gap
        if self.first_gap is None:
            self.first_gap = gap
        s = self.settings
        self.value = after_gap(
            self.value, self.last_gap, self.first_gap, steps, gain=s.gain, horizon=s.horizon, least=s.start
        )
