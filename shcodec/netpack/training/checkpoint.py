"""Checkpoints of a network's compression: written whole or not at all, read without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from shcodec.support.atomic import replacing
from shcodec.support.errors import UsageError


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state; the old one stays whole until the new one is."""
    with replacing(path) as file:
        torch.save(state, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state, on the CPU.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # A file that is no checkpoint fails in many ways, among them pickle's own error, which is no RuntimeError.
    except Exception as error:
        raise UsageError(f"{path}: not a readable checkpoint") from error
    if not isinstance(state, dict):
        raise UsageError(f"{path}: not a checkpoint")
    return state
