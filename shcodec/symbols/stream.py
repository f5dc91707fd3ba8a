"""The symbols of a picture or a tile as bytes: z first, then the indices of each pass, hottest class first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.support.errors import CorruptFileError, ModelError
from shcodec.symbols import ans
from shcodec.symbols.bands import Indices
from shcodec.symbols.classes import Order
from shcodec.symbols.grid import Grid
from shcodec.symbols.tables import COST_UNIT, HyperTables, SymbolTables


def write(
    tables: SymbolTables, z: npt.NDArray[np.int8] | None, passes: Sequence[tuple[Order, Sequence[Indices]]]
) -> bytes:
    """Write the stream of one tile.

    Args:
        tables: of the model.
        z: hyper indices (C_z, hz, wz), or None for a model without hyper path.
        passes: per pass its order and the indices of every class of `Order.numbers`.

    Raises:
        ModelError: the stream would be taken for a forged one.
    """
    groups: list[tuple[npt.NDArray[Any], ans.Table]] = []
    hyper, row, count = tables.hyper, 0, 0
    if hyper is not None and z is not None:
        values = z.reshape(len(z), -1).astype(np.int64) + hyper.limit
        row, count = int(row_bits(hyper, z).argmin()), values.shape[1]
        groups.append((np.array([row]), hyper.row_table))
        groups += zip(values, hyper.tables(row), strict=True)
    for order, indices in passes:
        for (k, _), index in zip(order.numbers, indices, strict=True):
            groups.append((index, tables.table(k)))
    stream = ans.encode(groups)
    if hyper is not None and _is_too_short(hyper, stream, row, count):
        raise ModelError("the model codes this picture in too few bytes to be told from a forged file")
    return stream


def row_bits(hyper: HyperTables, z: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Return the bits of z (C_z, hz, wz) in every row of the bank."""
    values = z.reshape(len(z), -1).astype(np.int64) + hyper.limit
    costs = ans.PRECISION - np.log2(hyper.bank)  # (rows, C_z, A)
    bits: npt.NDArray[np.float64] = np.take_along_axis(
        costs, np.broadcast_to(values, (len(costs), *values.shape)), 2
    ).sum((1, 2))
    return bits


def read(
    tables: SymbolTables, stream: bytes, beta_byte: int, grid: Grid
) -> tuple[npt.NDArray[np.int8] | None, list[Order], list[list[Indices]]]:
    """Decode all symbols of one tile.

    Returns:
        z (C_z, hz, wz) or None, the order of every pass, and per pass the indices of every class in it.

    Raises:
        CorruptFileError: the stream does not end where its symbols do.
    """
    decoder, hyper, z = ans.Decoder(stream), tables.hyper, None
    if hyper is not None:
        row, count = _read_row(hyper, decoder, stream, grid), grid.hyper_height * grid.hyper_width
        values = np.stack([decoder.decode(table, count) for table in hyper.tables(row)])
        z = (values - hyper.limit).astype(np.int8).reshape(-1, grid.hyper_height, grid.hyper_width)
    orders = tables.orders(tables.classes_of(z, beta_byte, grid))
    indices = [[decoder.decode(tables.table(k), n) for k, n in order.numbers] for order in orders]
    decoder.finish()
    return z, orders, indices


def check_length(tables: SymbolTables, stream: bytes, grid: Grid) -> None:
    """Reject a stream that is far too short for its tile, before memory is spent on it.

    Raises:
        CorruptFileError: z alone, were each of its symbols the likeliest, would take more than twice the bits.
    """
    if tables.hyper is not None:
        _read_row(tables.hyper, ans.Decoder(stream), stream, grid)


def _read_row(hyper: HyperTables, decoder: ans.Decoder, stream: bytes, grid: Grid) -> int:
    """Read the row of the bank, a stream's first symbol, if the stream is long enough for the z that follows."""
    row = int(decoder.decode(hyper.row_table, 1)[0])
    if row >= len(hyper.bank):
        raise CorruptFileError("the file names a row of hyper histograms that its model does not have")
    if _is_too_short(hyper, stream, row, grid.hyper_height * grid.hyper_width):
        raise CorruptFileError(f"a symbol stream of {len(stream)} bytes is too short for the picture's size")
    return row


def _is_too_short(hyper: HyperTables, stream: bytes, row: int, count: int) -> bool:
    """Whether a stream has less than half of the bits that so many positions of z take at least, less 64.

    A stream may be shorter than the sum of its symbols' costs (a state of 0 takes any number of symbols 0 for
    nothing), but never by that much unless it is forged. All integers, so that all readers agree.
    """
    return count * hyper.least_cost(row) > 2 * COST_UNIT * 8 * (len(stream) + 8)
