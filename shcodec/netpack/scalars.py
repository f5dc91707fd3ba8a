"""Soft assignment of scalars to the levels around them, with gradients in closed form.

It goes candidate by candidate: vectors with a number for each weight stay in the cache, where a table of weights by
levels and its automatic gradient take several times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

NEIGHBOURS = 3  # levels on either side of the nearest that are looked at


class Surroundings:
    """The levels near each scalar and what they cost: squared distance + rate_weight * bits.

    Args:
        values: (m,) scalars.
        words: (L,) levels in any order, at least 2 * NEIGHBOURS + 1.
        table: (t, L) bits of each level.
        rows: (m,) row of the table that holds for each scalar.
        spacing: Unit of the distance.
        rate_weight: What a bit costs, in squared spacings.
    """

    def __init__(
        self, values: Tensor, words: Tensor, table: Tensor, rows: Tensor, spacing: float, rate_weight: float
    ) -> None:
        self.shape, self.spacing = table.shape, spacing
        self.order = torch.argsort(words)
        levels, bits = words[self.order], table[:, self.order].flatten()
        nearest = torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)
        self.first = nearest.clamp_(NEIGHBOURS, len(words) - 1 - NEIGHBOURS) - NEIGHBOURS
        self.offset = rows * len(words) + self.first
        candidates = range(2 * NEIGHBOURS + 1)
        self.levels = [levels.index_select(0, self.first + i) for i in candidates]
        self.bits = [bits.index_select(0, self.offset + i) for i in candidates]
        self.above = [(values - level).div_(spacing) for level in self.levels]
        pairs = zip(self.above, self.bits, strict=True)
        self.costs = [above.square().add_(cost, alpha=rate_weight) for above, cost in pairs]

    def cheapest(self) -> Tensor:
        """Return the number of the cheapest word of each scalar, (m,) int64."""
        least, best = self.costs[0], torch.zeros_like(self.first)
        for i, cost in enumerate(self.costs[1:], 1):
            best = torch.where(cost < least, i, best)
            least = torch.minimum(cost, least)
        return self.order.index_select(0, self.first + best)

    def soft(self, sigma: float) -> list[Tensor]:
        """Return the candidates' weights, softmax(-sigma * cost), (m,) each."""
        return list(torch.softmax(torch.stack(self.costs).mul_(-sigma), 0))

    def counts(self, weights: Sequence[Tensor]) -> Tensor:
        """Return the sums of the candidates' weights by row and word, (t, L)."""
        total = sum(torch.bincount(self.offset + i, own, self.shape.numel()) for i, own in enumerate(weights))
        return self._by_word(torch.as_tensor(total).view(self.shape))

    def at_words(self, amounts: Sequence[Tensor]) -> Tensor:
        """Return the sums of what each candidate is given by word, (L,)."""
        total = sum(torch.bincount(self.first + i, own, self.shape[1]) for i, own in enumerate(amounts))
        return self._by_word(torch.as_tensor(total))

    def _by_word(self, by_level: Tensor) -> Tensor:
        found = torch.empty_like(by_level)
        found[..., self.order] = by_level
        return found


class Assignment(torch.autograd.Function):
    """Scalars, softly or firmly assigned.

    Soft, a scalar becomes the mean of its candidates. Firm, it becomes the cheapest one, and the gradient passes to the
    scalar as if nothing had happened (Bengio et al. 2013). The bits are those of the soft assignment in both cases.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        words: Tensor,
        around: Surroundings,
        weights: Sequence[Tensor],
        sigma: float,
        firm: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return the (m,) assigned scalars and the sum of their bits; `weights` are the soft ones of `around`."""
        mean, bits = torch.zeros_like(values), torch.zeros_like(values)
        for weight, level, cost in zip(weights, around.levels, around.bits, strict=True):
            mean.addcmul_(weight, level)
            bits.addcmul_(weight, cost)
        ctx.around, ctx.weights, ctx.sigma = around, weights, sigma
        ctx.index = around.cheapest() if firm else None
        ctx.mean, ctx.bits = mean, bits
        return words[ctx.index] if firm else mean, bits.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the gradients to the scalars and to the words."""
        to_value, to_bits = grads
        soft = to_value if ctx.index is None else torch.zeros_like(to_value)
        middle = soft * ctx.mean + to_bits * ctx.bits
        to_scalar = torch.zeros_like(to_value)
        moves = []
        around = ctx.around
        for weight, level, above, bits in zip(ctx.weights, around.levels, around.above, around.bits, strict=True):
            excess = (soft * level).add_(bits * to_bits).sub_(middle).mul_(weight)
            slope = excess.mul_(above).mul_(-2 * ctx.sigma / around.spacing)
            to_scalar += slope
            moves.append(soft * weight - slope)
        to_words = around.at_words(moves)
        if ctx.index is not None:
            to_scalar += to_value
            to_words += torch.bincount(ctx.index, to_value, len(to_words))
        return to_scalar, to_words, None, None, None, None
