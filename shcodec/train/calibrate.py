"""Codebooks and tables fitted to real residuals: before the soft phase, before the hard phase, at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from shcodec.quantize.density import HyperHistograms
from shcodec.symbols.grid import HYPER_PATCH
from shcodec.train.data import Crops
from shcodec.train.device_crops import DeviceCrops
from shcodec.train.objective import Learner, Phase, State, evaluate
from shcodec.train.step import to_tensors

AnyCrops = Crops | DeviceCrops

FIT_BATCHES = 60  # batches of crops between two phases, at most
FIT_PIXELS = 32e6  # in them
LARGEST = 768  # pixels of a side that are looked at: residuals of all pictures are held at once
EM_ROUNDS = 12


def fit_codebooks(learner: Learner, crops: AnyCrops, number: int, *, start: str = "keep") -> None:
    """Refit codebooks and histograms to the residuals of the present weights on fresh crops.

    Args:
        learner: the model.
        crops: of the training pictures.
        number: of the step, on which the crops depend.
        start: "keep" begins from the present codewords, "data" from residuals.
    """
    config, device = learner.config, next(learner.parameters()).device
    count = max(min(FIT_BATCHES, round(FIT_PIXELS / (config.batch * config.crop**2))), 1)
    batches = (crops.batch(10_000_000 + number + i, config.crop, config.batch) for i in range(count))
    _fit(learner, (to_tensors(batch[0], batch[1], device) for batch in batches), rounds=5, start=start)


def calibrate(learner: Learner, crops: AnyCrops) -> None:
    """Count the final tables over training pictures (at most 768 x 768 of each), every one at a random beta.

    Histograms of the latent indices are counted twice, since the choice of an index depends on them;
    the bank of z histograms is fitted by hard expectation-maximisation (every picture takes its
    cheapest row, every row is refitted).
    """
    rng, device = np.random.default_rng(learner.config.seed + 77), next(learner.parameters()).device
    number = min(learner.config.final_pictures, len(crops.pictures))
    picked = rng.choice(len(crops.pictures), number, replace=False)
    betas = rng.integers(0, 256, len(picked))

    def samples() -> Iterator[tuple[Tensor, Tensor]]:
        for index, beta in zip(picked, betas, strict=True):
            picture = crops.pictures[index]
            height, width = (min(side, LARGEST) // HYPER_PATCH * HYPER_PATCH for side in picture.shape[:2])
            yield to_tensors(picture[None, :height, :width].copy(), np.array([beta]), device)

    torch.backends.cudnn.benchmark = False  # a search for every size of picture would take longer than it saves
    _fit(learner, samples(), rounds=0, start="keep")
    _fit(learner, samples(), rounds=0, start="keep")
    if learner.config.model.has_hyper:
        _fit_bank(learner, samples())


@torch.no_grad()
def _fit(learner: Learner, batches: Iterable[tuple[Tensor, Tensor]], *, rounds: int, start: str) -> None:
    learner.eval()
    learner.books.recorder = []
    state = State(Phase.HARD, 1.0, skip=True)
    for pixels, beta_byte in batches:
        evaluate(learner, pixels, beta_byte, state)
    residuals, classes = (torch.cat(part) for part in zip(*learner.books.recorder, strict=True))
    learner.books.recorder = None
    learner.books.fit(residuals, classes, rate_weight=learner.config.rate_weight, rounds=rounds, start=start)
    learner.train()


@torch.no_grad()
def _fit_bank(learner: Learner, samples: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Fit the bank of histograms of z by hard EM, from the rows that training learned."""
    histograms: HyperHistograms = learner.histograms
    limit, size = histograms.limit, 2 * histograms.limit + 1
    counts = []
    for pixels, beta_byte in samples:
        z = learner.net.latents(pixels, beta_byte).z
        if z is None:
            return  # a model without hyper path has no bank
        index = (z.round().clamp(-limit, limit) + limit).long()[0].flatten(1)  # (C, n)
        counts.append(torch.zeros(index.shape[0], size).scatter_add_(1, index.cpu(), torch.ones(index.shape)))
    every = torch.stack(counts)  # (pictures, C, A)
    rows = torch.softmax(histograms.logits.detach().float().cpu(), -1)
    overall = every.sum(0) + 0.5
    overall = overall / overall.sum(-1, keepdim=True)
    for _ in range(EM_ROUNDS):
        bits = torch.einsum("pca,rca->pr", every, -torch.log2(rows.clamp(min=1e-9)))
        best = bits.argmin(1)
        totals = torch.zeros_like(rows).index_add_(0, best, every)
        totals = totals + 8 * overall  # a row that serves few pictures leans on all
        rows = totals / totals.sum(-1, keepdim=True)
    learner.get_buffer("bank").copy_(totals)
