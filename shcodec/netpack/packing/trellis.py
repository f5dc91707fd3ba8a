"""Trellis-coded quantisation (Marcellin and Fischer 1990) with the quantisers of dependent quantisation.

Two scalar quantisers share the multiples m of a step: the even one has m = 2k, the odd one m = 2k - sign(k), so that
both have 0. A state machine that the parity of every index k drives says which of the two comes next: bit 0 of the
state. Of the paths through the machine the encoder takes the best one (Viterbi), which packs space almost as well as a
lattice of high dimension, while the decoder merely walks along.

The machine is Ungerboeck's code in systematic feedback form: from state s, parity b leads to
``(s >> 1) ^ ((s & 1) * (h0 >> 1)) ^ (b * (h1 >> 1))``. All elements lie in lanes that are walked side by side, each
from state 0: element ``t * lanes + l`` is step t of lane l.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

POLYNOMIALS: Final = ((1, 0), (3, 2), (0o5, 0o2), (0o13, 0o4), (0o23, 0o4), (0o45, 0o10), (0o103, 0o24), (0o235, 0o126))
"""Parity checks (h0, h1) of the machines with 1, 2, 4, ... states (Ungerboeck 1982, table of amplitude modulation)."""
LANES: Final = 16
"""Lanes of a short section; a long one has as many as it takes to keep to `STEPS`."""
STEPS: Final = 512
_BLOCK: Final = 2048  # lanes that the search treats at a time, so that its metrics stay in the processor's cache


@functools.cache
def transitions(memory: int) -> Bytes:
    """Return the next state by state and parity, shape ``(2^memory, 2)``."""
    h0, h1 = POLYNOMIALS[memory]
    state = np.arange(1 << memory, dtype=np.int64)[:, None]
    parity = np.arange(2, dtype=np.int64)[None, :]
    if memory == 0:
        return np.zeros((1, 2), dtype=np.uint8)
    return ((state >> 1) ^ ((state & 1) * (h0 >> 1)) ^ (parity * (h1 >> 1))).astype(np.uint8)


def tensor_step(step: float, octaves: int) -> np.float32:
    """Return the step of a tensor, ``step * 2^(octaves / 8)``, in float32 arithmetic; infinite where that overflows."""
    root = math.sqrt(math.sqrt(math.sqrt(2.0)))
    fraction = np.float32(math.prod([root] * (octaves % 8)))
    with np.errstate(over="ignore", under="ignore"):
        return np.float32(np.ldexp(np.float32(step) * fraction, octaves // 8))


def lane_count(n: int) -> int:
    """Return the number of lanes of a section of ``n`` elements."""
    return max(min(LANES, n), -(-n // STEPS))


def ends_of(counts: npt.NDArray[np.int64]) -> list[int]:
    """Return where each histogram's elements end in a section that is sorted by histogram, given their numbers."""
    return [int(end) for end in np.cumsum(counts)]


def segments(ends: list[int], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield the parts of elements ``start..stop-1`` that share a histogram, and its number.

    Args:
        ends: See `ends_of`.
        start: First element.
        stop: First element beyond.
    """
    number = bisect.bisect_right(ends, start)
    while start < stop:
        end = min(ends[number], stop)
        if end > start:
            yield start, end, number
        start, number = end, number + 1


@dataclass(frozen=True)
class Costs:
    """What the multiples cost, by histogram; all arrays are flat, histogram after histogram.

    Attributes:
        first: where each histogram begins, shape ``(tables,)``.
        largest: largest multiple of each, shape ``(tables,)``: an even number.
        rate: lambda times bits of |m|, as the quantiser has it that owns m.
        zero: lambda times bits of 0 in the odd quantiser, shape ``(tables,)``.
        level: where |m| is reconstructed, in steps.
    """

    first: npt.NDArray[np.int32]
    largest: npt.NDArray[np.int32]
    rate: Floats
    zero: Floats
    level: Floats


def search(x: Floats, table: Bytes, costs: Costs, memory: int, threads: int = 1) -> Indices:
    """Find the indices k that cost least in |x - level|^2 + lambda * bits.

    Args:
        x: Elements of a section in steps, shape ``(n,)``.
        table: The histogram of each, shape ``(n,)``.
        costs: What the multiples cost.
        memory: Binary logarithm of the number of states.
        threads: Threads to use; the result does not depend on them.

    Returns:
        int32 of shape ``(n,)``.
    """
    lanes = lane_count(x.size)
    if not lanes:
        return np.zeros(0, dtype=np.int32)
    steps = -(-x.size // lanes)
    padding = steps * lanes - x.size
    grid = np.pad(x, (0, padding)).reshape(steps, lanes)
    which = np.pad(table, (0, padding), mode="edge").reshape(steps, lanes)
    out = np.empty((steps, lanes), dtype=np.int32)

    def treat(start: int) -> None:
        part = slice(start, start + _BLOCK)
        size, cost = candidates(grid[:, part], which[:, part], costs)
        pick = np.argmin(cost[:2], axis=0)[None] if memory == 0 else _viterbi(cost, memory)[None]
        m = np.take_along_axis(size, pick, axis=0)[0]
        out[:, part] = np.where(grid[:, part] < 0, -((m + 1) >> 1), (m + 1) >> 1)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(treat, range(0, lanes, _BLOCK)):
            pass
    return out.reshape(-1)[: x.size]


def candidates(x: Floats, table: Bytes, costs: Costs) -> tuple[Indices, Floats]:
    """Return the best |m| of each of the four sets of codewords, and its cost.

    The sets are those of the even quantiser with even and odd k, then those of the odd one: |m| in {0, 4, 8, ...},
    {2, 6, ...}, {0, 3, 7, ...}, {1, 5, ...}.

    Returns:
        |m| and its cost, each of shape ``(4, *x.shape)``.
    """
    size = np.abs(x)
    first, last = costs.first[table], costs.largest[table]
    bounded = np.minimum(size, last.astype(np.float32))
    found = np.empty((4, *x.shape), dtype=np.int32)
    price = np.empty((4, *x.shape), dtype=np.float32)
    zero = costs.zero[table]
    for row, (shift, least) in enumerate(((0, 0), (2, 2), (1, 0), (3, 1))):
        low = ((bounded.astype(np.int32) + shift) & ~3) - shift
        high = low + 4
        np.maximum(low, least, out=low)
        # Beyond the largest multiple of a histogram there is nothing to choose.
        high = np.where(high > last, low, high)
        at = first + low
        below = np.square(size - costs.level[at]) + (
            np.where(low > 0, costs.rate[at], zero) if row == 2 else costs.rate[at]
        )
        at = first + high
        above = np.square(size - costs.level[at]) + (
            np.where(high > 0, costs.rate[at], zero) if row == 2 else costs.rate[at]
        )
        found[row] = np.where(above < below, high, low)
        price[row] = np.minimum(above, below)
    return found, price


def _viterbi(cost: Floats, memory: int) -> Bytes:
    """Return which of the four sets the best path of each lane takes, shape ``(steps, lanes)``."""
    _, steps, lanes = cost.shape
    states = 1 << memory
    came, through = _arrivals(memory)
    metric = np.full((states, lanes), np.inf, dtype=np.float32)
    metric[0] = 0.0
    second = np.empty((steps, states, lanes), dtype=np.bool_)
    for t in range(steps):
        now = cost[:, t]
        first = metric[came[0]] + now[through[0]]
        other = metric[came[1]] + now[through[1]]
        np.less(other, first, out=second[t])
        metric = np.minimum(first, other)
        if t % 64 == 63:
            metric -= metric.min(axis=0)
    state = np.argmin(metric, axis=0)
    sets = np.empty((steps, lanes), dtype=np.uint8)
    every = np.arange(lanes)
    for t in range(steps - 1, -1, -1):
        by = second[t, state, every].astype(np.int64)
        sets[t] = through[by, state]
        state = came[by, state]
    return sets


@functools.cache
def _arrivals(memory: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the two states that lead to each state, and the sets of codewords on the way, each of shape ``(2, S)``."""
    following = transitions(memory)
    came = np.zeros((2, len(following)), dtype=np.int64)
    through = np.zeros_like(came)
    seen = [0] * len(following)
    for state, row in enumerate(following.tolist()):
        for parity, target in enumerate(row):
            came[seen[target], target] = state
            through[seen[target], target] = 2 * (state & 1) + parity
            seen[target] += 1
    return came, through


def odd_ones(k: Indices, memory: int) -> npt.NDArray[np.bool_]:
    """Return whether each index of a section belongs to the odd quantiser: a walk along the indices, shape ``(n,)``."""
    lanes = lane_count(k.size)
    following = transitions(memory).reshape(-1)
    odd = np.zeros(k.size, dtype=np.bool_)
    parity = (k & 1).astype(np.uint8)
    state = np.zeros(lanes, dtype=np.uint8)
    for start in range(0, k.size, max(lanes, 1)):
        step = parity[start : start + lanes]
        state = state[: step.size]
        odd[start : start + lanes] = state & 1
        state = following[2 * state.astype(np.intp) + step]
    return odd
