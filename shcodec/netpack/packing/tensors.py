"""Named tensors as bytes, and the safetensors file that holds them.

Every tensor keeps its bytes, whatever they mean. The file is eight bytes of length, a JSON header and the data. It is
read and written here, not by the safetensors library: that refuses dtypes newer than itself, gives no metadata of a
file in memory, and copies every tensor.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shcodec.support.errors import ShcError, UsageError

Floats = npt.NDArray[np.float32]

SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
        "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    }
)  # fmt: skip
"""Bytes of an element by dtype. The order is that of the codes in a file; other dtypes are *foreign*, told by name."""
DTYPES: Final = tuple(SIZES)
WIDTHS: Final = (1, 2, 4, 8)
"""Bytes that belong together in a tensor of a foreign dtype."""
MAX_ELEMENT: Final = 16
"""Most bytes of an element of a foreign dtype."""
MAX_DTYPE: Final = 64
"""Most bytes of the name of a foreign dtype."""
_FOREIGN_BITS: Final[Mapping[str, int]] = MappingProxyType(
    {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "C64": 64}
)
"""Bits of an element of the foreign dtypes that are known (safetensors 0.8); of others a file tells the bytes."""
FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})
"""Dtypes that can be quantised."""
_NUMPY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
        "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "C64": "<c8",
    }
)  # fmt: skip
_ML_DTYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
        "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
    }
)  # fmt: skip
"""Names of the dtypes that the package ml_dtypes adds to numpy; torch has the same ones."""
_TORCH: Final[Mapping[str, str]] = MappingProxyType(
    {
        "float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "int32": "I32", "int16": "I16",
        "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
        "complex64": "C64", "float4_e2m1fn_x2": "F4", **_ML_DTYPES,
    }
)  # fmt: skip
_BY_NUMPY: Final = {np.dtype(code).str: name for name, code in _NUMPY.items()}
METADATA: Final = "__metadata__"
"""The name that a safetensors file keeps for its metadata."""
_MAX_HEADER: Final = 100_000_000  # bytes, as in the safetensors library


@dataclass(frozen=True)
class Tensor:
    """A tensor whose elements are bytes.

    Attributes:
        name: Any text.
        dtype: One of `DTYPES`, or the name of a foreign one.
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

    @property
    def width(self) -> int:
        """Bytes that belong together in a tensor of a foreign dtype, one of `WIDTHS`."""
        size = 4 if self.dtype == "C64" else len(self.data) // max(self.size, 1)
        return size if (size in WIDTHS and len(self.data) == self.size * size) or self.dtype == "C64" else 1


def from_value(name: str, value: Any) -> Tensor:
    """Return a numpy array, a torch tensor on any device, or whatever else numpy takes for an array as a tensor.

    torch is not imported: a value can be one of its tensors only where somebody else has done so.

    Raises:
        UsageError: If it is none of these, or its dtype is none that a safetensors file can hold.
    """
    if not isinstance(name, str):
        raise UsageError(f"a tensor's name must be a text, not {name!r}")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _from_torch(name, value, torch)
    if not hasattr(value, "__array__"):
        raise UsageError(f"tensor {name!r} is no array but of the type {type(value).__name__}, which cannot be packed")
    return from_array(name, np.asarray(value))


def _from_torch(name: str, tensor: Any, torch: Any) -> Tensor:
    kind = str(tensor.dtype).removeprefix("torch.")
    dtype = _TORCH.get(kind)
    if dtype is None:
        raise UsageError(f"tensor {name!r} has dtype {kind}, which cannot be packed")
    shape = tuple(tensor.shape)
    if dtype == "F4":  # two numbers in each byte
        shape = (*shape[:-1], 2 * shape[-1]) if shape else (2,)
    if tensor.layout != torch.strided or tensor.is_meta:
        raise UsageError(f"tensor {name!r} is sparse or has no data, and cannot be packed")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return Tensor(name, dtype, shape, plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b"")


def from_array(name: str, array: npt.NDArray[Any]) -> Tensor:
    """Return a numpy array as a tensor; the dtypes of ml_dtypes that fill whole bytes are known as well.

    Raises:
        UsageError: If its dtype is none that a safetensors file can hold.
    """
    if array.dtype.name in _ML_DTYPES:
        dtype, plain = _ML_DTYPES[array.dtype.name], np.ascontiguousarray(array)
    else:
        little = array.dtype.newbyteorder("<")
        found = _BY_NUMPY.get(little.str)
        if found is None:
            raise UsageError(f"tensor {name!r} has dtype {array.dtype}, which cannot be packed")
        dtype, plain = found, array.astype(little, copy=False)
    return Tensor(name, dtype, tuple(array.shape), np.ascontiguousarray(plain).tobytes())


def to_array(tensor: Tensor) -> npt.NDArray[Any]:
    """Return a tensor as a numpy array: bfloat16 as float32 of the same values, what numpy does not know as bytes.

    The array has the tensor's shape, except that bytes which are not one for each element come in a row.
    """
    if tensor.dtype == "BF16":
        return to_floats(tensor).reshape(tensor.shape)
    flat = np.frombuffer(tensor.data, _NUMPY.get(tensor.dtype, "|u1")).copy()
    return flat.reshape(tensor.shape) if flat.size == tensor.size else flat


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
        header = json.loads(bytes(data[8 : 8 + length]), object_pairs_hook=_table)
    except (ValueError, RecursionError) as error:
        raise ShcError("not a safetensors file: its header is no JSON") from error
    if not isinstance(header, dict):
        raise ShcError("not a safetensors file: its header is no table")
    metadata = header.pop(METADATA, {})
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise ShcError("the metadata of the safetensors file are not texts")
    body = memoryview(data)[8 + length :]
    found = sorted((_entry(name, value) for name, value in header.items()), key=lambda entry: entry[3])
    tensors, position = [], 0
    for name, dtype, shape, (start, end) in found:
        if start != position or end > len(body) or not _fits(dtype, math.prod(shape), end - start):
            raise ShcError(f"the safetensors file is damaged: tensor {name!r} does not lie where it should")
        tensors.append(Tensor(name, dtype, shape, body[start:end]))
        position = end
    if position != len(body):
        raise ShcError("the safetensors file is damaged: there are bytes after its tensors")
    return tensors, metadata


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a table of the JSON header; of two entries of one name neither can be trusted."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ShcError("the safetensors file is damaged: a name occurs twice in its header")
    return found


def _fits(dtype: str, number: int, size: int) -> bool:
    """Whether so many elements of a dtype may take so many bytes."""
    if dtype in SIZES:
        return size == number * SIZES[dtype]
    if dtype in _FOREIGN_BITS:
        return 8 * size == number * _FOREIGN_BITS[dtype]
    return 0 <= size <= MAX_ELEMENT * number


def _entry(name: str, value: Any) -> tuple[str, str, tuple[int, ...], tuple[int, int]]:
    """Return name, dtype, shape and place of a tensor from its entry in the header."""
    try:
        dtype, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise ShcError(f"the safetensors file is damaged: tensor {name!r} is not described") from error
    if not isinstance(dtype, str) or not 0 < len(dtype.encode("utf-8", "replace")) <= MAX_DTYPE:
        raise ShcError(f"the safetensors file is damaged: tensor {name!r} has no dtype")
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ShcError(f"the safetensors file is damaged: tensor {name!r} has numbers that are none")
    return name, dtype, shape, (start, end)


def write_safetensors(tensors: Iterable[Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file; the larger elements come first, so that all are aligned, else in the given order.

    Raises:
        ShcError: If a tensor has the name that such a file keeps for its metadata.
    """
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    parts, position = [], 0
    for tensor in sorted(tensors, key=lambda own: -SIZES.get(own.dtype, len(own.data) // max(own.size, 1))):
        if tensor.name == METADATA:
            raise ShcError(f"a safetensors file cannot hold a tensor named {METADATA!r}")
        end = position + len(tensor.data)
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        parts.append(tensor.data)
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
