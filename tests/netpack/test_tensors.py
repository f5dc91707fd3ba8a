"""Tensors as bytes: safetensors files, dtypes, planes."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load, save

from shcodec import netpack
from shcodec.netpack.packing import byte_planes, tensors
from shcodec.netpack.packing.tensors import Tensor, from_array, from_floats, read_safetensors, to_array, to_floats
from shcodec.support.errors import ShcError, UsageError

ARRAYS: dict[str, np.ndarray] = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "odd": np.array([1, -2, 3], dtype=np.int8),
    "half": np.array([[0.5, -1.5]], dtype=np.float16),
    "scalar": np.array(7, dtype=np.int64),
    "none": np.zeros((0, 4), dtype=np.float64),
    "flags": np.array([True, False]),
}


def test_files_of_the_library_are_read() -> None:
    found, metadata = read_safetensors(save(ARRAYS, metadata={"format": "np"}))
    assert metadata == {"format": "np"}
    assert {tensor.name for tensor in found} == set(ARRAYS)
    for tensor in found:
        array = to_array(tensor)
        assert array.dtype == ARRAYS[tensor.name].dtype
        np.testing.assert_array_equal(array, ARRAYS[tensor.name])


def test_the_library_reads_our_files() -> None:
    ours = [from_array(name, array) for name, array in ARRAYS.items()]
    for name, array in load(tensors.write_safetensors(ours, {"k": "v"})).items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def header(**entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        header()[:-1] + b"!",
        b"\x02\0\0\0\0\0\0\0[]",
        header(a=1),
        header(a={"dtype": "F32", "shape": [1], "data_offsets": [0]}),
        header(a={"dtype": 33, "shape": [1], "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": "", "shape": [1], "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}) + bytes(2),
        header(a={"dtype": "C64", "shape": [1], "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": "NEW", "shape": [1], "data_offsets": [0, 400]}) + bytes(400),
        header(a={"dtype": "NEW", "shape": [1], "data_offsets": [4, 0]}) + bytes(4),
        b'"\0\0\0\0\0\0\0{"__metadata__":{},"__metadata__":{}}',
        header(a={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}) + bytes(8),
        header(a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}) + bytes(5),
        header(a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}) + bytes(3),
        header(__metadata__={"a": 1}),
        b"\x10\x27\0\0\0\0\0\0" + b"[" * 10000,
    ],
)
def test_what_is_no_safetensors_file_is_rejected(data: bytes) -> None:
    with pytest.raises(ShcError):
        read_safetensors(data)


def test_bfloat16_goes_through_float32() -> None:
    values = np.array([1.0, -2.5, 1 + 2**-8, 1 + 3 * 2**-8, 3.3e38, np.float32(2) ** -130], dtype=np.float32)
    data = from_floats(values, "BF16")
    back = to_floats(Tensor("x", "BF16", (6,), data))
    np.testing.assert_array_equal(back[:4], [1.0, -2.5, 1.0, 1 + 2**-6])  # ties to even
    assert np.isfinite(back).all()
    assert from_floats(back, "BF16") == data


def test_half_precision_does_not_overflow() -> None:
    assert to_floats(Tensor("x", "F16", (2,), from_floats(np.array([1e6, -1e6], np.float32), "F16"))).tolist() == [
        65504.0,
        -65504.0,
    ]


def test_dtypes_without_a_place_are_refused() -> None:
    with pytest.raises(UsageError, match="complex128"):
        from_array("c", np.zeros(2, dtype=np.complex128))
    with pytest.raises(UsageError, match="float4_e2m1fn"):
        from_array("c", np.zeros(2, dtype=ml_dtypes.float4_e2m1fn))
    for value in (None, 3.0, [1.0], {"a": 1}):
        with pytest.raises(UsageError, match="is no array"):
            netpack.pack({"c": value})
    with pytest.raises(UsageError, match="must be a text"):
        netpack.pack({3: np.zeros(2)})  # type: ignore[dict-item]


def test_big_endian_arrays_are_turned() -> None:
    assert from_array("b", np.array([1, 2], dtype=">i4")).data == np.array([1, 2], dtype="<i4").tobytes()


def test_planes_are_undone() -> None:
    kept = [("F32", bytes(range(8))), ("BOOL", b"\1"), ("F32", b"abcd"), ("F16", b""), ("I64", bytes(8))]
    data = byte_planes.shuffled(kept)
    assert len(data) == 21
    assert byte_planes.restored(data, [(dtype, len(own)) for dtype, own in kept]) == [own for _, own in kept]
    assert byte_planes.shuffled([]) == b""
    assert byte_planes.restored(b"", []) == []


@pytest.mark.parametrize(("dtype", "bits"), [("F32", 8), ("F64", 8), ("F16", 4), ("BF16", 3), ("F16", 10), ("F32", 30)])
def test_rounded_floats_are_near(dtype: str, bits: int) -> None:
    values = np.random.default_rng(1).normal(size=500).astype(np.float32)
    data = from_floats(values, dtype)
    before = to_floats(Tensor("x", dtype, (500,), data))
    after = to_floats(Tensor("x", dtype, (500,), byte_planes.rounded(data, dtype, bits)))
    assert np.abs(after / before - 1).max() <= 2.0 ** -(bits + 1)
    if bits >= byte_planes.MANTISSA[dtype]:
        np.testing.assert_array_equal(before, after)


def test_rounding_keeps_what_is_not_finite_and_makes_nothing_infinite() -> None:
    values = np.array([np.nan, np.inf, -np.inf, np.finfo(np.float32).max, 0.0], dtype=np.float32)
    found = np.frombuffer(byte_planes.rounded(values.tobytes(), "F32", 8), np.float32)
    np.testing.assert_array_equal(found[[0, 1, 2, 4]], values[[0, 1, 2, 4]])
    assert np.isfinite(found[3])


FOREIGN = {
    "F4": ([3, 4], 6),
    "F6_E2M3": ([8], 6),
    "F6_E3M2": ([2, 4], 6),
    "F8_E8M0": ([5, 4], 20),
    "F8_E4M3": ([20], 20),
    "F8_E5M2": ([20], 20),
    "F8_E4M3FNUZ": ([3, 7], 21),
    "F8_E5M2FNUZ": ([21], 21),
    "C64": ([30, 20], 4800),
    "C128": ([3], 48),
    "F2_OF_THE_FUTURE": ([2, 2, 2], 2),
    "NOTHING": ([0, 3], 0),
}


def foreign_file() -> bytes:
    """Return a safetensors file with a tensor of each dtype."""
    rng = np.random.default_rng(4)
    entries: dict[str, object] = {}
    body = b""
    for dtype, (shape, size) in FOREIGN.items():
        entries[f"of {dtype}"] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + size]}
        body += rng.bytes(size)
    return header(**entries) + body


def test_any_dtype_is_kept_byte_for_byte() -> None:
    before = read_safetensors(foreign_file())[0]
    data = netpack.pack(foreign_file())
    after = read_safetensors(netpack.unpack_safetensors(data))[0]
    assert len(before) == len(FOREIGN)
    assert {(t.name, t.dtype, t.shape, bytes(t.data)) for t in after} == {
        (t.name, t.dtype, t.shape, bytes(t.data)) for t in before
    }
    arrays = netpack.unpack(data)
    assert arrays["of C64"].dtype == np.complex64 and arrays["of C64"].shape == (30, 20)
    assert arrays["of F4"].shape == (6,) and arrays["of F8_E8M0"].shape == (5, 4)
    assert {t.name: t.dtype for t in netpack.info(data).tensors} == {f"of {dtype}": dtype for dtype in FOREIGN}


def test_the_library_reads_its_own_dtypes_back() -> None:
    """All that safetensors 0.8 knows but those that numpy does not."""
    arrays = {"c": np.arange(6, dtype=np.complex64).reshape(2, 3), "f": np.ones((3, 3), np.float32)}
    for name, array in load(netpack.unpack_safetensors(netpack.pack(save(arrays)))).items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize(
    "name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
)
def test_arrays_of_small_floats(name: str) -> None:
    array = np.arange(1, 7).reshape(2, 3).astype(getattr(ml_dtypes, name))
    found = netpack.unpack(netpack.pack({"x": array}))["x"]
    np.testing.assert_array_equal(found, array.view(np.uint8))


def test_the_name_of_the_metadata_is_refused() -> None:
    with pytest.raises(UsageError, match="__metadata__"):
        netpack.pack({"__metadata__": np.zeros((2, 2), np.float32)})
    with pytest.raises(ShcError, match="__metadata__"):
        tensors.write_safetensors([from_array("__metadata__", np.zeros(2))], {})


def test_names_that_utf8_cannot_tell_are_refused() -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        netpack.pack({"\ud800": np.zeros((2, 2), np.float32)})


def test_denormals_are_rounded_like_others() -> None:
    bits = np.array([1, 5, 0x1FF, 0x155555, 0x7FFFFF, 0x80000003], dtype=np.uint32)
    found = np.frombuffer(byte_planes.rounded(bits.tobytes(), "F32", 8), np.float32).astype(np.float64)
    before = bits.view(np.float32).astype(np.float64)
    assert np.abs(found / before - 1).max() <= 2.0**-9
    assert found[0] == before[0] and found[1] == before[1] and found[5] == before[5]
