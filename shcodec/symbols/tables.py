"""What a model's tensors hold of the symbol path, checked: bands, the bank of histograms of z, the class map.

Integers and numpy alone decide symbols. Nothing that a float network computes may, so that the same file gives the same
symbols on every machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.support.errors import ModelError
from shcodec.symbols import ans
from shcodec.symbols.bands import Band, Floats, Indices, check_tables
from shcodec.symbols.classes import ClassMap, Order
from shcodec.symbols.grid import Grid, first_half

TYPES = {
    "latent": np.int32, "class": np.int32, "codebook": np.float16, "histogram": np.uint32, "hyper": np.uint32,
    "class_map.weight": np.int8, "class_map.shift": np.uint8, "class_map.bias": np.int32, "class_map.floor": np.uint8,
}  # fmt: skip
COST_UNIT = 256  # parts of a bit in which least costs are counted


class HyperTables:
    """What codes z, and what z decides.

    Attributes:
        bank: uint32 (rows, C_z, 2 limit + 1), histograms of the channels of z; a picture takes one row.
        class_map: from z to classes.
    """

    def __init__(self, bank: npt.NDArray[np.uint32], class_map: ClassMap) -> None:
        self.bank, self.class_map = bank, class_map
        self._tables: dict[int, list[ans.Table]] = {}  # of the rows that were needed so far
        self._least_costs: dict[int, int] = {}  # the same

    @property
    def channels(self) -> int:
        """Channels of z."""
        return int(self.bank.shape[1])

    @property
    def limit(self) -> int:
        """Largest absolute value of a hyper index."""
        return int(self.bank.shape[2]) // 2

    def check(self, latent: int) -> None:
        """Raise ModelError for tables that do not fit together, or not M latent channels."""
        if self.bank.ndim != 3 or self.bank.shape[2] % 2 == 0 or self.limit > 127:  # z is int8, its range symmetric
            raise ModelError("the hyper tables are not a bank of histograms of -limit to limit, limit at most 127")
        check_tables(self.bank)
        self.class_map.check(latent, self.channels, self.limit)

    @cached_property
    def row_table(self) -> ans.Table:
        """What codes the number of the row."""
        return ans.Table(ans.integer_table(np.ones(max(2, len(self.bank)))))

    def tables(self, row: int) -> list[ans.Table]:
        """Return the tables of a row, one per channel."""
        if row not in self._tables:
            self._tables[row] = [ans.Table(channel) for channel in self.bank[row]]
        return self._tables[row]

    def least_cost(self, row: int) -> int:
        """Return the cost of a position of z whose symbols are the likeliest, in 1/`COST_UNIT` bits; all integers."""
        if row not in self._least_costs:
            likeliest = [int(frequency) ** COST_UNIT for frequency in self.bank[row].max(1)]
            self._least_costs[row] = sum(ans.PRECISION * COST_UNIT - power.bit_length() for power in likeliest)
        return self._least_costs[row]


class SymbolTables:
    """Everything of a model that decides symbols; built from the tensors named in FORMAT.md.

    Attributes:
        latent: channels of the latent, M.
        classes: number of classes.
        skip: first class that is coded; the residuals of colder ones are 0.
        bands: codebooks and histograms, the coldest first.
        hyper: what belongs to z; None for a model without hyper path.
        band_of: of every class the number of its band, -1 for those that are not coded.
        dims: of every class the length of its vectors.

    Raises:
        ModelError: tensors are missing or their shapes and values do not fit together.
    """

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, tensor in tensors.items():
            if tensor.dtype != TYPES.get(name, TYPES.get(name.partition(".")[0], tensor.dtype)):
                raise ModelError(f"the tensor {name} is of type {tensor.dtype}")
        try:
            self.latent = int(tensors["latent.channels"][0])
            starts = tensors["class.bands"].tolist()  # first class of every band
            self.classes = int(tensors["class.count"][0])
            self.skip = int(starts[0])
            self.bands = [
                Band(first, tensors[f"codebook.{i}"].astype(np.float32), tensors[f"histogram.{i}"])
                for i, first in enumerate(starts)
            ]
            self.hyper: HyperTables | None = None
            if "hyper.bank" in tensors:
                self.hyper = HyperTables(tensors["hyper.bank"], ClassMap.of(tensors, self.latent, self.classes))
            self._check()
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"the model's tables are incomplete: {error}") from None
        self.band_of = np.searchsorted(starts, np.arange(self.classes), side="right") - 1
        self.dims = [0 if b < 0 else self.bands[b].dim for b in self.band_of]

    def _check(self) -> None:
        if self.latent < 1 or not 0 <= self.skip < self.classes <= 256:
            raise ModelError(f"{self.latent} channels with classes {self.skip} to {self.classes} make no latent")
        ends = [band.first for band in self.bands[1:]] + [self.classes]
        for band, end in zip(self.bands, ends, strict=True):
            band.check(end)
        if any(hot.dim > cold.dim for cold, hot in itertools.pairwise(self.bands)):
            raise ModelError("vectors of a hotter band are longer than those of a colder one")
        if self.hyper is not None:
            self.hyper.check(self.latent)

    @property
    def has_hyper(self) -> bool:
        """Whether the model has a hyper path; then a latent is coded in two passes, otherwise in one."""
        return self.hyper is not None

    @cached_property
    def reach(self) -> float:
        """Largest absolute value that an element has in any codeword, in steps."""
        return max(float(np.abs(band.codebook).max()) for band in self.bands)

    def classes_of(self, z: npt.NDArray[np.int8] | None, beta_byte: int, grid: Grid) -> npt.NDArray[np.uint8]:
        """Return the class of every coded latent element.

        Args:
            z: hyper indices (C_z, hz, wz), or None for a model without hyper path.
            beta_byte: rate step, 0..255.
            grid: sizes.

        Returns:
            (M, h, w) uint8. With a hyper path what its class map says; without, the band of the beta byte, the same
            everywhere.
        """
        if self.hyper is None or z is None:
            return np.full((self.latent, grid.height, grid.width), beta_byte * self.classes // 256, np.uint8)
        return self.hyper.class_map.apply(z, beta_byte, grid)

    def orders(self, classes: npt.NDArray[np.uint8]) -> list[Order]:
        """Return the elements of each pass, sorted by class.

        Args:
            classes: (M, h, w) uint8.
        """
        flat, elements = classes.ravel(), [np.arange(classes.size)]
        if self.has_hyper:
            coded, first = flat >= self.skip, first_half(*classes.shape).ravel()
            elements = [np.flatnonzero(coded & half) for half in (first, ~first)]
        return [Order.of(flat, chosen, self.dims, self.skip) for chosen in elements]

    def table(self, k: int) -> ans.Table:
        """Return the table of a class."""
        band: Band = self.bands[self.band_of[k]]
        return band.tables[k - band.first]

    def codewords(self, order: Order, indices: Sequence[Indices]) -> Floats:
        """Return the codewords of all indices one after another, without the padding of the last: n for n elements."""
        parts = [
            self.bands[self.band_of[k]].codebook[index].ravel()
            for (k, _), index in zip(order.numbers, indices, strict=True)
        ]
        return np.concatenate([*parts, np.zeros(0, np.float32)])[: len(order.elements)]

    def values(self, order: Order, indices: Sequence[Indices], size: int) -> Floats:
        """Return codewords put back into place: residuals of all `size` elements, flat, zero where not coded."""
        out = np.zeros(size, np.float32)
        out[order.elements] = self.codewords(order, indices)
        return out
