"""The state of a run: everything that it needs to go on exactly where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shcodec.train.annealing import Sigma
from shcodec.train.config import TrainConfig
from shcodec.train.guard import Guard
from shcodec.train.objective import Learner, Phase

RATES = (  # learning rates by a part of the parameter's name, in proportion to those of the convolutions
    ("bias_knots", 20.0),  # classes: their scale is 0..63, and they start up to 20 from where they end
    ("class_map.weight", 3.0),
    ("knots", 2.0),  # modulation and steps: every row is touched by an eighth of the batches
    ("histograms", 10.0),
    ("shortcut", 0.2),  # start near their optimum: large steps would only shake them
    (".lap", 0.2),
)


@dataclass
class RunState:
    """Model, optimiser, running averages, and the place in the schedule.

    Attributes:
        config: of the run.
        learner: all that is trained.
        optimiser: of what is not frozen.
        average: running averages of all parameters, by name.
        guard: clips the gradients, and knows their usual norm.
        sigma: hardness of the soft assignments.
        generator: of re-seeded codewords.
        origin: where the weights come from; goes into the model's card.
        phase: of the schedule.
        step: steps done, those of the stable phase that the run began from included.
        first_step: the one with which this run began.
        warm_from: the step from which the learning rate warms up; None where the moments of an earlier run are kept.
        phase_start: step with which the phase, and its running average, began.
        elapsed: seconds spent.
        pixels: that went through the encoder, in all runs that this one goes on from.
        reseeded: codewords that were re-seeded.
        finished: whether the tables are made.
    """

    config: TrainConfig
    learner: Learner
    optimiser: torch.optim.AdamW
    average: dict[str, Tensor]
    guard: Guard
    sigma: Sigma
    generator: torch.Generator
    origin: dict[str, Any] = field(default_factory=dict)
    phase: Phase = Phase.SMOOTH
    step: int = 0
    first_step: int = 0
    warm_from: int | None = 0
    phase_start: int = 0
    elapsed: float = 0.0
    pixels: int = 0
    reseeded: int = 0
    finished: bool = False

    @classmethod
    def fresh(cls, config: TrainConfig, device: torch.device) -> RunState:
        """Return a run's beginning, with random weights that depend on the configuration's seed alone."""
        torch.manual_seed(config.seed)
        learner = Learner(config).to(device)
        learner.net.mixed = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()  # others imitate it, slowly
        learner.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(
            config=config,
            learner=learner,
            optimiser=make_optimiser(learner, config),
            average=snapshot(learner),
            guard=Guard(config.clip, config.clip_factor, device),
            sigma=Sigma(config.annealing, config.annealing.start),
            generator=torch.Generator().manual_seed(config.seed),
        )

    @property
    def device(self) -> torch.device:
        """Where the learner lies."""
        return next(self.learner.parameters()).device

    @property
    def gpx(self) -> float:
        """10^9 pixels that went through the encoder."""
        return self.pixels / 1e9

    def begin_phase(self, phase: Phase) -> None:
        """Make a fresh optimiser and running average of what is not frozen now."""
        self.phase, self.phase_start = phase, self.step
        self.optimiser = make_optimiser(self.learner, self.config)
        self.average = snapshot(self.learner)


def snapshot(learner: Learner) -> dict[str, Tensor]:
    """Return a copy of all parameters by name, the start of a running average."""
    return {name: p.detach().clone() for name, p in learner.named_parameters()}


def scale_of(name: str, config: TrainConfig) -> float:
    """Return the learning rate of a parameter, in proportion to that of the convolutions."""
    if name.startswith("books."):
        return config.codebook_lr / config.lr
    return next((scale for part, scale in RATES if part in name), 1.0)


def make_optimiser(learner: Learner, config: TrainConfig) -> torch.optim.AdamW:
    """Return a fresh optimiser of everything that is not frozen, with rates in proportion to what parameters span.

    On an accelerator its learning rates are tensors, which a recorded step reads where they are.
    """
    by_scale: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            by_scale.setdefault(scale_of(name, config), []).append(parameter)
    groups = [{"params": parameters, "scale": scale} for scale, parameters in by_scale.items()]
    cuda = next(learner.parameters()).is_cuda
    betas = (0.9, config.adam_beta2)
    optimiser = torch.optim.AdamW(groups, lr=config.lr, betas=betas, weight_decay=0.0, fused=True, capturable=cuda)
    if cuda:
        for group in optimiser.param_groups:
            group["lr"] = torch.tensor(config.lr * group["scale"], device=group["params"][0].device)
    return optimiser


def set_rate(optimiser: torch.optim.AdamW, rate: float) -> None:
    """Set the learning rate of the convolutions, those of the other groups in proportion."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["scale"])
        else:
            group["lr"] = rate * group["scale"]


def load_moments(optimiser: torch.optim.AdamW, saved: dict[str, Any]) -> None:
    """Take the moments of a saved optimiser; rates and settings stay those of this device and configuration."""
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    optimiser.load_state_dict(saved)
    for group, settings in zip(optimiser.param_groups, own, strict=True):
        group.update(settings)
