"""All networks of one model together, and the latents that they make of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.model.networks import GUARDED
from shcodec.nets.config import ModelConfig
from shcodec.nets.hyper import ClassMap, HyperAnalysis, HyperSynthesis, Refine, start_steps
from shcodec.nets.layers import Compilable, knot_weights
from shcodec.nets.transforms import PIXEL_MEAN, PIXEL_SCALE, Analysis, Synthesis, nested_order
from shcodec.symbols import grid
from shcodec.symbols.classes import class_coordinate
from shcodec.symbols.grid import HYPER


@dataclass(frozen=True)
class Latents:
    """What is known of a batch before the residuals are quantised; all (B, M, h, w) unless said."""

    y: Tensor
    mean: Tensor  # mu0
    step: Tensor  # q, broadcastable
    coordinate: Tensor  # class coordinates (without hyper path those of the prior, for the first phase only)
    features: Tensor | None  # (B, F, h, w)
    z: Tensor | None  # (B, C_z, h/4, w/4) before rounding


class CodecNet(Compilable):
    """Analysis, synthesis and, if the model has one, the hyper path."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.mixed = False  # bfloat16 in the bodies of the large transforms (training only)
        self.g_a = Analysis(config)
        self.g_s = Synthesis(config)
        start = start_steps()
        if config.has_hyper:
            self.h_a = HyperAnalysis(config)
            self.h_s = HyperSynthesis(config, start)
            self.refine = Refine(config)
            self.class_map = ClassMap(config, start)
        else:
            self.step_knots = nn.Parameter(start.log()[:, None].repeat(1, config.latent))
            spread = torch.from_numpy(class_coordinate(0.7 / start.numpy())).float()
            self.prior_knots = nn.Parameter(spread[:, None].repeat(1, config.latent))

    @torch.no_grad()
    def start_from(self, blocks: Tensor) -> None:
        """Set the shortcuts to the principal components of picture blocks, the class map to their spreads.

        Training then begins with a working linear codec, and the rest learns what that one cannot do.

        Args:
            blocks: (n, 3, 16, 16) pixels 0..255.
        """
        if self.g_a.shortcut is None or self.g_s.shortcut is None:
            return
        flat = (F.pixel_unshuffle(blocks.float(), grid.PATCH)[:, :, 0, 0] - PIXEL_MEAN) / PIXEL_SCALE
        variances, components = torch.linalg.eigh(flat.T @ flat / len(flat))
        basis = components.flip(1)[:, : self.config.latent].T  # (M, 768), the largest variances first
        spread = variances.flip(0)[: self.config.latent].clamp(min=1e-6).sqrt()
        self.g_a.shortcut.weight.copy_(basis[:, :, None, None])
        self.g_s.shortcut.weight.copy_(basis.T[nested_order().to(basis.device)][:, :, None, None])
        target = self.class_map.bias_knots if self.config.has_hyper else self.prior_knots
        steps = start_steps()[:, None]
        target.copy_(torch.from_numpy(class_coordinate((0.7 * spread.cpu() / steps).clamp(min=0.1).numpy())))

    def compile_networks(self, backend: str = "inductor") -> None:
        """Compile the networks for training steps."""
        self.compile_parts(("g_a", "g_s", *(("h_a", "h_s", "refine") if self.config.has_hyper else ())), backend)

    def latents(self, x: Tensor, beta_byte: Tensor) -> Latents:
        """Run everything up to the residual.

        Args:
            x: (B, 3, H, W) pixels 0..255, H and W multiples of 64.
            beta_byte: (B,) int64.
        """
        weights = knot_weights(beta_byte)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed):
            y = self.part("g_a")(x, self.g_a.gain(weights))
        if not self.config.has_hyper:
            step = (weights @ self.step_knots).exp()[:, :, None, None]
            coordinate = (weights @ self.prior_knots)[:, :, None, None].expand_as(y)
            return Latents(y, torch.zeros_like(y), step, coordinate, None, None)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed):
            z = self.part("h_a")(y, self.h_a.gain(weights)).float()
        limit = self.config.hyper.limit
        z_hat = z + (z.round().clamp(-limit, limit) - z).detach()
        features, mean, step = self.part("h_s")(z_hat, self.h_s.gain(weights))
        return Latents(y, mean, step, self.class_map(z_hat, weights), features, z)

    def second_means(self, first: Tensor, latents: Latents, beta_byte: Tensor) -> Tensor:
        """Return means of the second half: (B, M, h, w), given decoded latents on the first half and mu0 elsewhere."""
        gain = self.refine.gain(knot_weights(beta_byte))
        means = latents.mean + self.part("refine")(first, latents.features, gain)
        # the lowest frequencies stay between their four neighbours, which belong to the first half
        mode = "reflect" if min(first.shape[2:]) > 1 else "replicate"
        around = F.pad(first[:, :GUARDED], (1, 1, 1, 1), mode=mode)
        sides = torch.stack(
            [around[..., :-2, 1:-1], around[..., 2:, 1:-1], around[..., 1:-1, :-2], around[..., 1:-1, 2:]]
        )
        step = latents.step[:, :GUARDED]
        low = torch.clamp(means[:, :GUARDED], sides.amin(0) - step, sides.amax(0) + step)
        return torch.cat([low, means[:, GUARDED:]], 1)

    def synthesise(self, y_hat: Tensor, beta_byte: Tensor, coded: tuple[int, int] | None = None) -> Tensor:
        """Return the pixels (B, 3, H, W), 0..255, neither rounded nor clipped.

        Args:
            y_hat: (B, M, h, w).
            beta_byte: (B,) int64.
            coded: rows and columns of latents that hold pixels, if not all may: only they are seen, and give pixels.
        """
        if coded is not None:  # sizes differ too much to compile for
            return self._synthesise(self.g_s, y_hat[:, :, : coded[0], : coded[1]], beta_byte)
        return self._synthesise(self.part("g_s"), y_hat, beta_byte)

    def _synthesise(self, transform: Callable[..., Any], y_hat: Tensor, beta_byte: Tensor) -> Tensor:
        y_hat = y_hat.contiguous(memory_format=torch.channels_last)  # in every phase: it is compiled for one layout
        with torch.autocast(y_hat.device.type, torch.bfloat16, enabled=self.mixed):
            pixels: Tensor = transform(y_hat, self.g_s.gain(knot_weights(beta_byte)))
        return pixels


def first_half(channels: int, height: int, width: int) -> Tensor:
    """Return `grid.first_half` as a tensor: True where an element is coded in the first pass, (M, h, w)."""
    return torch.from_numpy(grid.first_half(channels, height, width))


def halos(config: ModelConfig) -> dict[str, int]:
    """Return what each exported graph must see around a window, in latents to either side.

    The receptive fields, from the number of 3x3 convolutions at every scale; where z may be involved, whose positions
    are 4 latents wide, rounded up to a multiple of 4.
    """
    a, s = config.analysis, config.synthesis
    # a residual block of g_a holds two 3x3 convolutions, one of g_s a single one
    analysis = 1 + 2 * a.blocks16 + a.blocks8  # at 1/8 two convolutions reach one latent
    synthesis = math.ceil(1 + s.blocks16 + s.blocks8 / 2 + 1 / 4)
    if not config.has_hyper:
        return {"analysis": HYPER * math.ceil(analysis / HYPER), "synthesis": synthesis}
    hyper = 1 + 2  # both ways a 3x3 convolution at 1/16 and one at 1/32
    return {
        "analysis": HYPER * math.ceil((analysis + hyper) / HYPER),
        "hyper": HYPER * math.ceil(hyper / HYPER),
        "refine": 1 if config.hyper.refine_dense else 2,
        "synthesis": synthesis,
    }
