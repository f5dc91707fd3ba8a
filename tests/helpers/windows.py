"""How networks are run in windows: how often each runs, and how far a window must see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shcodec.model.networks import Model

LATENTS = 48  # length of the row on which receptive fields are measured


def count_runs(model: Model, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count how often each network runs from here on."""
    calls: dict[str, int] = {}
    run = model._run

    def counted(graph: str, **inputs: Any) -> list[Any]:
        calls[graph] = calls.get(graph, 0) + 1
        return run(graph, **inputs)

    monkeypatch.setattr(model, "_run", counted)
    return calls


def reach(network: Callable[[Any], Any], channels: int, scale: float) -> float:
    """How many latents to either side of the 8 in the middle of a row those 8 depend on.

    Args:
        network: input (1, channels, h, w) -> output (1, C, h', w').
        channels: of the input.
        scale: samples of the input per latent.
    """
    torch = pytest.importorskip("torch")
    x = torch.full((1, channels, round(4 * scale), round(LATENTS * scale)), 200.0, requires_grad=True)
    y = network(x)
    middle, half = y.shape[-1] // 2, 4 * y.shape[-1] // LATENTS
    y[..., middle - half : middle + half].sum().backward()
    seen = torch.nonzero(x.grad.abs().sum((0, 1, 2))).flatten() / scale
    return max(LATENTS / 2 - float(seen.min()), float(seen.max()) + 1 / scale - LATENTS / 2) - 4
