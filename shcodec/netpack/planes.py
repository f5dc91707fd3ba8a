"""Tensors that are kept as they are: bytes of equal significance lie together, which deflates well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec.netpack.tensors import DTYPES, SIZES

MANTISSA: Final = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
"""Stored bits of a float's mantissa."""


def shuffled(tensors: Sequence[tuple[str, bytes | memoryview]]) -> bytes:
    """Return the bytes of tensors in planes.

    Dtype after dtype, in the order of `DTYPES`, the tensors' elements are joined; of these come the most significant
    bytes of all, then the next ones.

    Args:
        tensors: Dtype and little-endian elements of each.
    """
    planes = []
    for dtype in DTYPES:
        joined = b"".join(data for kind, data in tensors if kind == dtype)
        planes.append(np.frombuffer(joined, np.uint8).reshape(-1, SIZES[dtype]).T[::-1].tobytes())
    return b"".join(planes)


def restored(data: bytes, tensors: Sequence[tuple[str, int]]) -> list[bytes]:
    """Undo `shuffled`.

    Args:
        data: As many bytes as the tensors have.
        tensors: Dtype and bytes of each.
    """
    joined: dict[str, memoryview] = {}
    position = 0
    for dtype in DTYPES:
        end = position + sum(size for kind, size in tensors if kind == dtype)
        planes = np.frombuffer(data, np.uint8)[position:end].reshape(SIZES[dtype], -1)
        joined[dtype] = memoryview(planes[::-1].T.tobytes())
        position = end
    out, done = [], dict.fromkeys(DTYPES, 0)
    for dtype, size in tensors:
        start = done[dtype]
        done[dtype] += size
        out.append(bytes(joined[dtype][start : start + size]))
    return out


def rounded(data: bytes | memoryview, dtype: str, bits: int) -> bytes:
    """Return floats with all but the first ``bits`` bits of their mantissas 0, rounded to nearest.

    A number that is not finite stays as it is, and so does one that would become infinite.
    """
    drop = MANTISSA[dtype] - bits
    if drop <= 0:
        return bytes(data)
    kind = f"<u{SIZES[dtype]}"
    raw: npt.NDArray[np.unsignedinteger] = np.frombuffer(data, kind)
    one = raw.dtype.type(1)
    exponents = raw.dtype.type((1 << (8 * SIZES[dtype] - 1)) - (1 << MANTISSA[dtype]))
    mask = raw.dtype.type((1 << 8 * SIZES[dtype]) - (1 << drop))
    up = (raw + (one << raw.dtype.type(drop - 1))) & mask
    special = (raw & exponents) == exponents
    up = np.where((up & exponents) == exponents, raw & mask, up)
    return np.where(special, raw, up).astype(kind).tobytes()
