"""Named tensors as bytes, and the safetensors file that holds them.

The safetensors library gives numpy arrays, which know neither bfloat16 nor 8-bit floats; here every tensor keeps its
bytes, whatever they mean. The file is eight bytes of length, a JSON header and the data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shcodec.errors import ShcError, UsageError

Floats = npt.NDArray[np.float32]

SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
        "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    }
)  # fmt: skip
"""Bytes of an element by dtype. The order is that of the codes in a file; it only ever grows."""
DTYPES: Final = tuple(SIZES)
FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})
"""Dtypes that can be quantised."""
_NUMPY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
        "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
    }
)  # fmt: skip
_BY_NUMPY: Final = {np.dtype(code).str: name for name, code in _NUMPY.items()}
_METADATA: Final = "__metadata__"
_MAX_HEADER: Final = 100_000_000  # bytes, as in the safetensors library


@dataclass(frozen=True)
class Tensor:
    """A tensor whose elements are bytes.

    Attributes:
        name: Any text.
        dtype: One of `DTYPES`.
        shape: Sizes, each at least 0; empty for a scalar.
        data: Little-endian elements in C order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def from_array(name: str, array: npt.NDArray[Any]) -> Tensor:
    """Return a numpy array as a tensor; one of ml_dtypes' bfloat16 is known as well.

    Raises:
        UsageError: If its dtype is none that a safetensors file can hold.
    """
    if array.dtype.name == "bfloat16":
        dtype, plain = "BF16", array.view(np.uint16)
    else:
        little = array.dtype.newbyteorder("<")
        found = _BY_NUMPY.get(little.str)
        if found is None:
            raise UsageError(f"tensor {name!r} has dtype {array.dtype}, which cannot be packed")
        dtype, plain = found, array.astype(little, copy=False)
    return Tensor(name, dtype, tuple(array.shape), np.ascontiguousarray(plain).tobytes())


def to_array(tensor: Tensor) -> npt.NDArray[Any]:
    """Return a tensor as a numpy array of its shape: bfloat16 as float32 of the same values, 8-bit floats as bytes."""
    if tensor.dtype == "BF16":
        return to_floats(tensor).reshape(tensor.shape)
    return np.frombuffer(tensor.data, _NUMPY.get(tensor.dtype, "|u1")).reshape(tensor.shape).copy()


def to_floats(tensor: Tensor) -> Floats:
    """Return the elements of a float tensor as float32, shape ``(size,)``; what is too large becomes infinite."""
    if tensor.dtype == "BF16":
        high = np.frombuffer(tensor.data, "<u2").astype(np.uint32)
        return (high << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return np.frombuffer(tensor.data, _NUMPY[tensor.dtype]).astype(np.float32)


def from_floats(values: Floats, dtype: str) -> bytes:
    """Return float32 values as bytes of a dtype, rounded to nearest even; none becomes infinite."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
        rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
        # A finite number must not round to infinity.
        return bytes(np.where((rounded & 0x7FFF) == 0x7F80, rounded - 1, rounded).astype("<u2").tobytes())
    if dtype == "F16":
        values = np.clip(values, np.float32(-65504.0), np.float32(65504.0))
    return bytes(values.astype(_NUMPY[dtype]).tobytes())


def read_safetensors(data: bytes) -> tuple[list[Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file in the order of their data, and its metadata.

    Raises:
        ShcError: If the bytes are not a valid file, or a dtype is not known.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MAX_HEADER, len(data) - 8):
        raise ShcError("not a safetensors file: its header is longer than the file")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise ShcError("not a safetensors file: its header is no JSON") from error
    if not isinstance(header, dict):
        raise ShcError("not a safetensors file: its header is no table")
    metadata = header.pop(_METADATA, {})
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise ShcError("the metadata of the safetensors file are not texts")
    body = memoryview(data)[8 + length :]
    found = sorted((_entry(name, value) for name, value in header.items()), key=lambda entry: entry[3])
    tensors, position = [], 0
    for name, dtype, shape, (start, end) in found:
        if start != position or end - start != math.prod(shape) * SIZES[dtype] or end > len(body):
            raise ShcError(f"the safetensors file is damaged: tensor {name!r} does not lie where it should")
        tensors.append(Tensor(name, dtype, shape, body[start:end]))
        position = end
    if position != len(body):
        raise ShcError("the safetensors file is damaged: there are bytes after its tensors")
    return tensors, metadata


def _entry(name: str, value: Any) -> tuple[str, str, tuple[int, ...], tuple[int, int]]:
    """Return name, dtype, shape and place of a tensor from its entry in the header."""
    try:
        dtype, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise ShcError(f"the safetensors file is damaged: tensor {name!r} is not described") from error
    if dtype not in SIZES:
        raise ShcError(f"tensor {name!r} has dtype {dtype!r}, which is not known here")
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ShcError(f"the safetensors file is damaged: tensor {name!r} has numbers that are none")
    return name, dtype, shape, (start, end)


def write_safetensors(tensors: Iterable[Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file; the larger elements come first, so that all are aligned, else in the given order."""
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    parts, position = [], 0
    for tensor in sorted(tensors, key=lambda tensor: -SIZES[tensor.dtype]):
        end = position + len(tensor.data)
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        parts.append(tensor.data)
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
