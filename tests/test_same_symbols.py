"""The same symbols everywhere: other runtimes, other Pythons, other arithmetic read the golden files alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import symbols_reference as reference
from conftest import GOLDEN
from golden_files import MANIFEST, assert_pixels_as_stored, pinned, read, symbols_in_a_process
from made_up_model import make_tensors

from shcodec.codec import decoding
from shcodec.model.networks import Model
from shcodec.symbols.grid import Grid
from shcodec.symbols.tables import SymbolTables

pytestmark = pytest.mark.usefixtures("tiny_model")


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_graph_optimisations_change_pixels_by_one_at_most(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    make_options = onnxruntime.SessionOptions

    def options() -> Any:
        made = make_options()
        made.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        return made

    monkeypatch.setattr(onnxruntime, "SessionOptions", options)
    model = Model(GOLDEN / "model", threads=1)
    model.open_networks()
    for name in MANIFEST:
        assert_pixels_as_stored(name, decoding.decode_array(read(name), model=model))


def test_torch_in_place_of_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks as torch computes them, from the very tensors: pixels differ by 1 at most, symbols not at all."""
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    from torch_model import TorchModel

    model = TorchModel(GOLDEN / "model", threads=1)
    for name in MANIFEST:
        assert_pixels_as_stored(name, decoding.decode_array(read(name), model=model))


def newer_pythons() -> list[str]:
    """Interpreters newer than this one: those that SHC_PYTHONS names, on the PATH, and of pyenv."""
    names = [f"python3.{minor}" for minor in range(sys.version_info.minor + 1, sys.version_info.minor + 6)]
    named = [path for path in os.environ.get("SHC_PYTHONS", "").split(os.pathsep) if path]
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [*named, *filter(None, map(shutil.which, names)), *map(str, sorted(kept.glob("3.*/bin/python")))]
    return [path for path in dict.fromkeys(found) if is_newer(path)]


def is_newer(interpreter: str) -> bool:
    """Whether an interpreter runs, is newer than this one, and has what reading symbols needs."""
    script = "import sys, numpy, PIL, safetensors, threadpoolctl; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([interpreter, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return False
    return done.returncode == 0 and tuple(map(int, done.stdout.split())) > sys.version_info[:2]


@pytest.mark.parametrize("blocked", [(), ("constriction",)])
def test_newer_pythons_change_no_symbol(blocked: tuple[str, ...]) -> None:
    interpreters = newer_pythons()
    if not interpreters:
        pytest.skip(
            "no newer Python with numpy, safetensors, threadpoolctl and Pillow is here (SHC_PYTHONS names some)"
        )
    for interpreter in interpreters:
        told = symbols_in_a_process(("onnxruntime", "torch", *blocked), interpreter)
        assert told == {name: pinned(name) for name in MANIFEST}, interpreter


@pytest.mark.parametrize("channels", [1, 40, 1040])
@pytest.mark.parametrize("sign", [-1, 1])
def test_float_products_are_exact_at_their_bound(channels: int, sign: int) -> None:
    """Weights, biases and z at their limits, up to sums next to 2^24: classes as 64-bit integers give them."""
    tensors = make_tensors(1)
    rng = np.random.default_rng(channels)
    tensors["hyper.bank"] = np.full((1, channels, 255), (1 << 24) // 255, np.uint32)
    tensors["hyper.bank"][:, :, 0] += (1 << 24) % 255
    weight = np.full((64, channels), 127 * sign, np.int8)
    weight[1::2] = rng.choice([-127, 127], weight[1::2].shape)
    tensors["class_map.weight"] = weight
    tensors["class_map.shift"] = np.array([0, 10, 18, 20], np.uint8)
    tensors["class_map.bias"] = rng.choice([1 - 2**30, 2**30 - 1, -(2**24), 2**24], (17, 4)).astype(np.int32)
    tables, grid = SymbolTables(tensors), Grid.of(128, 64)
    z = np.full((channels, 2, 1), 127, np.int8)
    z[:, 1, 0] = rng.choice([-127, 126, 127], channels)
    flat = z.reshape(channels, -1)
    assert tables.hyper is not None
    sums = tables.hyper.class_map.float_weight @ flat.astype(np.float32)
    assert np.array_equal(sums, weight.astype(np.int64) @ flat.astype(np.int64))
    assert channels < 1040 or np.abs(sums).max() == 1040 * 127 * 127 > (1 << 24) - 4000
    for beta_byte in (0, 77, 255):
        expected = reference.classes_of(tensors, z.astype(np.int64), beta_byte, grid.height, grid.width)
        assert np.array_equal(tables.classes_of(z, beta_byte, grid), expected)
