"""Which tensors are quantised, and how their elements are sorted; everything that does not depend on the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec.errors import UsageError
from shcodec.netpack import planes
from shcodec.netpack.directory import MAX_AXES
from shcodec.netpack.layout import Entry, Runs, Trellis
from shcodec.netpack.quantiser import make_runs
from shcodec.netpack.spread import CLASSES, PER_OCTAVE, Spread, classes, level, measure
from shcodec.netpack.tensors import FLOATS, Tensor, to_floats
from shcodec.netpack.trellis import tensor_step
from shcodec.netpack.unpacker import table_map

Floats = npt.NDArray[np.float32]

WEIGHTINGS: Final = ("mse", "relative")
_HEADROOM: Final = 24  # classes above that of a tensor's mean spread, for its rows of large spread
_SMALLEST: Final = 2.0**-80  # spread below which a tensor is not quantised: steps must be normal float32 numbers


@dataclass(frozen=True)
class PackConfig:
    """How tensors are packed.

    Attributes:
        states: States of the trellis, a power of 2 from 1 (plain scalar quantisation) to 128; more are slower to pack
            and as quick to unpack.
        weighting: "mse" gives all quantised tensors the same step, which is best for the squared error of all weights;
            "relative" gives each a step in proportion to its own spread.
        fine_bits: Bits of mantissa that floats in small and one-dimensional tensors keep, 1..52.
        smallest: Tensors with fewer elements are kept so, and those with a single axis up to `longest` elements.
        longest: See `smallest`.
        threads: Threads of the search.
        axes: Whether rows and columns of different spread get classes of their own, or only tensors.
    """

    states: int = 64
    weighting: str = "mse"
    fine_bits: int = 8
    smallest: int = 256
    longest: int = 65536
    threads: int = 1
    axes: bool = True

    def __post_init__(self) -> None:
        """Raises UsageError for what makes no sense."""
        if self.states not in (1, 2, 4, 8, 16, 32, 64, 128):
            raise UsageError(f"a trellis has 1, 2, 4, ... or 128 states, not {self.states}")
        if self.weighting not in WEIGHTINGS:
            raise UsageError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {self.weighting!r}")
        if not 1 <= self.fine_bits <= 52 or min(self.smallest, self.longest) < 0 or self.threads < 1:
            raise UsageError("fine_bits must be from 1 to 52, threads at least 1, and sizes not negative")

    @property
    def memory(self) -> int:
        """Binary logarithm of the number of states."""
        return self.states.bit_length() - 1


@dataclass(frozen=True)
class Plan:
    """Tensors that are ready to be quantised at any step.

    Attributes:
        entries: All tensors in their order.
        plain: Bytes of those that are kept, in the same order.
        x: Elements of the others, one tensor after the other, in units in which all have the same step.
        tables: The number of the histogram of each of these elements.
        runs: Which histogram codes which classes.
        weight: By what each quantised tensor's elements were divided.
        energy: The sum of its squared elements, as they were.
    """

    entries: tuple[Entry, ...]
    plain: tuple[bytes, ...]
    x: Floats
    tables: npt.NDArray[np.uint8]
    runs: Runs
    weight: tuple[float, ...]
    energy: tuple[float, ...]

    def walked(self) -> list[tuple[Entry, Trellis]]:
        """The tensors that are quantised."""
        return [(entry, entry.coding) for entry in self.entries if isinstance(entry.coding, Trellis)]


def make_plan(tensors: Sequence[Tensor], config: PackConfig, coded: frozenset[str] = frozenset()) -> Plan:
    """Decide about every tensor.

    Args:
        tensors: The tensors.
        config: How.
        coded: Names of tensors that are coded in another way; they are left out.
    """
    values = {t.name: to_floats(t) for t in tensors if t.name not in coded and is_quantised(t, config)}
    octaves = _octaves(values, config.weighting)
    found: dict[str, tuple[float, Trellis]] = {}
    scaled = []
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    energy = tuple(float(np.square(own).sum(dtype=np.float64)) for own in values.values())
    for name, own in values.items():
        centre = _centre(own)
        own -= centre
        own /= tensor_step(1.0, octaves[name])
        spread, axes = measure(own.reshape(shapes[name]))
        if not config.axes:
            spread, axes = PER_OCTAVE * level(own), (None,) * len(axes)
        found[name] = spread, Trellis(octaves[name], float(centre), Spread(0, axes))
        scaled.append(own)
    top = max((spread for spread, _ in found.values()), default=0.0)
    entries, plain = [], []
    for tensor in tensors:
        coding = None
        if tensor.name in found:
            spread, coding = found[tensor.name]
            base = min(max(CLASSES - 1 - _HEADROOM - round(top - spread), 0), CLASSES - 1)
            coding = replace(coding, spread=replace(coding.spread, base=base))
        elif tensor.name not in coded:
            fine = tensor.dtype in FLOATS
            plain.append(planes.rounded(tensor.data, tensor.dtype, config.fine_bits) if fine else bytes(tensor.data))
        entries.append(Entry(tensor.name, tensor.dtype, tensor.shape, coding))
    x = np.concatenate(scaled) if scaled else np.zeros(0, dtype=np.float32)
    walked = [(entry, entry.coding) for entry in entries if isinstance(entry.coding, Trellis)]
    population = np.zeros(CLASSES, dtype=np.int64)
    for entry, coding in walked:
        population += np.bincount(classes(coding.spread, entry.shape), minlength=CLASSES)
    runs = make_runs(population)
    weight = tuple(float(tensor_step(1.0, coding.octaves)) for _, coding in walked)
    return Plan(tuple(entries), tuple(plain), x, table_map(walked, runs.lookup()), runs, weight, energy)


def is_quantised(tensor: Tensor, config: PackConfig) -> bool:
    """Whether a tensor is quantised: floats of at least two axes that vary, are finite, and neither few nor tiny."""
    axes = sum(size > 1 for size in tensor.shape)
    if tensor.dtype not in FLOATS or tensor.size < config.smallest or len(tensor.shape) > MAX_AXES:
        return False
    if axes < 2 and tensor.size <= config.longest:
        return False
    values = to_floats(tensor)
    if not np.isfinite(values).all():
        return False
    return _deviation(values) > _SMALLEST and float(np.abs(values).max()) < 2.0**100


def _deviation(values: Floats) -> float:
    return float(np.std(values, dtype=np.float64))


def _centre(values: Floats) -> np.float32:
    """Return the mean of a tensor where it lies far from 0."""
    mean = float(np.mean(values, dtype=np.float64))
    return np.float32(mean) if abs(mean) > 0.25 * _deviation(values) else np.float32(0.0)


def _octaves(values: dict[str, Floats], weighting: str) -> dict[str, int]:
    """Return by how many eighths of an octave the step of each tensor is larger than that of all."""
    if weighting == "mse" or not values:
        return dict.fromkeys(values, 0)
    levels = {name: math.log2(_deviation(own)) for name, own in values.items()}
    sizes = {name: own.size for name, own in values.items()}
    mean = sum(levels[name] * sizes[name] for name in values) / sum(sizes.values())
    return {name: round(8 * (own - mean)) for name, own in levels.items()}
