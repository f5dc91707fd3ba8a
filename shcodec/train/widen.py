"""A model with more latent channels that starts from one with fewer: the new ones take what the old ones lose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from shcodec.nets.codec import CodecNet
from shcodec.nets.config import ModelConfig
from shcodec.nets.layers import Conditioned
from shcodec.nets.transforms import PIXEL_MEAN, PIXEL_SCALE, nested_order
from shcodec.support.errors import UsageError
from shcodec.symbols.classes import PLACES, class_coordinate
from shcodec.symbols.grid import PATCH
from shcodec.train.objective import Learner
from shcodec.train.pretrained import load_model

BETA_BYTE = 20  # a high rate: there the number of channels is the limit


def places(old: int, new: int) -> Tensor:
    """Return where the old channels go, (old,): the checkerboard's halves keep their channels."""
    channel = torch.arange(old)
    return torch.where(channel < old // 2, channel, channel - old // 2 + new // 2)


def _index(name: str, net: CodecNet, old: int) -> tuple[int, Tensor] | None:
    """Return the axis of a parameter that grows, and where its old entries go; None where nothing grows.

    Args:
        name: of the parameter.
        net: the wider networks.
        old: latent channels of the narrower ones.
    """
    new = net.config
    at, n = places(old, new.latent), new.latent
    if name in ("g_a.head.weight", "g_a.head.bias", "g_a.shortcut.weight", "g_a.shortcut.bias"):
        return 0, at
    if name in ("refine.head.weight", "refine.head.bias"):
        return 0, at
    if name in ("g_s.stem.weight", "g_s.shortcut.weight", "h_a.stem.weight", "h_s.step_knots", "class_map.bias_knots"):
        return 1, at
    if name in ("h_s.head.weight", "h_s.head.bias"):
        return 0, torch.cat([at, n + at])
    if name == "refine.stem.weight":
        return 1, torch.cat([at, n + torch.arange(new.hyper.features)])
    if name == "class_map.weight":
        return 0, (PLACES * at[:, None] + torch.arange(PLACES)).flatten()
    if name.endswith(".knots") and name != "h_s.knots":
        network: Conditioned = getattr(net, name.removesuffix(".knots"))
        index, start = [], 0
        for stage, width in network.stages.items():
            grows = stage in ("y", "first")
            index += [start + at, start + n + at] if grows else [torch.arange(start, start + 2 * width)]
            start += 2 * width
        return 1, torch.cat(index)
    return None


FRESH = ("h_s.head.bias", "h_s.step_knots", "class_map.weight", "class_map.bias_knots")  # new entries are not 0 there


def is_narrower(theirs: ModelConfig, ours: ModelConfig) -> bool:
    """Whether two architectures differ in nothing but fewer latent channels, and can be widened."""
    same = replace(theirs, name="", latent=ours.latent) == replace(ours, name="")
    return same and ours.has_hyper and ours.shortcut and theirs.latent < ours.latent


def load_narrower(learner: Learner, model_dir: Path, theirs: ModelConfig, blocks: Tensor) -> None:
    """Start a learner from a shipped model with fewer latent channels.

    Args:
        learner: freshly made.
        model_dir: folder of the model.
        theirs: its architecture.
        blocks: (n, 3, H, W) crops of training pictures, 0..255, sides multiples of 64.
    """
    narrow = Learner(replace(learner.config, model=theirs))
    load_model(narrow, model_dir)
    widen(learner, dict(narrow.named_parameters()), theirs, blocks)
    ours = dict(learner.named_buffers())
    for name, buffer in narrow.named_buffers():
        if name in ours and ours[name].shape == buffer.shape:  # counts of codewords and of z
            ours[name].copy_(buffer)


@torch.no_grad()
def widen(learner: Learner, parameters: Mapping[str, Tensor], old: ModelConfig, blocks: Tensor) -> None:
    """Copy the parameters of a narrower learner and set up the new channels.

    Every new channel analyses and adds one principal component of what the old ones lose at a high rate; the networks
    between start without it. Its step is that of the finest old channels, its class that of its spread.

    Args:
        learner: freshly made, with more latent channels.
        parameters: of the narrower one, by name.
        old: its architecture.
        blocks: (n, 3, H, W) pixels 0..255, sides multiples of 64.

    Raises:
        UsageError: the architecture has no linear shortcuts.
    """
    new, net = learner.config.model, learner.net
    for name, parameter in learner.named_parameters():
        place = _index(name.removeprefix("net."), net, old.latent)
        if place is None:
            parameter.copy_(parameters[name])
            continue
        if not name.endswith(FRESH):
            parameter.zero_()
        parameter.index_copy_(place[0], place[1].to(parameter.device), parameters[name].to(parameter.device))
    kept = places(old.latent, new.latent)
    fresh = torch.ones(new.latent, dtype=torch.bool)
    fresh[kept] = False
    if net.g_a.shortcut is None or net.g_s.shortcut is None:
        raise UsageError("only a model with linear shortcuts can be widened")
    analysis, basis, spread = _lost_components(learner, blocks, int(fresh.sum()))
    net.g_a.shortcut.weight[fresh] = analysis[:, :, None, None]
    net.g_s.shortcut.weight[:, fresh] = basis[nested_order().to(basis.device)][:, :, None, None]
    net.h_s.step_knots[:, fresh] = net.h_s.step_knots[:, kept[-32:]].mean(1, keepdim=True)
    steps = net.h_s.step_knots[:, fresh].exp().cpu()
    coordinate = class_coordinate((0.4 * spread / steps).clamp(min=0.1).numpy())
    net.class_map.bias_knots[:, fresh] = torch.from_numpy(coordinate).to(net.class_map.bias_knots)
    net.class_map.weight.view(new.latent, PLACES, -1)[fresh] = 0


def _lost_components(learner: Learner, blocks: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the principal components of what the model loses without any quantisation.

    Returns:
        Analysis (n, 768) and synthesis (768, n) matrices over 16x16 blocks, and the spreads (n,) of what the first
        gives; on the learner's device, the spreads on the CPU.
    """
    net = learner.net
    pixels: list[Tensor] = []
    lost: list[Tensor] = []
    for part in torch.split(blocks.float(), 64):
        beta = torch.full((len(part),), BETA_BYTE, device=part.device)
        decoded = net.synthesise(net.latents(part, beta).y, beta).float()
        for store, picture in ((pixels, part - PIXEL_MEAN), (lost, part - decoded)):
            store.append(F.pixel_unshuffle(picture / PIXEL_SCALE, PATCH).permute(0, 2, 3, 1).flatten(0, 2))
    x, error = torch.cat(pixels).double(), torch.cat(lost).double()
    basis = torch.linalg.eigh(error.T @ error).eigenvectors.flip(1)[:, :count]
    covariance = x.T @ x / len(x)
    covariance += 1e-5 * covariance.diagonal().mean() * torch.eye(len(covariance), device=x.device)
    analysis = torch.linalg.solve(covariance, x.T @ (error @ basis) / len(x)).T
    spread = (x @ analysis.T).square().mean(0).sqrt()
    return analysis.float(), basis.float(), spread.float().cpu()
