"""Training-aware compression: soft-to-hard quantisation of a network's weights (Agustsson et al. 2017).

The weights of a torch module are softly assigned to the words of one codebook while it trains on its own task; the loss
is ``task + beta * bits``, with the bits per weight that histograms of the assignments promise. The assignments harden,
then they are fixed, and the codewords and all other parameters adapt to them. What is packed are the very weights that
were evaluated.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from shcodec.netpack.packing import byte_planes
from shcodec.netpack.packing.codebooks import Assigned
from shcodec.netpack.packing.packer import pack_tensors
from shcodec.netpack.packing.plan import PackConfig
from shcodec.netpack.packing.report import PackReport
from shcodec.netpack.packing.tensors import Tensor as Named
from shcodec.netpack.packing.tensors import from_value, to_array
from shcodec.netpack.training.annealing import Annealing
from shcodec.netpack.training.checkpoint import read_checkpoint, write_checkpoint
from shcodec.netpack.training.soft_codebook import SoftCodebook, WordConfig
from shcodec.support.errors import UsageError
from shcodec.support.progress import Report, unheard

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class CompressConfig:
    """How a network is compressed.

    Attributes:
        soft_steps: Steps with soft assignments.
        hard_steps: Steps with fixed assignments, in which the codewords and all other parameters adapt.
        lr: Learning rate of Adam for the network, falling to 0 by a cosine in each phase.
        words_lr: The same for the codewords, which are in the tensors' units.
        words: What the codebook is like.
        annealing: How the assignments harden.
        smallest: Tensors with fewer elements, and those with a single axis, are not assigned.
        fine_bits: Bits of mantissa that all other floats keep.
        fold_norms: Whether running means and variances of batch norms go into their weights and biases, which makes the
            file smaller. The network answers as before in evaluation mode; it cannot be trained on in training mode.
        save_every: Steps between checkpoints.
    """

    soft_steps: int = 2000
    hard_steps: int = 500
    lr: float = 5e-4
    words_lr: float = 1e-3
    words: WordConfig = field(default_factory=WordConfig)
    annealing: Annealing = field(default_factory=Annealing)
    smallest: int = 256
    fine_bits: int = 8
    fold_norms: bool = False
    save_every: int = 200

    def __post_init__(self) -> None:
        """Raise UsageError for what makes no sense."""
        if min(self.soft_steps, self.hard_steps) < 1 or not min(self.lr, self.words_lr) > 0 or self.save_every < 1:
            raise UsageError("steps and learning rates must be positive")


@dataclass(frozen=True)
class Compressed:
    """A compressed network.

    Attributes:
        data: The ``.shcn`` file. It unpacks to exactly the module's state dictionary.
        report: What became of every tensor.
        accuracy: What the accuracy hook said of the final weights; None without one.
        bits: Bits per assigned weight that the training ended with, by its own histograms.
    """

    data: bytes
    report: PackReport
    accuracy: float | None
    bits: float


def compress(
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Batch], Tensor],
    data: Iterable[Batch],
    *,
    beta: float,
    config: CompressConfig | None = None,
    accuracy: Callable[[nn.Module], float] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    report: Report = unheard,
) -> Compressed:
    """Train a module for its compression, compress it, and leave the compressed weights in it.

    Args:
        model: Any module with float32 parameters on one device. It is changed, and left in evaluation mode.
        loss_fn: The task's loss of a batch, a scalar with gradients, given the module in training mode.
        data: Batches; gone through again and again.
        beta: What a bit per weight costs in units of the task's loss.
        config: How.
        accuracy: Is given the module in evaluation mode, with its final weights.
        checkpoint: A file that is written now and then; an interrupted run goes on from it, with the first batch.
        report: Is told of the steps.

    Raises:
        UsageError: If no parameter can be assigned, one is not float32, there are no batches, or the checkpoint belongs
            to something else.
    """
    if not beta >= 0:
        raise UsageError(f"beta must not be negative, but is {beta}")
    run = _Run(model, beta, config or CompressConfig(), None if checkpoint is None else Path(checkpoint))
    try:
        run.train(loss_fn, data, report)
    finally:
        run.uninstall()
    return run.finish(accuracy)


class _Places:
    """The parameters that are assigned, and every place in the module that holds each."""

    def __init__(self, model: nn.Module, smallest: int) -> None:
        self.parameters: dict[str, nn.Parameter] = {}
        self.places: dict[str, list[tuple[nn.Module, str]]] = {}
        names: dict[int, str] = {}
        for prefix, module in model.named_modules():
            for name, parameter in module._parameters.items():
                if parameter is None or parameter.numel() < smallest or sum(n > 1 for n in parameter.shape) < 2:
                    continue
                if parameter.dtype != torch.float32:
                    raise UsageError(f"parameter {prefix}.{name} is {parameter.dtype}, not float32")
                key = names.setdefault(id(parameter), f"{prefix}.{name}" if prefix else name)
                self.parameters[key] = parameter
                self.places.setdefault(key, []).append((module, name))
        if not self.parameters:
            raise UsageError("the module has no parameter that can be assigned to codewords")

    def install(self, values: dict[str, Tensor]) -> None:
        """Put tensors where the parameters are."""
        for key, places in self.places.items():
            for module, name in places:
                module._parameters.pop(name, None)
                # A plain attribute, which a module's forward finds under the parameter's name.
                setattr(module, name, values[key])

    def uninstall(self) -> None:
        """Put the parameters back."""
        for key, places in self.places.items():
            for module, name in places:
                if name not in module._parameters:
                    delattr(module, name)
                    module.register_parameter(name, self.parameters[key])


class _Run:
    """One compression: the state between its steps."""

    def __init__(self, model: nn.Module, beta: float, config: CompressConfig, path: Path | None) -> None:
        self.model, self.beta, self.config, self.path = model, beta, config, path
        self.places = _Places(model, config.smallest)
        shapes = {key: tuple(parameter.shape) for key, parameter in self.places.parameters.items()}
        self.codebook = SoftCodebook(list(self.places.parameters.values()), config.words)
        self.shapes = shapes
        self.annealing = config.annealing
        self.sigma = config.annealing.start
        self.first_gap: float | None = None
        self.step = 0
        masters = list(self.places.parameters.values())
        chosen = {id(parameter) for parameter in masters}
        self.others = [p for p in model.parameters() if id(p) not in chosen and p.requires_grad]
        self.optimiser = torch.optim.Adam(
            [
                {"params": masters + self.others, "lr": config.lr},
                {"params": [self.codebook.words], "lr": config.words_lr},
            ]
        )
        if path is not None and path.exists():
            self._restore(path)

    def train(self, loss_fn: Callable[[nn.Module, Batch], Tensor], data: Iterable[Batch], report: Report) -> None:
        """Do all steps that are left."""
        self.model.train()
        total = self.config.soft_steps + self.config.hard_steps
        batches = _forever(data)
        while self.step < total:
            if self.step == self.config.soft_steps:
                self._fix()
            self._take(loss_fn, next(batches))
            self.step += 1
            report("compressing", self.step, total)
            if self.path is not None and (self.step % self.config.save_every == 0 or self.step == total):
                self._save(self.path)

    def _take(self, loss_fn: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> None:
        """Do one step of the optimiser."""
        soft = self.step < self.config.soft_steps
        length = self.config.soft_steps if soft else self.config.hard_steps
        at = self.step if soft else self.step - self.config.soft_steps
        for group, peak in zip(self.optimiser.param_groups, (self.config.lr, self.config.words_lr), strict=True):
            group["lr"] = peak * 0.5 * (1 + math.cos(math.pi * at / length))
        masters = list(self.places.parameters.values())
        if soft:
            self.sigma = self.annealing.after(self.sigma, at, length)
            values, bits = self.codebook.soft(masters, self.sigma, self.annealing.is_firm(at, length))
        else:
            values, bits = self.codebook.hard(), torch.tensor(self.codebook.fixed_bits)
        self.places.install(dict(zip(self.places.parameters, values, strict=True)))
        task = loss_fn(self.model, batch)
        loss = task + self.beta * bits.to(task.device)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        if soft and self.annealing.is_measured(at, length):
            self._follow_gap(float(loss.detach()), loss_fn, batch, at)

    @torch.no_grad()
    def _follow_gap(
        self, soft_loss: float, loss_fn: Callable[[nn.Module, Batch], Tensor], batch: Batch, at: int
    ) -> None:
        """Move sigma by the paper's rule on the gap between the losses of hard and soft weights."""
        masters = list(self.places.parameters.values())
        values, bits = self.codebook.nearest(masters)
        self.places.install(dict(zip(self.places.parameters, values, strict=True)))
        self.model.eval()
        gap = float(loss_fn(self.model, batch)) + self.beta * bits - soft_loss
        self.model.train()
        self.first_gap = gap if self.first_gap is None else self.first_gap
        self.sigma = self.annealing.follow(self.sigma, gap, self.first_gap, at)

    def _fix(self) -> None:
        """End the soft phase: the assignments are final."""
        self.codebook.fix(list(self.places.parameters.values()))
        for parameter in self.places.parameters.values():
            parameter.grad = None

    def uninstall(self) -> None:
        """Put the parameters back."""
        self.places.uninstall()

    @torch.no_grad()
    def finish(self, accuracy: Callable[[nn.Module], float] | None) -> Compressed:
        """Leave the final weights in the module, evaluate and pack them."""
        values = self.codebook.hard()
        for parameter, value in zip(self.places.parameters.values(), values, strict=True):
            parameter.copy_(value)
        if self.config.fold_norms:
            _fold_norms(self.model)
        tensors = []
        aliases = self._aliases()
        for name, tensor in self.model.state_dict().items():
            named = from_value(name, tensor)
            if name not in aliases and named.dtype in byte_planes.MANTISSA:
                kept = byte_planes.rounded(named.data, named.dtype, self.config.fine_bits)
                named = Named(named.name, named.dtype, named.shape, kept)
                tensor.copy_(_as_torch(named))
            tensors.append(named)
        self.model.eval()
        indices = self.codebook.indices()
        assigned = Assigned(
            words=self.codebook.words.detach().cpu().numpy().astype(np.float32),
            indices={name: indices[key] for name, key in aliases.items()},
            scales={name: self.codebook.scales[key] for name, key in aliases.items()},
        )
        # What is not assigned has been rounded above, and is kept.
        config = PackConfig(fine_bits=52, smallest=1 << 62)
        data, report = pack_tensors(tensors, config=config, assigned=[assigned])
        found = None if accuracy is None else float(accuracy(self.model))
        return Compressed(data, report, found, float(self.codebook.fixed_bits))

    def _aliases(self) -> dict[str, int]:
        """Return the names in the state dictionary of assigned parameters, tied ones too, with their numbers."""
        numbers = {id(parameter): i for i, parameter in enumerate(self.places.parameters.values())}
        named = self.model.named_parameters(remove_duplicate=False)
        return {name: numbers[id(parameter)] for name, parameter in named if id(parameter) in numbers}

    def _save(self, path: Path) -> None:
        self.places.uninstall()
        state = {
            "model": self.model.state_dict(),
            "codebook": self.codebook.state(),
            "optimiser": self.optimiser.state_dict(),
            "sigma": self.sigma,
            "first_gap": self.first_gap,
            "step": self.step,
            "beta": self.beta,
            "config": repr(self.config),
        }
        write_checkpoint(path, state)

    def _restore(self, path: Path) -> None:
        state = read_checkpoint(path)
        if state.get("config") != repr(self.config) or state.get("beta") != self.beta:
            raise UsageError(f"{path}: the checkpoint was made with another configuration")
        try:
            self.model.load_state_dict(state["model"])
            self.codebook.load(state["codebook"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UsageError(f"{path}: the checkpoint belongs to another module") from error
        self.sigma, self.first_gap, self.step = state["sigma"], state["first_gap"], state["step"]


def _forever(data: Iterable[Batch]) -> Iterator[Batch]:
    """Go through batches again and again."""
    for turn in itertools.count():
        empty = True
        for batch in data:
            empty = False
            yield batch
        if empty:
            raise UsageError("there are no batches" if turn == 0 else "the batches can be gone through only once")


def _fold_norms(model: nn.Module) -> None:
    """Move what batch norms subtract and divide by into what they multiply by and add."""
    for module in model.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.weight is None:
            continue
        if module.running_mean is None or module.running_var is None:
            continue
        module.weight.div_(torch.sqrt(module.running_var + module.eps))
        module.bias.sub_(module.running_mean * module.weight)
        module.running_mean.zero_()
        module.running_var.fill_(1 - module.eps)


def _as_torch(named: Named) -> Any:
    return torch.from_numpy(to_array(named))
