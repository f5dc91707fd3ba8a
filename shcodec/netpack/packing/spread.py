"""Classes of spread, which decide the histogram that an element is coded with.

An element's class is a base of its tensor plus one offset for its index along each chosen axis, cut to 0..127: rows,
columns and kernel positions of different spread fall into different classes, for the price of one small number each.
A class is a quarter of an octave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

CLASSES: Final = 128
PER_OCTAVE: Final = 4
MAX_OFFSET: Final = 63
_OFFSET_BITS: Final = 3.5
"""What an offset costs on average, with the chance that it only follows the noise of its row."""

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Spread:
    """How a tensor's elements are sorted into classes.

    Attributes:
        base: 0..127.
        axes: For each axis the offsets of its indices, or None where the axis does not count.
    """

    base: int
    axes: tuple[Offsets | None, ...]


def classes(spread: Spread, shape: tuple[int, ...]) -> Bytes:
    """Return the class of every element, shape ``(size,)``."""
    total = np.full((1,) * len(shape), spread.base, dtype=np.int16)
    for axis, offsets in enumerate(spread.axes):
        if offsets is not None:
            total = total + offsets.astype(np.int16).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    found = np.clip(total, 0, CLASSES - 1).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(found, shape)).reshape(-1)


def level(values: npt.NDArray[Any]) -> float:
    """Return the binary logarithm of the mean magnitude; that of 2^-60 for zeros."""
    mean = float(np.mean(np.abs(values), dtype=np.float64)) if values.size else 0.0
    return math.log2(max(mean, 2.0**-60))


def measure(values: npt.NDArray[np.float32]) -> tuple[float, tuple[Offsets | None, ...]]:
    """Find the axes along which a tensor's spread varies enough to be told, the most rewarding first.

    Args:
        values: The tensor in its shape.

    Returns:
        The tensor's class as a real number (4 times the logarithm of its spread, before any shift), and the offsets.
    """
    rest = np.abs(values).astype(np.float32)
    axes: list[Offsets | None] = [None] * values.ndim
    for _ in range(values.ndim):
        best = max(
            (_along(rest, axis) for axis in range(values.ndim) if axes[axis] is None and values.shape[axis] > 1),
            key=lambda found: found[0],
            default=None,
        )
        if best is None or best[0] <= 0:
            break
        _, axis, offsets = best
        axes[axis] = offsets
        scale = np.exp2(offsets.astype(np.float32) / -PER_OCTAVE)
        rest = rest * scale.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return PER_OCTAVE * level(rest), tuple(axes)


def _along(size: npt.NDArray[np.float32], axis: int) -> tuple[float, int, Offsets]:
    """Return the bits that offsets along an axis save, the axis, and the offsets."""
    count = size.shape[axis]
    each = size.size // count
    others = tuple(a for a in range(size.ndim) if a != axis)
    mean = size.mean(axis=others, dtype=np.float64)
    whole = float(mean.mean())
    if whole <= 0:
        return 0.0, axis, np.zeros(count, dtype=np.int8)
    # Fine offsets pay only where many elements share each.
    grain = 1 if each >= 400 else 2 if each >= 60 else 4
    steps = np.log2(np.maximum(mean, whole * 2.0**-12) / whole) * (PER_OCTAVE / grain)
    offsets = np.clip(np.rint(steps) * grain, -MAX_OFFSET, MAX_OFFSET)
    # A class that is wrong by e octaves costs about 0.7 e^2 bits an element; the logarithms say what is gained.
    missed = np.log2(np.maximum(mean, whole * 2.0**-12) / whole) - offsets / PER_OCTAVE
    gain = -each * float((offsets / PER_OCTAVE).sum()) - each * float((0.7 * missed**2 + missed).sum())
    return gain - _OFFSET_BITS * count - 64, axis, offsets.astype(np.int8)
