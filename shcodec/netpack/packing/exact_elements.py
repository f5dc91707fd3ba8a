"""Elements that a quantised tensor keeps exactly: those that are not finite, and those far outside the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shcodec.support.bytestream import Reader, varint
from shcodec.support.errors import CorruptFileError, LimitError

_COUNT = 4  # the most bytes of their number
_MAX_GAP = (1 << 32) - 1

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Exact:
    """Elements of a tensor, byte for byte.

    Attributes:
        positions: Where they are in C order, rising strictly.
        values: Their little-endian bytes, one after the other.
    """

    positions: Positions
    values: bytes


NOTHING = Exact(np.zeros(0, dtype=np.int64), b"")


def pick(data: bytes | memoryview, width: int, positions: Positions) -> Exact:
    """Return elements of ``width`` bytes from the bytes of a tensor."""
    return Exact(positions, np.frombuffer(data, np.uint8).reshape(-1, width)[positions].tobytes())


def put(data: bytes, width: int, exact: Exact) -> bytes:
    """Return the bytes of a tensor with these elements in their places."""
    if not exact.positions.size:
        return data
    whole = np.frombuffer(data, np.uint8).reshape(-1, width).copy()
    whole[exact.positions] = np.frombuffer(exact.values, np.uint8).reshape(-1, width)
    return whole.tobytes()


def write_exact(exact: Exact, width: int) -> bytes:
    """Return number, gaps and values; of the two last ones the bytes of equal significance lie together.

    Raises:
        LimitError: If two elements are farther apart than can be told.
    """
    gaps = np.diff(exact.positions, prepend=-1) - 1
    if gaps.size and int(gaps.max()) > _MAX_GAP:
        raise LimitError("elements that are kept exactly are too far apart")
    values = np.frombuffer(exact.values, np.uint8).reshape(-1, width)
    return varint(gaps.size) + _planes(gaps.astype("<u4").view(np.uint8).reshape(-1, 4)) + _planes(values)


def read_exact(reader: Reader, size: int, width: int, what: str) -> Exact:
    """Undo `write_exact`.

    Args:
        reader: Where it stands.
        size: Elements of the tensor.
        width: Bytes of an element.
        what: What it is, for messages.

    Raises:
        CorruptFileError: If there is no such element.
    """
    number = reader.varint(_COUNT, f"the exact elements of {what}")
    gaps = np.ascontiguousarray(_rows(reader, number, 4, what)).view("<u4").reshape(-1)
    positions = np.cumsum(gaps.astype(np.int64) + 1) - 1
    if number and int(positions[-1]) >= size:
        raise CorruptFileError(f"{what} has exact elements beyond its end")
    return Exact(positions, _rows(reader, number, width, what).tobytes())


def _planes(rows: npt.NDArray[np.uint8]) -> bytes:
    return rows.T[::-1].tobytes()


def _rows(reader: Reader, number: int, width: int, what: str) -> npt.NDArray[np.uint8]:
    taken = np.frombuffer(reader.take(number * width, f"the exact elements of {what}"), np.uint8)
    return taken.reshape(width, number)[::-1].T
