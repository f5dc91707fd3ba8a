"""What quantising with a step does to each tensor: its error, the elements that become 0, those kept exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shcodec.netpack.packing import trellis
from shcodec.netpack.packing.exact_elements import Exact, pick
from shcodec.netpack.packing.histograms import Histogram
from shcodec.netpack.packing.layout import Told
from shcodec.netpack.packing.plan import Plan
from shcodec.netpack.packing.quantiser import Found, Quantiser, bits_of, codewords
from shcodec.netpack.packing.tensors import SIZES

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Distortion:
    """What became of a quantised tensor, before it is rounded to its dtype.

    Attributes:
        energy: Sum of its squared elements, without those that are far outside the rest.
        error: Sum of the squared errors.
        zeroed: Share of its elements that became 0 or the tensor's centre and had been something else.
        exact: Elements that are kept exactly.
    """

    energy: float
    error: float
    zeroed: float
    exact: Exact

    @property
    def sqnr(self) -> float:
        """Energy over error in dB."""
        return ratio_db(self.energy, self.error)

    @property
    def told(self) -> Told:
        """What a file tells of it."""
        return Told.of(self.sqnr, self.zeroed)


def ratio_db(energy: float, error: float) -> float:
    """Return 10 log10(energy / error); infinite without error."""
    if error <= 0:
        return math.inf
    return 10 * math.log10(energy / error) if energy > 0 else -math.inf


def measure_distortions(
    plan: Plan, quantiser: Quantiser, step: float, found: Sequence[Found], histograms: Sequence[Histogram]
) -> list[Distortion]:
    """Tell what indices at a step do to each quantised tensor of a plan."""
    limits = quantiser.limits(step)
    errors = np.empty(plan.x.size, dtype=np.float32)
    gone = np.empty(plan.x.size, dtype=np.bool_)
    start = 0
    for section, indices in zip(quantiser.sections, found, strict=True):
        own = quantiser.within(section, limits)
        where = start + section.order
        for first, last, number in trellis.segments(section.ends, 0, own.x.size):
            span = slice(first, last)
            value = codewords(indices.k[span], indices.odd[span], histograms[number])
            # In squared steps, which do not overflow whatever the step.
            errors[where[span]] = np.square(own.x[span] / np.float32(step) - value)
            gone[where[span]] = (indices.k[span] == 0) & (own.x[span] != 0)
        start += own.x.size
    exact = plan.exact
    if limits is not None:
        exact = np.union1d(exact, np.flatnonzero(np.abs(plan.x) > limits[plan.tables]))
    errors[exact] = 0.0
    return _by_tensor(plan, step, errors, gone, exact)


def _by_tensor(
    plan: Plan, step: float, errors: Floats, gone: npt.NDArray[np.bool_], exact: npt.NDArray[np.int64]
) -> list[Distortion]:
    """Sum up errors, in squared steps, and what is gone by tensor."""
    tensors = {tensor.name: tensor for tensor in plan.tensors}
    distortions = []
    start = 0
    for (entry, _), weight, scale, energy in zip(plan.walked(), plan.weight, plan.scales(), plan.energy, strict=True):
        end = start + entry.size
        first, last = np.searchsorted(exact, (start, end))
        each = errors[start:end] if scale is None else errors[start:end] * np.square(scale, dtype=np.float64)
        distortions.append(
            Distortion(
                energy,
                float(each.sum(dtype=np.float64)) * (step * weight) ** 2,
                float(np.count_nonzero(gone[start:end])) / entry.size,
                pick(tensors[entry.name].data, SIZES[entry.dtype], exact[first:last] - start),
            )
        )
        start = end
    return distortions


def symbol_bits(
    plan: Plan, quantiser: Quantiser, found: Sequence[Found], histograms: Sequence[Histogram]
) -> list[float]:
    """Return the bits of the symbols of each quantised tensor of a plan."""
    every = np.empty(plan.x.size, dtype=np.float32)
    start = 0
    for section, indices in zip(quantiser.sections, found, strict=True):
        where = start + section.order
        for first, last, number in trellis.segments(section.ends, 0, section.x.size):
            span = slice(first, last)
            every[where[span]] = bits_of(indices.k[span], indices.odd[span], histograms[number])
        start += section.x.size
    ends = np.cumsum([entry.size for entry, _ in plan.walked()])
    return [float(part.sum(dtype=np.float64)) for part in np.split(every, ends[:-1])]
