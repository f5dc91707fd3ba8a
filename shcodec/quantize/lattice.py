"""Codebooks: lattice points to start from, the choice of codewords, and entropy-constrained Lloyd rounds."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

NEIGHBOURS = 4  # scalars: levels on either side of the nearest that may be chosen


def lattice(dim: int, codewords: int) -> Tensor:
    """Return the `codewords` shortest points of Z (d = 1), A2 (d = 2) or D4 (d = 4), unit cell volume.

    From random data codewords die and d = 2 ends up worse than scalars; lattice points do not.

    Returns:
        (L, d) float32, sorted along the line for d = 1, by length otherwise.
    """
    if dim == 1:
        low = -((codewords - 1) // 2)
        return torch.arange(low, low + codewords).float()[:, None]
    if dim == 2:
        side = math.sqrt(2 / math.sqrt(3))
        basis = torch.tensor([[side, 0.0], [side / 2, side * math.sqrt(3) / 2]])
        reach = int(2 * math.sqrt(codewords)) + 2
        grid = torch.cartesian_prod(torch.arange(-reach, reach + 1), torch.arange(-reach, reach + 1)).float()
        points = grid @ basis
    elif dim == 4:
        reach = int(1.5 * codewords**0.25) + 2
        rows = [p for p in itertools.product(range(-reach, reach + 1), repeat=4) if sum(p) % 2 == 0]
        points = torch.tensor(rows).float() * 2**-0.25
    else:
        raise ValueError(f"no lattice for d = {dim}")
    order = torch.argsort(points.square().sum(1), stable=True)
    return points[order[:codewords]].contiguous()


def distances(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the squared distances (n, L) in float32, differentiable in both arguments."""
    return vectors.square().sum(1, keepdim=True) - 2 * (vectors @ codebook.t()) + codebook.square().sum(1)


def assign(vectors: Tensor, codebook: Tensor, bits: Tensor, rows: Tensor, rate_weight: float) -> Tensor:
    """Choose codewords: argmin |v - c|^2 + rate_weight * bits, in chunks; of many scalar levels among the nearest few.

    Args:
        vectors: (n, d).
        codebook: (L, d).
        bits: (classes, L).
        rows: (n,) class of every vector within the band.
        rate_weight: lambda in squared steps per bit.

    Returns:
        (n,) int64.
    """
    search = _nearest_levels if codebook.shape[1] == 1 and len(codebook) > 2 * NEIGHBOURS + 1 else _every_codeword
    parts = []
    for start in range(0, len(vectors), 32768):
        part = slice(start, start + 32768)
        parts.append(search(vectors[part], codebook, bits, rows[part], rate_weight))
    return torch.cat(parts) if parts else rows.new_zeros(0)


def _every_codeword(vectors: Tensor, codebook: Tensor, bits: Tensor, rows: Tensor, rate_weight: float) -> Tensor:
    return (distances(vectors, codebook) + rate_weight * bits[rows]).argmin(1)


def _nearest_levels(vectors: Tensor, codebook: Tensor, bits: Tensor, rows: Tensor, rate_weight: float) -> Tensor:
    levels, order = codebook[:, 0].sort()
    candidates = levels_around(vectors[:, 0], levels)
    cost = (vectors - levels[candidates]).square() + rate_weight * bits[rows[:, None], order[candidates]]
    return order[candidates.gather(1, cost.argmin(1, keepdim=True))[:, 0]]


def first_around(values: Tensor, levels: Tensor, reach: int) -> Tensor:
    """Return the first of the levels around each value: `reach` below the nearest, or less at the ends.

    Args:
        values: (n,).
        levels: (L,) in ascending order, more than 2 reach.
        reach: levels on either side of the nearest.

    Returns:
        (n,) int64, at most L - 1 - 2 reach.
    """
    nearest = torch.bucketize(values.contiguous(), ((levels[1:] + levels[:-1]) / 2).contiguous())
    return nearest.clamp_(reach, len(levels) - 1 - reach) - reach


def levels_around(values: Tensor, levels: Tensor, reach: int = NEIGHBOURS) -> Tensor:
    """Return the 2 reach + 1 levels around each value, (n, 2 reach + 1) int64; see `first_around`."""
    first = first_around(values, levels, reach)
    return first[:, None] + torch.arange(2 * reach + 1, device=first.device)


def lloyd(
    vectors: Tensor,
    rows: Tensor,
    codebook: Tensor,
    histogram: Tensor,
    prior: Tensor,
    *,
    rate_weight: float,
    rounds: int = 5,
) -> tuple[Tensor, Tensor]:
    """Run entropy-constrained Lloyd rounds (Chou, Lookabaugh and Gray 1989) on held residuals.

    Args:
        vectors: (n, d) residuals in steps.
        rows: (n,) class of every vector within the band.
        codebook: (L, d) start.
        histogram: (classes, L) probabilities to start from.
        prior: (classes, L) probabilities, worth a few counts, so that no histogram is empty.
        rate_weight: lambda.
        rounds: number of rounds.

    Returns:
        The codebook (L, d) and counts (classes, L), prior included.
    """
    classes, size = prior.shape
    strength = 2.0 * size**0.5
    for step in range(rounds + 1):
        bits = -torch.log2(histogram)
        index = assign(vectors, codebook, bits, rows, rate_weight)
        flat = torch.bincount(rows * size + index, minlength=classes * size).view(classes, size)
        counts = strength * prior + flat
        histogram = counts / counts.sum(1, keepdim=True)
        if step < rounds:
            used = flat.sum(0)
            # as if one more vector lay at the old place: rarely used codewords move little, unused ones stay
            total = torch.zeros_like(codebook).index_add_(0, index, vectors) + codebook
            codebook = total / (used + 1)[:, None]
    return codebook, counts
