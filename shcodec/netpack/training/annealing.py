"""How sigma, the hardness of a network's soft assignments, rises: exponentially, or after the gap."""

from __future__ import annotations

from dataclasses import dataclass

from shcodec.quantize.annealing import GAP_EVERY, after_gap, exponential
from shcodec.support.errors import UsageError


@dataclass(frozen=True)
class Annealing:
    """A schedule of sigma, in units of the inverse squared distance between neighbouring codewords at the start.

    Attributes:
        rule: "exponential", sigma is multiplied by the same factor in every step; or "gap", sigma follows the
            difference between the gap = loss of hard weights - loss of soft weights and its target,
            gap(0) * T / (T + t) (Agustsson et al. 2017).
        start: Sigma at first.
        end: Sigma at the end of the exponential rule.
        firm: Share of the steps after which weights are their cheapest codewords, and gradients pass straight through
            to them; from 1 on, they are soft to the end.
        gain: By how much sigma grows for each unit by which the gap exceeds its target.
        horizon: T, in steps.
    """

    rule: str = "exponential"
    start: float = 1.0
    end: float = 30.0
    firm: float = 0.5
    gain: float = 50.0
    horizon: float = 500.0

    def __post_init__(self) -> None:
        """Raise UsageError for what makes no sense."""
        if self.rule not in ("exponential", "gap"):
            raise UsageError(f"the rule of annealing must be exponential or gap, not {self.rule!r}")
        if not (0 < self.start <= self.end and self.gain > 0 and self.horizon > 0):
            raise UsageError("sigma must be positive and rise, gain and horizon must be positive")
        if not self.firm >= 0:
            raise UsageError("the share of steps with soft weights must not be negative")

    def after(self, sigma: float, step: int, steps: int) -> float:
        """Return sigma of a step, 0..steps-1, given that of the step before."""
        if self.rule == "gap":
            return sigma
        return exponential(self.start, self.end, step / max(steps - 1, 1))

    def is_firm(self, step: int, steps: int) -> bool:
        """Whether weights are their cheapest codewords in a step, 0..steps-1."""
        return step >= self.firm * steps

    def is_measured(self, step: int, steps: int) -> bool:
        """Whether the gap is to be measured after a step, 0..steps-1; there is none once weights are firm."""
        return self.rule == "gap" and step % GAP_EVERY == 0 and not self.is_firm(step, steps)

    def follow(self, sigma: float, gap: float, first_gap: float, step: int) -> float:
        """Return sigma after a measurement of the gap; it never falls below its start."""
        return after_gap(sigma, gap, first_gap, step, gain=self.gain, horizon=self.horizon, least=self.start)
