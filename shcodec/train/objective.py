"""The loss D + beta * R of one batch, in each of the three phases of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import torch
from torch import Tensor

from shcodec.container import byte_to_beta
from shcodec.model.networks import padding
from shcodec.nets.codec import CodecNet, Latents, first_half
from shcodec.nets.config import MAX_CLASSES
from shcodec.nets.layers import Compilable
from shcodec.quantize.codebooks import ClassCodebooks, Groups, Quantised
from shcodec.quantize.density import HyperHistograms, SmoothDensity
from shcodec.symbols.grid import PATCH, nearest_coded
from shcodec.train.config import TrainConfig

SLOPE = 0.4  # the loss is (D + beta R) * beta^-0.4: all rates weigh alike (from the slopes of BPG on photographs)
CODEBOOK_WEIGHT = 0.02  # of the codebook loss, where the surrogate gives codewords no gradient


class Phase(StrEnum):
    """What stands for the quantiser."""

    SMOOTH = "smooth"  # noise, smooth density, no codebooks
    SOFT = "soft"  # the configured surrogate over codebooks
    HARD = "hard"  # hard indices; encoder and class map are frozen


class Learner(Compilable):
    """All that is trained: the networks, the codebooks and the smooth densities of the first phase."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        model = config.model
        self.net = CodecNet(model)
        self.books = ClassCodebooks(model.quantiser)
        self.density = SmoothDensity(MAX_CLASSES)
        if model.has_hyper:
            sizes = model.hyper
            self.histograms = HyperHistograms(sizes.rows, sizes.channels, sizes.limit)
            self.register_buffer("bank", torch.zeros(sizes.rows, sizes.channels, 2 * sizes.limit + 1))  # counts of z
        self._leave_out(config.without)

    def compile_for_training(self, backend: str = "inductor") -> None:
        """Compile the networks and the smooth density for training steps."""
        self.net.compile_networks(backend)
        self.compile_parts(["density"], backend)

    def interpret(self) -> None:
        """Take `compile_for_training` back."""
        self.net.interpret()
        super().interpret()

    def smooth_bits(self, residual: Tensor, coordinate: Tensor) -> Tensor:
        """Return the bits of noisy residuals under the smooth density; see `SmoothDensity`."""
        bits: Tensor = self.part("density")(residual, coordinate)
        return bits

    @torch.no_grad()
    def _leave_out(self, parts: Sequence[str]) -> None:
        """Fix parts where they change nothing: one step for all elements of a rate, one pass of means."""
        channels = self.config.model.latent

        def of_means(grad: Tensor) -> Tensor:
            return torch.cat([grad[:channels], torch.zeros_like(grad[channels:])])

        if "steps" in parts:
            self.net.h_s.step_knots.requires_grad_(False)
            for parameter in self.net.h_s.head.parameters():
                parameter.register_hook(of_means)  # type: ignore[no-untyped-call]
            self.net.h_s.head.weight[channels:] = 0
        if "refine" in parts:
            for parameter in self.net.refine.head.parameters():
                parameter.zero_()
            self.net.refine.requires_grad_(False)


@dataclass(frozen=True)
class State:
    """Where the schedule stands."""

    phase: Phase
    sigma: float
    skip: bool  # cold classes are not coded any more
    measure_gap: bool = False  # also compute the loss of the hard decoder
    border: tuple[int, int] = (0, 0)  # rows at the bottom and columns on the right that are not picture but padding


@dataclass(frozen=True)
class Outcome:
    """Loss and figures of one batch; figures wait for the device when they are read, not when they are made."""

    loss: Tensor
    figures: dict[str, Tensor]  # of `mse`, `bpp`, `hyper_bpp` and `psnr`, () each
    hard: Tensor | None  # () loss with hard indices, where it was asked for
    symbols: int

    @property
    def mse(self) -> float:
        """Mean squared error on 0..255 values."""
        return float(self.figures["mse"])

    @property
    def bpp(self) -> float:
        """Bits per pixel."""
        return float(self.figures["bpp"])

    @property
    def hyper_bpp(self) -> float:
        """Bits per pixel of z, part of `bpp`."""
        return float(self.figures["hyper_bpp"])

    @property
    def psnr(self) -> float:
        """Mean of the samples' PSNR in dB."""
        return float(self.figures["psnr"])

    @property
    def hard_loss(self) -> float | None:
        """Loss of the same batch with hard indices."""
        return None if self.hard is None else float(self.hard)


@dataclass(frozen=True)
class Part:
    """The latent elements that are coded in one pass."""

    mask: Tensor  # (M, h, w) bool
    index: Tensor  # (n,) the same as indices into a flattened (M, h, w)


@lru_cache(maxsize=32)
def parts_of(shape: tuple[int, int, int], coded: tuple[int, int], halves: bool, device: torch.device) -> list[Part]:
    """Return the passes over a latent.

    Cached: what is made on the host and sent makes the host wait for the device in every step.

    Args:
        shape: (M, h, w).
        coded: rows and columns that hold pixels of the picture; the others are not coded.
        halves: two passes over a checkerboard; one pass over all otherwise.
        device: where the tensors lie.
    """
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[:, : coded[0], : coded[1]] = True
    first = first_half(*shape) if halves else torch.ones_like(inside)
    masks = [first & inside, ~first & inside] if halves else [inside]
    return [Part(mask.to(device), torch.nonzero(mask.flatten())[:, 0].to(device)) for mask in masks]


@lru_cache(maxsize=32)
def _first_half(shape: tuple[int, int, int], device: torch.device) -> Tensor:
    return first_half(*shape).to(device)


@lru_cache(maxsize=64)
def _nearest(side: int, coded: int, device: torch.device) -> Tensor:
    return torch.from_numpy(nearest_coded(side, coded)).to(device)


@lru_cache(maxsize=256)
def _padding(side: int, length: int, device: torch.device) -> Tensor:
    return torch.from_numpy(padding(side, length)).to(device)


@lru_cache(maxsize=4)
def _betas(device: torch.device) -> Tensor:
    """Return beta by byte, (256,)."""
    return torch.tensor([byte_to_beta(b) for b in range(256)], device=device)


def classes_of(learner: Learner, latents: Latents, beta_byte: Tensor) -> Tensor:
    """Return the class of every latent element, (B, M, h, w) int64."""
    quantiser = learner.config.model.quantiser
    if learner.config.model.has_hyper:
        classes = latents.coordinate.detach().nan_to_num().floor().clamp(0, quantiser.classes - 1).long()
        low = classes[:, : quantiser.kept].clamp(min=quantiser.skip)
        return torch.cat([low, classes[:, quantiser.kept :]], 1)
    return (beta_byte * quantiser.classes // 256)[:, None, None, None].expand_as(latents.y)


def evaluate(learner: Learner, pixels: Tensor, beta_byte: Tensor, state: State) -> Outcome:
    """Return the loss of one batch.

    Args:
        learner: the model.
        pixels: (B, 3, H, W) float, 0..255.
        beta_byte: (B,) int64.
        state: phase and hardness.
    """
    height, width = pixels.shape[2] - state.border[0], pixels.shape[3] - state.border[1]
    coded = None
    if state.border != (0, 0):
        coded = -(-height // PATCH), -(-width // PATCH)
        sides = pixels.shape[2:] if learner.config.model.has_hyper else (PATCH * coded[0], PATCH * coded[1])
        down, across = _padding(sides[0], height, pixels.device), _padding(sides[1], width, pixels.device)
        pixels = pixels[:, :, down[:, None], across]
    batch, area = len(pixels), height * width
    beta = _betas(pixels.device)[beta_byte]
    balance = beta**-SLOPE
    weight = balance * beta / (area * batch)  # what one bit of a sample counts
    latents = learner.net.latents(pixels, beta_byte)
    hyper_bits, hyper_loss = _hyper_rate(learner, latents, beta_byte, weight)
    y_hat, y_hard, rate = _residuals(learner, latents, beta_byte, weight, state, coded)
    distortion = _mse(learner.net.synthesise(y_hat, beta_byte, coded), pixels, height, width)
    loss = (distortion * balance).mean() + rate.bits + hyper_loss
    codebook_loss = CODEBOOK_WEIGHT * rate.codebook_loss / rate.value.numel()
    hard_loss = None
    if state.measure_gap:
        with torch.no_grad():
            hard = _mse(learner.net.synthesise(y_hard, beta_byte, coded), pixels, height, width)
            hard_loss = (hard * balance).mean() + rate.hard_weighted + hyper_loss + codebook_loss
    error = distortion.detach()
    figures = {
        "mse": error.mean(),
        "bpp": (rate.hard_bits + hyper_bits) / (batch * area),
        "hyper_bpp": hyper_bits / (batch * area),
        "psnr": (10 * torch.log10(255**2 / error.clamp(min=1e-3))).mean(),
    }
    return Outcome(loss + codebook_loss, figures, hard_loss, rate.symbols)


def _mse(decoded: Tensor, pixels: Tensor, height: int, width: int) -> Tensor:
    return (decoded[:, :, :height, :width] - pixels[:, :, :height, :width]).square().mean((1, 2, 3))


def _hyper_rate(learner: Learner, latents: Latents, beta_byte: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    if latents.z is None:
        zero = latents.y.new_zeros(())
        return zero, zero
    noise = torch.rand_like(latents.z) - 0.5
    limit = learner.config.model.hyper.limit
    noisy = latents.z + noise
    # beyond the limits a value is clipped: a quadratic penalty draws it back
    outside = (noisy.abs() - limit).clamp(min=0).square()
    bits = learner.histograms(noisy, beta_byte)
    return bits.detach().sum(), ((bits + outside).sum((1, 2, 3)) * weight).sum()


def _residuals(
    learner: Learner,
    latents: Latents,
    beta_byte: Tensor,
    weight: Tensor,
    state: State,
    coded: tuple[int, int] | None,
) -> tuple[Tensor, Tensor, Quantised]:
    """Quantise both passes over the latent: y_hat for training, y_hat with hard indices, and the rates."""
    y, mean = latents.y, latents.mean
    classes = classes_of(learner, latents, beta_byte)
    # as in the codec: positions that hold no pixel of the picture are not coded, their residual is 0
    channels, *sides = y.shape[1:]
    rows, columns = coded or (sides[0], sides[1])
    parts = parts_of((channels, sides[0], sides[1]), (rows, columns), learner.config.model.has_hyper, y.device)
    chosen = [classes.flatten(1)[:, part.index].flatten() for part in parts]
    smooth = state.phase is Phase.SMOOTH
    groups: Sequence[Groups | None] = [None] * len(parts) if smooth else learner.books.groups(chosen)
    passes = [_Pass(part, classes, c, g) for part, c, g in zip(parts, chosen, groups, strict=True)]
    value, hard, rate = _quantise(learner, latents, mean, passes[0], weight, state)
    if len(passes) == 1:
        return mean + latents.step * value, mean + latents.step * hard, rate
    seen = mean + latents.step * (hard if state.phase is Phase.HARD else value)
    if coded is not None:  # as in the codec: the nearest coded position stands for one that is not
        down, across = _nearest(sides[0], rows, y.device), _nearest(sides[1], columns, y.device)
        seen = seen[:, :, down[:, None], across]
    second_mean = learner.net.second_means(seen, latents, beta_byte)
    value2, hard2, rate2 = _quantise(learner, latents, second_mean, passes[1], weight, state)
    centre = torch.where(_first_half((channels, sides[0], sides[1]), y.device), mean, second_mean)
    both = Quantised(
        value=torch.cat([rate.value.flatten(), rate2.value.flatten()]),
        hard=torch.cat([rate.hard.flatten(), rate2.hard.flatten()]),
        bits=rate.bits + rate2.bits,
        hard_weighted=rate.hard_weighted + rate2.hard_weighted,
        hard_bits=rate.hard_bits + rate2.hard_bits,
        codebook_loss=rate.codebook_loss + rate2.codebook_loss,
        symbols=rate.symbols + rate2.symbols,
    )
    return centre + latents.step * (value + value2), centre + latents.step * (hard + hard2), both


@dataclass(frozen=True)
class _Pass:
    """One pass over the latent."""

    part: Part
    classes: Tensor  # (B, M, h, w)
    chosen: Tensor  # (B n,) classes of the pass's elements
    groups: Groups | None  # their vectors; None in the first phase, which has none


def _quantise(
    learner: Learner, latents: Latents, mean: Tensor, part: _Pass, weight: Tensor, state: State
) -> tuple[Tensor, Tensor, Quantised]:
    """Quantise the residuals of a pass's elements; zero elsewhere: (B, M, h, w) twice, and the rates."""
    config = learner.config
    residual = (latents.y - mean) / latents.step
    if state.phase is Phase.SMOOTH:
        return _smooth(learner, residual, latents.coordinate, part.classes, part.part.mask, weight, state)
    index = part.part.index
    r = residual.flatten(1).index_select(1, index)  # (B, n)
    out = learner.books(
        r.flatten(),
        part.chosen,
        weight[:, None].expand_as(r).flatten(),
        sigma=state.sigma,
        rate_weight=config.rate_weight,
        surrogate=config.surrogate,
        hard=state.phase is Phase.HARD,
        groups=part.groups,
    )
    value = out.value
    if config.forward == "hard" and state.phase is Phase.SOFT:
        value = value + (out.hard - value).detach()
    zeros = torch.zeros_like(residual, memory_format=torch.contiguous_format).flatten(1)
    placed = [zeros.index_copy(1, index, part_of.view_as(r)).view_as(residual) for part_of in (value, out.hard)]
    return placed[0], placed[1], out


def _smooth(
    learner: Learner,
    residual: Tensor,
    coordinate: Tensor,
    classes: Tensor,
    chosen: Tensor,
    weight: Tensor,
    state: State,
) -> tuple[Tensor, Tensor, Quantised]:
    """Do as in the first phase: the rate of noisy residuals, rounded ones (straight-through) for the decoder."""
    bits = learner.smooth_bits(residual + torch.rand_like(residual) - 0.5, coordinate) * chosen
    rounded = residual + (residual.round() - residual).detach()
    coded = chosen
    if state.skip:
        coded = chosen & (classes >= learner.config.model.quantiser.skip)
    value = rounded * coded
    total = bits.detach().sum()
    weighted = (bits.sum((1, 2, 3)) * weight).sum()
    zero = bits.new_zeros(())
    return value, value.detach(), Quantised(value, value.detach(), weighted, weighted.detach(), total, zero, 0)
