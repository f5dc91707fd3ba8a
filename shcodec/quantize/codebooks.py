"""Soft-to-hard vector quantisation (Agustsson et al. 2017) with a histogram chosen by class.

Elements are sorted by class and cut into vectors of elements of equal spread; neighbouring classes (a
band) share a codebook, every class has its own histogram. With one class per picture this is the
quantiser of the paper.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shcodec.nets.config import BandConfig, QuantiserConfig
from shcodec.quantize.convex import nearby_hull
from shcodec.quantize.lattice import NEIGHBOURS, assign, distances, lattice, levels_around, lloyd
from shcodec.quantize.lookup import lookup
from shcodec.symbols.classes import class_spread, vector_counts

Groups = list[tuple[int, Tensor, Tensor]]
"""Vectors by band: its number, element indices (m, d), the class of each vector within the band (m,)."""

CORNERS = 16  # of the hull that the surrogate "convex" spans for a vector: its cheapest codewords


@dataclass(frozen=True)
class Quantised:
    """What a quantiser returns for n elements."""

    value: Tensor  # (n,) what the decoder is trained on
    hard: Tensor  # (n,) the codewords' values, as the real decoder will see them
    bits: Tensor  # () weighted rate, with gradients
    hard_weighted: Tensor  # () weighted rate of the hard indices
    hard_bits: Tensor  # () bits of the hard indices
    codebook_loss: Tensor  # () pulls codewords to their vectors where the surrogate gives them no gradient
    symbols: int


class ClassCodebooks(nn.Module):
    """All codebooks and histograms of a model.

    Histograms are running averages of soft counts (no gradient), plus a parametric prior so that
    codewords that a batch does not show keep a finite rate.
    """

    def __init__(self, config: QuantiserConfig, decay: float = 0.998) -> None:
        super().__init__()
        self.config, self.decay = config, decay
        self.recorder: list[tuple[Tensor, Tensor]] | None = None  # where residuals are kept while tables are fitted
        self.dims = [0] * config.skip + [b.dim for b in config.bands for _ in range(b.first, b.last + 1)]
        self.codebooks = nn.ParameterList(nn.Parameter(lattice(b.dim, b.codewords)) for b in config.bands)
        for i, band in enumerate(config.bands):
            prior = self._prior(band, self.codebooks[i].detach())
            self.register_buffer(f"prior{i}", prior)
            self.register_buffer(f"counts{i}", prior * 50)
            self.register_buffer(f"last{i}", torch.zeros(64, band.dim))  # vectors to re-seed dead codewords from

    def _prior(self, band: BandConfig, codebook: Tensor) -> Tensor:
        """Return (classes, L) probabilities of lattice cells under a Laplacian of the class's spread."""
        spread = torch.from_numpy(class_spread(range(band.first, band.last + 1))).float()
        if self.config.classes < 64:  # classes that are not spreads: all start alike
            spread = torch.ones_like(spread)
        size = codebook.abs().sum(1) if band.dim < 4 else codebook.square().sum(1).sqrt() * band.dim**0.5
        logits = -size[None] / (spread[:, None] * 0.75 + 0.05)
        return torch.softmax(logits, 1).clamp(min=1e-7)

    def histogram(self, band: int) -> Tensor:
        """Return (classes of the band, L) probabilities."""
        counts = self.get_buffer(f"counts{band}") + 2 * self.get_buffer(f"prior{band}")
        return counts / counts.sum(1, keepdim=True)

    def vectors(self, classes: Tensor) -> Groups:
        """Group elements into vectors as the codec does.

        Args:
            classes: (n,) int64; elements below the first coded class are left out.

        Returns:
            Per band that occurs: its number, element indices (m, d) where n stands for padding, and
            the class of each vector within the band (m,).
        """
        return self.groups([classes])[0]

    def groups(self, parts: Sequence[Tensor]) -> list[Groups]:
        """Return `vectors` of several sets of elements, with a single transfer of their counts from the device."""
        number = self.config.classes
        keys = [torch.sort((number - 1 - part).to(torch.uint8), stable=True) for part in parts]  # hottest first
        limits = torch.arange(1, number + 1, dtype=torch.uint8, device=parts[0].device)
        ends = torch.stack([torch.searchsorted(ordered, limits) for ordered, _ in keys]).tolist()
        return [self._cut(order, end) for (_, order), end in zip(keys, ends, strict=True)]

    def _cut(self, order: Tensor, ends: list[int]) -> Groups:
        """Cut elements sorted by class into vectors by band, given where each class ends in them (hottest first)."""
        skip = self.config.skip
        counts = [end - start for start, end in itertools.pairwise([0, *ends])][::-1]
        numbers = vector_counts(counts, self.dims, skip)[skip:][::-1]
        coded, total = sum(counts[skip:]), sum(numbers)
        order = torch.cat([order[:coded], order.new_full((4,), len(order))])
        falling = torch.arange(self.config.classes - 1, skip - 1, -1, device=order.device)
        rows = torch.repeat_interleave(falling, on_device(numbers, order.device), output_size=total)
        groups, start, first = [], 0, 0
        for band_index in range(len(self.config.bands) - 1, -1, -1):
            band = self.config.bands[band_index]
            width = band.last - band.first + 1
            total, numbers = sum(numbers[:width]), numbers[width:]
            if total:
                index = order[start : start + total * band.dim].view(total, band.dim)
                groups.append((band_index, index, rows[first : first + total] - band.first))
                start, first = start + total * band.dim, first + total
        return groups

    def forward(
        self,
        r: Tensor,
        classes: Tensor,
        weight: Tensor,
        *,
        sigma: float,
        rate_weight: float,
        surrogate: str,
        hard: bool = False,
        groups: Groups | None = None,
    ) -> Quantised:
        """Quantise residuals.

        Args:
            r: (n,) residuals in steps.
            classes: (n,) int64 in 0..K-1.
            weight: (n,) what a bit of this element counts in the loss.
            sigma: hardness of the soft assignments softmax(-sigma * cost).
            rate_weight: lambda of the cost |v - c|^2 + lambda * bits.
            surrogate: "soft" (decoder sees soft values), "convex" (convex combinations of near codewords),
                "straight-through" or "noise" (of radius |v - Q(v)|).
            hard: the last phase: indices are final, only codewords get gradients.
            groups: `vectors(classes)`, where the caller has them.
        """
        if self.recorder is not None:
            self.recorder.append((r.detach(), classes))
        padded = torch.cat([r, r.new_zeros(1)])
        value, hard_value = torch.zeros_like(padded), torch.zeros_like(padded)
        with torch.no_grad():
            weight = torch.cat([weight, weight.new_zeros(1)])
        bits, hard_bits, codebook_loss = r.new_zeros(()), r.new_zeros(()), r.new_zeros(())
        hard_weighted, symbols = r.new_zeros(()), 0
        for band, index, rows in self.vectors(classes) if groups is None else groups:
            vectors = padded.index_select(0, index.flatten()).view_as(index)  # its backward sorts nothing
            codebook = self.codebooks[band]
            table = -torch.log2(self.histogram(band))
            if hard:
                chosen = assign(vectors.detach(), codebook.detach(), table, rows, rate_weight)
                self._count(band, rows, chosen[:, None], torch.ones_like(chosen[:, None], dtype=r.dtype))
                rate = used = table[rows, chosen]
                out = exact = lookup(codebook, chosen)
            else:
                soft = self._soft(band, vectors, rows, table, sigma, rate_weight)
                exact, rate, used = soft.exact, soft.rate, soft.used
                out = _surrogate(surrogate, vectors, soft)
                codebook_loss = codebook_loss + (exact - vectors.detach()).square().sum()
            value = value.index_put((index,), out)
            hard_value = hard_value.index_put((index,), exact.detach())
            bits = bits + (rate * weight[index[:, 0]]).sum()
            hard_bits = hard_bits + used.detach().sum()
            hard_weighted = hard_weighted + (used.detach() * weight[index[:, 0]]).sum()
            symbols += len(index)
        return Quantised(value[:-1], hard_value[:-1], bits, hard_weighted, hard_bits, codebook_loss, symbols)

    def _soft(self, band: int, vectors: Tensor, rows: Tensor, table: Tensor, sigma: float, rate_weight: float) -> _Soft:
        """Return the soft assignments of the vectors (m, d) of one band."""
        codebook = self.codebooks[band]
        if self.config.bands[band].dim == 1 and len(codebook) > 2 * NEIGHBOURS + 1:
            candidates = levels_around(vectors[:, 0].detach(), codebook[:, 0].detach())
            words = lookup(codebook, candidates)  # (m, 9, 1)
            cost = (vectors[:, None] - words).square().sum(2)
            bits = table[rows[:, None], candidates]
        else:
            candidates = torch.arange(len(codebook), device=rows.device).expand(len(rows), -1)
            words = codebook
            cost = distances(vectors, codebook)
            bits = table[rows]
        cost = cost + rate_weight * bits
        phi = torch.softmax(-sigma * cost, 1)
        best = cost.detach().argmin(1, keepdim=True)
        exact = lookup(codebook, candidates.gather(1, best)[:, 0])
        self._count(band, rows, candidates, phi.detach(), vectors.detach())
        return _Soft(words, cost, phi, exact, (phi * bits).sum(1), bits.gather(1, best)[:, 0], sigma)

    @torch.no_grad()
    def _count(
        self, band: int, rows: Tensor, candidates: Tensor, weight: Tensor, vectors: Tensor | None = None
    ) -> None:
        """Move the histograms towards the (soft) counts of this batch."""
        if not self.training:
            return
        counts = self.get_buffer(f"counts{band}")
        size = counts.shape[1]
        if candidates.shape[1] == size:
            ours = torch.arange(len(counts), device=rows.device)[:, None] == rows
            batch = ours.to(weight.dtype) @ weight  # a product: many additions to few rows are slow on an accelerator
        else:
            flat = (rows[:, None] * size + candidates).flatten()
            batch = torch.zeros_like(counts).view(-1).index_add_(0, flat, weight.flatten()).view_as(counts)
        counts.mul_(self.decay).add_(batch)
        if vectors is not None:
            last = self.get_buffer(f"last{band}")
            number = min(len(last), len(vectors))
            keep = vectors[torch.linspace(0, len(vectors) - 1, number, device=last.device).long()]
            last[: len(keep)] = keep

    @torch.no_grad()
    def reseed(self, generator: torch.Generator, least: float = 1e-3) -> int:
        """Move codewords of vector bands that hardly anything uses to recent vectors.

        Args:
            generator: which vectors.
            least: a codeword is dead below this share of its band's counts, in units of an even share. Soft
                assignments leave a trace of every vector in every count, so none ever falls to 0.

        Returns:
            How many codewords were moved, at most eight in each band.
        """
        moved = 0
        for i, band in enumerate(self.config.bands):
            counts, last = self.get_buffer(f"counts{i}"), self.get_buffer(f"last{i}")
            total = counts.sum(0)
            if band.dim == 1 or total.sum() < 20 * band.codewords:
                continue
            dead = torch.nonzero(total < least * total.sum() / band.codewords)[:8, 0]
            if len(dead):
                pick = torch.randint(len(last), (len(dead),), generator=generator)
                jitter = 0.01 * torch.randn(len(dead), band.dim, generator=generator)
                self.codebooks[i][dead] = last[pick] + jitter.to(last.device)
                counts[:, dead] = counts.sum(1, keepdim=True) / band.codewords
                moved += len(dead)
        return moved

    @torch.no_grad()
    def usage(self) -> tuple[float, float]:
        """Share of codewords in use and perplexity relative to size, averaged over the bands."""
        shares, perplexities = [], []
        for i, band in enumerate(self.config.bands):
            total = self.get_buffer(f"counts{i}").sum(0)
            p = total / total.sum()
            shares.append(float((p > 0.01 / band.codewords).float().mean()))
            perplexities.append(float(torch.exp(-(p * (p + 1e-12).log()).sum()) / band.codewords))
        return sum(shares) / len(shares), sum(perplexities) / len(perplexities)

    @torch.no_grad()
    def fit(self, r: Tensor, classes: Tensor, *, rate_weight: float, rounds: int = 5, start: str = "keep") -> None:
        """Refit codebooks and histograms to held residuals.

        Args:
            r: (n,) residuals in steps; classes: (n,).
            rate_weight: lambda.
            rounds: entropy-constrained rounds; 0 only counts.
            start: "keep" the codewords, or "data" for randomly chosen vectors with one codeword at 0.
        """
        padded = torch.cat([r, r.new_zeros(1)])
        for band, index, rows in self.vectors(classes):
            vectors = padded[index]
            codebook = self.codebooks[band].detach()
            if start == "data":
                pick = torch.linspace(0, len(vectors) - 1, len(codebook), dtype=torch.float64).long()
                codebook = vectors[torch.argsort(vectors.square().sum(1))][pick]
                codebook[0] = 0
            histogram, prior = self.histogram(band), self.get_buffer(f"prior{band}")
            codebook, counts = lloyd(vectors, rows, codebook, histogram, prior, rate_weight=rate_weight, rounds=rounds)
            if self.config.bands[band].dim == 1:
                codebook, order = codebook.sort(0)
                counts = counts[:, order[:, 0]]
            self.codebooks[band].copy_(codebook)
            self.get_buffer(f"counts{band}").copy_(counts)


def on_device(numbers: list[int], device: torch.device) -> Tensor:
    """Return a list as int64 on a device, without waiting for what the device still has to do."""
    tensor = torch.tensor(numbers)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class _Soft:
    """Soft assignments of m vectors to their candidates."""

    words: Tensor  # candidates: (L, d) all codewords, or (m, c, d) the vector's own
    cost: Tensor  # (m, c)
    phi: Tensor  # (m, c) assignments
    exact: Tensor  # (m, d) the cheapest codewords
    rate: Tensor  # (m,) soft bits
    used: Tensor  # (m,) bits of the cheapest codewords
    sigma: float

    def mean(self) -> Tensor:
        """Return the soft values, (m, d)."""
        return (self.phi[:, :, None] * self.words).sum(1) if self.words.dim() == 3 else self.phi @ self.words

    def hull(self, vectors: Tensor) -> Tensor:
        """Return convex combinations (m, d) of the cheapest codewords; lambda = sigma^2 draws to the cheapest."""
        near = self.cost.detach().topk(min(CORNERS, self.cost.shape[1]), 1, largest=False).indices
        if self.words.dim() == 2:
            words = lookup(self.words, near)
        else:
            words = self.words.gather(1, near[:, :, None].expand(-1, -1, self.words.shape[2]))
        return nearby_hull(vectors, words, torch.zeros_like(near[:, 0]), self.sigma**2)


def _surrogate(name: str, vectors: Tensor, soft: _Soft) -> Tensor:
    """Return what stands for the hard codeword in the decoder's input while the encoder is trained."""
    if name == "soft":
        return soft.mean()
    if name == "convex":
        return soft.hull(vectors)
    if name == "straight-through":
        return vectors + (soft.exact - vectors).detach()
    noise = torch.randn_like(vectors)
    radius: Tensor = torch.linalg.vector_norm((vectors - soft.exact).detach(), dim=1, keepdim=True)
    length: Tensor = torch.linalg.vector_norm(noise, dim=1, keepdim=True).clamp(min=1e-6)
    return vectors + radius * noise / length
