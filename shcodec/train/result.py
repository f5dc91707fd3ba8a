"""What a finished training leaves to `shc export`: all that a model is made of, in a few files of moderate size.

A checkpoint holds four times as much in one file. The model that is exported from either is the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from shcodec.model.tensors import write_tensors
from shcodec.support.atomic import write_text
from shcodec.support.errors import UsageError
from shcodec.train.config import TrainConfig
from shcodec.train.state import RunState

FILE = "result.json"
PART = "result-{}.safetensors"
PART_BYTES = 12 * 2**20  # a file is closed at this size: with one tensor more, all stay below 16 MiB
EXACT = ("net.class_map.", "books.", "bank")  # what integer tables are made of; the rest is exported in half precision


def save(run: RunState, out: Path) -> None:
    """Write the result of a finished run into its folder; `result.json` last, which names the other files."""
    tensors = {
        name: tensor.detach().cpu() if name.startswith(EXACT) else tensor.detach().cpu().half()
        for name, tensor in run.learner.state_dict().items()
    }
    facts = {
        "files": write_parts(out, PART, tensors),
        "config": run.config.to_dict(),
        "origin": run.origin,
        "step": run.step,
        "elapsed": run.elapsed,
        "pixels": run.pixels,
        "finished": run.finished,
    }
    write_text(out / FILE, json.dumps(facts, indent=1) + "\n")


def write_parts(folder: Path, pattern: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Write tensors into numbered safetensors files of moderate size.

    Args:
        folder: to write into.
        pattern: name of a file, with a place for its number.
        tensors: on the CPU, by name.

    Returns:
        Names of the files.
    """
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if size > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = tensor.contiguous()
        size += tensor.numel() * tensor.element_size()
    files = [pattern.format(number) for number in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        write_tensors(folder / file, {name: tensor.numpy() for name, tensor in part.items()})
    return files


def read(run: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Return the configuration and state of a run from its result; the state lacks what only a resumption needs.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        state: dict[str, Any] = json.loads((run / FILE).read_text(encoding="utf-8"))
        tensors: dict[str, Tensor] = {}
        for file in state["files"]:
            tensors |= load_file(run / Path(file).name)
        state["learner"] = {name: tensor.to(torch.float32) for name, tensor in tensors.items()}
        return TrainConfig.from_dict(dict(state["config"])), state
    except (ValueError, LookupError, TypeError, OSError, SafetensorError) as error:
        raise UsageError(f"{run / FILE}: not a readable result ({error})") from None
