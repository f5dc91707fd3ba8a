"""The class of a latent element: how far it is expected to spread. It decides the codebook and the histogram.

Classes follow from z by a map of integers, the same on every machine. Elements are coded by falling class, the hottest
first, cut into vectors of elements of about equal spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shcodec.support.blas import one_thread
from shcodec.support.errors import ModelError
from shcodec.symbols.grid import HYPER, Grid
from shcodec.symbols.knots import KNOTS, interpolate_integers

SPREAD_START: Final = 0.12
"""Spread of class 0, in steps."""
SPREAD_RATIO: Final = (64 / SPREAD_START) ** (1 / 63)
"""Spread of a class over that of the next colder one: class 63 has a spread of 64 steps."""
PLACES: Final = HYPER**2
"""Latent positions that a position of z stands for."""
_MAX_SHIFT = 31


def class_spread(classes: Iterable[int]) -> npt.NDArray[np.float64]:
    """Return the spread (standard deviation in steps) of the elements of each class, at its middle."""
    return SPREAD_START * SPREAD_RATIO ** (np.asarray(list(classes), np.float64) + 0.5)


def class_coordinate(spread: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return the class of a spread, not rounded: the inverse of the spread at a class's lower end."""
    coordinate: npt.NDArray[np.float64] = np.log(np.asarray(spread, np.float64) / SPREAD_START) / np.log(SPREAD_RATIO)
    return coordinate


@dataclass(frozen=True)
class ClassMap:
    """The map from z to classes: ``clip((weight z + bias) >> shift, floor, classes - 1)``.

    Attributes:
        weight: int8 (16 M, C_z), of each channel at the 4 x 4 places of a position of z.
        shift: int32 (M,).
        bias: int64 (17, M), at the knots.
        floor: int32 (M,), the least class of a channel.
        classes: number of classes.
    """

    weight: npt.NDArray[np.int8]
    shift: npt.NDArray[np.int32]
    bias: npt.NDArray[np.int64]
    floor: npt.NDArray[np.int32]
    classes: int

    @staticmethod
    def of(tensors: Mapping[str, npt.NDArray[Any]], latent: int, classes: int) -> ClassMap:
        """Return the map that a model's tensors hold; raises KeyError where one is missing."""
        floor = tensors.get("class_map.floor", np.zeros(latent, np.uint8))
        return ClassMap(
            tensors["class_map.weight"],
            tensors["class_map.shift"].astype(np.int32),
            tensors["class_map.bias"].astype(np.int64),
            floor.astype(np.int32),
            classes,
        )

    def check(self, latent: int, channels: int, limit: int) -> None:
        """Raise ModelError for a map that does not fit M latent channels and z of a number of channels and a range."""
        shapes = (self.weight.shape, self.shift.shape, self.bias.shape, self.floor.shape)
        if shapes != ((PLACES * latent, channels), (latent,), (KNOTS, latent), (latent,)):
            raise ModelError("the class map and the hyper tables do not fit together")
        # the product runs in float32 BLAS: exact as long as no sum can reach 2^24
        reach = limit * np.abs(self.weight.astype(np.int64)).sum(1).max()
        if self.weight.dtype != np.int8 or reach >= 1 << 24 or np.abs(self.bias).max() >= 1 << 30:
            raise ModelError("the class map's sums could leave the range in which they are exact")
        if self.shift.min() < 0 or self.shift.max() > _MAX_SHIFT:
            raise ModelError(f"the class map has a shift outside 0..{_MAX_SHIFT}")
        if self.floor.min() < 0 or self.floor.max() >= self.classes:
            raise ModelError("the class map has a floor that is not a class")

    @cached_property
    def float_weight(self) -> npt.NDArray[np.float32]:
        """The same integers as float32."""
        return self.weight.astype(np.float32)

    def bias_at(self, beta_byte: int) -> npt.NDArray[np.int64]:
        """Return the bias at a rate step, (M,), before the shift."""
        return interpolate_integers(self.bias, beta_byte)

    def slopes(self) -> npt.NDArray[np.float64]:
        """Return the classes per unit of z: (M, 16, C_z), of each channel at the 4 x 4 places of a position of z."""
        slopes = self.weight.reshape(len(self.shift), PLACES, -1).astype(np.float64)
        slopes /= 2.0 ** self.shift[:, None, None]
        return slopes

    def apply(self, z: npt.NDArray[np.int8], beta_byte: int, grid: Grid) -> npt.NDArray[np.uint8]:
        """Return the class of every coded latent element, (M, h, w), for z (C_z, hz, wz)."""
        latent, (hz, wz) = len(self.shift), z.shape[1:]
        with one_thread():
            sums = (self.float_weight @ z.reshape(len(z), -1).astype(np.float32)).astype(np.int32)  # integers, exact
        sums = sums.reshape(latent, PLACES, -1)
        sums += self.bias_at(beta_byte).astype(np.int32)[:, None, None]
        sums >>= self.shift[:, None, None]
        classes = np.clip(sums, self.floor[:, None, None], self.classes - 1, out=sums)
        return spread_places(classes.astype(np.uint8).reshape(latent, PLACES, hz, wz), grid)


def spread_places(values: npt.NDArray[np.uint8], grid: Grid) -> npt.NDArray[np.uint8]:
    """Put values of the 4 x 4 places of every position of z into the latent grid: (M, 16, hz, wz) -> (M, h, w)."""
    latent, _, hz, wz = values.shape
    blocks = values.reshape(latent, HYPER, HYPER, hz, wz).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(blocks.reshape(latent, HYPER * hz, HYPER * wz)[:, : grid.height, : grid.width])


@dataclass(frozen=True)
class Order:
    """The elements that one pass codes, in the order in which they are coded.

    Attributes:
        elements: flat indices into the coded latent (M, h, w), hottest class first.
        numbers: (class, vectors) pairs in decoding order, classes without vectors left out.
    """

    elements: npt.NDArray[np.intp]
    numbers: tuple[tuple[int, int], ...]

    @staticmethod
    def of(classes: npt.NDArray[np.uint8], elements: npt.NDArray[np.intp], dims: Sequence[int], skip: int) -> Order:
        """Return the order of a pass.

        Args:
            classes: of all elements, flat.
            elements: those of the pass, rising.
            dims: vector length per class.
            skip: first class that is coded.
        """
        chosen = classes[elements]
        numbers = vector_counts(np.bincount(chosen, minlength=len(dims)).tolist(), dims, skip)
        pairs = tuple((k, numbers[k]) for k in range(len(dims) - 1, skip - 1, -1) if numbers[k])
        return Order(elements[np.argsort(255 - chosen, kind="stable")], pairs)


def vector_counts(counts: Sequence[int], dims: Sequence[int], skip: int) -> list[int]:
    """Return how many vectors each class codes when its elements are cut `dims[k]` at a time.

    Elements are taken from the hottest class down; those left over join the next colder class, and
    the last vector of all is padded with zeros.

    Args:
        counts: elements per class.
        dims: vector length per class; colder classes never have shorter vectors.
        skip: first class that is coded.

    Returns:
        Vectors per class.
    """
    numbers = [0] * len(counts)
    waiting = 0
    for k in range(len(counts) - 1, skip - 1, -1):
        waiting += counts[k]
        numbers[k], waiting = divmod(waiting, dims[k])
    if waiting:
        numbers[skip] += 1
    return numbers
