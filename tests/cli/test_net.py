"""`shc net` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Shc, run_process
from made_up_weights import make_weights
from safetensors.numpy import load_file, save_file


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_file(make_weights(), path, metadata={"format": "pt"})
    return path


def test_there_and_back(weights: Path, shc: Shc) -> None:
    done = shc("net", "pack", weights, "--states", 4)
    assert done.code == 0 and done.err == ""
    packed = weights.with_suffix(".shcn")
    assert f"-> {packed} {packed.stat().st_size:,} B" in done.out
    assert "bits/weight" in done.out and done.out.count("\n") == 1
    back = weights.with_name("back.safetensors")
    assert shc("net", "unpack", packed, back).code == 0
    assert set(load_file(back)) == set(make_weights())


def test_json_tells_of_every_tensor(weights: Path, shc: Shc) -> None:
    out = weights.with_name("x.shcn")
    told = json.loads(shc("net", "pack", weights, out, "--size", "4k", "--states", 4, "--json").out)
    assert told["output"] == str(out) and 3880 <= told["total"] <= 4000
    assert [tensor["name"] for tensor in told["tensors"]] == sorted(make_weights(), key=list(load_file(weights)).index)
    info = json.loads(shc("net", "info", "--json", out).out)
    assert info["total"] == out.stat().st_size == sum(info["sizes"].values())
    back = json.loads(shc("net", "unpack", out, weights.with_name("y.safetensors"), "--json").out)
    assert back["bytes"] == weights.with_name("y.safetensors").stat().st_size


def test_tables(weights: Path, shc: Shc) -> None:
    done = shc("net", "pack", weights, "-v", "--sqnr", 20, "--states", 4)
    assert "conv.weight       F32    48x24x3x3  trellis" in done.out
    done = shc("net", "info", weights.with_suffix(".shcn"))
    assert "quantised" in done.out and "num_batches" in done.out


def test_nothing_is_overwritten(weights: Path, shc: Shc) -> None:
    weights.with_suffix(".shcn").write_bytes(b"mine")
    done = shc("net", "pack", weights)
    assert done.code == 1 and "-f overwrites" in done.err
    assert weights.with_suffix(".shcn").read_bytes() == b"mine"
    assert shc("net", "pack", weights, "-f", "-q", "--states", 4).code == 0
    assert shc("net", "unpack", weights.with_suffix(".shcn")).code == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--bits", "3", "--size", "9k"], "one of"),
        (["--bits", "-1"], "positive"),
        (["--states", "5"], "states"),
        (["--size", "many"], "not a number of bytes"),
    ],
)
def test_wrong_usage(weights: Path, shc: Shc, options: list[str], word: str) -> None:
    done = shc("net", "pack", weights, *options)
    assert done.code == 2 and word in done.err and done.err.count("\n") == 1


def test_failures(weights: Path, shc: Shc) -> None:
    assert shc("net", "pack", weights.with_name("none.safetensors")).code == 1
    done = shc("net", "pack", weights, "--size", 100)
    assert done.code == 1 and "bytes at least" in done.err and "ask for" in done.err and done.err.count("\n") == 1
    weights.write_bytes(b"no weights")
    done = shc("net", "pack", weights)
    assert done.code == 1 and "not a safetensors file" in done.err


def test_damage_is_told(weights: Path, shc: Shc) -> None:
    arrays = make_weights()
    arrays["conv.weight"][3, 3, 0, 0] = np.nan
    save_file(arrays, weights)
    done = shc("net", "pack", weights, "-v", "--states", 4)
    assert done.code == 0 and "worst " in done.out.splitlines()[0] and "zeroed" in done.out
    assert "1 element of 1 tensor" in done.err and "conv.weight" in done.err and done.err.count("\n") == 1
    told = json.loads(shc("net", "pack", weights, "-f", "--json", "--states", 4).out)
    assert told["worst"] in arrays and told["notes"]
    info = json.loads(shc("net", "info", "--json", weights.with_suffix(".shcn")).out)
    assert info["worst"] == told["worst"]
    by_name = {tensor["name"]: tensor for tensor in info["tensors"]}
    assert by_name["conv.weight"]["exact"] == 1 and by_name["conv.weight"]["sqnr"] > 20
    assert f"worst    {told['worst']}" in shc("net", "info", weights.with_suffix(".shcn")).out


def test_too_many_weights(weights: Path, shc: Shc) -> None:
    shc("net", "pack", weights, "--states", 4)
    done = shc("net", "unpack", weights.with_suffix(".shcn"), "-f", "--max-weights", 100)
    assert done.code == 1 and "limit of 100" in done.err


def test_pipes(weights: Path) -> None:
    packed = run_process("net", "pack", "-", "--states", "4", stdin=weights.read_bytes())
    assert packed.returncode == 0 and b"bits/weight" in packed.stderr
    back = run_process("net", "unpack", "-", stdin=packed.stdout)
    assert back.returncode == 0
    weights.write_bytes(back.stdout)
    assert load_file(weights)["conv.weight"].dtype == np.float32
