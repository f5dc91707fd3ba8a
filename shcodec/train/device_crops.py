"""Crops cut on the device: all pictures lie in its memory, and a batch is cut by a few large operations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shcodec.pictures.picture import Pixels
from shcodec.train.data import Crops, area_shares, beta_bytes

SMALLEST_SCALE, LARGEST_SCALE = 0.6, 1.4
SUPPORT = 2.0  # of the bicubic kernel, in samples


@dataclass(frozen=True)
class Draw:
    """What was drawn for the crops of a batch: everything a crop depends on, (B,) each."""

    picture: npt.NDArray[np.int64]
    side: npt.NDArray[np.int64]  # of the square that is cut out, before it is scaled to the crop's size
    top: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    turned: npt.NDArray[np.int64]  # bits: 1 upside down, 2 left to right, 4 rows become columns
    contrast: npt.NDArray[np.float64]  # (count, 3), by colour
    shift: npt.NDArray[np.float64]  # (count, 3), of brightness
    grey: npt.NDArray[np.bool_]


class DeviceCrops:
    """`Crops` for an accelerator: the same distribution from other random numbers, without work per picture.

    A crop is ``rows @ square @ columns`` with matrices that hold the bicubic kernel (antialiased, as Pillow has it) and
    the flips, so that a batch takes two matrix products, whatever the scales of its crops.
    """

    def __init__(self, pictures: list[Pixels], seed: int, device: torch.device) -> None:
        """Copy the pictures to the device."""
        self.pictures, self.seed, self.device = pictures, seed, device
        self.heights = np.array([p.shape[0] for p in pictures])
        self.widths = np.array([p.shape[1] for p in pictures])
        areas = self.heights * self.widths
        self.starts = np.concatenate([[0], np.cumsum(areas)[:-1]])
        self.limits = np.cumsum(area_shares(pictures))
        self.luma = torch.tensor([19595.0, 38470.0, 7471.0], device=device)  # of 65536, as in Pillow
        self.pixels = torch.empty(int(areas.sum()), 3, dtype=torch.uint8, device=device)
        for start, area, picture in zip(self.starts, areas, pictures, strict=True):
            self.pixels[start : start + area] = torch.from_numpy(picture.reshape(-1, 3)).to(device)

    def batch(self, step: int, size: int, count: int) -> tuple[Tensor, Tensor]:
        """Return the crops and beta bytes of one step; they depend on the seed and the step alone.

        Returns:
            (count, size, size, 3) uint8 and (count,) int64, on the device.
        """
        rng = np.random.default_rng((self.seed, step))
        crops = self.cut(self.draw(rng, size, count), size)
        return crops, self._send(beta_bytes(rng, count))

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Draw:
        """Draw the crops of a batch; see `Crops` for their distribution."""
        picture = np.minimum(np.searchsorted(self.limits, rng.random(count), side="right"), len(self.pictures) - 1)
        height, width = self.heights[picture], self.widths[picture]
        scale = np.where(rng.random(count) < 0.6, rng.uniform(SMALLEST_SCALE, LARGEST_SCALE, count), 1.0)
        side = np.minimum(np.maximum(np.rint(size / scale).astype(np.int64), 32), np.minimum(height, width))
        kind = rng.random(count)[:, None]  # a tenth toned, a tenth tinted
        gain = np.where(kind < 0.2, rng.uniform(0, 1.3, (count, 3)), 1.0)
        toned = kind < 0.1
        return Draw(
            picture=picture,
            side=side,
            top=rng.integers(height - side + 1),
            left=rng.integers(width - side + 1),
            turned=rng.integers(8, size=count),
            contrast=np.where(toned, rng.uniform(0.5, 1.3, (count, 1)), gain),
            shift=np.where(toned, rng.uniform(-70, 70, (count, 1)), 127.5 * (gain - 1)),
            grey=rng.random(count) < 0.04,
        )

    def cut(self, draw: Draw, size: int) -> Tensor:
        """Cut the crops: (B, size, size, 3) uint8 on the device."""
        start = self.starts[draw.picture] + draw.top * self.widths[draw.picture] + draw.left
        whole = self._send(np.stack([start, self.widths[draw.picture], draw.side, draw.turned, draw.grey]))
        start_, stride, side, turned, grey = whole[:, :, None]
        # no square is larger, and a size that does not change from batch to batch lets memory be used again
        reach = min(max(math.ceil(size / SMALLEST_SCALE), 32), max(int(self.heights.max()), int(self.widths.max())))
        place = torch.minimum(torch.arange(reach, device=self.device), side - 1)  # (B, reach)
        index = start_[:, :, None] + place[:, :, None] * stride[:, :, None] + place[:, None]
        squares = self.pixels[index].float()  # (B, reach, reach, 3)
        rows, columns = (_kernel(side, turned & bit > 0, size, reach) for bit in (1, 2))
        batch = len(squares)
        crops = torch.bmm(rows, squares.view(batch, reach, reach * 3)).view(batch, size, reach, 3).transpose(1, 2)
        crops = torch.bmm(columns, crops.reshape(batch, reach, size * 3)).view(batch, size, size, 3)  # columns first
        crops = torch.where((turned & 4 > 0)[:, :, None, None], crops, crops.transpose(1, 2)).round().clamp(0, 255)
        contrast, shift = self._send(np.stack([draw.contrast, draw.shift]).astype(np.float32))[:, :, None, None]
        crops = ((crops - 127.5) * contrast + 127.5 + shift).clamp(0, 255).round()
        flat = torch.floor(((crops * self.luma).sum(-1, keepdim=True) + 32768) / 65536)
        return torch.where((grey > 0)[:, :, None, None], flat, crops).to(torch.uint8)

    def _send(self, values: npt.NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)


def crops_of(pictures: list[Pixels], seed: int, device: torch.device) -> Crops | DeviceCrops:
    """Return the crops of a training on a device."""
    return Crops(pictures, seed) if device.type == "cpu" else DeviceCrops(pictures, seed, device)


def _kernel(side: Tensor, reverse: Tensor, size: int, reach: int) -> Tensor:
    """Return the matrices that scale one side of squares to a size, as Pillow's bicubic filter does.

    Args:
        side: (B, 1) samples of each square.
        reverse: (B, 1) bool, turns the result round.
        size: samples of the result.
        reach: columns of the matrices; those beyond a square's side are 0.

    Returns:
        (B, size, reach) float32, rows sum to 1.
    """
    scale = side.float() / size
    stretch = scale.clamp(min=1.0)  # a kernel as wide as a sample of the result: no aliasing
    place = torch.arange(size, device=side.device)
    place = torch.where(reverse, size - 1 - place, place)  # (B, size)
    centre = ((place + 0.5) * scale)[:, :, None]
    sample = torch.arange(reach, device=side.device)
    x = ((sample + 0.5 - centre) / stretch[:, :, None]).abs()
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weight = torch.where(x < 1, inner, torch.where(x < SUPPORT, outer, 0.0)) * (sample < side[:, :, None])
    return weight / weight.sum(2, keepdim=True)
