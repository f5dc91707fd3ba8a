"""Tensors prepared for quantisation with one step each, so that outliers do not decide about the other elements.

A few huge elements, rows of another order of magnitude, or a NaN say nothing of a tensor's other elements, but they
would spoil every mean over it, and with it the centre, the step and the histograms. So statistics leave them out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec.netpack.packing.exact_elements import Positions
from shcodec.netpack.packing.layout import scales
from shcodec.netpack.packing.spread import Offsets
from shcodec.netpack.packing.tensors import Tensor, to_floats

Floats = npt.NDArray[np.float32]
Scale = tuple[Offsets | None, ...]

_SMALLEST: Final = -80.0  # octaves: below such a spread a tensor is not quantised, since steps must be normal numbers
_HUGE: Final = 2.0**100  # a magnitude beyond which squares overflow
_QUANTILE: Final = 0.98
_FAR: Final = 128.0  # times that quantile of the magnitudes: an outlier
_GAP: Final = 3.0  # octaves between rows whose steps differ; rows of trained networks lie at most 1.7 apart
_LEAST: Final = 16  # elements of a row whose median means something


@dataclass(frozen=True)
class Prepared:
    """A tensor that can be quantised.

    Attributes:
        x: Its elements less the centre, divided by the scale; 0 where they must be kept exactly. float32, ``(size,)``.
        centre: What was subtracted.
        scale: By how many octaves the step of rows and columns is larger; empty where none is.
        exact: Elements that must be kept exactly, because they are not finite or huge.
        far: Elements that statistics leave out; these among them.
        level: Binary logarithm of the deviation of all others, after scaling.
        energy: Sum of the squares of all elements that statistics do not leave out, as they were.
    """

    x: Floats
    centre: np.float32
    scale: Scale
    exact: Positions
    far: Positions
    level: float
    energy: float

    def typical(self) -> Floats:
        """Return the elements with 0 in place of those that statistics leave out."""
        if not self.far.size:
            return self.x
        found = self.x.copy()
        found[self.far] = 0.0
        return found


def prepare(tensor: Tensor) -> Prepared | None:
    """Return a float tensor ready to be quantised, or None where most of it is not finite or it hardly varies."""
    values = to_floats(tensor)
    exact = np.flatnonzero(~(np.abs(values) < _HUGE))
    if 2 * exact.size > values.size:
        return None
    if exact.size:
        values[exact] = np.median(np.delete(values, exact))
    distance = np.abs(values - np.median(values))
    scale = _scale(distance.reshape(tensor.shape))
    larger = scales(scale, tensor.shape)
    if larger is not None:
        distance /= larger
    far = np.flatnonzero(distance > _reach(distance))
    if exact.size:
        far = np.union1d(far, exact)
    ordinary = np.delete(values, far) if far.size else values
    energy = float(np.square(ordinary, dtype=np.float64).sum())
    if larger is not None:
        ordinary = values[(distance <= _reach(distance)) & (larger == 1)]
    centre = _centre(ordinary)
    values -= centre
    if larger is not None:
        values /= larger
    values[exact] = 0.0
    deviation = float(np.std(np.delete(values, far) if far.size else values, dtype=np.float64))
    level = math.log2(deviation) if deviation > 0 else -math.inf
    return Prepared(values, centre, scale, exact, far, level, energy) if level > _SMALLEST else None


def _centre(values: Floats) -> np.float32:
    """Return the mean of elements where it lies far from 0."""
    mean = float(np.mean(values, dtype=np.float64)) if values.size else 0.0
    deviation = float(np.std(values, dtype=np.float64)) if values.size else 0.0
    return np.float32(mean) if abs(mean) > 0.25 * deviation else np.float32(0.0)


def _reach(distance: Floats) -> float:
    """Return the distance from the median beyond which there are outliers only."""
    others = distance[distance > 0]
    if not others.size:
        return 0.0
    last = min(int(_QUANTILE * others.size), others.size - 1)
    return _FAR * float(np.partition(others, last)[last])


def _scale(distance: Floats) -> Scale:
    """Return by how many octaves rows and columns lie above all others, if there is a wide gap between.

    Args:
        distance: The elements' distances from the median, in the tensor's shape.
    """
    found: list[Offsets | None] = [None] * distance.ndim
    distance = distance.copy()
    for axis, count in enumerate(distance.shape):
        if count < 4 or distance.size // count < _LEAST:
            continue
        rows = np.moveaxis(distance, axis, 0).reshape(count, -1)
        means = rows.mean(axis=1, dtype=np.float64)
        if float(means.max()) <= 2.0**_GAP * float(np.median(means)):  # saves the medians, which take longer
            continue
        octaves = _above(np.median(rows, axis=1))
        if octaves.any():
            found[axis] = octaves
            shape = [-1 if a == axis else 1 for a in range(distance.ndim)]
            distance /= np.exp2(octaves.astype(np.float32)).reshape(shape)
    return tuple(found) if any(offsets is not None for offsets in found) else ()


def _above(medians: npt.NDArray[np.floating]) -> Offsets:
    """Return by how many octaves each of some numbers lies above the common ones; 0 for these."""
    octaves = np.zeros(medians.size, dtype=np.int8)
    with np.errstate(divide="ignore"):
        levels = np.log2(medians.astype(np.float64))
    order = np.argsort(levels, kind="stable")
    order = order[np.isfinite(levels[order])]
    middle = order.size // 2
    gaps = np.flatnonzero(np.diff(levels[order[middle:]]) >= _GAP)
    if gaps.size:
        last = middle + int(gaps[0])  # the last common one
        beyond = order[last + 1 :]
        octaves[beyond] = np.clip(np.rint(levels[beyond] - levels[order[last // 2]]), 0, 127).astype(np.int8)
    return octaves
