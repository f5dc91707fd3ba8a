"""The loss D + beta * R of one batch, in each of the three phases of training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.container import byte_to_beta
from shcodec.nets.codec import CodecNet, Latents, first_half
from shcodec.quantize.codebooks import ClassCodebooks, Quantised
from shcodec.quantize.density import HyperHistograms, SmoothDensity
from shcodec.symbols import nearest_coded
from shcodec.train.config import TrainConfig

SLOPE = 0.4  # the loss is (D + beta R) * beta^-0.4: all rates weigh alike (from the slopes of BPG on photographs)
CODEBOOK_WEIGHT = 0.02  # of the codebook loss, where the surrogate gives codewords no gradient


class Phase(StrEnum):
    """What stands for the quantiser."""

    SMOOTH = "smooth"  # noise, smooth density, no codebooks
    SOFT = "soft"  # the configured surrogate over codebooks
    HARD = "hard"  # hard indices; encoder and class map are frozen


class Learner(nn.Module):
    """All that is trained: the networks, the codebooks and the smooth densities of the first phase."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        model = config.model
        self.net = CodecNet(model)
        self.books = ClassCodebooks(model.quantiser)
        self.density = SmoothDensity(64)
        if model.has_hyper:
            sizes = model.hyper
            self.histograms = HyperHistograms(sizes.rows, sizes.channels, sizes.limit)
            self.register_buffer("bank", torch.zeros(sizes.rows, sizes.channels, 2 * sizes.limit + 1))  # counts of z


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
    """Loss and figures of one batch."""

    loss: Tensor
    mse: float
    bpp: float
    hyper_bpp: float
    psnr: float
    hard_loss: float | None
    symbols: int


def classes_of(learner: Learner, latents: Latents, beta_byte: Tensor) -> Tensor:
    """Class of every latent element, (B, M, h, w) int64."""
    quantiser = learner.config.model.quantiser
    if learner.config.model.has_hyper:
        return latents.coordinate.detach().floor().clamp(0, quantiser.classes - 1).long()
    return (beta_byte * quantiser.classes // 256)[:, None, None, None].expand_as(latents.y)


def evaluate(learner: Learner, pixels: Tensor, beta_byte: Tensor, state: State) -> Outcome:
    """Loss of one batch.

    Args:
        learner: the model.
        pixels: (B, 3, H, W) float, 0..255.
        beta_byte: (B,) int64.
        state: phase and hardness.
    """
    height, width = pixels.shape[2] - state.border[0], pixels.shape[3] - state.border[1]
    pixels = F.pad(pixels[:, :, :height, :width], (0, state.border[1], 0, state.border[0]), mode="replicate")
    batch, area = len(pixels), height * width
    beta = torch.tensor([byte_to_beta(int(b)) for b in beta_byte], device=pixels.device)
    balance = beta**-SLOPE
    weight = balance * beta / (area * batch)  # what one bit of a sample counts
    latents = learner.net.latents(pixels, beta_byte)
    hyper_bits, hyper_loss = _hyper_rate(learner, latents, beta_byte, weight)
    y_hat, y_hard, rate = _residuals(learner, latents, beta_byte, weight, state)
    distortion = _mse(learner.net.synthesise(y_hat, beta_byte), pixels, height, width)
    loss = (distortion * balance).mean() + rate.bits + hyper_loss
    codebook_loss = CODEBOOK_WEIGHT * rate.codebook_loss / rate.value.numel()
    hard_loss = None
    if state.measure_gap:
        with torch.no_grad():
            hard = _mse(learner.net.synthesise(y_hard, beta_byte), pixels, height, width)
            hard_loss = float((hard * balance).mean() + rate.hard_weighted + hyper_loss + codebook_loss)
    return Outcome(
        loss=loss + codebook_loss,
        mse=float(distortion.detach().mean()),
        bpp=float(rate.hard_bits + hyper_bits) / (batch * area),
        hyper_bpp=float(hyper_bits) / (batch * area),
        psnr=float((10 * torch.log10(255**2 / distortion.detach().clamp(min=1e-3))).mean()),
        hard_loss=hard_loss,
        symbols=rate.symbols,
    )


def _mse(decoded: Tensor, pixels: Tensor, height: int, width: int) -> Tensor:
    return (decoded - pixels)[:, :, :height, :width].square().mean((1, 2, 3))


def _hyper_rate(learner: Learner, latents: Latents, beta_byte: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    if latents.z is None:
        zero = latents.y.new_zeros(())
        return zero, zero
    noise = torch.rand_like(latents.z) - 0.5
    limit = learner.config.model.hyper.limit
    noisy = latents.z + noise
    # beyond the limits a value is clipped: a quadratic pull keeps it from living there
    outside = (noisy.abs() - limit).clamp(min=0).square()
    bits = learner.histograms(noisy, beta_byte)
    return bits.detach().sum(), ((bits + outside).sum((1, 2, 3)) * weight).sum()


def _residuals(
    learner: Learner, latents: Latents, beta_byte: Tensor, weight: Tensor, state: State
) -> tuple[Tensor, Tensor, Quantised]:
    """Both passes over the latent: y_hat for training, y_hat with hard indices, and the rates."""
    y, mean = latents.y, latents.mean
    classes = classes_of(learner, latents, beta_byte)
    # as in the codec: positions that hold no pixel of the picture are not coded, their residual is 0
    rows, columns = (side - border // 16 for side, border in zip(y.shape[2:], state.border, strict=True))
    inside = torch.zeros(y.shape[2:], dtype=torch.bool, device=y.device)
    inside[:rows, :columns] = True
    if not learner.config.model.has_hyper:
        value, hard, rate = _quantise(learner, latents, mean, classes, inside.expand_as(y), weight, state)
        return mean + latents.step * value, mean + latents.step * hard, rate
    first = first_half(*y.shape[1:]).to(y.device).expand_as(y)
    value, hard, rate = _quantise(learner, latents, mean, classes, first & inside, weight, state)
    seen = mean + latents.step * (hard if state.phase is Phase.HARD else value)
    if state.border != (0, 0):  # as in the codec: the nearest coded position stands for one that is not
        down, across = (torch.from_numpy(nearest_coded(*pair)) for pair in zip(y.shape[2:], (rows, columns), strict=True))
        seen = seen[:, :, down.to(y.device)[:, None], across.to(y.device)]
    second_mean = learner.net.second_means(seen, latents, beta_byte)
    value2, hard2, rate2 = _quantise(learner, latents, second_mean, classes, ~first & inside, weight, state)
    centre = torch.where(first, mean, second_mean)
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


def _quantise(
    learner: Learner,
    latents: Latents,
    mean: Tensor,
    classes: Tensor,
    chosen: Tensor,
    weight: Tensor,
    state: State,
) -> tuple[Tensor, Tensor, Quantised]:
    """Residuals of the chosen elements, quantised; zero elsewhere: (B, M, h, w) twice, and the rates."""
    config = learner.config
    residual = (latents.y - mean) / latents.step
    if state.phase is Phase.SMOOTH:
        return _smooth(learner, residual, latents.coordinate, classes, chosen, weight, state)
    element_weight = weight[:, None, None, None].expand_as(residual)[chosen]
    r = residual[chosen]
    out = learner.books(
        r,
        classes[chosen],
        element_weight,
        sigma=state.sigma,
        rate_weight=config.rate_weight,
        surrogate=config.surrogate,
        hard=state.phase is Phase.HARD,
    )
    value = out.value
    if config.forward == "hard" and state.phase is Phase.SOFT:
        value = value + (out.hard - value).detach()
    zeros = torch.zeros_like(residual)
    return zeros.masked_scatter(chosen, value), zeros.masked_scatter(chosen, out.hard), out


def _smooth(
    learner: Learner,
    residual: Tensor,
    coordinate: Tensor,
    classes: Tensor,
    chosen: Tensor,
    weight: Tensor,
    state: State,
) -> tuple[Tensor, Tensor, Quantised]:
    """First phase: the rate of noisy residuals, rounded ones (straight-through) for the decoder."""
    bits = learner.density(residual + torch.rand_like(residual) - 0.5, coordinate) * chosen
    rounded = residual + (residual.round() - residual).detach()
    coded = chosen
    if state.skip:
        coded = chosen & (classes >= learner.config.model.quantiser.skip)
    value = rounded * coded
    total = bits.detach().sum()
    weighted = (bits.sum((1, 2, 3)) * weight).sum()
    zero = bits.new_zeros(())
    return value, value.detach(), Quantised(value, value.detach(), weighted, weighted.detach(), total, zero, 0)
