"""Vector quantisers with one interface: soft-to-hard, straight-through, moving averages, residual.

All take vectors as rows (n, d) and share what an autoencoder needs of them: a value to decode with gradients, a loss
for what the value gives no gradient, symbols for a file and the value that a decoder makes of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from streams import ChainLayout, Layout
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.quantize.convex import one_hot
from shcodec.quantize.lattice import distances

COMMITMENT = 0.25  # of the encoder to its codewords (van den Oord et al. 2017)


@dataclass(frozen=True)
class Output:
    """What a quantiser makes of n vectors in training."""

    value: Tensor  # (n, d) what the decoder sees, with gradients
    loss: Tensor  # () of codebook and commitment
    usage: Tensor  # (levels, K) mean assignment


def pull(vectors: Tensor, exact: Tensor) -> Tensor:
    """Return the loss of VQ-VAE, which pulls codewords to their vectors and these to their codewords, both (n, d)."""
    return F.mse_loss(exact, vectors.detach()) + COMMITMENT * F.mse_loss(vectors, exact.detach())


class VectorQuantiser(nn.Module):
    """A codebook and a way to use it.

    Args:
        size: K, codewords.
        dim: d.
    """

    codebook: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.empty(size, dim).uniform_(-1 / size, 1 / size))

    @property
    def layout(self) -> Layout:
        """The symbols of a vector."""
        return ChainLayout(len(self.codebook))

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """Make codewords of randomly chosen vectors."""
        self.codebook.copy_(vectors[torch.randint(len(vectors), (len(self.codebook),))])

    def forward(self, vectors: Tensor, progress: float = 1.0) -> Output:
        """Quantise vectors (n, d).

        Args:
            vectors: (n, d).
            progress: share of the training that is over, 0..1, for what is annealed.
        """
        raise NotImplementedError

    @torch.no_grad()
    def symbols(self, vectors: Tensor) -> Tensor:
        """Turn vectors (n, d) into symbols (n, columns) int64."""
        return distances(vectors, self.codebook).argmin(1, keepdim=True)

    @torch.no_grad()
    def values(self, symbols: Tensor) -> Tensor:
        """Turn symbols (n, columns) into what the decoder rebuilds, (n, d)."""
        return self.codebook[symbols[:, 0]]


class SoftToHard(VectorQuantiser):
    """Agustsson et al. 2017: softmax(-sigma |z - c|^2), sigma rising; distances in units of the mean nearest one."""

    def __init__(self, size: int, dim: int, *, sigma: Sequence[float] = (2.0, 60.0)) -> None:
        super().__init__(size, dim)
        self.first, self.last = sigma

    def forward(self, vectors: Tensor, progress: float = 1.0) -> Output:
        """See the base class; the decoder sees soft values."""
        cost = distances(vectors, self.codebook)
        unit = cost.detach().amin(1).mean().clamp(min=1e-12)
        sigma = self.first * (self.last / self.first) ** progress
        phi = torch.softmax(-sigma / unit * cost, 1)
        value = phi @ self.codebook
        return Output(value, pull(vectors, value), phi.detach().mean(0, keepdim=True))


class StraightThrough(VectorQuantiser):
    """VQ of van den Oord et al. 2017: the encoder gets the decoder's gradient, codewords follow their vectors."""

    def forward(self, vectors: Tensor, progress: float = 1.0) -> Output:
        """See the base class."""
        assigned = one_hot(vectors, self.codebook)
        exact = assigned @ self.codebook
        loss = pull(vectors, exact)
        return Output(vectors + (exact - vectors).detach(), loss, assigned.mean(0, keepdim=True))


class MovingAverage(VectorQuantiser):
    """VQ whose codewords are moving averages of their vectors; those that nothing uses start again at a vector.

    Args:
        size: K.
        dim: d.
        decay: of the averages, per batch.
        least: a codeword is dead below this share of an even use.
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, size: int, dim: int, *, decay: float = 0.99, least: float = 0.03) -> None:
        super().__init__(size, dim)
        self.codebook.requires_grad_(False)
        self.decay, self.least = decay, least
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, dim))

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """See the base class."""
        super().start(vectors)
        self.counts.fill_(1.0)
        self.sums.copy_(self.codebook)

    def forward(self, vectors: Tensor, progress: float = 1.0) -> Output:
        """See the base class; in training the codebook follows the vectors."""
        assigned = one_hot(vectors, self.codebook)
        exact = assigned @ self.codebook
        if self.training:
            self.follow(vectors.detach(), assigned)
        loss = COMMITMENT * F.mse_loss(vectors, exact)
        return Output(vectors + (exact - vectors).detach(), loss, assigned.mean(0, keepdim=True))

    @torch.no_grad()
    def follow(self, vectors: Tensor, assigned: Tensor) -> None:
        """Move the averages towards the vectors (n, d) by their assignment (n, K); replaces dead codewords."""
        even = len(vectors) / len(self.codebook)
        self.counts.lerp_(assigned.sum(0) / even, 1 - self.decay)
        self.sums.lerp_(assigned.mT @ vectors / even, 1 - self.decay)
        dead = torch.nonzero(self.counts < self.least)[:, 0]
        self.counts[dead] = 1.0
        self.sums[dead] = vectors[torch.randint(len(vectors), (len(dead),), device=vectors.device)]
        self.codebook.copy_(self.sums / self.counts[:, None])


class Residual(VectorQuantiser):
    """Residual VQ: each level quantises what the levels before left over, with moving averages.

    Args:
        size: K of every level.
        dim: d.
        levels: number of codebooks.
    """

    def __init__(self, size: int, dim: int, *, levels: int) -> None:
        super().__init__(size, dim)
        del self.codebook
        self.stages = nn.ModuleList(MovingAverage(size, dim) for _ in range(levels))

    @property
    def layout(self) -> Layout:
        """See the base class."""
        return ChainLayout(len(self._books()[0].codebook), len(self.stages))

    def _books(self) -> list[MovingAverage]:
        return [stage for stage in self.stages if isinstance(stage, MovingAverage)]

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """See the base class; later levels start at residuals."""
        for book in self._books():
            book.start(vectors)
            vectors = vectors - book.values(book.symbols(vectors))

    def forward(self, vectors: Tensor, progress: float = 1.0) -> Output:
        """See the base class."""
        rest, usage = vectors.detach(), []
        for book in self._books():
            assigned = one_hot(rest, book.codebook)
            exact = assigned @ book.codebook
            if self.training:
                book.follow(rest, assigned)
            rest = rest - exact
            usage.append(assigned.mean(0))
        loss = COMMITMENT * F.mse_loss(vectors, vectors.detach() - rest)
        return Output(vectors - rest, loss, torch.stack(usage))

    @torch.no_grad()
    def symbols(self, vectors: Tensor) -> Tensor:
        """See the base class."""
        columns = []
        for book in self._books():
            columns.append(book.symbols(vectors))
            vectors = vectors - book.values(columns[-1])
        return torch.cat(columns, 1)

    @torch.no_grad()
    def values(self, symbols: Tensor) -> Tensor:
        """See the base class."""
        parts = [book.values(symbols[:, [level]]) for level, book in enumerate(self._books())]
        return torch.stack(parts).sum(0)
