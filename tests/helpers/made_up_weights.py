"""Weights like those of a small network, made up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.netpack.packing.tensors import Tensor, from_array, from_floats


def sqnr(before: npt.NDArray[np.floating], after: npt.NDArray[np.floating], only: Any = ...) -> float:
    """Return the power of the weights over that of their error, in dB; `only` is an index of those that count."""
    a, b = (array[only].astype(np.float64) for array in (before, after))
    error = np.square(a - b).sum()
    return float(10 * np.log10(np.square(a).sum() / error)) if error else math.inf


def make_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Two layers with their biases, norms and a counter; rows differ in spread."""
    rng = np.random.default_rng(seed)
    rows = np.exp(0.5 * rng.normal(size=(48, 1, 1, 1)))
    return {
        "conv.weight": (0.1 * rows * rng.normal(size=(48, 24, 3, 3))).astype(np.float32),
        "conv.bias": (0.1 * rng.normal(size=48)).astype(np.float32),
        "norm.weight": (1 + 0.1 * rng.normal(size=48)).astype(np.float32),
        "norm.num_batches": np.array(391, dtype=np.int64),
        "head.weight": (0.02 * rng.laplace(size=(64, 48))).astype(np.float16),
        "head.mask": rng.random((64, 48)) > 0.5,
    }


def make_tensors() -> list[Tensor]:
    """Return the same as tensors, and one in bfloat16."""
    found = [from_array(name, array) for name, array in make_weights().items()]
    values = np.random.default_rng(9).normal(size=(40, 50)).astype(np.float32)
    return [*found, Tensor("tail", "BF16", (40, 50), from_floats(values.reshape(-1), "BF16"))]
