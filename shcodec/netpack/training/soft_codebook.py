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

from shcodec.netpack.packing.directory import DIMENSIONS, MAX_WORDS
from shcodec.netpack.packing.plan import WEIGHTINGS
from shcodec.netpack.training.scalar_assignment import NEIGHBOURS, Assignment, Surroundings
from shcodec.quantize.lattice import distances, lattice
from shcodec.support.errors import UsageError

_DECAY = 0.95  # of the histograms, per step


@dataclass(frozen=True)
class WordConfig:
    """What a network's codebook is like.

    Attributes:
        number: Codewords.
        dim: Elements that a codeword stands for: 1, 2 or 4.
        spacing: Distance of neighbouring codewords at the start, in standard deviations. It decides more than beta does
            how coarse the weights become: 0.25 gives about 4 bits, 1 about 2, less with the right beta.
        weighting: "mse" gives all tensors the same spacing, in deviations of all weights; a tensor that the codewords
            would not reach across has a larger one. "relative" takes each tensor's own deviation.
        rate_weight: What a bit counts in the choice of a codeword, in squared spacings.
    """

    number: int = 31
    dim: int = 1
    spacing: float = 1.0
    weighting: str = "mse"
    rate_weight: float = 0.1

    def __post_init__(self) -> None:
        """Raise UsageError for what makes no sense."""
        if self.dim not in DIMENSIONS[:3] or not 2 * NEIGHBOURS + 1 <= self.number <= MAX_WORDS:
            raise UsageError(f"{self.number} codewords of {self.dim} dimensions cannot be trained")
        if self.weighting not in WEIGHTINGS:
            raise UsageError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {self.weighting!r}")
        if not (self.spacing > 0 and self.rate_weight >= 0):
            raise UsageError("the spacing must be positive, the weight of the rate not negative")


class SoftCodebook:
    """Codewords that several tensors share, each tensor with its own unit and its own histogram.

    Args:
        tensors: The weights at the start.
        config: What the codebook is like.
    """

    def __init__(self, tensors: Sequence[Tensor], config: WordConfig) -> None:
        self.config = config
        device = tensors[0].device
        self.shapes = [tuple(tensor.shape) for tensor in tensors]
        self.counts = [-(-tensor.numel() // config.dim) for tensor in tensors]
        start = lattice(config.dim, config.number).to(device) * config.spacing
        self.words = nn.Parameter(start)
        self.scales = _units([tensor.detach() for tensor in tensors], config.weighting, float(start.abs().max()))
        rows = torch.repeat_interleave(torch.arange(len(tensors)), torch.tensor(self.counts))
        self.rows = rows.to(device)
        self.histogram = torch.full((len(tensors), config.number), 1.0 / config.number, device=device)
        self.index: Tensor | None = None
        self.fixed_bits = 0.0
        with torch.no_grad():
            for _ in range(3):
                self._learn_histogram(self._vectors(tensors))

    def _vectors(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the vectors of all tensors, (m, d), each in its unit; the last one of a tensor is padded with 0."""
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

    def _around(self, vectors: Tensor) -> Surroundings:
        table = -torch.log2(self.histogram)
        words, config = self.words.detach()[:, 0], self.config
        return Surroundings(vectors.detach()[:, 0], words, table, self.rows, config.spacing, config.rate_weight)

    def _costs(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the costs of all codewords in squared spacings, and their bits, (m, L)."""
        bits = -torch.log2(self.histogram)[self.rows]
        return distances(vectors, self.words) / self.config.spacing**2 + self.config.rate_weight * bits, bits

    def soft(self, tensors: Sequence[Tensor], sigma: float, firm: bool = False) -> tuple[list[Tensor], Tensor]:
        """Return assigned weights and the mean bits of their soft assignments, with gradients to weights and codewords.

        Args:
            tensors: The weights.
            sigma: Hardness of the assignments softmax(-sigma * cost).
            firm: The weights are their cheapest codewords, and gradients pass straight through to them, instead of the
                means of the soft assignments.
        """
        vectors = self._vectors(tensors)
        if self.config.dim == 1:
            around = self._around(vectors)
            phi = around.soft(sigma)
            scalars, words = vectors[:, 0], self.words[:, 0]
            flat, bits = Assignment.apply(scalars, words, around, phi, sigma)  # type: ignore[no-untyped-call]
            if firm:
                flat = words.index_select(0, around.cheapest()) + (scalars - scalars.detach())
            self._count(around.counts(phi))
            return self._split(flat[:, None]), bits / self._weights
        cost, table = self._costs(vectors)
        shares = torch.softmax(-sigma * cost, 1)
        value = self.words[cost.argmin(1)] + (vectors - vectors.detach()) if firm else shares @ self.words
        found = torch.zeros_like(self.histogram).index_add_(0, self.rows, shares.detach())
        self._count(found)
        return self._split(value), (shares * table).sum() / self._weights

    @property
    def _weights(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @torch.no_grad()
    def _count(self, found: Tensor, decay: float = _DECAY) -> None:
        """Move the histograms towards the counts of assignments, (tensors, L)."""
        found = found + 0.01
        self.histogram.mul_(decay).add_((1 - decay) * found / found.sum(1, keepdim=True))

    @torch.no_grad()
    def _choose(self, vectors: Tensor) -> Tensor:
        """Return the cheapest codeword of each vector, (m,)."""
        return self._around(vectors).cheapest() if self.config.dim == 1 else self._costs(vectors)[0].argmin(1)

    def _learn_histogram(self, vectors: Tensor) -> None:
        flat = self.rows * self.config.number + self._choose(vectors)
        counts = torch.bincount(flat, minlength=self.histogram.numel()).view_as(self.histogram)
        self._count(counts.float(), decay=0.0)

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


def _units(tensors: Sequence[Tensor], weighting: str, reach: float) -> list[float]:
    """Return what each tensor is divided by; `reach` is the codewords' largest element."""
    spreads = [float(tensor.std()) for tensor in tensors]
    units = spreads
    if weighting == "mse":
        numbers = [tensor.numel() for tensor in tensors]
        common = np.sqrt(np.average(np.square(spreads), weights=numbers))
        units = [max(common, float(tensor.abs().max()) / reach) for tensor in tensors]
    return [float(np.float32(max(unit, 1e-12))) for unit in units]
