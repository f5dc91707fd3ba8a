"""ResNet-32 for CIFAR-10 (He et al. 2016): three stages of five blocks, shortcuts without parameters (option A)."""

from __future__ import annotations

from itertools import pairwise

import torch
from cifar import Pictures
from torch import Tensor, nn
from torch.nn import functional as F

PARAMETERS = 464_154
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Block(nn.Module):
    """Two convolutions around which the input goes; where the stage begins, it is thinned out and padded with zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.stride, self.added = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Run on x (n, inputs, h, w); returns (n, outputs, h / stride, w / stride)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.added:
            half = self.added // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.added - half))
        return F.relu(x + y)


class ResNet32(nn.Module):
    """464,154 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        widths = [16] * 6 + [32] * 5 + [64] * 5
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Turn pictures (n, 3, 32, 32) into logits (n, 10)."""
        y: Tensor = self.head(self.blocks(F.relu(self.norm(self.conv(x)))).mean((2, 3)))
        return y


@torch.no_grad()
def accuracy(model: nn.Module, pictures: Pictures, size: int = 500) -> float:
    """Return the share of pictures, in percent, that a network in evaluation mode, on their device, names rightly."""
    right = 0
    for index in torch.split(torch.arange(len(pictures)), size):
        images, labels = pictures.batch(index)
        right += int((model(images).argmax(1) == labels).sum())
    return 100 * right / len(pictures)


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return a network's answers in float32; it computes in bfloat16 where that is faster.

    That is on an accelerator, and on processors that have it in hardware.
    """
    fast = images.is_cuda or bool(torch.cpu._is_avx512_bf16_supported())
    # Every weight is used once, so that there is nothing to cache; and a recorded graph allows no cache.
    with torch.autocast(images.device.type, torch.bfloat16, enabled=fast, cache_enabled=False):
        answers: Tensor = model(images)
    return answers.float()
