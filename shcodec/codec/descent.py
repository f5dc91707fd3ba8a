"""Improvement of a latent by gradient descent through the decoder: the highest efforts (torch).

Stochastic Gumbel annealing (Yang, Bamler and Mandt, "Improving inference for neural image compression", 2020) with the
model's own codebooks: every vector of the latent draws one of its best codewords at random, more likely the better it
suits the vector, and what the draw costs in bits and in distortion of the decoded picture moves the latent. The draws
are relaxed, so that gradients pass, and their temperature falls. What results is a latent; its file is made as any.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shcodec.codec.analysis import Analysis
from shcodec.model.card import DECODER
from shcodec.model.networks import Model
from shcodec.model.tensors import read_tensors
from shcodec.nets.codec import CodecNet, Latents
from shcodec.nets.config import ModelConfig
from shcodec.pictures.picture import as_rgb
from shcodec.quantize.lattice import levels_around
from shcodec.support.progress import Report
from shcodec.symbols.bands import Band, Floats
from shcodec.symbols.classes import Order
from shcodec.symbols.grid import first_half, nearest_coded

CANDIDATES = 8  # codewords that a vector draws from
LEVELS_AROUND = 3  # the same for scalars: levels to either side of the nearest
REFRESH = 10  # steps after which the candidates are looked for again
SEARCH_ROWS = 8192
RATE = 0.005  # steps of the quantiser that an element moves in one step of the descent, at most
TEMPERATURES = (0.3, 0.1)  # of the draws' odds, first and last: squared steps of the quantiser
RELAXATION = 0.5  # of the draws themselves: 0 would pick one codeword, 1 mixes many
FINISH = 0.4  # share of the steps in which the rate of the descent falls to nothing
SEED = 1


def descend(analysis: Analysis, beta_byte: int, rate_weight: float, price: float, steps: int, report: Report) -> Floats:
    """Move the latent of a picture towards the least D + price * R.

    Args:
        analysis: of the picture; its hyper indices stay as they are.
        beta_byte: rate step of the file to be.
        rate_weight: lambda of the index choice.
        price: mean squared error that a bit per pixel is worth.
        steps: of the descent.
        report: told after each.

    Returns:
        The latent (M, h, w).
    """
    with _threads(analysis.model.threads):
        decoder = _Decoder(analysis, beta_byte, rate_weight)
        if not any(len(move) for move in decoder.moves):
            return analysis.y  # no element is coded: there is nothing to move
        optimiser = torch.optim.Adam(decoder.moves, lr=RATE, betas=(0.9, 0.99))
        pixels = torch.from_numpy(as_rgb(analysis.samples).astype(np.float32)).permute(2, 0, 1)
        area = pixels.shape[1] * pixels.shape[2]
        start, end = TEMPERATURES
        for done in range(steps):
            fraction = done / steps
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(1.0, (1 - fraction) / FINISH)
            decoded, bits = decoder.draw(start * (end / start) ** fraction, refresh=done % REFRESH == 0)
            difference = decoded[0, :, : pixels.shape[1], : pixels.shape[2]] - pixels
            loss = difference.square().mean() + price * bits / area
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            report("refining", done + 1, steps)
        return decoder.latent()


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    """Run torch on as many threads as the model's other networks; 0 leaves it to torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.lru_cache(maxsize=2)
def _network(model: Model) -> CodecNet:
    """Return the decoder's networks in torch, without gradients of their own."""
    net = CodecNet(ModelConfig.from_dict(model.card["config"]["model"])).eval().requires_grad_(False)
    tensors = read_tensors(model.folder / DECODER)
    for name, parameter in net.named_parameters():
        if name in tensors:
            parameter.copy_(torch.from_numpy(tensors[name].astype(np.float32)))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class _Decoder:
    """The decoder of one picture as a function of how far each coded element is moved.

    Attributes:
        moves: per pass, in steps of the quantiser, (n,) each.
    """

    def __init__(self, analysis: Analysis, beta_byte: int, rate_weight: float) -> None:
        model, grid = analysis.model, analysis.grid
        tables = model.tables
        self.net, self.grid, self.beta_byte = _network(model), grid, torch.tensor([beta_byte])
        self.shape = (tables.latent, *grid.padded)
        mean, spacing, *features = (
            torch.from_numpy(np.array(part)[None]) for part in model.describe(analysis.z, beta_byte, self.shape)
        )
        y = torch.zeros(1, *self.shape)
        y[0, :, : grid.height, : grid.width] = torch.from_numpy(analysis.y)
        self.later = torch.from_numpy(~first_half(*self.shape))  # coded in the second pass
        self.seen = [
            torch.from_numpy(nearest_coded(*sides))
            for sides in ((self.shape[1], grid.height), (self.shape[2], grid.width))
        ]
        self.latents = Latents(y, mean, spacing, mean, features[0] if features else None, None)
        orders = tables.orders(tables.classes_of(analysis.z, beta_byte, grid))
        self.places = [self._places(order) for order in orders]
        generator = torch.Generator().manual_seed(SEED)
        self.passes = [_Vectors(order, tables.bands, tables.band_of, rate_weight, generator) for order in orders]
        self.moves = [torch.zeros(len(order.elements), requires_grad=True) for order in orders]

    def _places(self, order: Order) -> Tensor:
        """Return where the elements of a pass lie in the padded latent, flat."""
        grid, (_, rows, columns) = self.grid, self.shape
        channel, place = np.divmod(order.elements, grid.height * grid.width)
        row, column = np.divmod(place, grid.width)
        return torch.from_numpy(((channel * rows + row) * columns + column).astype(np.int64))

    def draw(self, temperature: float, *, refresh: bool) -> tuple[Tensor, Tensor]:
        """Decode a random draw.

        Args:
            temperature: of the odds.
            refresh: whether to look for candidates again.

        Returns:
            Pixels (1, 3, 16 h, 16 w) of the coded positions, and the bits of the indices.
        """
        centre = self.latents.mean
        y_hat, bits = centre, centre.new_zeros(())
        for number, (place, vectors, move) in enumerate(zip(self.places, self.passes, self.moves, strict=True)):
            if number == 1:
                centre = self.net.second_means(self._seen(y_hat), self.latents, self.beta_byte)
                y_hat = torch.where(self.later, centre, y_hat)
            y, mean, spacing = (part.flatten()[place] for part in (self.latents.y, centre, self.latents.step))
            value, spent = vectors.draw((y - mean) / spacing + move, temperature, refresh=refresh)
            y_hat = y_hat.flatten().index_add(0, place, spacing * value).view_as(y_hat)
            bits = bits + spent
        y_hat = y_hat[:, :, : self.grid.height, : self.grid.width]
        return self.net.synthesise(y_hat.contiguous(memory_format=torch.channels_last), self.beta_byte), bits

    def _seen(self, y_hat: Tensor) -> Tensor:
        """Return what the second pass sees: `shcodec.model.latent.extended`."""
        rows, columns = self.seen
        return y_hat[:, :, rows[:, None], columns]

    def latent(self) -> Floats:
        """Return the moved latent of the coded positions, (M, h, w)."""
        flat = self.latents.y.flatten().clone()
        for place, move in zip(self.places, self.moves, strict=True):
            flat[place] += self.latents.step.flatten()[place] * move.detach()
        y: Floats = flat.view(self.shape)[:, : self.grid.height, : self.grid.width].numpy()
        return np.ascontiguousarray(y)


@dataclass
class _Group:
    """The vectors of one band in a pass, and the codewords that they draw from."""

    part: slice  # of the pass's elements
    codebook: Tensor  # (L, d)
    bits: Tensor  # (classes, L)
    rows: Tensor  # (n,) class within the band
    words: Tensor  # (n, K, d) candidates
    cost: Tensor  # (n, K) their bits


class _Vectors:
    """The vectors of one pass."""

    def __init__(
        self,
        order: Order,
        bands: list[Band],
        band_of: npt.NDArray[np.integer[Any]],
        rate_weight: float,
        generator: torch.Generator,
    ) -> None:
        self.rate_weight, self.generator = rate_weight, generator
        self.groups: list[_Group] = []
        self.size, start = len(order.elements), 0
        for index in range(len(bands) - 1, -1, -1):
            band = bands[index]
            numbers = [(k - band.first, n) for k, n in order.numbers if band_of[k] == index]
            total = sum(n for _, n in numbers) * band.dim
            if total:
                rows = torch.cat([torch.full((n,), row) for row, n in numbers])
                codebook, bits = torch.from_numpy(band.codebook), torch.from_numpy(band.bits)
                empty = torch.empty(0)
                self.groups.append(_Group(slice(start, start + total), codebook, bits, rows, empty, empty))
            start += total
        self.needed = start

    def draw(self, residual: Tensor, temperature: float, *, refresh: bool) -> tuple[Tensor, Tensor]:
        """Draw a codeword for every vector.

        Args:
            residual: (n,) in steps.
            temperature: of the odds exp(-(|v - c|^2 + lambda bits) / temperature).
            refresh: whether to look for candidates again.

        Returns:
            Values (n,), and bits ().
        """
        flat = torch.cat([residual, residual.new_zeros(self.needed - self.size)])
        values, bits = [], residual.new_zeros(())
        for group in self.groups:
            vectors = flat[group.part].view(-1, group.codebook.shape[1])
            if refresh:
                self._look(group, vectors.detach())
            odds = -((vectors[:, None] - group.words).square().sum(2) + self.rate_weight * group.cost) / temperature
            gumbel = -torch.empty_like(odds).exponential_(generator=self.generator).log()
            share = torch.softmax((odds + gumbel) / RELAXATION, 1)
            values.append((share[:, :, None] * group.words).sum(1).flatten())
            bits = bits + (share * group.cost).sum()
        return torch.cat([*values, residual.new_zeros(0)])[: self.size], bits

    def _look(self, group: _Group, vectors: Tensor) -> None:
        """Find the codewords that a vector may draw: those of the least cost."""
        words = group.codebook
        if words.shape[1] == 1 and len(words) > 2 * LEVELS_AROUND:
            index = levels_around(vectors[:, 0], words[:, 0], LEVELS_AROUND)
        else:
            parts = []
            for start in range(0, len(vectors), SEARCH_ROWS):
                part = slice(start, start + SEARCH_ROWS)
                cost = words.square().sum(1) - 2 * vectors[part] @ words.T
                cost = cost + self.rate_weight * group.bits[group.rows[part]]
                parts.append(cost.topk(min(CANDIDATES, len(words)), 1, largest=False).indices)
            index = torch.cat(parts)
        group.words, group.cost = words[index], group.bits[group.rows[:, None], index]
