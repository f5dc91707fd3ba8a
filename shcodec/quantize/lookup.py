"""Rows of a small table by index, with a gradient that an accelerator can add up quickly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

COPIES = 128  # of the gradient, so that thousands of additions do not wait for the same few addresses


class SpreadLookup(torch.autograd.Function):
    """``table[index]``, whose backward adds into `COPIES` copies of the table and sums them at the end."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        """Return rows of a table (L, ...) by an index of any shape."""
        ctx.save_for_backward(index)
        ctx.rows = len(table)
        return table[index]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the table."""
        (index,) = ctx.saved_tensors
        flat = index.flatten()
        copy = torch.arange(len(flat), device=flat.device) % COPIES
        shape = grad.shape[index.dim() :]
        total = grad.new_zeros(COPIES * ctx.rows, *shape)
        total.index_add_(0, flat + ctx.rows * copy, grad.reshape(len(flat), *shape))
        return total.view(COPIES, ctx.rows, *shape).sum(0), None


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """Return ``table[index]``, differentiable in the table.

    A codebook's row is taken by thousands of vectors of a batch. On the CPU plain indexing serves; on an accelerator
    its backward would sort the indices and add up each row's gradients one after the other.
    """
    if table.device.type == "cpu":
        return table[index]
    return SpreadLookup.apply(table, index)  # type: ignore[no-any-return,no-untyped-call]
