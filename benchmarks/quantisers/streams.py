"""Streams of vectors' symbols: what the codes of different quantisers are written with, on equal terms.

A vector is a row of symbols, column after column; a symbol's table is chosen by a context made of the columns before.
Tables are learned from training vectors and are part of the model. numpy only, like all that decides symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shcodec.symbols.ans import Decoder, Table, encode, integer_table

Symbols = npt.NDArray[np.int64]

STRENGTH = 16.0  # counts that the column's own histogram is worth in each of its contexts


class Layout(Protocol):
    """Which symbols a vector has, and on what each depends."""

    @property
    def columns(self) -> int:
        """Symbols of a vector, those that are left out included."""

    def alphabet(self, column: int) -> int:
        """Return the number of values of a column."""

    def contexts(self, column: int) -> int:
        """Return the number of contexts of a column."""

    def context(self, column: int, earlier: Symbols) -> Symbols:
        """Return contexts (n,) of a column by the columns before it, (n, columns); -1 where it is left out (and 0)."""

    def possible(self, column: int) -> npt.NDArray[np.bool_]:
        """Return which values occur, (contexts, alphabet)."""


@dataclass(frozen=True)
class ChainLayout:
    """One index for each level of a residual quantiser, by that of the level before; one level is plain VQ."""

    size: int
    levels: int = 1

    @property
    def columns(self) -> int:
        """One for each level."""
        return self.levels

    def alphabet(self, column: int) -> int:
        """Return K."""
        return self.size

    def contexts(self, column: int) -> int:
        """Return K, but for the first level."""
        return self.size if column else 1

    def context(self, column: int, earlier: Symbols) -> Symbols:
        """Return the index of the level before."""
        return earlier[:, column - 1] if column else np.zeros(len(earlier), np.int64)

    def possible(self, column: int) -> npt.NDArray[np.bool_]:
        """Return that all do."""
        return np.ones((self.contexts(column), self.size), np.bool_)


@dataclass(frozen=True)
class SparseLayout:
    """A point of the simplex with few corners: their number, their indices, their weights in units.

    Columns: number - 1; `support` indices, rising, each by the one before; `support` - 1 weights - 1, each by the units
    and the corners that are left. The last corner takes the units that remain.
    """

    size: int
    support: int
    units: int

    @property
    def columns(self) -> int:
        """Number, indices, weights."""
        return 2 * self.support

    def alphabet(self, column: int) -> int:
        """Return that of the number, of an index, or of a weight."""
        return self.support if column == 0 else self.size if column <= self.support else self.units

    def contexts(self, column: int) -> int:
        """Return those of the number, of the first index, of another, or of a weight."""
        if column <= 1:
            return self.support if column else 1
        return self.size if column <= self.support else self.support * (self.units + 1)

    def context(self, column: int, earlier: Symbols) -> Symbols:
        """See the class."""
        if column == 0:
            return np.full(len(earlier), 0 if self.support > 1 else -1, np.int64)
        number = earlier[:, 0]
        if column == 1:
            return number
        if column <= self.support:
            return np.where(column - 1 <= number, earlier[:, column - 1], -1)
        place = column - self.support  # of the weight, from 1
        spent = (earlier[:, self.support + 1 : column] + 1).sum(1)
        after = number + 1 - place  # corners that come after this one
        return np.where(after > 0, after * (self.units + 1) + np.maximum(self.units - spent, 0), -1)

    def possible(self, column: int) -> npt.NDArray[np.bool_]:
        """Return the indices rise, and every corner has a unit."""
        context = np.arange(self.contexts(column))[:, None]
        value = np.arange(self.alphabet(column))
        if column == 0:
            return np.ones((1, self.support), np.bool_)
        if column == 1:
            return value < self.size - context
        if column <= self.support:
            return value > context
        after, left = np.divmod(context, self.units + 1)
        return value + 1 <= left - after


class StreamTables:
    """The tables of a layout.

    Args:
        layout: the columns.
        counts: by column, (contexts, alphabet).
    """

    def __init__(self, layout: Layout, counts: list[npt.NDArray[np.float64]]) -> None:
        self.layout, self.counts = layout, counts
        self._tables: dict[tuple[int, int], Table] = {}

    @staticmethod
    def fit(layout: Layout, symbols: Symbols) -> StreamTables:
        """Learn tables from training vectors, (n, columns)."""
        counts = []
        for column in range(layout.columns):
            context, size = layout.context(column, symbols[:, :column]), layout.alphabet(column)
            coded = context >= 0
            shape = (layout.contexts(column), size)
            seen = np.bincount(context[coded] * size + symbols[coded, column], minlength=shape[0] * size)
            table = seen.reshape(shape).astype(np.float64)
            prior = layout.possible(column) * (table.sum(0) + 0.5)
            counts.append(table + STRENGTH * prior / np.maximum(prior.sum(1, keepdims=True), 0.5))
        return StreamTables(layout, counts)

    def encode(self, symbols: Symbols) -> bytes:
        """Write vectors (n, columns)."""
        return encode([(symbols[rows, column], table) for column, rows, table in self._groups(symbols)])

    def decode(self, data: bytes, number: int) -> Symbols:
        """Read `number` vectors.

        Raises:
            CorruptFileError: the stream does not end where its symbols do.
        """
        symbols = np.zeros((number, self.layout.columns), np.int64)
        decoder = Decoder(data)
        for column, rows, table in self._groups(symbols):
            symbols[rows, column] = decoder.decode(table, len(rows))
        decoder.finish()
        return symbols

    def _groups(self, symbols: Symbols) -> Iterator[tuple[int, npt.NDArray[np.int64], Table]]:
        """Return rows of `symbols` that share a table, in the stream's order; only earlier columns are looked at."""
        for column in range(self.layout.columns if len(symbols) else 0):
            context = self.layout.context(column, symbols[:, :column])
            order = np.argsort(context, kind="stable")
            values, starts = np.unique(context[order], return_index=True)
            for value, rows in zip(values.tolist(), np.split(order, starts[1:]), strict=True):
                if value >= 0:
                    yield column, rows, self._table(column, value)

    def _table(self, column: int, context: int) -> Table:
        key = column, context
        if key not in self._tables:
            self._tables[key] = Table(integer_table(self.counts[column][context]))
        return self._tables[key]
