"""Soft assignment of scalars to the levels around them, with gradients in closed form.

Candidates are treated one after the other: a vector with a number for each weight stays in the cache. A table of
weights by levels with an automatic gradient takes several times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shcodec.quantize.lattice import first_around

NEIGHBOURS = 3  # levels on either side of the nearest that are looked at


def sums(index: Tensor, amounts: Tensor, number: int) -> Tensor:
    """Return the sums of (m,) amounts by their (m,) index, (number,)."""
    if index.is_cuda:  # where bincount would wait for all that has been asked for
        return amounts.new_zeros(number).index_add_(0, index, amounts)
    return torch.bincount(index, amounts, number)


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
        self.first = first_around(values, levels, NEIGHBOURS)
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
        total = sum(sums(self.offset + i, own, self.shape.numel()) for i, own in enumerate(weights))
        return self._by_word(torch.as_tensor(total).view(self.shape))

    def at_words(self, amounts: Sequence[Tensor]) -> Tensor:
        """Return the sums of what each candidate is given by word, (L,)."""
        total = sum(sums(self.first + i, own, self.shape[1]) for i, own in enumerate(amounts))
        return self._by_word(torch.as_tensor(total))

    def _by_word(self, by_level: Tensor) -> Tensor:
        found = torch.empty_like(by_level)
        found[..., self.order] = by_level
        return found


class Assignment(torch.autograd.Function):
    """Scalars that are softly assigned: each becomes the mean of its candidates."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, words: Tensor, around: Surroundings, weights: Sequence[Tensor], sigma: float
    ) -> tuple[Tensor, Tensor]:
        """Return the (m,) means and the sum of their bits; `weights` are the soft ones of `around`."""
        mean, bits = torch.zeros_like(values), torch.zeros_like(values)
        for weight, level, cost in zip(weights, around.levels, around.bits, strict=True):
            mean.addcmul_(weight, level)
            bits.addcmul_(weight, cost)
        ctx.around, ctx.weights, ctx.sigma = around, weights, sigma
        ctx.mean, ctx.bits = mean, bits
        return mean, bits.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the gradients to the scalars and to the words."""
        to_mean, to_bits = grads
        middle = to_mean * ctx.mean + to_bits * ctx.bits
        to_scalar = torch.zeros_like(to_mean)
        moves = []
        around = ctx.around
        for weight, level, above, bits in zip(ctx.weights, around.levels, around.above, around.bits, strict=True):
            excess = (to_mean * level).add_(bits * to_bits).sub_(middle).mul_(weight)
            slope = excess.mul_(above).mul_(-2 * ctx.sigma / around.spacing)
            to_scalar += slope
            moves.append(to_mean * weight - slope)
        return to_scalar, around.at_words(moves), None, None, None
