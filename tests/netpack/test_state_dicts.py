"""State dictionaries of torch go in as they are."""

from __future__ import annotations

import numpy as np
import pytest

from shcodec import netpack
from shcodec.netpack.packing.tensors import from_value
from shcodec.support.errors import UsageError

torch = pytest.importorskip("torch", reason="needs the extra train")


def test_a_state_dictionary_is_packed() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(40, 60), torch.nn.BatchNorm1d(60), torch.nn.Linear(60, 8).bfloat16())
    state = model.state_dict()
    found = netpack.unpack(netpack.pack(state, bits=8))
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape)
        np.testing.assert_allclose(found[name], tensor.float().numpy(), atol=0.01)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("float32", "F32"),
        ("float16", "F16"),
        ("float64", "F64"),
        ("bfloat16", "BF16"),
        ("float8_e4m3fn", "F8_E4M3"),
        ("float8_e5m2", "F8_E5M2"),
        ("float8_e4m3fnuz", "F8_E4M3FNUZ"),
        ("float8_e8m0fnu", "F8_E8M0"),
        ("complex64", "C64"),
        ("int64", "I64"),
        ("uint16", "U16"),
        ("bool", "BOOL"),
    ],
)
def test_every_dtype_and_order_of_elements(kind: str, dtype: str) -> None:
    wanted = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensor = wanted.to(getattr(torch, kind))
    for own, expected in (
        (tensor, tensor),
        (tensor.t(), tensor.t().contiguous()),
        (tensor[:, ::2], tensor[:, ::2].contiguous()),
    ):
        found = from_value("x", own)
        assert (found.dtype, found.shape) == (dtype, tuple(own.shape))
        assert found.data == expected.reshape(-1).view(torch.uint8).numpy().tobytes()


def test_four_bits() -> None:
    pairs = torch.arange(6, dtype=torch.uint8).reshape(2, 3).view(torch.float4_e2m1fn_x2)
    found = from_value("x", pairs)
    assert (found.dtype, found.shape, found.data) == ("F4", (2, 6), bytes(range(6)))


def test_gradients_views_and_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    assert from_value("x", parameter).data == np.ones(4, np.float32).tobytes()
    assert from_value("x", torch.ones(1).expand(3)).data == np.ones(3, np.float32).tobytes()
    assert from_value("x", torch.zeros(0, 3)).data == b""
    assert from_value("x", torch.tensor(2.5)).shape == ()
    assert from_value("x", torch.tensor([1 + 2j]).conj()).data == np.array([1 - 2j], np.complex64).tobytes()


def test_what_has_no_elements_or_no_place_is_refused() -> None:
    for tensor in (
        torch.zeros(2, dtype=torch.complex128),
        torch.eye(3).to_sparse(),
        torch.zeros(2, device="meta"),
    ):
        with pytest.raises(UsageError, match="cannot be packed"):
            netpack.pack({"x": tensor})
