"""Weights of a shipped model, to train on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shcodec.model.card import DECODER, ENCODER, TRAINING, read_card
from shcodec.model.tensors import Tensors, read_tensors
from shcodec.nets.config import ModelConfig
from shcodec.support.errors import ModelError, UsageError
from shcodec.symbols.classes import PLACES
from shcodec.train.objective import Learner


def architecture(model_dir: Path) -> ModelConfig:
    """Return the architecture of a shipped model, parsed: its card may be older than an option whose default it means.

    Raises:
        ModelError: the folder has no readable card.
    """
    return ModelConfig.from_dict(read_card(model_dir).get("config", {}).get("model", {}))


def load_model(learner: Learner, model_dir: Path) -> None:
    """Start a learner from a shipped model: weights, codebooks, histograms, class map.

    Raises:
        ModelError: the folder is not a whole model.
        UsageError: its architecture is not the configuration's.
    """
    if replace(learner.config.model, name="") != replace(architecture(model_dir), name=""):
        raise UsageError(f"{model_dir}: its architecture differs from the configuration's")
    tensors = {k: v for file in (ENCODER, TRAINING) for k, v in read_tensors(model_dir / file).items()}
    decoder = read_tensors(model_dir / DECODER)
    tensors |= {k: v for k, v in decoder.items() if k not in tensors}
    try:
        if learner.config.model.has_hyper:
            tensors["class_map.weight"] = _class_weight(decoder)
        _copy_tensors(learner, tensors, decoder)
    except (KeyError, RuntimeError) as error:  # a tensor is missing, or of another shape
        raise ModelError(f"{model_dir}: its tensors do not fit its card: {str(error).splitlines()[0]}") from None


def _class_weight(decoder: Tensors) -> Any:
    """Return the class map's weights as its integers hold them, (16 M, C_z) float32: rounding changes nothing."""
    unit = np.exp2(-decoder["class_map.shift"].astype(np.float32)).repeat(PLACES)
    return decoder["class_map.weight"] * unit[:, None]


@torch.no_grad()
def _copy_tensors(learner: Learner, tensors: Tensors, decoder: Tensors) -> None:
    for name, parameter in learner.named_parameters():
        if not name.startswith("books."):
            parameter.copy_(torch.from_numpy(tensors[name.removeprefix("net.")].astype(np.float32)))
    for i in range(len(learner.books.codebooks)):
        size = len(learner.books.codebooks[i])
        codebook = decoder[f"codebook.{i}"]
        outer = (len(codebook) - size) // 2 if codebook.shape[1] == 1 else 0  # what the export added: see `widened`
        inner = slice(outer, outer + size)
        learner.books.codebooks[i].copy_(torch.from_numpy(codebook[inner].astype(np.float32)))
        histogram = torch.from_numpy(decoder[f"histogram.{i}"][:, inner].astype(np.float32))
        learner.books.get_buffer(f"counts{i}").copy_(histogram / histogram.sum(1, keepdim=True) * 500)
    if "hyper.bank" in decoder:
        learner.get_buffer("bank").copy_(torch.from_numpy(decoder["hyper.bank"].astype(np.float32)))
