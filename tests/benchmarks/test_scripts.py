"""The scripts in benchmarks/: what they count is checked against figures computed by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import make_photo
from PIL import Image
from scripts import script

pytest.importorskip("onnx", reason="needs the extra 'train'")


def test_multiply_accumulates_of_a_graph(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    complexity = script("complexity")
    sizes = {"w0": [32, 8, 3, 3], "b0": [32], "w1": [32, 4, 5, 5], "w2": [16, 10], "w3": [10, 7]}
    nodes = [
        helper.make_node("Conv", ["y", "w0", "b0"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2], group=2),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "w1"], ["c"], strides=[2, 2], pads=[2, 2, 2, 2], group=4),
        helper.make_node("Gemm", ["gain", "w2"], ["d"]),
        helper.make_node("MatMul", ["d", "w3"], ["e"]),
    ]
    graph = helper.make_graph(
        nodes,
        "known",
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, "height", "width"]),
            helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1, 16]),
        ],
        [
            helper.make_tensor_value_info("c", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("e", TensorProto.FLOAT, [1, 7]),
        ],
    )
    for name, dims in sizes.items():
        # As in a shipped model: the graph declares its tensors, the numbers lie elsewhere.
        tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="elsewhere")
        graph.initializer.append(tensor)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (tmp_path / "known.onnx").write_bytes(model.SerializeToString())
    half = (512 // 32) * (768 // 32)
    by_hand = half * 32 * 8 * 9 + half * 32 * 4 * 25 + 16 * 10 + 10 * 7
    assert complexity.graph_cost(tmp_path / "known.onnx") == (by_hand, 32 * 8 * 9 + 32 + 32 * 4 * 25 + 160 + 70)
    assert complexity.graph_cost(tmp_path / "absent.onnx") is None


def test_complexity_of_a_model(tiny_model: str, tmp_path: Path) -> None:
    script("complexity").main(["--model", tiny_model, "--out", str(tmp_path / "complexity.json")])
    told = json.loads((tmp_path / "complexity.json").read_text())["models"][tiny_model]
    assert {part["part"] for part in told["parts"]} == {"analysis", "hyper", "refine", "class map", "synthesis"}
    decoder = [part["kmac_per_pixel"] for part in told["parts"] if part["side"] == "decoder"]
    assert told["totals"]["decoder"]["kmac_per_pixel"] == pytest.approx(sum(decoder))
    assert min(decoder) > 0


def test_speed_of_a_model(tiny_model: str, tmp_path: Path) -> None:
    Image.fromarray(make_photo(64, 96)).save(tmp_path / "photo.png")
    arguments = ["--picture", tmp_path / "photo.png", "--model", tiny_model, "--repeat", 1]
    script("speed").main([str(argument) for argument in (*arguments, "--out", tmp_path / "speed.json")])
    told = json.loads((tmp_path / "speed.json").read_text())
    assert set(told["commands"]) == {"shc decode", "shc info", "shc --help"}
    assert set(told["threads"]) == {"1", "2"}
    assert told["threads"]["1"]["betas"]["50"]["symbols"] > 0


def test_a_command_is_measured_alone() -> None:
    ballast = bytearray(200_000_000)
    seconds, peak = script("speed").launch([sys.executable, "-I", "-S", "-c", "import time; time.sleep(0.05)"])
    assert seconds > 0.05
    assert peak < len(ballast) / 1e6
    with pytest.raises(RuntimeError, match=r"failed: .*no such thing"):
        script("speed").launch([sys.executable, "-c", "raise SystemExit('no such thing')"])
