"""One step of training: forward, backward, clipping, optimiser, running average."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shcodec.train.objective import Outcome, Phase, State, evaluate
from shcodec.train.state import RunState, set_rate

SEED_STRIDE = 1_000_003  # between the noise of two seeds


class Stepper:
    """Steps of a run; what it needs lies in tensors that stay where they are, so that a step can be recorded.

    Attributes:
        run: the state that a step changes.
        losses: (2,) sum and number of finite losses since the last look, when the host waits.
        rate: learning rate of the last step.
    """

    def __init__(self, run: RunState) -> None:
        self.run = run
        self.losses = torch.zeros(2, device=run.device)
        self.rate = 0.0
        self.share = torch.zeros((), device=run.device)  # of the live weights in the running average

    def set(self, rate: float) -> None:
        """Set what changes from step to step: the learning rate, the average's weight, the noise."""
        run = self.run
        self.rate = rate
        set_rate(run.optimiser, rate)
        done = run.step - run.phase_start
        self.share.fill_(1 - min(run.config.ema, (1 + done) / (10 + done)))
        torch.manual_seed(run.config.seed * SEED_STRIDE + run.step)  # noise depends on the step alone

    def body(self, pixels: Tensor, beta_bytes: Tensor, state: State) -> Outcome:
        """Return all that a step computes.

        Args:
            pixels: (B, 3, H, W) float32, 0..255.
            beta_bytes: (B,) int64.
            state: phase and hardness.
        """
        run = self.run
        outcome = evaluate(run.learner, pixels, beta_bytes, state)
        run.learner.zero_grad(set_to_none=True)  # frozen parameters too: their last gradients must not be clipped with
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        finite = run.guard.clip(run.learner, run.optimiser)
        run.optimiser.step()
        with torch.no_grad():
            live = [p.detach() for p in run.learner.parameters()]
            average = list(run.average.values())
            moved = torch._foreach_sub(live, average)
            torch._foreach_mul_(moved, self.share)
            torch._foreach_add_(average, moved)
            self.losses[0] += torch.where(finite > 0, outcome.loss.detach(), 0.0)
            self.losses[1] += finite
        return outcome

    def tensors(self, crops: Any, beta_bytes: Any) -> tuple[Tensor, Tensor]:
        """Turn a batch of numpy arrays or tensors into pixels (B, 3, H, W) float32 and beta bytes on the device."""
        return to_tensors(crops, beta_bytes, self.run.device)

    def mean_loss(self) -> float:
        """Return the mean of the finite losses since the last call; waits for the device."""
        total, number = self.losses.tolist()
        self.losses.zero_()
        return total / number if number else float("nan")


def to_tensors(crops: Any, beta_bytes: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Turn numpy arrays or tensors, (B, H, W, 3) and (B,), into pixels (B, 3, H, W) float32 and beta bytes."""
    pixels = torch.as_tensor(crops).to(device).permute(0, 3, 1, 2).float()
    return pixels, torch.as_tensor(beta_bytes).to(device)


def smooth_state(skip: bool) -> State:
    """Return the state of the smooth phase, in which nothing depends on sigma."""
    return State(Phase.SMOOTH, 1.0, skip=skip)
