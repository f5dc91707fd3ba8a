"""Checkpoints: everything that a run needs to go on exactly where it stopped, written atomically."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from shcodec.support.atomic import replacing
from shcodec.support.errors import UsageError
from shcodec.train import result
from shcodec.train.config import TrainConfig
from shcodec.train.objective import Phase
from shcodec.train.state import RunState, load_moments, make_optimiser

FILE = "checkpoint.pt"
SMOOTH = "smooth.pt"
"""The end of the smooth phase: what comes after can be repeated from it, as `checkpoint.pt` of another folder."""
BROKEN = (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, OSError, EOFError)
"""What reading a damaged or foreign checkpoint may raise."""


def save(run: RunState, out: Path, name: str = FILE) -> None:
    """Write the checkpoint of a run into its folder; the old one stays whole until the new one is."""
    state = {
        "config": run.config.to_dict(),
        "origin": run.origin,
        "learner": run.learner.state_dict(),
        "average": run.average,
        "optimiser": run.optimiser.state_dict(),
        "guard": run.guard.tensors(),
        "phase": run.phase.value,
        "step": run.step,
        "first_step": run.first_step,
        "warm_from": run.warm_from,
        "phase_start": run.phase_start,
        "elapsed": run.elapsed,
        "pixels": run.pixels,
        "sigma": (run.sigma.value, run.sigma.first_gap, run.sigma.last_gap),
        "reseeded": run.reseeded,
        "generator": run.generator.get_state(),
        "frozen": [name for name, p in run.learner.named_parameters() if not p.requires_grad],
        "finished": run.finished,
        "fake_integer": run.config.model.has_hyper and run.learner.net.class_map.fake_integer,
    }
    with replacing(out / name) as file:
        torch.save(state, file)


def read(run: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Read the configuration and state of a run's checkpoint, or else of its result; nothing in it is executed.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    path = run / FILE
    if not path.exists() and (run / result.FILE).exists():
        return result.read(run)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return TrainConfig.from_dict(dict(state["config"])), state
    except FileNotFoundError:
        raise UsageError(f"{run}: no checkpoint there") from None
    except BROKEN:
        raise UsageError(f"{path}: not a readable checkpoint") from None


def load(run: RunState, out: Path) -> None:
    """Put a fresh run into the state of the checkpoint in its folder.

    Raises:
        UsageError: there is none, or it belongs to another configuration.
    """
    config, state = read(out)
    if _without_end(config) != _without_end(run.config):
        raise UsageError(f"{out}: the checkpoint was made with another configuration")
    if "optimiser" not in state:
        raise UsageError(f"{out}: holds a result, not a checkpoint; export it and go on with --init")
    try:
        _load(run, state)
    except BROKEN as error:
        line = str(error).partition("\n")[0]
        raise UsageError(f"{out}: its checkpoint lacks something, or is of another version ({line})") from None


def _without_end(config: TrainConfig) -> TrainConfig:
    """Return a stable phase may be given more steps at any time."""
    return replace(config, schedule=replace(config.schedule, steps=1)) if config.schedule.stable else config


def _load(run: RunState, state: dict[str, Any]) -> None:
    run.learner.load_state_dict(state["learner"])
    frozen = set(state["frozen"])
    for name, parameter in run.learner.named_parameters():
        parameter.requires_grad_(name not in frozen)
    run.optimiser = make_optimiser(run.learner, run.config)
    load_moments(run.optimiser, state["optimiser"])
    run.average = {name: tensor.to(run.device) for name, tensor in state["average"].items()}
    run.guard.load(state["guard"])
    run.origin = state["origin"]
    run.phase = Phase(state["phase"])
    run.step, run.first_step, run.warm_from = state["step"], state["first_step"], state["warm_from"]
    run.phase_start, run.elapsed, run.pixels = state["phase_start"], state["elapsed"], state["pixels"]
    run.sigma.value, run.sigma.first_gap, run.sigma.last_gap = state["sigma"]
    run.reseeded, run.finished = state["reseeded"], state["finished"]
    run.generator.set_state(state["generator"])
    if run.config.model.has_hyper:
        run.learner.net.class_map.fake_integer = state["fake_integer"]
