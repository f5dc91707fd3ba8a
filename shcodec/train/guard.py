"""Clipping of gradients by their usual norm, and steps that are left out because they are not finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RISE = 1.01  # by which the running median of the norms moves at every step


class Guard:
    """Clips gradients and keeps steps that are not finite from the weights, without waiting for the device.

    A limit below the usual norm shortens every step; where gradients are skewed with heavy tails, their mean is not
    what remains, and training drifts to a biased optimum. So the limit may be a multiple of the usual norm.

    Attributes:
        limit: the largest norm, where there is no factor.
        factor: the largest norm in running medians of the norm; 0: `limit` counts.
        usual: () the running median, by stochastic approximation (Robbins and Monro 1951); 0 before the first step.
        left_out: () number of steps that were not finite.
    """

    def __init__(self, limit: float, factor: float, device: torch.device) -> None:
        self.limit, self.factor = limit, factor
        self.usual = torch.zeros((), device=device)
        self.left_out = torch.zeros((), device=device)

    @torch.no_grad()
    def clip(self, module: nn.Module, optimiser: torch.optim.AdamW) -> Tensor:
        """Scale the gradients of a module down, and tell the optimiser to do nothing in a step that is not finite.

        Returns:
            () whether the step is finite, 1.0 or 0.0.
        """
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        finite = norm.isfinite()
        if self.factor:
            seen = torch.where(finite, norm, self.usual)
            moved = torch.where(seen > self.usual, self.usual * RISE, self.usual / RISE)
            started = torch.where(self.usual > 0, torch.where(finite, moved, self.usual), seen)
            limit = torch.where(self.usual > 0, self.usual, seen) * self.factor
            self.usual.copy_(started)
            scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        else:
            scale = (self.limit / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, scale)
        whole = finite.float()
        self.left_out += 1 - whole
        optimiser.found_inf = 1 - whole  # type: ignore[attr-defined]  # as torch.amp.GradScaler tells it
        return whole

    def tensors(self) -> list[float]:
        """Return the usual norm and steps left out, as numbers that a checkpoint keeps."""
        return [float(self.usual), float(self.left_out)]

    def load(self, values: list[float]) -> None:
        """Go on from `tensors`."""
        self.usual.fill_(values[0])
        self.left_out.fill_(values[1])
