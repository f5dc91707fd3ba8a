"""Trains the baseline of the sweep: ResNet-32 on CIFAR-10, standard augmentation, one cycle of the learning rate.

    python benchmarks/netpack/train.py --data cifar-10-binary.tar.gz --out benchmarks/netpack
    python benchmarks/netpack/train.py --data cifar-10-binary.tar.gz --out benchmarks/netpack --resume

Writes `baseline.safetensors` and `baseline.json` when it is done, `training.pt` on the way.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from cifar import SIDE, Epochs, Pictures, read_cifar
from resnet import DEVICE, ResNet32, accuracy, logits
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.cli.console import run_script
from shcodec.netpack.packing.tensors import from_array, write_safetensors
from shcodec.netpack.training.checkpoint import read_checkpoint, write_checkpoint
from shcodec.support.atomic import replacing, write_text
from shcodec.support.errors import UsageError


@dataclass(frozen=True)
class TrainConfig:
    """How the baseline is trained.

    Attributes:
        epochs: Epochs of the one cycle.
        size: Pictures of a batch.
        lr: Largest learning rate.
        momentum: Of SGD, Nesterov's kind.
        decay: Weight decay.
        warm_up: Share of the steps in which the learning rate rises.
        seed: Of weights, order and augmentation.
        sides: Shares of the epochs up to which pictures are seen at a side of so many pixels: small ones first.
    """

    epochs: int = 60
    size: int = 128
    lr: float = 0.2
    momentum: float = 0.9
    decay: float = 5e-4
    warm_up: float = 0.25
    seed: int = 0
    sides: tuple[tuple[float, int], ...] = ((0.35, 20), (0.7, 24), (1.0, 32))

    def resized(self, images: Tensor, epoch: int) -> Tensor:
        """Return (n, 3, 32, 32) as the network sees them in an epoch."""
        side = next(side for share, side in self.sides if epoch < share * self.epochs)
        if side == images.shape[-1]:
            return images
        return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


class _Answers(nn.Module):
    """`logits` of a network, as a module that can be recorded."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return logits(self.network, images)


class Training:
    """A training and what it needs to go on."""

    def __init__(self, config: TrainConfig, train: Pictures, out: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.path = config, out / "training.pt"
        self.epochs = Epochs(train.to(DEVICE), config.size, config.seed)
        self.total = config.epochs * len(self.epochs)
        self.model = ResNet32().to(DEVICE)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.SGD(
            self.model.parameters(), config.lr, config.momentum, weight_decay=config.decay, nesterov=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, config.lr, total_steps=self.total + 1, pct_start=config.warm_up, cycle_momentum=False
        )
        self.step, self.seconds = 0, 0.0

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "config": asdict(self.config),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        write_checkpoint(self.path, state)

    def load(self) -> None:
        """Go on from the checkpoint."""
        state = read_checkpoint(self.path)
        if state.get("config") != asdict(self.config):
            raise UsageError(f"{self.path}: made with another configuration")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _network(self) -> nn.Module:
        """Return the network's logits; recorded once and replayed where an accelerator sees one size only."""
        network = _Answers(self.model)
        if DEVICE.type == "cuda" and len(self.config.sides) == 1:
            images, _ = next(iter(self.epochs))
            torch.cuda.make_graphed_callables(network, (images,))  # changes its forward
        return network

    def run(self, stop_after: int | None, time_limit: float | None, save_every: int) -> bool:
        """Train to the end, or as far as the limits allow; return whether the end was reached."""
        start, before, last = time.monotonic(), self.seconds, self.step
        self.model.train()
        network = self._network()
        while self.step < self.total:
            number, offset = divmod(self.step, len(self.epochs))
            for images, labels in self.epochs.epoch(number, offset):
                images = self.config.resized(images, number)
                loss = F.cross_entropy(network(images), labels)
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimiser.step()
                self.schedule.step()
                self.step += 1
                self.seconds = before + time.monotonic() - start
                over = time_limit is not None and time.monotonic() - start >= time_limit
                if over or self.step == stop_after:
                    self.save()
                    return self.step == self.total
                if self.step - last >= save_every:
                    last = self.step
                    self.save()
                    print(f"step {self.step}/{self.total} loss {loss.item():.3f} {self.seconds:.0f} s", file=sys.stderr)
        self.save()
        return True


def write_baseline(model: nn.Module, out: Path) -> None:
    """Write the weights as safetensors."""
    tensors = [from_array(name, tensor.cpu().numpy()) for name, tensor in model.state_dict().items()]
    with replacing(out / "baseline.safetensors") as file:
        file.write(write_safetensors(tensors, {"model": "ResNet-32, CIFAR-10"}))


def main() -> None:
    """Train, and write the baseline when it is done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder or archive with CIFAR-10, see README.md")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and baseline")
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--full-size", action="store_true", help="pictures are never seen at less than 32 pixels")
    parser.add_argument("--stop-after", type=int, metavar="STEPS", help="stop at this step, to be resumed")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="stop after so long, to be resumed")
    parser.add_argument("--save-every", type=int, default=200, metavar="STEPS")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = TrainConfig(epochs=args.epochs)
    if args.full_size:
        config = replace(config, sides=((1.0, SIDE),))
    training = Training(config, read_cifar(args.data, "train"), args.out)
    if args.resume:
        training.load()
    if not training.run(args.stop_after, args.time_limit, args.save_every):
        print(f"stopped at step {training.step} of {training.total}; --resume goes on")
        return
    training.model.eval()
    found = accuracy(training.model, read_cifar(args.data, "test").to(DEVICE))
    write_baseline(training.model, args.out)
    facts = {"accuracy": found, "steps": training.step, "seconds": training.seconds, **asdict(training.config)}
    write_text(args.out / "baseline.json", json.dumps(facts, indent=1) + "\n")
    print(f"{found:.2f} % after {training.step} steps, {training.seconds:.0f} s")


if __name__ == "__main__":
    run_script(main)
