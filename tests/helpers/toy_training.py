"""Very small trainings that several tests share: configurations, pictures, and settings that keep them short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from conftest import make_photo
from PIL import Image

from shcodec.nets.config import AnalysisConfig, BandConfig, HyperConfig, ModelConfig, QuantiserConfig, SynthesisConfig
from shcodec.train import calibrate, loop, start
from shcodec.train.config import Schedule, TrainConfig

FAMILIES = ("hyper", "seed")
VARIANTS = (*FAMILIES, "shortcut", "lapped")  # the hyper family with linear shortcuts, and with what belongs to `best`
SCHEDULE = Schedule(steps=8, warmup=2, skip=0.2, integer=0.3, codebooks=0.5, hard=0.75, decay=0.5)


def toy_config(family: str = "hyper", **changes: Any) -> TrainConfig:
    """Return a training of eight steps: four smooth, two soft, two hard."""
    tiny = TrainConfig.load("tiny")
    small: dict[str, Any] = {"batch": 2, "crop": 64, "late_crop": 64, "schedule": SCHEDULE}
    if family != "seed":
        model = replace(tiny.model, shortcut=family in ("shortcut", "lapped"))
        if family == "lapped":
            model = replace(model, lapped=True, modulation="block")
        return replace(tiny, model=model, **small | changes)
    seed = ModelConfig(
        name="toy-seed",
        latent=16,
        analysis=AnalysisConfig(16, 1, 24, 1),
        synthesis=SynthesisConfig(16, 1, 16, 1, 12, 16),
        hyper=HyperConfig(channels=0),
        quantiser=QuantiserConfig(classes=16, skip=0, bands=(BandConfig(0, 15, 4, 48),)),
    )
    return replace(TrainConfig.load("sha"), model=seed, **small | changes)


def write_config(config: TrainConfig, folder: Path) -> str:
    """Write a configuration as TOML and returns its path, as `shc train` takes it."""
    path = folder / "toy.toml"
    path.write_text(tomli_w.dumps(config.to_dict()), encoding="utf-8")
    return str(path)


def write_pictures(folder: Path) -> Path:
    """Return a folder tree with three generated pictures."""
    (folder / "deeper").mkdir(parents=True)
    for name, (height, width) in {"a.png": (96, 160), "b.webp": (130, 70), "deeper/c.png": (64, 64)}.items():
        Image.fromarray(make_photo(height, width)).save(folder / name, lossless=True)
    return folder


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few batches between the phases, few blocks to start from, every step in the log, no plots."""
    monkeypatch.setattr(calibrate, "FIT_BATCHES", 2)
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(start, "BLOCKS", 64)
    monkeypatch.setattr(loop, "plot_log", lambda run: run)


def toy_batch(config: TrainConfig, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """One fixed batch: pixels (B, 3, size, size) and beta bytes."""
    picture = make_photo(2 * size, 2 * size)
    crops = [np.roll(picture, 17 * i, (0, 1))[:size, :size] for i in range(config.batch)]
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()
    return pixels, torch.linspace(40, 200, config.batch).long()
