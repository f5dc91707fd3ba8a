"""Small parts that the transforms share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from shcodec.symbols import knots
from shcodec.symbols.grid import PATCH
from shcodec.symbols.knots import KNOTS


def knot_weights(beta_byte: Tensor) -> Tensor:
    """Return the weights of the 17 knots for every beta byte: a linear interpolation between two neighbours.

    Args:
        beta_byte: (B,) integers in 0..255.

    Returns:
        (B, 17) float32, every row sums to 1.
    """
    return _knot_table(beta_byte.device)[beta_byte]


@lru_cache(maxsize=4)
def _knot_table(device: torch.device) -> Tensor:
    """Return the weights of all beta bytes, (256, 17)."""
    return torch.from_numpy(knots.weights()).to(device)


class Compilable(nn.Module):
    """A module whose parts can be compiled, for training steps alone: elsewhere pictures have too many shapes."""

    def __init__(self) -> None:
        super().__init__()
        self._compiled: dict[str, Callable[..., Any]] = {}

    def compile_parts(self, names: Iterable[str], backend: str) -> None:
        """Compile parts at their first use in a training step, for every shape of a batch anew."""
        for name in names:
            self._compiled[name] = torch.compile(getattr(self, name), dynamic=False, backend=backend)

    def interpret(self) -> None:
        """Take `compile_parts` back."""
        self._compiled.clear()

    def part(self, name: str) -> Callable[..., Any]:
        """Return a part, compiled if it is and is being trained."""
        part: nn.Module = getattr(self, name)
        trained = self.training and torch.is_grad_enabled() and next(part.parameters()).requires_grad
        return self._compiled.get(name, part) if trained else part


class Conditioned(nn.Module):
    """A network with scales and biases that follow beta.

    All of them lie in one table `knots` (17, G). The network itself takes the interpolated row as an
    input, `gain` (B, G), so that an exported graph serves every rate.
    """

    def __init__(self, stages: Mapping[str, int]) -> None:
        """Args: stages: name and channels of every stage that is modulated, in order; each takes a scale and a bias."""
        super().__init__()
        self.stages = dict(stages)
        self.knots = nn.Parameter(torch.zeros(KNOTS, 2 * sum(self.stages.values())))

    @property
    def widths(self) -> list[int]:
        """Channels of every stage."""
        return list(self.stages.values())

    def gain(self, weights: Tensor) -> Tensor:
        """Turn knot weights (B, 17) into scales and biases, (B, G)."""
        with torch.autocast(weights.device.type, enabled=False):
            return weights @ self.knots

    def split(self, gain: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Turn (B, G) into (1 + scale, bias) of every stage, (B, C, 1, 1) each."""
        parts = torch.split(gain[:, :, None, None], [width for width in self.widths for _ in range(2)], 1)
        return [(1 + scale, bias) for scale, bias in zip(parts[::2], parts[1::2], strict=True)]


Stages = Iterator[tuple[Tensor, Tensor]]


def body_stages(name: str, width: int, blocks: int, modulation: str) -> dict[str, int]:
    """Return the stages of a body of residual blocks: one after the last or, with "block", one after each."""
    return {f"{name}.{i}": width for i in range(blocks)} if modulation == "block" else {name: width}


def run_body(body: nn.Sequential, x: Tensor, stages: Stages, modulation: str) -> Tensor:
    """Run residual blocks (B, C, h, w), with the stages of `body_stages`."""
    if modulation == "stage":
        return modulate(body(x), next(stages))
    for block in body:
        x = modulate(block(x), next(stages))
    return x


def modulate(x: Tensor, stage: tuple[Tensor, Tensor]) -> Tensor:
    """Return ``x * scale + bias`` of a stage of `Conditioned.split`, x (B, C, h, w)."""
    return x * stage[0] + stage[1]


def conv3(inputs: int, outputs: int, scale: float = 1.0) -> nn.Conv2d:
    """Return a 3x3 convolution with zero padding; `scale` shrinks its initial weights (residual branches)."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    with torch.no_grad():
        layer.weight.mul_(scale)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def conv1(inputs: int, outputs: int, scale: float = 1.0) -> nn.Conv2d:
    """Return a 1x1 convolution that starts as an orthogonal map, so that the trunk keeps its energy."""
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.orthogonal_(layer.weight, gain=scale)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class Residual(nn.Module):
    """``x + conv(relu(x))`` (depth 1) or ``x + conv(relu(conv(relu(x))))`` (depth 2), 3x3 each.

    Nothing non-linear lies on the trunk: from the first to the last layer a transform contains a
    linear one, which is learned first (the idea of the linear shortcut of AuxT, ICLR 2025).
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv3(width, width, 0.2 if i == depth - 1 else 1.0) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Run on x (B, width, h, w), which keeps its shape."""
        branch = x
        for conv in self.convs:
            branch = conv(torch.relu(branch))
        return x + branch


def full_precision(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run a layer in float32 even inside autocast: bfloat16 cannot tell 256 from 257."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.float())


def scaled(layer: nn.Conv2d, factor: float) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a layer whose output is to be multiplied by a factor."""
    bias: Tensor = layer.bias  # type: ignore[assignment]  # convolutions without are not used here
    return factor * layer.weight, factor * bias


def across_borders(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the 16 samples around every border between blocks by a matrix, along rows and along columns.

    A lapped transform in the form of a filter before (or after) one by blocks (Malvar and Staelin 1989; Tran, Liang and
    Tu 2003). The outermost 8 samples stay as they are.

    Args:
        x: (B, C, H, W), H and W multiples of 16.
        matrix: (16, 16).
    """
    half, (height, width) = PATCH // 2, x.shape[2:]
    # begun half a block later, the last block holds both ends: it is left out, so that no side is empty where it is one
    turned = torch.cat([x[..., half:], x[..., :half]], -1).unflatten(-1, (width // PATCH, PATCH))  # type: ignore[no-untyped-call]
    mixed = (turned @ matrix.T).flatten(-2)[..., : width - PATCH]
    x = torch.cat([x[..., :half], mixed, x[..., width - half :]], -1)
    turned = torch.cat([x[..., half:, :], x[..., :half, :]], -2).unflatten(-2, (height // PATCH, PATCH))  # type: ignore[no-untyped-call]
    mixed = (matrix @ turned).flatten(-3, -2)[..., : height - PATCH, :]
    return torch.cat([x[..., :half, :], mixed, x[..., height - half :, :]], -2)
