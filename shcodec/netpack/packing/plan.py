"""Which tensors are quantised, and how their elements are sorted; everything that does not depend on the step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shcodec.netpack.packing import byte_planes
from shcodec.netpack.packing.directory import MAX_AXES
from shcodec.netpack.packing.layout import Entry, Foreign, Runs, Trellis, scales
from shcodec.netpack.packing.outliers import Prepared, prepare
from shcodec.netpack.packing.quantiser import make_runs
from shcodec.netpack.packing.spread import CLASSES, PER_OCTAVE, Spread, classes, level, measure
from shcodec.netpack.packing.tensors import FLOATS, SIZES, Tensor
from shcodec.netpack.packing.trellis import tensor_step
from shcodec.netpack.packing.unpacker import table_map
from shcodec.support.errors import UsageError

Floats = npt.NDArray[np.float32]

WEIGHTINGS: Final = ("mse", "relative")
_HEADROOM: Final = 24  # classes above that of a tensor's mean spread, for its rows of large spread
_GAP: Final = 4.0  # octaves of spread between tensors that do not share a step; in networks of ours at most 3.5
_LARGEST: Final = 40.0  # octaves that elements in units of the common step may be away from 1
_WIDEST: Final = 100.0  # octaves: steps must be normal float32 numbers


@dataclass(frozen=True)
class PackConfig:
    """How tensors are packed.

    Attributes:
        states: States of the trellis, a power of 2 from 1 (plain scalar quantisation) to 128; more are slower to pack
            and as quick to unpack.
        weighting: "mse" gives all quantised tensors the same step, which is best for the squared error of all weights,
            but those whose spreads are of different orders of magnitude; "relative" gives each a step in proportion
            to its own spread.
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
        """Raise UsageError for what makes no sense."""
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
        tensors: All tensors in their order.
        entries: What the file says of them, but for their exact elements.
        plain: Bytes of those that are kept, in the same order.
        x: Elements of the others, one tensor after the other, in units in which all have the same step.
        exact: Which of them are kept exactly whatever the step.
        far: Which of them statistics leave out.
        tables: The number of the histogram of each of these elements.
        runs: Which histogram codes which classes.
        weight: By what each quantised tensor's elements were divided, apart from its scale.
        energy: The sum of its squared elements, as they were, without those that statistics leave out.
        spoiled: Names of tensors that are kept, with less than all of their bits, for what their elements are.
    """

    tensors: tuple[Tensor, ...]
    entries: tuple[Entry, ...]
    plain: tuple[bytes, ...]
    x: Floats
    exact: npt.NDArray[np.int64]
    far: npt.NDArray[np.int64]
    tables: npt.NDArray[np.uint8]
    runs: Runs
    weight: tuple[float, ...]
    energy: tuple[float, ...]
    spoiled: tuple[str, ...]

    def walked(self) -> list[tuple[Entry, Trellis]]:
        """Return the tensors that are quantised."""
        return [(entry, entry.coding) for entry in self.entries if isinstance(entry.coding, Trellis)]

    def scales(self) -> list[npt.NDArray[np.float32] | None]:
        """Return by what the elements of each of them were divided besides; None where that is 1."""
        return [scales(coding.scale, entry.shape) for entry, coding in self.walked()]

    def deviation(self) -> float:
        """Return the deviation of all that statistics do not leave out, in the units of `x`."""
        return float(np.std(np.delete(self.x, self.far) if self.far.size else self.x, dtype=np.float64))

    def mean_square(self) -> float:
        """Return the mean of the squares of what elements were divided by: what an error of 1 in `x` means outside."""
        total = 0.0
        for (entry, _), weight, scale in zip(self.walked(), self.weight, self.scales(), strict=True):
            each = entry.size if scale is None else float(np.square(scale, dtype=np.float64).sum())
            total += weight**2 * each
        return total / max(self.x.size, 1)


def make_plan(
    tensors: Sequence[Tensor], config: PackConfig, coded: frozenset[str] = frozenset(), *, whole: bool = False
) -> Plan:
    """Decide about every tensor.

    Args:
        tensors: The tensors.
        config: How.
        coded: Names of tensors that are coded in another way; they are left out.
        whole: Whether what would be quantised is kept with all of its bits.
    """
    eligible = {t.name for t in tensors if t.name not in coded and is_eligible(t, config)}
    ready = {t.name: found for t in tensors if t.name in eligible and not whole and (found := prepare(t)) is not None}
    octaves = _octaves(ready, config.weighting)
    spreads = {t.name: _divide(t, ready[t.name], octaves[t.name], config) for t in tensors if t.name in ready}
    top = max((spread for spread, _ in spreads.values()), default=0.0)
    entries, plain, spoiled = [], [], []
    for tensor in tensors:
        coding = foreign = None
        if tensor.name in ready:
            spread, coding = spreads[tensor.name]
            base = min(max(CLASSES - 1 - _HEADROOM - round(top - spread), 0), CLASSES - 1)
            coding = replace(coding, spread=replace(coding.spread, base=base))
        elif tensor.name not in coded:
            fine = tensor.dtype in FLOATS and not (whole and tensor.name in eligible)
            plain.append(
                byte_planes.rounded(tensor.data, tensor.dtype, config.fine_bits) if fine else bytes(tensor.data)
            )
            spoiled += [tensor.name] if tensor.name in eligible and plain[-1] != bytes(tensor.data) else []
            foreign = None if tensor.dtype in SIZES else Foreign(len(tensor.data), tensor.width)
        entries.append(Entry(tensor.name, tensor.dtype, tensor.shape, coding, foreign))
    walked = [(entry, entry.coding) for entry in entries if isinstance(entry.coding, Trellis)]
    population = np.zeros(CLASSES, dtype=np.int64)
    for entry, coding in walked:
        population += np.bincount(classes(coding.spread, entry.shape), minlength=CLASSES)
    runs = make_runs(population)
    starts = np.cumsum([0, *(entry.size for entry, _ in walked)])
    return Plan(
        tensors=tuple(tensors),
        entries=tuple(entries),
        plain=tuple(plain),
        x=_joined([found.x for found in ready.values()], np.float32),
        exact=_joined([found.exact + start for found, start in zip(ready.values(), starts, strict=False)], np.int64),
        far=_joined([found.far + start for found, start in zip(ready.values(), starts, strict=False)], np.int64),
        tables=table_map(walked, runs.lookup()),
        runs=runs,
        weight=tuple(float(tensor_step(1.0, coding.octaves)) for _, coding in walked),
        energy=tuple(found.energy for found in ready.values()),
        spoiled=tuple(spoiled),
    )


def _divide(tensor: Tensor, ready: Prepared, octaves: int, config: PackConfig) -> tuple[float, Trellis]:
    """Divide a tensor's elements by its own step; return its class as a real number, and its coding."""
    ready.x[:] /= tensor_step(1.0, octaves)
    typical = ready.typical()
    spread, axes = measure(typical.reshape(tensor.shape))
    if not config.axes:
        spread, axes = PER_OCTAVE * level(typical), (None,) * len(axes)
    return spread, Trellis(octaves, float(ready.centre), Spread(0, axes), ready.scale)


def _joined(parts: list[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)


def is_eligible(tensor: Tensor, config: PackConfig) -> bool:
    """Whether a tensor's dtype and shape are those that are quantised: floats of at least two axes that are not few."""
    axes = sum(size > 1 for size in tensor.shape)
    if tensor.dtype not in FLOATS or tensor.size < config.smallest or len(tensor.shape) > MAX_AXES:
        return False
    return axes >= 2 or tensor.size > config.longest


def is_quantised(tensor: Tensor, config: PackConfig) -> bool:
    """Whether a tensor is quantised: most of its elements are finite, too, and they vary."""
    return is_eligible(tensor, config) and prepare(tensor) is not None


def _octaves(ready: Mapping[str, Prepared], weighting: str) -> dict[str, int]:
    """Return by how many eighths of an octave the step of each tensor is larger than that of all."""
    if not ready:
        return {}
    own = {name: found.level for name, found in ready.items()}
    sizes = {name: found.x.size for name, found in ready.items()}
    if weighting == "mse":
        own = _families(own, sizes)
        middle = max(set(own.values()), key=lambda of: (sum(sizes[name] for name in own if own[name] == of), of))
    else:
        middle = sum(own[name] * sizes[name] for name in own) / sum(sizes.values())
    middle = min(max(middle, -_LARGEST), _LARGEST)
    middle = min(max(middle, max(own.values()) - _WIDEST), min(own.values()) + _WIDEST)
    return {name: round(8 * (level - middle)) for name, level in own.items()}


def _families(levels: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
    """Return the level that stands for each tensor: the mean one of those that no wide gap parts from it.

    Within a family one step for all is best for the squared error of all weights. But a mask of -10000 beside weights
    of 0.05 is not worth more bits than they are for being measured in other units.
    """
    order = sorted(levels, key=lambda name: levels[name])
    families = [[order[0]]]
    for before, name in itertools.pairwise(order):
        if levels[name] - levels[before] >= _GAP:
            families.append([])
        families[-1].append(name)
    found = {}
    for family in families:
        mean = sum(levels[name] * sizes[name] for name in family) / sum(sizes[name] for name in family)
        found.update(dict.fromkeys(family, mean))
    return found
