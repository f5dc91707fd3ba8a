"""A model whose networks torch runs, not ONNX Runtime, from the same tensors."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch

from shcodec.model.networks import Model
from shcodec.nets.codec import CodecNet
from shcodec.symbols.bands import Floats
from shcodec.train.config import TrainConfig
from shcodec.train.objective import Learner
from shcodec.train.pretrained import load_model


class TorchModel(Model):
    """The decoder's side of a model with a hyper path."""

    @cached_property
    def net(self) -> CodecNet:
        learner = Learner(TrainConfig.from_dict(self.card["config"])).eval()
        load_model(learner, self.folder)
        return learner.net

    @torch.no_grad()
    def _run(self, graph: str, **inputs: Floats) -> list[Any]:
        values = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()}
        if graph == "synthesis":
            pixels = self.net.g_s(values["y"], values["gain"]).round().clamp(0, 255)
            return [pixels.to(torch.uint8).permute(0, 2, 3, 1).numpy()]
        if graph == "hyper":
            return [part.numpy() for part in self.net.h_s(values["z"], values["gain"])]
        return [self.net.refine(values["first"], values["features"], values["gain"]).numpy()]
