"""A model with larger transforms that starts from one with smaller ones, and computes what that one did."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.nets.config import ModelConfig
from shcodec.nets.layers import Conditioned, Residual
from shcodec.train.objective import Learner
from shcodec.train.pretrained import load_model


def is_smaller(theirs: ModelConfig, ours: ModelConfig) -> bool:
    """Whether the first architecture differs in nothing but smaller sizes of g_a and g_s, or fewer parts of them."""
    if replace(theirs, name="") == replace(ours, name=""):
        return False
    lapped = theirs.lapped or ours.lapped
    modulation = ours.modulation if theirs.modulation == "stage" else theirs.modulation
    large = replace(theirs, lapped=lapped, modulation=modulation, analysis=ours.analysis, synthesis=ours.synthesis)
    same = replace(large, name="") == replace(ours, name="")
    sizes = zip(
        (*astuple(theirs.analysis), *astuple(theirs.synthesis)),
        (*astuple(ours.analysis), *astuple(ours.synthesis)),
        strict=True,
    )
    return same and all(small <= large for small, large in sizes)


def load_smaller(learner: Learner, model_dir: Path, theirs: ModelConfig) -> None:
    """Start a learner from a shipped model with smaller transforms.

    Args:
        learner: freshly made.
        model_dir: folder of the model.
        theirs: its architecture.
    """
    small = Learner(replace(learner.config, model=theirs))
    load_model(small, model_dir)
    grow(learner, small)


@torch.no_grad()
def grow(learner: Learner, small: Learner) -> None:
    """Copy a learner with smaller transforms into one with larger ones, so that it computes the same.

    New channels begin at random, but nothing that was there before sees them; new residual blocks add nothing. So the
    loss begins where it was, and every new weight that reads a new channel has a gradient (Net2Net, Chen et al. 2016,
    with zeros in place of copies).
    """
    state = small.state_dict()
    for name, tensor in learner.state_dict().items():
        if name in state and state[name].shape == tensor.shape:
            tensor.copy_(state[name])
    for ours, theirs in ((learner.net.g_a, small.net.g_a), (learner.net.g_s, small.net.g_s)):
        modules = dict(theirs.named_modules())
        for name, module in ours.named_modules():
            if isinstance(module, nn.Conv2d) and isinstance(modules.get(name), nn.Conv2d):
                _embed(module, modules[name])
            elif isinstance(module, Residual) and name not in modules:
                last = module.convs[-1]
                for parameter in last.parameters():
                    parameter.zero_()
        _embed_knots(ours, theirs)


def _embed(ours: nn.Conv2d, theirs: nn.Module) -> None:
    """Put the old channels first on both sides; they do not see the new ones."""
    weight, bias = (getattr(theirs, name).to(ours.weight.device) for name in ("weight", "bias"))
    outputs, inputs = weight.shape[:2]
    ours.weight[:outputs, inputs:] = 0
    ours.weight[:outputs, :inputs] = weight
    if ours.bias is not None:
        ours.bias[:outputs] = bias


def _embed_knots(ours: Conditioned, theirs: Conditioned) -> None:
    """Return the scales and biases of every stage; those of new channels and of new stages are 0 and change nothing."""
    parts = torch.split(theirs.knots, [2 * width for width in theirs.widths], 1)
    old = {_same_stage(name, ours, theirs): part for name, part in zip(theirs.stages, parts, strict=True)}
    new: list[Tensor] = []
    for name, width in ours.stages.items():
        part = old.pop(name, ours.knots.new_zeros(len(ours.knots), 0))
        new += [F.pad(half, (0, width - half.shape[1])) for half in part.chunk(2, 1)]
    ours.knots.copy_(torch.cat(new, 1))


def _same_stage(name: str, ours: Conditioned, theirs: Conditioned) -> str:
    """Return the name of one of their stages in a network that may have one after every block."""
    if name in ours.stages or not hasattr(theirs, name):
        return name
    return f"{name}.{len(getattr(theirs, name)) - 1}"
