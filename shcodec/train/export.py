"""Writes a training run as a model folder: graphs without weights, float16 tensors, integer tables, a card.

`onnx` and `tomli_w` are imported where a model is written, so that a training, which starts from models, needs neither.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shcodec.model.card import CARD, DECODER, ENCODER, QUICK, TRAINING, read_card
from shcodec.model.networks import Model
from shcodec.model.tensors import Tensors, model_id, read_tensors, write_tensors
from shcodec.nets.codec import CodecNet, halos
from shcodec.nets.config import ModelConfig
from shcodec.nets.layers import knot_weights
from shcodec.nets.transforms import Synthesis
from shcodec.support.atomic import write_text
from shcodec.support.errors import UsageError
from shcodec.symbols.ans import integer_table
from shcodec.symbols.knots import KNOTS
from shcodec.train import checkpoint, painter
from shcodec.train.config import TrainConfig
from shcodec.train.objective import Learner
from shcodec.train.pretrained import architecture

OPSET = 17
REACH = 400.0  # steps: what a scalar codebook reaches, at least
OUTER_SPACING = 2.0  # between levels that training never needed
FAR = (0.0, 8.0, 16.0, 24.0, 36.0, 52.0, 76.0)  # steps: sizes of an element in the outer codewords of vectors
ENCODER_PARTS = ("net.g_a.", "net.h_a.")
CLASS_WEIGHT = "net.class_map.weight"  # stored as integers alone, see `_class_weight`
CLASS_BIAS = "net.class_map.bias_knots"  # in full precision: half of it would move values near 63 by 1/64 of a class
TRAINING_PARTS = ("density.", "histograms.", "net.class_map.", "net.prior_knots")


def export(run: Path, model_dir: Path) -> None:
    """Write a model folder from a run's checkpoint.

    Args:
        run: folder of a training run.
        model_dir: folder to write; its name becomes the model's name.

    Raises:
        UsageError: the run has no checkpoint, or has not come to its end, where the tables are made.
    """
    config, state = checkpoint.read(run)
    if not state["finished"]:
        raise UsageError(f"{run}: the training is not finished; 'shc train ... --resume' takes it to its end")
    learner = Learner(config)
    learner.load_state_dict(state["learner"])
    learner.eval()
    decoder, encoder, training = _tensors(learner)
    parent = model_dir.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".export-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        for file, tensors in ((DECODER, decoder), (ENCODER, encoder), (TRAINING, training)):
            write_tensors(folder / file, tensors)
        write_graphs(config.model, folder)
        write_card(folder, model_dir.resolve().name, config, state, model_id(decoder))
        model_dir.mkdir(exist_ok=True)
        Model(folder).open_networks()  # what is written must load
        files = {path.name for path in folder.iterdir()}
        for stale in {path.name for path in model_dir.iterdir()} - files:
            (model_dir / stale).unlink()  # graphs of another family, say
        for name in sorted(files, key=lambda name: name == CARD):  # the card last: it vouches for the rest
            os.replace(folder / name, model_dir / name)


def is_painter(run: Path) -> bool:
    """Whether a run trained a painter and not a whole model."""
    return (run / painter.TOLD).exists()


def export_painter(run: Path, model_dir: Path) -> None:
    """Put a trained painter into the model that it was trained for.

    Args:
        run: folder of `train_painter`.
        model_dir: folder of the model; its id and its other files stay.

    Raises:
        UsageError: the painter is not finished, or was trained for another model.
    """
    import tomli_w

    try:
        told = json.loads((run / painter.FILE).read_text(encoding="utf-8"))
        config = painter.PainterConfig.from_dict(told["config"])
    except (OSError, ValueError, LookupError):
        raise UsageError(f"{run}: holds no finished painter") from None
    card = read_card(model_dir)
    if told["on"] != card.get("id"):
        raise UsageError(f"{run}: the painter is of the model with id {told['on']}, not of {card.get('id')}")
    sizes = replace(architecture(model_dir), synthesis=config.synthesis)
    write_tensors(model_dir / QUICK, read_tensors(run / painter.WEIGHTS))
    write_synthesis(sizes, model_dir / "quick.onnx")
    card.setdefault("halos", {})["quick"] = halos(sizes)["synthesis"]
    card["quick"] = {key: told[key] for key in ("config", "steps", "hours")}
    for name in (QUICK, "quick.onnx"):
        card["sha256"][name] = hashlib.sha256((model_dir / name).read_bytes()).hexdigest()
    write_text(model_dir / CARD, tomli_w.dumps(card))
    Model(model_dir).open_networks()  # what is written must load


def _half(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().cpu().numpy().astype(np.float16))


def _tensors(learner: Learner) -> tuple[Tensors, Tensors, Tensors]:
    """Return the tensors of the decoder (which make the id), of the encoder, and those that only training needs."""
    config = learner.config
    decoder: Tensors = {}
    encoder: Tensors = {"rate_weight": np.full(KNOTS, config.rate_weight, np.float32)}
    training: Tensors = {}
    for name, parameter in learner.named_parameters():
        if name.startswith("books.") or name == CLASS_WEIGHT:
            continue
        target = training if name.startswith(TRAINING_PARTS) else encoder if name.startswith(ENCODER_PARTS) else decoder
        exact = name == CLASS_BIAS
        target[name.removeprefix("net.")] = parameter.detach().cpu().numpy().copy() if exact else _half(parameter)
    quantiser = config.model.quantiser
    decoder["latent.channels"] = np.array([config.model.latent], np.int32)
    decoder["class.count"] = np.array([quantiser.classes], np.int32)
    decoder["class.bands"] = np.array([band.first for band in quantiser.bands], np.int32)
    for i in range(len(quantiser.bands)):
        codebook, histogram = learner.books.codebooks[i].detach().cpu(), learner.books.histogram(i).double().numpy()
        if config.model.has_hyper:
            codebook, histogram = widened(codebook, histogram)
        decoder[f"codebook.{i}"] = _half(codebook)
        decoder[f"histogram.{i}"] = np.stack([integer_table(row) for row in histogram])
    if config.model.has_hyper:
        bank = learner.get_buffer("bank").double().numpy()
        decoder["hyper.bank"] = np.stack([[integer_table(channel) for channel in row] for row in bank])
        weight, shift, bias = learner.net.class_map.integers()
        decoder |= {
            "class_map.weight": weight.numpy(),
            "class_map.shift": shift.numpy(),
            "class_map.bias": bias.numpy(),
        }
        if quantiser.kept:
            floor = np.zeros(config.model.latent, np.uint8)
            floor[: quantiser.kept] = quantiser.skip
            decoder["class_map.floor"] = floor
    return decoder, encoder, training


def widened(codebook: Tensor, histogram: Any) -> tuple[Tensor, Any]:
    """Add sparse outer codewords: a rare residual (a white sky, say) costs bits, not a wrong block.

    Args:
        codebook: (L, d), scalars sorted.
        histogram: (classes, L) probabilities.

    Returns:
        (L + n, d) and (classes, L + n); the new codewords, half of them on either side of scalars and all at the end
        of vectors, are the rarest that the tables can hold.
    """
    if codebook.shape[1] == 1:
        number = max(0, math.ceil((REACH - float(codebook.abs().max())) / OUTER_SPACING))
        outside = OUTER_SPACING * torch.arange(1, number + 1)[:, None]
        wide = torch.cat([codebook[:1] - outside.flip(0), codebook, codebook[-1:] + outside])
        return wide, np.pad(histogram, ((0, 0), (number, number)))
    levels = torch.tensor(sorted({sign * size for size in FAR for sign in (-1.0, 1.0)}))
    grid = torch.cartesian_prod(*[levels] * codebook.shape[1])
    if codebook.shape[1] > 2:
        grid = grid[(grid != 0).sum(1) == 1]  # one element alone
    outside = grid[torch.cdist(grid, codebook).amin(1) > FAR[1] / 2]
    return torch.cat([codebook, outside]), np.pad(histogram, ((0, 0), (0, len(outside))))


# -- graphs -----------------------------------------------------------------------------------------


class _AnalysisGraph(nn.Module):
    def __init__(self, net: CodecNet) -> None:
        super().__init__()
        self.g_a = net.g_a
        self.h_a = net.h_a if net.config.has_hyper else None

    def forward(self, x: Tensor, gain: Tensor, hyper_gain: Tensor | None = None) -> Any:
        y = self.g_a(x, gain)
        return y if self.h_a is None else (y, self.h_a(y, hyper_gain))


class _HyperGraph(nn.Module):
    def __init__(self, net: CodecNet) -> None:
        super().__init__()
        self.h_s = net.h_s

    def forward(self, z: Tensor, gain: Tensor) -> Any:
        return self.h_s(z, gain)


class _RefineGraph(nn.Module):
    def __init__(self, net: CodecNet) -> None:
        super().__init__()
        self.refine = net.refine

    def forward(self, first: Tensor, features: Tensor, gain: Tensor) -> Any:
        return self.refine(first, features, gain)


class _SynthesisGraph(nn.Module):
    def __init__(self, g_s: Synthesis) -> None:
        super().__init__()
        self.g_s = g_s

    def forward(self, y: Tensor, gain: Tensor) -> Any:
        pixels = self.g_s(y, gain).round().clamp(0, 255)  # after the last layer: nothing follows but the file
        return pixels.to(torch.uint8).permute(0, 2, 3, 1)


def write_graphs(config: ModelConfig, folder: Path) -> None:
    """Write the ONNX graphs of a model, weights left out: they are fed from the tensors at load time.

    The graphs are traced with random weights, so that equal tensors are never merged.
    """
    net = CodecNet(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    weights = knot_weights(torch.zeros(1, dtype=torch.long))
    y, size = torch.zeros(1, config.latent, 8, 12), {2: "height", 3: "width"}
    x = torch.zeros(1, 3, 128, 192)
    write_synthesis(config, folder / "synthesis.onnx")
    if not config.has_hyper:
        _write(
            _AnalysisGraph(net), (x, net.g_a.gain(weights)), folder / "analysis.onnx", ["x", "gain"], ["y"], {"x": size}
        )
        return
    gains = (net.g_a.gain(weights), net.h_a.gain(weights))
    _write(
        _AnalysisGraph(net), (x, *gains), folder / "analysis.onnx", ["x", "gain", "hyper_gain"], ["y", "z"], {"x": size}
    )
    z = torch.zeros(1, config.hyper.channels, 2, 3)
    _write(
        _HyperGraph(net), (z, net.h_s.gain(weights)), folder / "hyper.onnx", ["z", "gain"],
        ["features", "mean", "step"], {"z": size},
    )  # fmt: skip
    features = torch.zeros(1, config.hyper.features, 8, 12)
    _write(
        _RefineGraph(net), (y, features, net.refine.gain(weights)), folder / "refine.onnx",
        ["first", "features", "gain"], ["shift"], {"first": size, "features": size},
    )  # fmt: skip


def write_synthesis(config: ModelConfig, path: Path) -> None:
    """Write the ONNX graph of a synthesis network."""
    g_s = Synthesis(config).eval()
    with torch.no_grad():
        for parameter in g_s.parameters():
            parameter.normal_()  # so that equal tensors are never merged
    y, gain = torch.zeros(1, config.latent, 8, 12), g_s.gain(knot_weights(torch.zeros(1, dtype=torch.long)))
    _write(_SynthesisGraph(g_s), (y, gain), path, ["y", "gain"], ["rgb"], {"y": {2: "height", 3: "width"}})


def _write(
    module: nn.Module, inputs: Any, path: Path, names: list[str], outputs: list[str], axes: dict[str, dict[int, str]]
) -> None:
    with warnings.catch_warnings():
        # the exporter based on TorchScript is the one that keeps the parameters' names and needs nothing but onnx
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, inputs, path, input_names=names, output_names=outputs, dynamic_axes=axes,
            opset_version=OPSET, do_constant_folding=False, dynamo=False,
        )  # fmt: skip
    import onnx

    graph = onnx.load(path)
    for tensor in graph.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "fed-at-load-time"
    del graph.graph.value_info[:]
    path.write_bytes(graph.SerializeToString())


# -- card -------------------------------------------------------------------------------------------


def write_card(folder: Path, name: str, config: TrainConfig, state: dict[str, Any], identity: bytes) -> None:
    """Write model.toml: what the model is, how it was made, and the SHA-256 of its files."""
    import tomli_w

    files = sorted(path for path in folder.iterdir() if path.name != CARD)
    card = {
        "name": name,
        "id": identity.hex(),
        "family": "flagship" if config.model.has_hyper else "sha",
        "halos": halos(config.model),
        "licence": "Apache-2.0",
        "training": {
            **state["origin"],
            "steps": state["step"],
            "hours": round(state["elapsed"] / 3600, 2),
            "gpx": round(state.get("pixels", 0) / 1e9, 3),
            "seed": config.seed,
        },
        "config": config.to_dict(),
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }
    (folder / CARD).write_text(tomli_w.dumps(card), encoding="utf-8")
