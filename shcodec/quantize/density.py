"""Smooth rates for the first phase of training, before there are codebooks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.quantize.lookup import lookup
from shcodec.symbols.classes import SPREAD_RATIO, SPREAD_START

LOG_RATIO = math.log(SPREAD_RATIO)
FLOOR = 1e-7  # smallest probability of a unit interval: the rate stays finite far outside


class _Bounded(torch.autograd.Function):
    """Clips to [low, high]; outside, only gradients that lead back inside pass."""

    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.limits = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        low, high = ctx.limits
        blocked = ((x < low) & (grad > 0)) | ((x > high) & (grad < 0))
        return grad.masked_fill(blocked, 0), None, None


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """Clip x to [low, high] without losing the gradient that leads back."""
    return _Bounded.apply(x, low, high)  # type: ignore[no-any-return,no-untyped-call]


class SmoothDensity(nn.Module):
    """p(r | class coordinate): a mixture of a narrow normal and a wide Laplacian, shape learned per class.

    Rates are those of an interval of one step around a noisy residual, which stands for rounding
    (Balle et al. 2017).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.weight = nn.Parameter(torch.zeros(classes))
        self.narrow = nn.Parameter(torch.full((classes,), -0.1))
        self.wide = nn.Parameter(torch.full((classes,), -0.1))

    def forward(self, r: Tensor, coordinate: Tensor) -> Tensor:
        """Return the bits of every element.

        Args:
            r: residuals in steps, with uniform noise, any shape.
            coordinate: class coordinates, same shape, not clipped.

        Returns:
            Bits, same shape.
        """
        x = bounded(coordinate, 0.0, self.classes - 1.001)
        row = x.detach().nan_to_num().floor().long()
        fraction = x - row
        weight, narrow, wide = (
            torch.lerp(lookup(table, row), lookup(table, row + 1), fraction)
            for table in (self.weight, self.narrow, self.wide)
        )
        spread = SPREAD_START * torch.exp(x * LOG_RATIO)
        size = r.abs()
        normal = spread * narrow.exp() * math.sqrt(2)
        laplace = spread * wide.exp() / math.sqrt(2)
        p_normal = 0.5 * (torch.erf((0.5 - size) / normal) - torch.erf((-0.5 - size) / normal))
        p_laplace = _laplace_cdf((0.5 - size) / laplace) - _laplace_cdf((-0.5 - size) / laplace)
        p = torch.lerp(p_normal, p_laplace, torch.sigmoid(weight))
        return -torch.log2(p.clamp(min=0) + FLOOR)


def _laplace_cdf(x: Tensor) -> Tensor:
    tail = 0.5 * torch.exp(-x.abs())
    return torch.where(x < 0, tail, 1 - tail)


class HyperHistograms(nn.Module):
    """Learned histograms of z: one per channel and row of a bank; training takes the row by beta.

    Between two integers the probability is interpolated, which gives z a gradient.
    """

    def __init__(self, rows: int, channels: int, limit: int) -> None:
        super().__init__()
        self.rows, self.limit = rows, limit
        start = -0.5 * torch.arange(-limit, limit + 1).abs().float()
        self.logits = nn.Parameter(start.repeat(rows, channels, 1))

    def forward(self, z: Tensor, beta_byte: Tensor) -> Tensor:
        """Return the bits of z (B, C, h, w), which is noisy and within the limits, element by element."""
        table = F.softmax(self.logits.float(), -1)[beta_byte * self.rows // 256]  # (B, C, A)
        position = (z + self.limit).clamp(0, 2 * self.limit - 1e-3)
        low = position.detach().nan_to_num().floor()  # a step that is not finite must come to its end, to be left out
        fraction = (position - low).flatten(2)
        index = low.long().flatten(2)
        p = torch.lerp(table.gather(2, index), table.gather(2, index + 1), fraction)
        return -torch.log2(p.clamp(min=0) + FLOOR).view_as(z)
