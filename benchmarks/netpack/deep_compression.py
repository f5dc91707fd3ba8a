"""The method to compare with: pruning, k-means, Huffman codes (Han, Mao and Dally 2016), retrained after each step.

Its file is counted, not written: Huffman codes of the gaps between weights that are left and of their clusters, a byte
per symbol for each code's lengths, cluster centres and everything that is not pruned as float32.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

LONGEST_GAP = 31
"""Zeros that one gap can skip, as the method's 5 bits do; longer gaps take a zero weight on the way."""

Loss = Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor]
Batches = Iterator[tuple[Tensor, Tensor]]


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of convolutions and linear layers."""
    return {name: p for name, p in model.named_parameters() if p.dim() >= 2}


def prune(model: nn.Module, loss_fn: Loss, batches: Batches, *, kept: float, steps: int, lr: float) -> None:
    """Set all but the largest weights of the network to 0, a few at a time, and train the others on.

    Args:
        model: The network, changed in place.
        loss_fn: The task's loss of a batch.
        batches: As many as there are steps.
        kept: Share of the weights that is kept at the end.
        steps: Steps of training; the pruning takes the first half.
        lr: Learning rate of SGD, falling to 0.
    """
    weights = prunable(model)
    masks: dict[str, Tensor] = {name: torch.ones_like(p) for name, p in weights.items()}

    def before(step: int) -> None:
        done = min(2 * step / steps, 1.0)
        share = kept**done if done < 1 else kept
        if step % max(steps // 20, 1) == 0 or done == 1.0:
            every = torch.cat([p.detach().abs().flatten() for p in weights.values()])
            least = every.kthvalue(max(round((1 - share) * every.numel()), 1)).values
            for name, p in weights.items():
                masks[name] = (p.detach().abs() > least).to(p.dtype)
        _mask(weights, masks)

    _train(model, loss_fn, batches, steps=steps, lr=lr, before=before, after=lambda: _mask(weights, masks))


@torch.no_grad()
def _mask(weights: dict[str, nn.Parameter], masks: dict[str, Tensor]) -> None:
    for name, p in weights.items():
        p.mul_(masks[name])


def share_weights(
    model: nn.Module, loss_fn: Loss, batches: Batches, *, bits: int, steps: int, lr: float
) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Give the weights of each layer that are not 0 one of 2^bits values, and train these on.

    Returns:
        By layer, the cluster of every weight (-1 for a 0) and the centres.
    """
    weights = prunable(model)
    shared: dict[str, Tensor] = {}
    centres: dict[str, nn.Parameter] = {}
    for name, p in weights.items():
        index, means = kmeans(p.detach().flatten().cpu().numpy(), 1 << bits)
        shared[name] = torch.from_numpy(index).to(p.device)
        centres[name] = nn.Parameter(torch.from_numpy(means).to(p.device))
    optimiser = torch.optim.SGD([*centres.values()], lr, 0.9)

    @torch.no_grad()
    def fill() -> None:
        for name, p in weights.items():
            own = centres[name][shared[name].clamp(min=0)] * (shared[name] >= 0)
            p.copy_(own.view_as(p))

    fill()
    model.train()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        model.zero_grad(set_to_none=True)
        loss_fn(model, next(batches)).backward()  # type: ignore[no-untyped-call]
        for name, p in weights.items():
            if p.grad is None:
                continue
            kept = shared[name] >= 0
            total = torch.zeros_like(centres[name])
            centres[name].grad = total.index_add_(0, shared[name][kept], p.grad.flatten()[kept])
        optimiser.step()
        fill()
    return {name: (shared[name].cpu().numpy(), centres[name].detach().cpu().numpy()) for name in weights}


def kmeans(
    values: npt.NDArray[np.float32], number: int, rounds: int = 30
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Cluster the values that are not 0, from centres that lie evenly between the least and the largest.

    Returns:
        The cluster of every value, -1 for a 0, and the centres.
    """
    kept = values != 0
    own = values[kept].astype(np.float64)
    if not own.size:
        return np.full(values.size, -1), np.zeros(1, np.float32)
    centres = np.linspace(own.min(), own.max(), min(number, own.size))
    for _ in range(rounds):
        index = np.searchsorted((centres[1:] + centres[:-1]) / 2, own)
        counts = np.bincount(index, minlength=centres.size)
        sums = np.bincount(index, weights=own, minlength=centres.size)
        centres = np.sort(np.where(counts > 0, sums / np.maximum(counts, 1), centres))
    found = np.full(values.size, -1, dtype=np.int64)
    found[kept] = np.searchsorted((centres[1:] + centres[:-1]) / 2, own)
    return found, centres.astype(np.float32)


def file_bytes(model: nn.Module, shared: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]) -> int:
    """Return the bytes that the compressed network takes."""
    gaps: list[npt.NDArray[np.int64]] = []
    total = 0
    for index, centres in shared.values():
        kept = np.flatnonzero(index >= 0)
        distance = np.diff(kept, prepend=-1) - 1
        fillers = distance // (LONGEST_GAP + 1)
        gaps.append(np.concatenate([distance % (LONGEST_GAP + 1), np.full(int(fillers.sum()), LONGEST_GAP)]))
        # A filler is a weight of its own, with a cluster for 0.
        symbols = np.concatenate([index[kept], np.full(int(fillers.sum()), centres.size)])
        total += 4 * centres.size + _huffman_bytes(symbols)
    others = sum(
        t.numel() * 4 for name, t in model.state_dict().items() if name not in shared and t.is_floating_point()
    )
    return int(total + _huffman_bytes(np.concatenate(gaps)) + others)


def _huffman_bytes(symbols: npt.NDArray[np.int64]) -> int:
    """Return the bytes of symbols in their own Huffman code, with a byte for the length of each code word."""
    counts = np.bincount(symbols) if symbols.size else np.zeros(1, np.int64)
    bits = int((counts * huffman_lengths(counts)).sum())
    return -(-bits // 8) + int(counts.size)


def huffman_lengths(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the length of each symbol's code word: 0 for those that do not occur, 1 for one that is alone."""
    lengths = np.zeros(counts.size, dtype=np.int64)
    heap = [(int(count), i, [i]) for i, count in enumerate(counts) if count]
    heapq.heapify(heap)
    if len(heap) == 1:
        lengths[heap[0][2]] = 1
    while len(heap) > 1:
        (a, i, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, i, left + right))
    return lengths


def _train(
    model: nn.Module,
    loss_fn: Loss,
    batches: Batches,
    *,
    steps: int,
    lr: float,
    before: Callable[[int], None],
    after: Callable[[], None],
) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr, 0.9, weight_decay=1e-4, nesterov=True)
    model.train()
    for step in range(steps):
        before(step)
        optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.zero_grad(set_to_none=True)
        loss_fn(model, next(batches)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        after()
