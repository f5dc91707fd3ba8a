"""How sigma, the hardness of the soft assignments, rises."""

from __future__ import annotations

from dataclasses import dataclass

from shcodec.train.config import Annealing

GAP_EVERY = 10  # steps between two measurements of the gap


@dataclass
class Sigma:
    """The current sigma and, for the gap rule, what it needs to go on after a resume."""

    settings: Annealing
    value: float
    first_gap: float | None = None
    last_gap: float = 0.0

    def by_budget(self, fraction: float) -> None:
        """Exponential from `start` to `end` in the fraction (0..1) of the phase."""
        s = self.settings
        self.value = s.start * (s.end / s.start) ** min(max(fraction, 0.0), 1.0)

    def by_gap(self, soft_loss: float, hard_loss: float, steps: int) -> None:
        """Move sigma by the error between the gap and its target decay: the paper's rule.

        gap(t) = hard loss - soft loss, here relative to the hard loss; target gap(0) * T / (T + t);
        sigma += K_G * (gap - target), never downwards below its start.

        Args:
            soft_loss: loss as trained.
            hard_loss: loss with hard indices of the same batch.
            steps: steps since the phase began.
        """
        gap = (hard_loss - soft_loss) / max(hard_loss, 1e-9)
        self.last_gap = gap if self.first_gap is None else 0.9 * self.last_gap + 0.1 * gap
        if self.first_gap is None:
            self.first_gap = gap
        target = self.first_gap * self.settings.horizon / (self.settings.horizon + steps)
        self.value = max(self.value + self.settings.gain * (self.last_gap - target), self.settings.start)
