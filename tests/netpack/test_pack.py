"""Packing and unpacking weights: what comes back, and how small and how good it is."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN
from made_up_weights import make_tensors, make_weights, sqnr
from safetensors.numpy import load_file, save_file

from shcodec import netpack
from shcodec.netpack.packing.codebooks import Assigned
from shcodec.netpack.packing.packer import pack_tensors
from shcodec.netpack.packing.plan import PackConfig
from shcodec.netpack.packing.targets import Target
from shcodec.netpack.packing.tensors import Tensor, from_array, from_floats, to_floats
from shcodec.netpack.packing.trellis import tensor_step
from shcodec.netpack.packing.unpacker import unpack_tensors
from shcodec.support.errors import LimitError, UsageError

QUICK = PackConfig(states=4)


def test_everything_comes_back_in_its_place() -> None:
    tensors = make_tensors()
    data, report = pack_tensors(tensors, {"format": "pt", "": "ü"}, config=QUICK)
    found, metadata = unpack_tensors(data)
    assert metadata == {"format": "pt", "": "ü"}
    assert [(t.name, t.dtype, t.shape, len(t.data)) for t in found] == [
        (t.name, t.dtype, t.shape, len(t.data)) for t in tensors
    ]
    codings = {tensor.name: tensor.coding for tensor in report.tensors}
    assert {name for name, coding in codings.items() if coding == "trellis"} == {"conv.weight", "head.weight", "tail"}
    for before, after, told in zip(tensors, found, report.tensors, strict=True):
        if told.coding == "trellis":
            assert told.sqnr is not None
            assert sqnr(to_floats(before), to_floats(after)) == pytest.approx(told.sqnr, abs=0.2)  # dtypes round
        elif before.dtype == "F32":
            np.testing.assert_allclose(to_floats(after), to_floats(before), rtol=2**-9)
        else:
            assert bytes(after.data) == bytes(before.data)
    assert report.total == len(data)
    assert sum(tensor.share for tensor in report.tensors) == pytest.approx(1.0, abs=0.15)


def test_arrays_files_and_bytes_are_taken(tmp_path: Path) -> None:
    weights = make_weights()
    save_file(weights, tmp_path / "w.safetensors", metadata={"a": "b"})
    by_path = netpack.pack(tmp_path / "w.safetensors", config=QUICK)
    assert netpack.pack((tmp_path / "w.safetensors").read_bytes(), config=QUICK) == by_path
    arrays = netpack.unpack(netpack.pack(weights, bits=6, config=QUICK))
    assert list(arrays) == list(weights)
    assert {name: (a.dtype, a.shape) for name, a in arrays.items()} == {
        name: (a.dtype, a.shape) for name, a in weights.items()
    }
    (tmp_path / "back.safetensors").write_bytes(netpack.unpack_safetensors(by_path))
    assert set(load_file(tmp_path / "back.safetensors")) == set(weights)


@pytest.mark.parametrize("bits", [1.5, 4.0, 7.0])
def test_bits_are_met(bits: float) -> None:
    _, report = pack_tensors(make_tensors(), target=Target(bits=bits), config=QUICK)
    assert report.bits is not None
    assert 0.96 * bits <= report.bits <= bits


@pytest.mark.parametrize("size", [4000, 9000])
def test_sizes_are_used_and_never_exceeded(size: int) -> None:
    data, report = pack_tensors(make_tensors(), target=Target(size=size), config=QUICK)
    assert 0.97 * size <= len(data) <= size
    assert not report.missed


@pytest.mark.parametrize(("wanted", "weighting"), [(12.0, "mse"), (30.0, "mse"), (30.0, "relative")])
def test_sqnr_is_met(wanted: float, weighting: str) -> None:
    tensors = make_tensors()
    data, report = pack_tensors(tensors, target=Target(sqnr=wanted), config=PackConfig(states=4, weighting=weighting))
    before = [to_floats(t) for t in tensors if t.name in ("conv.weight", "head.weight", "tail")]
    after = [to_floats(t) for t in unpack_tensors(data)[0] if t.name in ("conv.weight", "head.weight", "tail")]
    assert sqnr(np.concatenate(before), np.concatenate(after)) == pytest.approx(wanted, abs=0.1)
    assert report.sqnr == pytest.approx(wanted, abs=0.1)


def test_relative_weighting_treats_tensors_alike() -> None:
    tensors = make_tensors()
    found = {}
    for weighting in ("mse", "relative"):
        _, report = pack_tensors(tensors, target=Target(bits=3), config=PackConfig(states=4, weighting=weighting))
        quality = [t.sqnr for t in report.tensors if t.sqnr is not None]
        found[weighting] = max(quality) - min(quality)
    assert found["relative"] < 1.0 < found["mse"]


def test_what_cannot_be_met_is_said() -> None:
    tensors = make_tensors()
    with pytest.raises(LimitError, match="bytes at least"):
        pack_tensors(tensors, target=Target(size=300), config=QUICK)
    data, report = pack_tensors(tensors, target=Target(size=10**6), config=QUICK)
    assert any("fit as they are" in note for note in report.notes)
    found = {tensor.name: bytes(tensor.data) for tensor in unpack_tensors(data)[0]}
    assert found["conv.weight"] == tensors[0].data


@pytest.mark.parametrize("target", [{}, {"bits": 1.0, "size": 3}, {"bits": 0.0}, {"sqnr": float("nan")}, {"size": -1}])
def test_targets_that_make_no_sense(target: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Target(**target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"states": 3}, {"states": 256}, {"weighting": "x"}, {"fine_bits": 0}, {"threads": 0}]
)
def test_options_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        PackConfig(**options)  # type: ignore[arg-type]


def test_the_trellis_beats_uniform_quantisation_with_the_same_coder() -> None:
    """At equal bytes and the same classes and histograms, so that all of the gain is that of the trellis."""
    x = {"w": np.random.default_rng(2).normal(size=(300, 300)).astype(np.float32)}
    quality = {}
    for states in (1, 64):
        _, report = netpack.pack_report(x, target=Target(bits=4), config=PackConfig(states=states))
        assert report.bits is not None and report.sqnr is not None
        quality[states] = report.sqnr + 6.02 * (4 - report.bits)
    assert quality[64] > quality[1] + 1.0


def test_the_same_bytes_every_time_and_on_any_number_of_threads() -> None:
    first, _ = pack_tensors(make_tensors(), config=QUICK)
    assert pack_tensors(make_tensors(), config=QUICK)[0] == first
    assert pack_tensors(make_tensors(), config=PackConfig(states=4, threads=3))[0] == first


def test_nothing_is_a_set_of_tensors() -> None:
    data, report = pack_tensors([])
    assert unpack_tensors(data) == ([], {})
    assert (report.bits, report.sqnr, report.tensors) == (None, None, ())


@pytest.mark.parametrize(
    "array",
    [
        np.full((20, 20), np.nan, np.float32),
        np.full((20, 20), np.inf, np.float32),
        np.full((20, 20), 3.25, np.float32),
        np.zeros((20, 20), np.float16),
        np.zeros((0, 20), np.float32),
        np.full((20, 20), 1e300) * np.arange(1, 21),
        np.ones((2,) * 9, np.float32),
        np.arange(400).reshape(20, 20),
    ],
)
def test_what_cannot_be_quantised_is_kept(array: np.ndarray) -> None:
    data = netpack.pack({"x": array, "y": make_weights()["conv.weight"]}, config=QUICK)
    found = netpack.unpack(data)["x"]
    assert found.dtype == array.dtype and found.shape == array.shape
    np.testing.assert_allclose(found, array, rtol=2**-9)


def test_extremes_are_quantised() -> None:
    rng = np.random.default_rng(6)
    weights: dict[str, np.ndarray] = {
        "outlier": rng.normal(size=(64, 64)).astype(np.float32),
        "tiny": (1e-20 * rng.normal(size=(64, 64))).astype(np.float32),
        "moved": (1000 + rng.normal(size=(64, 64))).astype(np.float32),
        "sparse": (rng.normal(size=(64, 64)) * (rng.random((64, 64)) < 0.02)).astype(np.float32),
        "double": rng.normal(size=(64, 64)),
        "long": rng.normal(size=70000).astype(np.float32),
    }
    weights["outlier"][3, 5] = 300.0
    found = netpack.unpack(netpack.pack(weights, bits=5, config=QUICK))
    for name in ("outlier", "moved", "double", "long"):
        centred = weights[name] - weights[name].mean()
        assert sqnr(centred, centred + (found[name] - weights[name])) > 20, name
    relative = netpack.unpack(netpack.pack(weights, bits=5, config=PackConfig(states=4, weighting="relative")))
    for unpacked in (found, relative):  # of another order of magnitude, so with a step of its own
        assert sqnr(weights["tiny"], unpacked["tiny"]) > 20


def test_steps_are_powers_of_two() -> None:
    assert tensor_step(3.0, 8) == 6.0
    assert tensor_step(3.0, -16) == 0.75
    assert tensor_step(1.0, 4) == np.float32(2**0.5)


@pytest.mark.parametrize("dim", [1, 2, 4, 8])
def test_codewords_come_back_exactly(dim: int) -> None:
    rng = np.random.default_rng(dim)
    words = rng.normal(size=(30, dim)).astype(np.float32)
    shapes = {"a": (50, 31), "b": (7, 3, 3)}
    indices = {
        name: np.minimum(rng.geometric(0.2, -(-int(np.prod(shape)) // dim)), 29).astype(np.int32)
        for name, shape in shapes.items()
    }
    scales = {"a": 0.1, "b": 3.0}
    hard = {
        name: (words[indices[name]].reshape(-1)[: np.prod(shape)] * np.float32(scales[name])).reshape(shape)
        for name, shape in shapes.items()
    }
    tensors = [from_array(name, array) for name, array in {**make_weights(), **hard}.items()]
    data, report = pack_tensors(tensors, config=QUICK, assigned=[Assigned(words, indices, scales)])
    found = {tensor.name: tensor for tensor in unpack_tensors(data)[0]}
    for name, array in hard.items():
        assert bytes(found[name].data) == array.tobytes()
    told = {tensor.name: tensor for tensor in report.tensors}
    assert told["a"].coding == "codebook" and 0 < told["a"].bits < 5 / dim


def test_codebooks_that_do_not_fit() -> None:
    words = np.zeros((3, 1), np.float32)
    with pytest.raises(UsageError):
        Assigned(words, {"a": np.array([3], np.int32)}, {"a": 1.0})
    with pytest.raises(UsageError):
        Assigned(np.zeros((3, 3), np.float32), {}, {})
    with pytest.raises(UsageError):
        pack_tensors(
            [from_array("a", np.zeros(3, np.float32))],
            assigned=[Assigned(words, {"a": np.zeros(2, np.int32)}, {"a": 1})],
        )


def test_names_occur_once() -> None:
    with pytest.raises(UsageError):
        pack_tensors([from_array("a", np.zeros(3))] * 2)


def test_all_bfloat16_values_survive_where_they_are_kept() -> None:
    data = from_floats(np.random.default_rng(1).normal(size=100).astype(np.float32), "BF16")
    packed, _ = pack_tensors([Tensor("x", "BF16", (100,), data)])
    assert bytes(unpack_tensors(packed)[0][0].data) == data
    assert netpack.unpack(packed)["x"].dtype == np.float32


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np; from shcodec import netpack;"
        "netpack.info(data := netpack.pack({'a': np.ones((30, 30), np.float32)})); netpack.unpack(data);"
        "assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_info_tells_the_parts() -> None:
    data, report = pack_tensors(make_tensors(), {"k": "v"}, config=QUICK)
    found = netpack.info(data)
    assert sum(found.sizes.values()) == found.total == len(data)
    assert found.bits == pytest.approx(report.bits, abs=0.01)
    assert (found.weights, found.states, found.metadata) == (report.weights, 4, {"k": "v"})
    assert [(t.name, t.coding) for t in found.tensors] == [(t.name, t.coding) for t in report.tensors]


@pytest.mark.parametrize(("name", "version"), [("weights", 1), ("weights2", 2)])
def test_decoding_has_not_changed(name: str, version: int) -> None:
    """A file of each version that is kept with what it decodes to."""
    golden = GOLDEN / "net"
    data = (golden / f"{name}.shcn").read_bytes()
    assert netpack.info(data).version == version
    unpacked = netpack.unpack_safetensors(data)
    assert hashlib.sha256(unpacked).hexdigest() == (golden / f"{name}.sha256").read_text("ascii").strip()
