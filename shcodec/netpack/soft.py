"""The codebook of a network in training: soft assignments, their rate, and what becomes of them in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.errors import UsageError
from shcodec.netpack.directory import DIMENSIONS, MAX_WORDS
from shcodec.quantize.lattice import distances, lattice

_NEIGHBOURS = 3  # scalars: the soft assignment looks at as many codewords on either side of the nearest
_DECAY = 0.95  # of the histograms, per step


@dataclass(frozen=True)
class WordConfig:
    """What a network's codebook is like.

    Attributes:
        number: Codewords.
        dim: Elements that a codeword stands for: 1, 2 or 4.
        spacing: Distance of neighbouring codewords at the start, in standard deviations of each tensor. It decides more
            than beta does how coarse the weights become: 0.25 gives about 4 bits, 1 about 2, less with the right beta.
        rate_weight: What a bit counts in the choice of a codeword, in squared spacings.
    """

    number: int = 31
    dim: int = 1
    spacing: float = 1.0
    rate_weight: float = 0.1

    def __post_init__(self) -> None:
        """Raises UsageError for what makes no sense."""
        if self.dim not in DIMENSIONS[:3] or not 2 * _NEIGHBOURS + 1 <= self.number <= MAX_WORDS:
            raise UsageError(f"{self.number} codewords of {self.dim} dimensions cannot be trained")
        if not (self.spacing > 0 and self.rate_weight >= 0):
            raise UsageError("the spacing must be positive, the weight of the rate not negative")


class SoftCodebook:
    """Codewords that several tensors share, each tensor in units of its own spread, with a histogram for each tensor.

    Args:
        tensors: The weights at the start.
        config: What the codebook is like.
    """

    def __init__(self, tensors: Sequence[Tensor], config: WordConfig) -> None:
        self.config = config
        device = tensors[0].device
        self.shapes = [tuple(tensor.shape) for tensor in tensors]
        self.counts = [-(-tensor.numel() // config.dim) for tensor in tensors]
        self.scales = [float(np.float32(max(float(tensor.detach().std()), 1e-12))) for tensor in tensors]
        start = lattice(config.dim, config.number).to(device) * config.spacing
        self.words = nn.Parameter(start)
        rows = torch.repeat_interleave(torch.arange(len(tensors)), torch.tensor(self.counts))
        self.rows = rows.to(device)
        self.histogram = torch.full((len(tensors), config.number), 1.0 / config.number, device=device)
        self.index: Tensor | None = None
        self.fixed_bits = 0.0
        with torch.no_grad():
            for _ in range(3):
                self._learn_histogram(self._vectors(tensors))

    def _vectors(self, tensors: Sequence[Tensor]) -> Tensor:
        """(m, d) vectors of all tensors, each in units of its spread; the last one of a tensor is padded with 0."""
        parts = []
        for tensor, count, scale in zip(tensors, self.counts, self.scales, strict=True):
            flat = tensor.flatten() / scale
            parts.append(F.pad(flat, (0, count * self.config.dim - flat.numel())).view(count, self.config.dim))
        return torch.cat(parts)

    def _split(self, vectors: Tensor) -> list[Tensor]:
        """Undo `_vectors`."""
        values = []
        for part, shape, scale in zip(torch.split(vectors, self.counts), self.shapes, self.scales, strict=True):
            size = int(np.prod(shape))
            values.append((part.flatten()[:size] * scale).view(shape))
        return values

    def _costs(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates (m, n), their costs in squared spacings and their bits."""
        table = -torch.log2(self.histogram)
        words = self.words
        if self.config.dim == 1:
            order = torch.argsort(words.detach()[:, 0])
            level = words.detach()[order, 0]
            place = torch.bucketize(vectors.detach()[:, 0], (level[1:] + level[:-1]) / 2)
            place = place.clamp(_NEIGHBOURS, len(level) - 1 - _NEIGHBOURS)
            around = torch.arange(-_NEIGHBOURS, _NEIGHBOURS + 1, device=place.device)
            candidates = order[place[:, None] + around]
            squares = (vectors - words[:, 0][candidates]).square()
            bits = table[self.rows[:, None], candidates]
        else:
            candidates = torch.arange(len(words), device=vectors.device).expand(len(vectors), -1)
            squares = distances(vectors, words)
            bits = table[self.rows]
        return candidates, squares / self.config.spacing**2 + self.config.rate_weight * bits, bits

    def soft(self, tensors: Sequence[Tensor], sigma: float) -> tuple[list[Tensor], Tensor]:
        """Return soft weights and their mean bits, with gradients to the weights and to the codewords.

        Args:
            tensors: The weights.
            sigma: Hardness of the assignments softmax(-sigma * cost).
        """
        vectors = self._vectors(tensors)
        candidates, cost, bits = self._costs(vectors)
        phi = torch.softmax(-sigma * cost, 1)
        scalar = self.config.dim == 1
        value = (phi * self.words[:, 0][candidates]).sum(1, keepdim=True) if scalar else phi @ self.words
        self._count(candidates, phi.detach())
        return self._split(value), (phi * bits).sum() / self._weights

    @property
    def _weights(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @torch.no_grad()
    def _count(self, candidates: Tensor, weight: Tensor, decay: float = _DECAY) -> None:
        """Move the histograms towards the counts of assignments."""
        flat = (self.rows[:, None] * self.config.number + candidates).flatten()
        found = torch.zeros_like(self.histogram).view(-1).index_add_(0, flat, weight.flatten())
        found = found.view_as(self.histogram) + 0.01
        self.histogram.mul_(decay).add_((1 - decay) * found / found.sum(1, keepdim=True))

    @torch.no_grad()
    def _choose(self, vectors: Tensor) -> Tensor:
        """The cheapest codeword of each vector, (m,)."""
        candidates, cost, _ = self._costs(vectors)
        return candidates.gather(1, cost.argmin(1, keepdim=True))[:, 0]

    def _learn_histogram(self, vectors: Tensor) -> None:
        index = self._choose(vectors)
        self._count(index[:, None], torch.ones(len(index), 1, device=index.device), decay=0.0)

    @torch.no_grad()
    def nearest(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], float]:
        """Return hard weights and their mean bits; changes nothing."""
        index = self._choose(self._vectors(tensors))
        bits = -torch.log2(self.histogram[self.rows, index])
        return self._split(self.words[index]), float(bits.sum()) / self._weights

    @torch.no_grad()
    def fix(self, tensors: Sequence[Tensor]) -> None:
        """Make the assignments final, after the histograms have settled."""
        vectors = self._vectors(tensors)
        for _ in range(3):
            self._learn_histogram(vectors)
        self.index = self._choose(vectors)
        self.fixed_bits = float(-torch.log2(self.histogram[self.rows, self.index]).sum()) / self._weights

    def hard(self) -> list[Tensor]:
        """Return the weights after `fix`, with gradients to the codewords."""
        if self.index is None:
            raise UsageError("the assignments are not fixed yet")
        return self._split(self.words[self.index])

    def indices(self) -> list[npt.NDArray[np.int32]]:
        """Return the codeword of each vector of each tensor after `fix`."""
        if self.index is None:
            raise UsageError("the assignments are not fixed yet")
        return [part.cpu().numpy().astype(np.int32) for part in torch.split(self.index, self.counts)]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {
            "words": self.words.detach(),
            "histogram": self.histogram,
            "scales": self.scales,
            "index": self.index,
            "bits": self.fixed_bits,
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self.words.copy_(state["words"])
        self.histogram.copy_(state["histogram"])
        self.scales, self.fixed_bits = list(state["scales"]), state["bits"]
        self.index = None if state["index"] is None else state["index"].to(self.words.device)
