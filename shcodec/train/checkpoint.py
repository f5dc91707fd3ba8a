"""Checkpoints: everything that a run needs to go on exactly where it stopped, written atomically."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from shcodec.atomic import replacing
from shcodec.errors import UsageError
from shcodec.train import result
from shcodec.train.config import TrainConfig
from shcodec.train.objective import Phase

if TYPE_CHECKING:
    from shcodec.train.loop import Trainer

FILE = "checkpoint.pt"
SMOOTH = "smooth.pt"
"""The end of the smooth phase: what comes after can be repeated from it, as `checkpoint.pt` of another folder."""


def save(trainer: Trainer, name: str = FILE) -> None:
    """Writes the checkpoint of a run; the old one stays whole until the new one is."""
    state = {
        "config": trainer.config.to_dict(),
        "origin": trainer.origin,
        "learner": trainer.learner.state_dict(),
        "average": trainer.average,
        "optimiser": trainer.optimiser.state_dict(),
        "phase": trainer.phase.value,
        "step": trainer.step,
        "phase_start": trainer.phase_start,
        "elapsed": trainer.elapsed,
        "sigma": (trainer.sigma.value, trainer.sigma.first_gap, trainer.sigma.last_gap),
        "reseeded": trainer.reseeded,
        "generator": trainer.generator.get_state(),
        "frozen": [name for name, p in trainer.learner.named_parameters() if not p.requires_grad],
        "finished": trainer.finished,
        "fake_integer": trainer.config.model.has_hyper and trainer.learner.net.class_map.fake_integer,
    }
    with replacing(trainer.out / name) as file:
        torch.save(state, file)


def read(run: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Configuration and state of a run's checkpoint, or else of its result, on the CPU; nothing in it is executed.

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
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, OSError, EOFError):
        raise UsageError(f"{path}: not a readable checkpoint") from None


def load(trainer: Trainer) -> None:
    """Puts a fresh trainer into the state of the run's checkpoint.

    Raises:
        UsageError: there is none, or it belongs to another configuration.
    """
    config, state = read(trainer.out)
    if config != trainer.config:
        raise UsageError(f"{trainer.out}: the checkpoint was made with another configuration")
    if "optimiser" not in state:
        raise UsageError(f"{trainer.out}: holds a result, not a checkpoint; export it and go on with --init")
    trainer.learner.load_state_dict(state["learner"])
    frozen = set(state["frozen"])
    for name, parameter in trainer.learner.named_parameters():
        parameter.requires_grad_(name not in frozen)
    trainer.optimiser = trainer.make_optimiser()
    trainer.optimiser.load_state_dict(state["optimiser"])
    trainer.average = {name: tensor.to(trainer.device) for name, tensor in state["average"].items()}
    trainer.origin = state["origin"]
    trainer.phase = Phase(state["phase"])
    trainer.step, trainer.phase_start, trainer.elapsed = state["step"], state["phase_start"], state["elapsed"]
    trainer.sigma.value, trainer.sigma.first_gap, trainer.sigma.last_gap = state["sigma"]
    trainer.reseeded = state["reseeded"]
    trainer.finished = state["finished"]
    trainer.generator.set_state(state["generator"])
    if trainer.config.model.has_hyper:
        trainer.learner.net.class_map.fake_integer = state["fake_integer"]
