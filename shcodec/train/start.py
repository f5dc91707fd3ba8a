"""Where a training begins: nothing, a shipped model, a stable phase, or its own checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shcodec.model.card import read_card
from shcodec.support.errors import UsageError
from shcodec.symbols.grid import HYPER, HYPER_PATCH, PATCH
from shcodec.train import checkpoint, stable
from shcodec.train.config import TrainConfig
from shcodec.train.data import Crops
from shcodec.train.device_crops import DeviceCrops
from shcodec.train.grow import is_smaller, load_smaller
from shcodec.train.pretrained import architecture, load_model
from shcodec.train.state import RunState, snapshot
from shcodec.train.widen import is_narrower, load_narrower

BLOCKS_STEP = 20_000_000  # number of crops that no step uses
BLOCKS, WIDENING_BLOCKS = 4096, 1024  # crops of 64x64 that components are taken from


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        resume: at the run's own checkpoint.
        model: folder of a model.
        folder: of a stable phase.
        phase: what it holds.
        option: how the command line says it.
    """

    resume: bool = False
    model: Path | None = None
    folder: Path | None = None
    phase: stable.Stable | None = None
    option: str = ""

    @classmethod
    def of(
        cls, config: TrainConfig, resume: bool, init: Path | None, init_stable: Path | None, cooldown_from: Path | None
    ) -> Start:
        """Read what a run is to start from; raises UsageError where that does not fit the configuration."""
        given = {"--resume": resume, "--init": init, "--init-stable": init_stable, "--cooldown-from": cooldown_from}
        named = [name for name, value in given.items() if value]
        if len(named) > 1:
            raise UsageError(f"{' and '.join(named)} exclude each other")
        if init_stable is not None and not config.schedule.stable:
            raise UsageError("--init-stable needs a configuration whose schedule is stable")
        if cooldown_from is not None and config.schedule.stable:
            raise UsageError("--cooldown-from needs a configuration that comes to an end: its schedule is stable")
        folder = init_stable or cooldown_from
        if folder is None:
            return cls(resume, init, option="" if init is None else f" --init {init.name}")
        phase = stable.read(folder)
        stable.check(phase, config, folder)
        return cls(False, None, folder, phase, f" {named[0]} {folder.name}")

    def apply(self, run: RunState, crops: Crops | DeviceCrops, out: Path) -> None:
        """Put a fresh run there.

        Args:
            run: the state.
            crops: of the training pictures.
            out: folder of the run.
        """
        if self.resume:
            checkpoint.load(run, out)
        elif self.model is not None:
            start_from_model(run, self.model, crops)
            run.origin["init"] = f"{self.model.name} ({read_card(self.model)['id']})"
        elif self.phase is not None and self.folder is not None:
            stable.begin_from(run, self.phase, self.folder)
            run.origin["init"] = f"a stable phase of {run.step} steps, {run.gpx:.2f} Gpx"
        else:
            start_from_data(run, crops)


def start_from_data(run: RunState, crops: Crops | DeviceCrops) -> None:
    """Initialise the linear shortcuts, where the model has them, from crops of the training pictures."""
    if not run.config.model.shortcut:
        return
    pixels, _ = crops.batch(BLOCKS_STEP, HYPER_PATCH, BLOCKS)
    blocks = (
        torch.as_tensor(pixels)
        .view(-1, HYPER, PATCH, HYPER, PATCH, 3)
        .permute(0, 1, 3, 5, 2, 4)
        .reshape(-1, 3, PATCH, PATCH)
    )
    run.learner.net.start_from(blocks.to(run.device))
    run.average = snapshot(run.learner)


def start_from_model(run: RunState, folder: Path, crops: Crops | DeviceCrops) -> None:
    """Take the weights of a shipped model; one that is smaller or lacks parts is enlarged.

    Raises:
        ModelError: the folder is not a whole model.
        UsageError: its architecture is another.
    """
    theirs, ours = architecture(folder), run.config.model
    if is_narrower(theirs, ours):
        pixels, _ = crops.batch(BLOCKS_STEP, HYPER_PATCH, WIDENING_BLOCKS)
        blocks: Tensor = torch.as_tensor(pixels).permute(0, 3, 1, 2).to(run.device)
        load_narrower(run.learner, folder, theirs, blocks)
    elif is_smaller(theirs, ours):
        load_smaller(run.learner, folder, theirs)
    else:
        load_model(run.learner, folder)
    run.average = snapshot(run.learner)
