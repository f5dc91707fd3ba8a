"""Analysis g_a and synthesis g_s: picture <-> latent."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.nets.config import ModelConfig
from shcodec.nets.layers import (
    Conditioned,
    Residual,
    across_borders,
    body_stages,
    conv1,
    conv3,
    full_precision,
    modulate,
    run_body,
    scaled,
)
from shcodec.symbols.grid import PATCH

PIXEL_MEAN = 127.5
PIXEL_SCALE = 64.0  # the networks see (pixel - 127.5) / 64


def nested_order() -> Tensor:
    """Return where the shortcut's 768 outputs lie in a block of 16x16 pixels.

    Two nested shuffles by 4 order the samples of a block otherwise than one by 16: for each of theirs the place in the
    order of ``pixel_unshuffle(block, 16)``, (768,) int64.
    """
    block = torch.arange(768.0).view(1, 3, PATCH, PATCH)
    nested = F.pixel_unshuffle(F.pixel_unshuffle(block, 4), 4).flatten().long()
    return torch.argsort(F.pixel_unshuffle(block, PATCH).flatten().long())[nested]


def by_rows(outputs: Tensor) -> Tensor:
    """Bring the shortcut's 768 outputs, (768, ...), from the order of two nested shuffles into that of one by 16."""
    parts = outputs.view(3, 4, 4, 4, 4, *outputs.shape[1:])  # colour, row and column in a cell, row and column of cells
    return parts.permute(0, 3, 1, 4, 2, *range(5, parts.dim())).reshape(outputs.shape)


class Analysis(Conditioned):
    """g_a, encoder only: pixels (B, 3, H, W) in 0..255 -> latent y (B, M, H/16, W/16).

    ::

        x -> space-to-depth 8 -> 1x1 -> residual blocks (1/8) -> space-to-depth 2 -> 1x1
          -> residual blocks (1/16) -> 3x3 -> y
        (+ x -> filter across the borders of blocks, if lapped -> space-to-depth 16 -> 1x1, the shortcut)
    """

    def __init__(self, config: ModelConfig) -> None:
        sizes = config.analysis
        stages = body_stages("body8", sizes.width8, sizes.blocks8, config.modulation)
        stages |= body_stages("body16", sizes.width16, sizes.blocks16, config.modulation)
        super().__init__(stages | {"y": config.latent})
        self.modulation = config.modulation
        self.stem = conv1(3 * 64, sizes.width8)
        self.body8 = nn.Sequential(*(Residual(sizes.width8, 2) for _ in range(sizes.blocks8)))
        self.down = conv1(4 * sizes.width8, sizes.width16)
        self.body16 = nn.Sequential(*(Residual(sizes.width16, 2) for _ in range(sizes.blocks16)))
        self.head = conv3(sizes.width16, config.latent, 0.02 if config.shortcut else 0.5)
        self.shortcut = conv1(3 * 256, config.latent) if config.shortcut else None
        self.lap = nn.Parameter(torch.eye(PATCH)) if config.lapped else None

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """H and W are multiples of 16; gain (B, G)."""
        stages = iter(self.split(gain))
        pixels = (x - PIXEL_MEAN) / PIXEL_SCALE
        x = run_body(self.body8, self.stem(F.pixel_unshuffle(pixels, 8)), stages, self.modulation)
        x = run_body(self.body16, self.down(F.pixel_unshuffle(x, 2)), stages, self.modulation)
        y = full_precision(self.head, x)
        if self.shortcut is not None:
            y = y + full_precision(self._linear, pixels)
        return modulate(y, next(stages))

    def _linear(self, pixels: Tensor) -> Tensor:
        """Return the linear path, (B, 3, H, W) -> (B, M, H/16, W/16)."""
        if self.lap is not None:
            pixels = across_borders(pixels, self.lap)
        y: Tensor = self.shortcut(F.pixel_unshuffle(pixels, PATCH))  # type: ignore[misc]
        return y


class Synthesis(Conditioned):
    """g_s: latent (B, M, h, w) -> pixels (B, 3, 16h, 16w), 0..255, neither rounded nor clipped.

    Dense convolutions at 1/16 and 1/8, a narrow pointwise renderer at 1/4, and a last 3x3
    convolution before the shuffle by 4 (a 1x1 there shows a 4x4 grid at low rates)::

        y -> 3x3 -> residuals (1/16) -> 1x1, shuffle -> residuals (1/8) -> 1x1, shuffle
          -> pointwise residual (1/4) -> 3x3 to 48, shuffle by 4 -> pixels
        (+ y -> 1x1 to 768, shuffle by 4 -> 48 at 1/4, the shortcut)

    A lapped shortcut is shuffled on its own, filtered across the borders of blocks, and added to the pixels.
    """

    def __init__(self, config: ModelConfig) -> None:
        sizes = config.synthesis
        bodies = body_stages("body16", sizes.width16, sizes.blocks16, config.modulation)
        bodies |= body_stages("body8", sizes.width8, sizes.blocks8, config.modulation)
        before, between = ({"y": config.latent, "stem": sizes.width16}, {"up4": sizes.width4})
        if config.modulation == "stage":
            before, between = {}, {}
        super().__init__(before | bodies | between | {"render": sizes.width4})
        self.modulation = config.modulation
        self.stem = conv3(config.latent, sizes.width16, 0.5)
        self.body16 = nn.Sequential(*(Residual(sizes.width16, 1) for _ in range(sizes.blocks16)))
        self.up8 = conv1(sizes.width16, 4 * sizes.width8)
        self.body8 = nn.Sequential(*(Residual(sizes.width8, 1) for _ in range(sizes.blocks8)))
        self.up4 = conv1(sizes.width8, 4 * sizes.width4)
        self.expand = conv1(sizes.width4, sizes.expand4)
        self.shrink = conv1(sizes.expand4, sizes.width4, 0.2)
        self.head = conv3(sizes.width4, 48, 0.02 if config.shortcut else 0.5)
        self.shortcut = conv1(config.latent, 3 * 256) if config.shortcut else None
        self.lap = nn.Parameter(torch.eye(PATCH)) if config.lapped else None

    def forward(self, y: Tensor, gain: Tensor) -> Tensor:
        """gain (B, G)."""
        stages, each = iter(self.split(gain)), self.modulation == "block"
        y = modulate(y.float(), next(stages)) if each else y
        x = full_precision(self.stem, y)
        x = modulate(x, next(stages)) if each else x
        x = run_body(self.body16, x, stages, self.modulation)
        x = run_body(self.body8, F.pixel_shuffle(self.up8(x), 2), stages, self.modulation)
        x = F.pixel_shuffle(self.up4(x), 2)
        x = modulate(x, next(stages)) if each else x
        x = modulate(x + self.shrink(F.relu(self.expand(x))), next(stages))
        with torch.autocast(y.device.type, enabled=False):
            return self._pixels(x.float(), y.float())

    def _pixels(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the last convolution and the linear path, float32; the pixels' scale lies in their weights.

        Args:
            x: (B, width4, 4h, 4w).
            y: (B, M, h, w).
        """
        head, shortcut = self.head, self.shortcut
        weight, bias = scaled(head, PIXEL_SCALE)
        fine = F.conv2d(x, weight, bias + PIXEL_MEAN, padding=1)
        if shortcut is None:
            return F.pixel_shuffle(fine, 4)
        weight, bias = scaled(shortcut, PIXEL_SCALE)
        if self.lap is None:
            return F.pixel_shuffle(fine + F.pixel_shuffle(F.conv2d(y, weight, bias), 4), 4)
        blocks = F.pixel_shuffle(F.conv2d(y, by_rows(weight), by_rows(bias)), PATCH)
        return F.pixel_shuffle(fine, 4) + across_borders(blocks, self.lap)
