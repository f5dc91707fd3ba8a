"""The symbol path: bytes <-> hyper indices -> class of every latent element <-> latent indices.

Integers only, numpy and constriction. Nothing that a float network computes may decide a symbol, so the
same file gives the same symbols on every machine; the encoder's *choice* of indices (`search`) may use
floats, since its result is what is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.support.blas import one_thread
from shcodec.support.errors import CorruptFileError, ModelError
from shcodec.symbols import ans
from shcodec.symbols.bands import Band, check_tables

TYPES = {
    "latent": np.int32, "class": np.int32, "codebook": np.float16, "histogram": np.uint32, "hyper": np.uint32,
    "class_map.weight": np.int8, "class_map.shift": np.uint8, "class_map.bias": np.int32, "class_map.floor": np.uint8,
}  # fmt: skip
KNOTS = 17  # everything that follows the beta byte is linear between 17 knots
COST_UNIT = 256  # parts of a bit in which least costs are counted
SPREAD_START = 0.12  # spread of class 0, in steps
SPREAD_RATIO = (64 / 0.12) ** (1 / 63)  # class 63 has a spread of 64 steps

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]


def class_spread(classes: Iterable[int]) -> npt.NDArray[np.float64]:
    """Spread (standard deviation in steps) of the elements of each class, at its middle."""
    return SPREAD_START * SPREAD_RATIO ** (np.asarray(list(classes), np.float64) + 0.5)


def class_coordinate(spread: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Inverse of the spread: the unrounded class coordinate."""
    coordinate: npt.NDArray[np.float64] = np.log(np.asarray(spread, np.float64) / SPREAD_START) / np.log(SPREAD_RATIO)
    return coordinate


def vector_counts(counts: Sequence[int], dims: Sequence[int], skip: int) -> list[int]:
    """How many vectors each class codes when its elements are cut `dims[k]` at a time.

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


@dataclass(frozen=True)
class Grid:
    """Sizes of the latent grid of a picture.

    Attributes:
        height: rows of coded latent positions, ceil(H / 16).
        width: columns of coded latent positions, ceil(W / 16).
        hyper_height: rows of z, ceil(H / 64).
        hyper_width: columns of z, ceil(W / 64).
    """

    height: int
    width: int
    hyper_height: int
    hyper_width: int

    @staticmethod
    def of(height: int, width: int) -> Grid:
        """Grid of a picture of height x width pixels."""
        return Grid(-(-height // 16), -(-width // 16), -(-height // 64), -(-width // 64))


@dataclass(frozen=True)
class Order:
    """The elements that one pass codes, in the order in which they are coded.

    Attributes:
        elements: flat indices into the coded latent (M, h, w), hottest class first.
        numbers: (class, vectors) pairs in decoding order, classes without vectors left out.
    """

    elements: npt.NDArray[np.intp]
    numbers: tuple[tuple[int, int], ...]


class SymbolTables:
    """Everything of a model that decides symbols; built from the tensors named in FORMAT.md.

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
            self.has_hyper = "hyper.bank" in tensors
            if self.has_hyper:
                self.bank = tensors["hyper.bank"]  # uint32 (rows, C_z, 2 limit + 1)
                self.map_weight = tensors["class_map.weight"]  # int8 (16 M, C_z)
                self.map_shift = tensors["class_map.shift"].astype(np.int32)  # (M,)
                self.map_bias = tensors["class_map.bias"].astype(np.int64)  # (17, M)
                none = np.zeros(self.latent, np.uint8)
                self.map_floor = tensors.get("class_map.floor", none).astype(np.int32)  # (M,)
            self._check()
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"the model's tables are incomplete: {error}") from None
        self._bank_tables: dict[int, list[ans.Table]] = {}  # rows of the bank that were needed so far
        self._least_costs: dict[int, int] = {}  # the same
        self.band_of = np.searchsorted(starts, np.arange(self.classes), side="right") - 1
        self.dims = [0 if b < 0 else self.bands[b].dim for b in self.band_of]

    def _check(self) -> None:
        if self.latent < 1 or not 0 <= self.skip < self.classes <= 256:
            raise ModelError(f"{self.latent} channels with classes {self.skip} to {self.classes} make no latent")
        ends = [band.first for band in self.bands[1:]] + [self.classes]
        for band, end in zip(self.bands, ends, strict=True):
            if band.histograms.shape != (end - band.first, len(band.codebook)) or band.histograms.dtype != np.uint32:
                raise ModelError("a codebook and its histograms do not fit together")
            if band.dim not in (1, 2, 4) or not np.isfinite(band.codebook).all():
                raise ModelError("a codebook does not hold vectors of 1, 2 or 4 finite numbers")
            check_tables(band.histograms)
        if any(hot.dim > cold.dim for cold, hot in itertools.pairwise(self.bands)):
            raise ModelError("vectors of a hotter band are longer than those of a colder one")
        if not self.has_hyper:
            return
        if self.bank.ndim != 3 or self.bank.shape[2] % 2 == 0 or self.limit > 127:  # z is int8, its range symmetric
            raise ModelError("the hyper tables are not a bank of histograms of -limit to limit, limit at most 127")
        check_tables(self.bank)
        channels = self.bank.shape[1]
        shapes = (self.map_weight.shape, self.map_shift.shape, self.map_bias.shape, self.map_floor.shape)
        if shapes != ((16 * self.latent, channels), (self.latent,), (KNOTS, self.latent), (self.latent,)):
            raise ModelError("the class map and the hyper tables do not fit together")
        # the product below runs in float32 BLAS: exact as long as no sum can reach 2^24
        reach = self.limit * np.abs(self.map_weight.astype(np.int64)).sum(1).max()
        if self.map_weight.dtype != np.int8 or reach >= 1 << 24 or np.abs(self.map_bias).max() >= 1 << 30:
            raise ModelError("the class map's sums could leave the range in which they are exact")
        if self.map_shift.min() < 0 or self.map_shift.max() > 31:
            raise ModelError("the class map has a shift outside 0..31")
        if self.map_floor.min() < 0 or self.map_floor.max() >= self.classes:
            raise ModelError("the class map has a floor that is not a class")

    @property
    def limit(self) -> int:
        """Largest absolute value of a hyper index."""
        return int(self.bank.shape[2]) // 2

    @cached_property
    def reach(self) -> float:
        """Largest absolute value that an element has in any codeword, in steps."""
        return max(float(np.abs(band.codebook).max()) for band in self.bands)

    @cached_property
    def _row_table(self) -> ans.Table:
        rows = max(2, len(self.bank))
        return ans.Table(ans.integer_table(np.ones(rows)))

    def _hyper_tables(self, row: int) -> list[ans.Table]:
        if row not in self._bank_tables:
            self._bank_tables[row] = [ans.Table(channel) for channel in self.bank[row]]
        return self._bank_tables[row]

    # -- classes ----------------------------------------------------------------------------------

    def class_map(self, z: npt.NDArray[np.int8] | None, beta_byte: int, grid: Grid) -> npt.NDArray[np.uint8]:
        """Class of every coded latent element.

        Args:
            z: hyper indices (C_z, hz, wz), or None for a model without hyper path.
            beta_byte: rate step, 0..255.
            grid: sizes.

        Returns:
            (M, h, w) uint8. With a hyper path ``clip((W z + bias) >> shift, floor, 63)``; without, the band of the
            beta byte, the same everywhere.
        """
        if z is None:
            return np.full((self.latent, grid.height, grid.width), beta_byte * self.classes // 256, np.uint8)
        bias = self.class_bias(beta_byte)
        flat = z.reshape(len(z), -1).astype(np.float32)
        with one_thread():
            sums = (self._float_weight @ flat).astype(np.int32)  # (16 M, hz wz): integer values, exact
        sums = sums.reshape(self.latent, 16, -1)
        sums += bias.astype(np.int32)[:, None, None]
        sums >>= self.map_shift[:, None, None]
        classes = np.clip(sums, self.map_floor[:, None, None], self.classes - 1, out=sums)
        hz, wz = z.shape[1:]
        blocks = classes.astype(np.uint8).reshape(self.latent, 4, 4, hz, wz)
        full = blocks.transpose(0, 3, 1, 4, 2).reshape(self.latent, 4 * hz, 4 * wz)
        return np.ascontiguousarray(full[:, : grid.height, : grid.width])

    def class_bias(self, beta_byte: int) -> npt.NDArray[np.int64]:
        """Bias of the class map, (M,), before the shift."""
        knot, fraction = beta_byte >> 4, beta_byte & 15
        bias: npt.NDArray[np.int64] = (self.map_bias[knot] * (16 - fraction) + self.map_bias[knot + 1] * fraction) >> 4
        return bias

    def class_slopes(self) -> npt.NDArray[np.float64]:
        """Classes per unit of z: (M, 16, C_z), of each channel at the 4 x 4 places of a position of z."""
        slopes = self.map_weight.reshape(self.latent, 16, -1).astype(np.float64)
        slopes /= 2.0 ** self.map_shift[:, None, None]
        return slopes

    @cached_property
    def _float_weight(self) -> Floats:
        return self.map_weight.astype(np.float32)

    def orders(self, classes: npt.NDArray[np.uint8]) -> list[Order]:
        """Elements of each pass sorted by class: two passes with a hyper path, otherwise one.

        Args:
            classes: (M, h, w) uint8.
        """
        if not self.has_hyper:
            return [self._order(classes.ravel(), np.arange(classes.size))]
        flat = classes.ravel()
        coded = flat >= self.skip
        first = first_half(*classes.shape).ravel()
        return [self._order(flat, np.flatnonzero(coded & half)) for half in (first, ~first)]

    def _order(self, classes: npt.NDArray[np.uint8], elements: npt.NDArray[np.intp]) -> Order:
        chosen = classes[elements]
        counts = np.bincount(chosen, minlength=self.classes).tolist()
        numbers = vector_counts(counts, self.dims, self.skip)
        pairs = tuple((k, numbers[k]) for k in range(self.classes - 1, self.skip - 1, -1) if numbers[k])
        return Order(elements[np.argsort(255 - chosen, kind="stable")], pairs)

    # -- bytes ------------------------------------------------------------------------------------

    def write(self, z: npt.NDArray[np.int8] | None, passes: Sequence[tuple[Order, Sequence[Indices]]]) -> bytes:
        """Entropy-codes one picture.

        Args:
            z: hyper indices (C_z, hz, wz) or None.
            passes: per pass its order and the indices of every class of `Order.numbers`.
        """
        groups: list[tuple[npt.NDArray[Any], ans.Table]] = []
        row, count = 0, 0
        if z is not None:
            row, values = self._best_row(z)
            count = values.shape[1]
            groups.append((np.array([row]), self._row_table))
            groups += zip(values, self._hyper_tables(row), strict=True)
        for order, indices in passes:
            for (k, _), index in zip(order.numbers, indices, strict=True):
                groups.append((index, self._table(k)))
        stream = ans.encode(groups)
        if count and self._is_too_short(stream, row, count):
            raise ModelError("the model codes this picture in too few bytes to be told from a forged file")
        return stream

    def _best_row(self, z: npt.NDArray[np.int8]) -> tuple[int, npt.NDArray[np.int64]]:
        """Row of the bank in which z is cheapest, and z as symbols (C_z, n)."""
        values = z.reshape(len(z), -1).astype(np.int64) + self.limit
        bits = ans.PRECISION - np.log2(self.bank)  # (rows, C_z, A)
        costs = np.take_along_axis(bits, np.broadcast_to(values, (len(bits), *values.shape)), 2).sum((1, 2))
        return int(costs.argmin()), values

    def _table(self, k: int) -> ans.Table:
        band: Band = self.bands[self.band_of[k]]
        return band.tables[k - band.first]

    def read(
        self, payload: bytes, beta_byte: int, grid: Grid
    ) -> tuple[npt.NDArray[np.int8] | None, list[Order], list[list[Indices]]]:
        """Decode all symbols of one picture.

        Returns:
            z (C_z, hz, wz) or None, the order of every pass, and per pass the indices of every class in it.

        Raises:
            CorruptFileError: the stream does not end where its symbols do.
        """
        decoder = ans.Decoder(payload)
        z = None
        if self.has_hyper:
            row, count = self._read_row(decoder, payload, grid), grid.hyper_height * grid.hyper_width
            values = np.stack([decoder.decode(table, count) for table in self._hyper_tables(row)])
            z = (values - self.limit).astype(np.int8).reshape(-1, grid.hyper_height, grid.hyper_width)
        orders = self.orders(self.class_map(z, beta_byte, grid))
        indices = [[decoder.decode(self._table(k), n) for k, n in order.numbers] for order in orders]
        decoder.finish()
        return z, orders, indices

    def check_length(self, payload: bytes, grid: Grid) -> None:
        """Rejects a stream that is far too short for its picture, before memory is spent on it.

        Raises:
            CorruptFileError: z alone, were each of its symbols the likeliest, would take more than twice the bits.
        """
        if self.has_hyper:
            self._read_row(ans.Decoder(payload), payload, grid)

    def _read_row(self, decoder: ans.Decoder, payload: bytes, grid: Grid) -> int:
        """Read the row of the bank, a stream's first symbol, if the stream is long enough for the z that follows."""
        row = int(decoder.decode(self._row_table, 1)[0])
        if row >= len(self.bank):
            raise CorruptFileError("the file names a row of hyper histograms that its model does not have")
        if self._is_too_short(payload, row, grid.hyper_height * grid.hyper_width):
            raise CorruptFileError(f"a symbol stream of {len(payload)} bytes is too short for the picture's size")
        return row

    def _is_too_short(self, payload: bytes, row: int, count: int) -> bool:
        """Whether a stream has less than half of the bits that so many positions of z take at least, less 64.

        A stream may be shorter than the sum of its symbols' costs (a state of 0 takes any number of symbols 0 for
        nothing), but never by that much unless it is forged. All integers, so that all readers agree.
        """
        if row not in self._least_costs:
            likeliest = [int(frequency) ** COST_UNIT for frequency in self.bank[row].max(1)]
            self._least_costs[row] = sum(ans.PRECISION * COST_UNIT - power.bit_length() for power in likeliest)
        return count * self._least_costs[row] > 2 * COST_UNIT * 8 * (len(payload) + 8)

    # -- values -----------------------------------------------------------------------------------

    def values(self, order: Order, indices: Sequence[Indices], size: int) -> Floats:
        """Codewords put back into place: residuals of all `size` elements, flat, zero where not coded."""
        out = np.zeros(size, np.float32)
        out[order.elements] = self.codewords(order, indices)
        return out

    def codewords(self, order: Order, indices: Sequence[Indices]) -> Floats:
        """Codewords of all indices one after another, without the padding of the last: (n,) for n elements."""
        parts = [
            self.bands[self.band_of[k]].codebook[index].ravel()
            for (k, _), index in zip(order.numbers, indices, strict=True)
        ]
        return np.concatenate([*parts, np.zeros(0, np.float32)])[: len(order.elements)]

    def search(self, order: Order, residual: Floats, rate_weight: float) -> list[Indices]:
        """Return the encoder's choice: |r - c|^2 + rate_weight * bits, least for every vector.

        Args:
            order: the elements of a pass.
            residual: (M h w,) residuals in steps.
            rate_weight: lambda in squared steps per bit; 0 takes the nearest codeword.

        Returns:
            Indices per class of `Order.numbers`.
        """
        needed = sum(n * self.dims[k] for k, n in order.numbers)
        flat = np.zeros(needed, np.float32)
        flat[: len(order.elements)] = residual[order.elements]
        out, start = [], 0
        with one_thread():
            for k, n in order.numbers:
                band = self.bands[self.band_of[k]]
                vectors = flat[start : start + n * band.dim].reshape(n, band.dim)
                start += n * band.dim
                bits = band.bits[k - band.first] * np.float32(rate_weight)
                out.append(band.search(vectors, bits))
        return out


def first_half(channels: int, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the spatial-channel checkerboard: True where an element is coded in the first pass, (M, h, w).

    Even positions of the first half of the channels, odd positions of the others.
    """
    odd = (np.arange(height)[:, None] + np.arange(width)) % 2 == 1
    upper = np.arange(channels) >= channels // 2
    first: npt.NDArray[np.bool_] = odd[None] == upper[:, None, None]
    return first


def nearest_coded(side: int, coded: int) -> npt.NDArray[np.int64]:
    """For every row (or column) of a latent the coded one that stands for it: itself, or the last of its parity.

    Args:
        side: rows in all, those beyond the picture included.
        coded: rows that are coded.
    """
    index = np.arange(side)
    return np.where(index < coded, index, np.maximum(coded - 1 - (index - coded + 1) % 2, 0))
