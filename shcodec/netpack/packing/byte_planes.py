"""Tensors that are kept as they are: bytes of equal significance lie together, which deflates well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec.netpack.packing.tensors import SIZES, WIDTHS

MANTISSA: Final = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
"""Stored bits of a float's mantissa."""


GROUPS: Final[Mapping[str, int]] = MappingProxyType(dict(SIZES) | {f"*{width}": width for width in WIDTHS})
"""Bytes of an element by what is joined: the dtypes, then the foreign ones by width as "*1", "*2", "*4" and "*8"."""


def shuffled(tensors: Sequence[tuple[str, bytes | memoryview]]) -> bytes:
    """Return the bytes of tensors in planes.

    Group after group, in the order of `GROUPS`, the tensors' elements are joined; of these come the most significant
    bytes of all, then the next ones.

    Args:
        tensors: Group and little-endian elements of each.
    """
    planes = []
    for dtype in GROUPS:
        joined = b"".join(data for kind, data in tensors if kind == dtype)
        planes.append(np.frombuffer(joined, np.uint8).reshape(-1, GROUPS[dtype]).T[::-1].tobytes())
    return b"".join(planes)


def restored(data: bytes, tensors: Sequence[tuple[str, int]]) -> list[bytes]:
    """Undo `shuffled`.

    Args:
        data: As many bytes as the tensors have.
        tensors: Group and bytes of each.
    """
    joined: dict[str, memoryview] = {}
    position = 0
    for dtype in GROUPS:
        end = position + sum(size for kind, size in tensors if kind == dtype)
        planes = np.frombuffer(data, np.uint8)[position:end].reshape(GROUPS[dtype], -1)
        joined[dtype] = memoryview(planes[::-1].T.tobytes())
        position = end
    out, done = [], dict.fromkeys(GROUPS, 0)
    for dtype, size in tensors:
        start = done[dtype]
        done[dtype] += size
        out.append(bytes(joined[dtype][start : start + size]))
    return out


def rounded(data: bytes | memoryview, dtype: str, bits: int) -> bytes:
    """Return floats with all but the first ``bits`` bits of their mantissas 0, rounded to nearest.

    Of a denormal number they are counted from its leading 1, so that its precision is the same. A number that is not
    finite stays as it is, and so does one that would become infinite.
    """
    drop = MANTISSA[dtype] - bits
    if drop <= 0:
        return bytes(data)
    kind = f"<u{SIZES[dtype]}"
    raw: npt.NDArray[np.unsignedinteger] = np.frombuffer(data, kind)
    one = raw.dtype.type(1)
    exponents = raw.dtype.type((1 << (8 * SIZES[dtype] - 1)) - (1 << MANTISSA[dtype]))
    mantissa = raw & raw.dtype.type((1 << MANTISSA[dtype]) - 1)
    small = (raw & exponents) == 0
    # frexp gives the number of bits of a mantissa below 2^52 exactly.
    own = np.frexp(np.where(small, mantissa, 0).astype(np.float64))[1] - 1 - bits
    drops = np.where(small, np.maximum(own, 0), drop).astype(raw.dtype)
    half = (one << drops) >> one
    up = ((raw + half) >> drops) << drops
    special = (raw & exponents) == exponents
    up = np.where((up & exponents) == exponents, (raw >> drops) << drops, up)
    return np.where(special, raw, up).astype(kind).tobytes()
