"""The smooth loss on pictures that are not trained on, while a training runs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from shcodec.pictures.picture import Pixels
from shcodec.symbols.grid import HYPER_PATCH
from shcodec.train.data import load_pictures
from shcodec.train.objective import evaluate
from shcodec.train.state import RunState
from shcodec.train.step import smooth_state

FILE = "validation.csv"
CROP = 256  # pixels of a side, from the middle of a picture
BETA_BYTES = (16, 60, 104, 148, 192, 236)
WORSE = 1.03  # times the best loss: beyond, something is wrong


class Validation:
    """Looks at the running average on fixed crops; every look with the same noise.

    Attributes:
        best: the least mean loss so far.
    """

    def __init__(self, folder: Path) -> None:
        """Raise PictureError if there is no picture of at least 64x64 pixels."""
        pictures, _ = load_pictures(folder, least=HYPER_PATCH)
        self.crops = [_middle(picture) for picture in pictures]
        self.best = float("inf")

    @torch.no_grad()
    def losses(self, run: RunState) -> npt.NDArray[np.float64]:
        """Return the smooth losses of the running average, (pictures, rates); the live weights are put back."""
        live = dict(run.learner.named_parameters())
        kept = {name: parameter.detach().clone() for name, parameter in live.items()}
        for name, parameter in live.items():
            parameter.copy_(run.average[name])
        beta = torch.tensor(BETA_BYTES, device=run.device)
        found = []
        for number, crop in enumerate(self.crops):
            pixels = torch.from_numpy(crop).to(run.device).permute(2, 0, 1)[None].float()
            for byte in beta:
                torch.manual_seed(number)
                found.append(float(evaluate(run.learner, pixels, byte[None], smooth_state(skip=True)).loss))
        for name, parameter in live.items():
            parameter.copy_(kept[name])
        return np.array(found).reshape(len(self.crops), len(BETA_BYTES))

    def look(self, run: RunState, out: Path) -> str:
        """Measure the losses, add a row to `validation.csv` of a run's folder, and say how it went."""
        losses = self.losses(run).mean(0)
        mean, path = float(losses.mean()), out / FILE
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if fresh:
                writer.writerow(["step", "gpx", "seconds", "loss", *(f"loss_at_{byte}" for byte in BETA_BYTES)])
            row = [run.step, f"{run.gpx:.4f}", round(run.elapsed), f"{mean:.5f}", *(f"{loss:.4f}" for loss in losses)]
            writer.writerow(row)
        said = f"step {run.step}, {run.gpx:.3f} Gpx: validation loss {mean:.3f}"
        if mean > WORSE * self.best:
            said += f", {100 * (mean / self.best - 1):.0f} % above the best: try a smaller learning rate"
        self.best = min(self.best, mean)
        return said


def _middle(picture: Pixels) -> Pixels:
    """Return the middle of a picture, sides multiples of 64 of at most `CROP`."""
    height, width = (min(side // HYPER_PATCH * HYPER_PATCH, CROP) for side in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])
