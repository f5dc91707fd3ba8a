"""The hyper path: what is sent first, and what it tells about the latent.

z (1/64, integers) decides two things, on two separate ways. The *class* of every latent element comes
from z through one integer linear map (`ClassMap`): exact on every machine. *Means and steps* come from
float networks (`HyperSynthesis`, `Refine`): they move the reconstruction, never a symbol.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.container import beta_at
from shcodec.nets.config import ModelConfig
from shcodec.nets.layers import Conditioned, Residual, conv1, conv3, modulate
from shcodec.symbols.classes import PLACES, class_coordinate
from shcodec.symbols.grid import HYPER
from shcodec.symbols.knots import KNOTS, SPACING


class HyperAnalysis(Conditioned):
    """h_a, encoder only: y (B, M, h, w) -> z before rounding (B, C_z, h/4, w/4); h and w multiples of 4."""

    def __init__(self, config: ModelConfig) -> None:
        sizes = config.hyper
        super().__init__({"y": config.latent, "z": sizes.channels})
        self.stem = conv3(config.latent, sizes.features)
        self.down32 = conv1(4 * sizes.features, sizes.width)
        self.body32 = Residual(sizes.width, 1)
        self.down64 = conv1(4 * sizes.width, sizes.channels)

    def forward(self, y: Tensor, gain: Tensor) -> Tensor:
        """gain (B, G)."""
        stages = self.split(gain)
        x = torch.relu(self.stem(modulate(y, stages[0])))
        x = self.body32(self.down32(F.pixel_unshuffle(x, 2)))
        return modulate(self.down64(F.pixel_unshuffle(torch.relu(x), 2)), stages[1])


class HyperSynthesis(Conditioned):
    """h_s: z (B, C_z, h/4, w/4) -> features (B, F, h, w), means mu0 and steps q (B, M, h, w)."""

    def __init__(self, config: ModelConfig, start_step: Tensor) -> None:
        """Args: start_step: (17,) initial step at every beta knot."""
        sizes = config.hyper
        super().__init__({"z": sizes.channels, "features": sizes.features})
        self.latent = config.latent
        self.up32 = conv1(sizes.channels, 4 * sizes.width)
        self.body32 = Residual(sizes.width, 1)
        self.up16 = conv1(sizes.width, 4 * sizes.features)
        self.body16 = Residual(sizes.features, 1)
        self.head = conv1(sizes.features, 2 * config.latent, 0.1)
        with torch.no_grad():
            self.head.bias[config.latent :].fill_(math.log(math.e - 1))  # type: ignore[index]  # softplus -> 1
        self.step_knots = nn.Parameter(start_step.log()[:, None].repeat(1, config.latent))

    def gain(self, weights: Tensor) -> Tensor:
        """Turn knot weights (B, 17) into modulation and the logarithm of the step, (B, G + M)."""
        return torch.cat([weights @ self.knots, weights @ self.step_knots], 1)

    def forward(self, z: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, mu0, q."""
        scale = gain[:, -self.latent :, None, None].exp()
        stages = self.split(gain[:, : -self.latent])
        x = F.pixel_shuffle(self.up32(modulate(z, stages[0])), 2)
        x = F.pixel_shuffle(self.up16(torch.relu(self.body32(x))), 2)
        features = torch.relu(modulate(self.body16(x), stages[1]))
        mean, raw = self.head(features).split(self.latent, 1)
        return features, mean, F.softplus(raw) * scale


class Refine(Conditioned):
    """Second pass: means of the second half of the checkerboard, seen the first half decoded."""

    def __init__(self, config: ModelConfig) -> None:
        width = config.hyper.refine
        super().__init__({"first": config.latent})
        self.stem = conv1(config.latent + config.hyper.features, width)
        dense = config.hyper.refine_dense
        self.spatial = conv3(width, width) if dense else nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.mix = conv1(width, width)
        self.head = conv1(width, config.latent, 0.1)

    def forward(self, first: Tensor, features: Tensor, gain: Tensor) -> Tensor:
        """Return the shift of the means.

        Args:
            first: (B, M, h, w), decoded latents on the first half, mu0 elsewhere.
            features: (B, F, h, w) of `HyperSynthesis`.
            gain: (B, G).

        Returns:
            (B, M, h, w), to be added to mu0 on the second half.
        """
        x = self.stem(torch.cat([modulate(first, self.split(gain)[0]), features], 1))
        x = torch.relu(self.spatial(torch.relu(x)))
        return self.head(torch.relu(self.mix(x)))  # type: ignore[no-any-return]


class ClassMap(nn.Module):
    """The float form of the integer map from z to class coordinates.

    coordinate = W z + bias[beta, channel]; the class is its floor, clipped to 0..63. In training the
    weights are rounded straight-through to what the integer map will hold, from the moment
    `fake_integer` is set.
    """

    def __init__(self, config: ModelConfig, start_step: Tensor) -> None:
        """Args: start_step: (17,) initial step at every beta knot."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(PLACES * config.latent, config.hyper.channels) * 0.02)
        start = class_coordinate(0.7 / start_step.numpy())
        self.bias_knots = nn.Parameter(torch.from_numpy(start).float()[:, None].repeat(1, config.latent))
        self.fake_integer = False

    def shifts(self) -> Tensor:
        """Return the power of two per channel, (M,), with which the weights fill int8."""
        peak = self.weight.detach().abs().view(-1, PLACES * self.weight.shape[1]).amax(1).clamp(min=2.0**-14)
        return torch.floor(torch.log2(127 / peak)).clamp(0, 20)

    def integer_weight(self) -> Tensor:
        """Return the weights as the integer map holds them, still float: (16 M, C_z) in -127..127."""
        scale = (2.0 ** self.shifts()).repeat_interleave(PLACES)[:, None]
        return torch.round(self.weight.detach() * scale).clamp(-127, 127)

    def forward(self, z: Tensor, weights: Tensor) -> Tensor:
        """Return the class coordinates.

        Args:
            z: (B, C_z, h/4, w/4) integer values.
            weights: (B, 17) knot weights.

        Returns:
            (B, M, h, w) float32, not clipped.
        """
        weight: Tensor = self.weight
        if self.fake_integer:
            exact = self.integer_weight() / (2.0 ** self.shifts()).repeat_interleave(PLACES)[:, None]
            weight = weight + (exact - weight).detach()
        coordinate = F.pixel_shuffle(F.conv2d(z, weight[:, :, None, None]), HYPER)
        return coordinate + (weights @ self.bias_knots)[:, :, None, None]

    def integers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the integer map: weight int8 (16 M, C_z), shift uint8 (M,), bias knots int32 (17, M)."""
        shifts = self.shifts()
        bias = torch.round(self.bias_knots.detach() * 2.0**shifts)
        return self.integer_weight().to(torch.int8), shifts.to(torch.uint8), bias.to(torch.int32)


def start_steps() -> Tensor:
    """Return (17,) initial steps by beta knot: the high-rate optimum of a unit-gain transform.

    At high rate D = q^2 / 12 on 0..255 values and dD/dR = -beta give q = 5.1 sqrt(beta); the networks
    see pixels divided by 64.
    """
    return torch.tensor([0.08 * math.sqrt(beta_at(SPACING * j)) for j in range(KNOTS)])
