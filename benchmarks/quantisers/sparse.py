"""Coded soft convex quantisation: the point of the simplex made sparse and whole, so that SCQ has a bitstream.

P has K real numbers. Here it keeps its largest few, fits them anew to the vector and rounds them to multiples of one
unit: indices and small whole numbers, which `streams` writes.
"""

from __future__ import annotations

import torch
from baselines import Output, VectorQuantiser, pull
from streams import SparseLayout
from torch import Tensor
from torch.nn import functional as F

from shcodec.quantize.convex import combine, exact, one_hot, project_simplex, relaxed

REFIT_STEPS = 40  # accelerated projected gradient steps on the kept corners
WHOLE_P = 32  # corners and units where P is to be coded as it is, not made sparse in training


@torch.no_grad()
def sparsify(weights: Tensor, vectors: Tensor, codebook: Tensor, *, support: int, units: int) -> Tensor:
    """Make points of the simplex sparse: few corners and whole weights.

    Args:
        weights: P, (n, K).
        vectors: (n, d).
        codebook: (K, d).
        support: corners that are kept, at most; those with the largest weights.
        units: weights are multiples of 1 / units.

    Returns:
        (n, K), rows that sum to 1.
    """
    kept, corner = weights.topk(min(support, weights.shape[1]), 1)
    points = _refit(kept / kept.sum(1, keepdim=True).clamp(min=1e-12), codebook[corner] - vectors[:, None])
    return torch.zeros_like(weights).scatter(1, corner, _whole(points, units) / units)


def _refit(points: Tensor, offsets: Tensor) -> Tensor:
    """Lower |sum p_j o_j|^2 over the simplex from p (n, s), o (n, s, d): the vector's error on these corners."""
    gram = offsets @ offsets.mT
    rate = 1 / gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-12)[:, None]
    ahead, momentum = points, 1.0
    for _ in range(REFIT_STEPS):
        moved = project_simplex(ahead - rate * combine(ahead, gram))
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = moved + (momentum - 1) / following * (moved - points)
        points, momentum = moved, following
    return points


def _whole(points: Tensor, units: int) -> Tensor:
    """Round rows (n, s) times units to whole numbers that sum to units, by the largest remainder."""
    scaled = points * units
    low = scaled.floor()
    missing = units - low.sum(1, keepdim=True)
    rank = (low - scaled).argsort(stable=True).argsort()
    return low + (rank < missing).to(low.dtype)


def to_symbols(points: Tensor, layout: SparseLayout) -> Tensor:
    """Turn points (n, K) that `sparsify` made into symbols (n, columns) int64."""
    counts = (points * layout.units).round().long()
    place = torch.arange(layout.size, device=points.device)
    corner = torch.where(counts > 0, place, layout.size).sort(1).values[:, : layout.support]
    corner = F.pad(corner, (0, layout.support - corner.shape[1]), value=layout.size)
    there = corner < layout.size
    corner = corner.where(there, 0)
    number = there.sum(1, keepdim=True)
    weight = counts.gather(1, corner) - 1
    implied = torch.arange(1, layout.support + 1, device=points.device) >= number
    return torch.cat([number - 1, corner, weight.masked_fill(implied, 0)[:, :-1]], 1)


def from_symbols(symbols: Tensor, layout: SparseLayout) -> Tensor:
    """Turn symbols (n, columns) into points (n, K)."""
    number = symbols[:, :1] + 1
    corner, weight = symbols[:, 1 : layout.support + 1], symbols[:, layout.support + 1 :] + 1
    order = torch.arange(1, layout.support + 1, device=symbols.device)
    weight = torch.cat([weight, torch.zeros_like(number)], 1).masked_fill(order >= number, 0)
    last = (order == number) * (layout.units - weight.sum(1, keepdim=True))
    points = torch.zeros(len(symbols), layout.size, device=symbols.device)
    return points.scatter_add_(1, corner, (weight + last).float()) / layout.units


class Convex(VectorQuantiser):
    """SCQ as a quantiser with a bitstream.

    What lies outside the hull gets no gradient that leads back, so vectors and hull are drawn together as in VQ-VAE.

    Args:
        size: K.
        dim: d.
        converged: the exact form, else the scalable one.
        ridge: lambda.
        support: corners that are coded; 0 trains with the whole P, as the paper does, and codes all of it that its
            units can tell from 0.
        units: weights are coded as multiples of 1 / units.
        coded_from: share of the training from which the decoder sees coded P, with the gradient of P.
    """

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        converged: bool = False,
        ridge: float = 0.1,
        support: int = 0,
        units: int = WHOLE_P,
        coded_from: float = 0.4,
    ) -> None:
        super().__init__(size, dim)
        self.solve = exact if converged else relaxed
        self.ridge, self.support, self.units = ridge, support, units
        self.coded_from = coded_from if support else float("inf")

    @property
    def layout(self) -> SparseLayout:
        """See the base class."""
        return SparseLayout(len(self.codebook), self.support or self.units, self.units)

    def weights(self, vectors: Tensor) -> Tensor:
        """Return P of vectors (n, d), (n, K)."""
        return self.solve(vectors, self.codebook, one_hot(vectors, self.codebook), self.ridge)

    def forward(self, vectors: Tensor, progress: float = 1.0) -> Output:
        """See the base class."""
        points = self.weights(vectors)
        usage = points.detach().mean(0, keepdim=True)
        if progress >= self.coded_from:
            points = points + (self._coded(points.detach(), vectors) - points).detach()
        value = combine(points, self.codebook)
        return Output(value, pull(vectors, value), usage)

    def _coded(self, points: Tensor, vectors: Tensor) -> Tensor:
        return sparsify(points, vectors, self.codebook, support=self.layout.support, units=self.units)

    @torch.no_grad()
    def symbols(self, vectors: Tensor) -> Tensor:
        """See the base class."""
        return to_symbols(self._coded(self.weights(vectors), vectors), self.layout)

    @torch.no_grad()
    def values(self, symbols: Tensor) -> Tensor:
        """See the base class."""
        return combine(from_symbols(symbols, self.layout), self.codebook)
