"""The experiment of the 2017 paper: the baseline compressed in several ways, accuracy against the size of the file.

    python benchmarks/netpack/sweep.py --data cifar-10-binary.tar.gz --out benchmarks/netpack

Starts from `baseline.safetensors` in the folder. Every result is stored in `sweep.json` as soon as it is there; a sweep
that is started again leaves out what has been measured. `sweep.csv` and `sweep.png` are made anew each time.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import importlib.util
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import deep_compression
import torch
from cifar import Epochs, Pictures, read_cifar
from resnet import DEVICE, ResNet32, accuracy, logits
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.cli.console import run_script
from shcodec.netpack.api import pack, unpack
from shcodec.netpack.packing.plan import PackConfig
from shcodec.netpack.packing.tensors import read_safetensors, to_array
from shcodec.netpack.training.compress import CompressConfig, compress
from shcodec.support.atomic import write_text
from shcodec.support.errors import UsageError
from shcodec.support.plots import load_matplotlib, save_png

BETAS = (0.03, 0.1, 0.3, 1.0)
RATES = (1.5, 2.0, 3.0, 4.0)
KEPT = (0.1, 0.2, 0.35)
POINTS = (-16, -18, -20)
"""nncodec's quantisation parameters."""


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        method: How the network was compressed.
        setting: The method's parameter.
        training: Steps and learning rate, where the method trains.
        accuracy: On the test pictures, in percent.
        bytes: Of the file.
        ratio: 4 bytes for each parameter, over those of the file.
        seconds: That it took.
    """

    method: str
    setting: str
    training: str
    accuracy: float
    bytes: int
    ratio: float
    seconds: float


@dataclass(frozen=True)
class Sweep:
    """What all methods start from.

    Attributes:
        baseline: The safetensors file.
        train: Pictures to train on.
        test: Pictures to measure on.
        soft_steps: Steps of training with soft assignments, and of retraining after pruning.
        hard_steps: Steps with fixed assignments, and of retraining shared weights.
        lr: Learning rate of the network in soft-to-hard training.
        out: The folder of the results.
        size: Pictures of a batch of soft-to-hard training.
        distil: Whether soft-to-hard training learns from the uncompressed network as well.
    """

    baseline: bytes
    train: Pictures
    test: Pictures
    soft_steps: int
    hard_steps: int
    lr: float
    out: Path
    size: int
    distil: bool = False

    @property
    def told(self) -> str:
        """How soft-to-hard training is told in the table."""
        told = f"{self.soft_steps} + {self.hard_steps} steps of {self.size}, lr {self.lr:g}"
        return told + (", distilled" if self.distil else "")

    def model(self) -> ResNet32:
        """Return the network with the baseline's weights."""
        model = ResNet32()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        tensors, _ = read_safetensors(self.baseline)
        model.load_state_dict({tensor.name: torch.from_numpy(to_array(tensor)) for tensor in tensors})
        return model.to(DEVICE)

    def accuracy(self, model: nn.Module) -> float:
        """Return the accuracy of a network."""
        model.eval()
        return accuracy(model, self.test)

    def of_file(self, data: bytes) -> float:
        """Return the accuracy of the weights in an ``.shcn`` file."""
        model = self.model()
        model.load_state_dict({name: torch.from_numpy(array) for name, array in unpack(data).items()})
        return self.accuracy(model)


class Endless:
    """Batches of one epoch after the other, each augmented anew."""

    def __init__(self, pictures: Pictures, size: int = 128) -> None:
        self.epochs, self.number = Epochs(pictures, size), 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the next epoch."""
        self.number += 1
        return self.epochs.epoch(self.number)

    def forever(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through all epochs."""
        while True:
            yield from self


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy."""
    return F.cross_entropy(logits(model, batch[0]), batch[1])


class Distilled:
    """The loss of a network that learns from the labels and, as much, from the answers of the uncompressed network.

    Hinton et al. 2015, with a temperature of 2.
    """

    TEMPERATURE = 2.0

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher.eval()

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean of cross-entropy and divergence from the teacher."""
        answers = logits(model, batch[0])
        with torch.no_grad():
            wanted = F.log_softmax(logits(self.teacher, batch[0]) / self.TEMPERATURE, 1)
        told = F.log_softmax(answers / self.TEMPERATURE, 1)
        divergence = F.kl_div(told, wanted, reduction="batchmean", log_target=True) * self.TEMPERATURE**2
        return (F.cross_entropy(answers, batch[1]) + divergence) / 2


def soft_to_hard(sweep: Sweep, setting: str) -> tuple[float, int]:
    """Train with soft assignments at a beta."""
    soft, hard = sweep.soft_steps, sweep.hard_steps
    config = CompressConfig(soft_steps=soft, hard_steps=hard, lr=sweep.lr, fine_bits=6, fold_norms=True)
    beta = float(setting)
    name = f"{setting}-{sweep.soft_steps}-{sweep.hard_steps}-{sweep.size}-{sweep.lr:g}"
    name += "-distilled" if sweep.distil else ""
    path = sweep.out / f"compress-{name}.pt"
    loss = Distilled(sweep.model()) if sweep.distil else loss_fn
    data = Endless(sweep.train, sweep.size)
    done = compress(sweep.model(), loss, data, beta=beta, config=config, accuracy=sweep.accuracy, checkpoint=path)
    (sweep.out / f"compressed-{name}.shcn").write_bytes(done.data)
    path.unlink(missing_ok=True)
    return done.accuracy or 0.0, len(done.data)


def post_training(sweep: Sweep, setting: str) -> tuple[float, int]:
    """Pack the baseline at a rate, without training."""
    data = pack(sweep.baseline, bits=float(setting))
    return sweep.of_file(data), len(data)


def uniform(sweep: Sweep, setting: str) -> tuple[float, int]:
    """Quantise the baseline uniformly, with the same coder."""
    data = pack(sweep.baseline, bits=float(setting), config=PackConfig(states=1, axes=False))
    return sweep.of_file(data), len(data)


def pruned(sweep: Sweep, setting: str) -> tuple[float, int]:
    """Prune, share weights, count Huffman codes."""
    model, batches = sweep.model(), Endless(sweep.train).forever()
    deep_compression.prune(model, loss_fn, batches, kept=float(setting), steps=sweep.soft_steps, lr=0.02)
    shared = deep_compression.share_weights(model, loss_fn, batches, bits=5, steps=sweep.hard_steps, lr=1e-3)
    return sweep.accuracy(model), deep_compression.file_bytes(model, shared)


def neural_network_coding(sweep: Sweep, setting: str) -> tuple[float, int]:
    """Code the baseline with nncodec (ISO/IEC 15938-17), with dependent quantisation."""
    nncodec = importlib.import_module("nncodec.nn")

    tensors, _ = read_safetensors(sweep.baseline)
    arrays = {tensor.name: to_array(tensor) for tensor in tensors if tensor.dtype == "F32"}
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):  # it leaves files where it runs
        data = nncodec.encode(arrays, args={"qp": int(setting), "use_dq": True})  # a bytearray: decode takes no other
        found = {name: torch.as_tensor(array) for name, array in nncodec.decode(data).items()}
    model = sweep.model()
    model.load_state_dict(found, strict=False)
    return sweep.accuracy(model), len(data)


METHODS: dict[str, tuple[Callable[[Sweep, str], tuple[float, int]], tuple[float, ...], str]] = {
    "soft-to-hard": (soft_to_hard, BETAS, "{0.told}"),
    "trellis, post-training": (post_training, RATES, ""),
    "uniform, same coder": (uniform, RATES, ""),
    "pruning, k-means, Huffman": (pruned, KEPT, "{0.soft_steps} + {0.hard_steps} steps"),
}
"""Function, default settings, and how a sweep's rows tell its training."""


def results(path: Path) -> list[Row]:
    """Return the rows that are stored."""
    if not path.exists():
        return []
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def store(rows: list[Row], out: Path, facts: dict[str, float]) -> None:
    """Write the rows as JSON, CSV and a plot."""
    write_text(out / "sweep.json", json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(out / "sweep.csv", text.getvalue())
    plot(rows, out / "sweep.png", facts["baseline"])


def plot(rows: list[Row], path: Path, baseline: float) -> None:
    """Draw accuracy against ratio."""
    load_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for method, training in dict.fromkeys((row.method, row.training) for row in rows):
        own = sorted((r for r in rows if (r.method, r.training) == (method, training)), key=lambda row: row.ratio)
        label = f"{method} ({training})" if training else method
        axes.plot([row.ratio for row in own], [row.accuracy for row in own], "o-", label=label)
    axes.axhline(baseline, color="grey", linestyle=":", label="baseline")
    axes.set(xscale="log", xlabel="times smaller than 32-bit floats", ylabel="accuracy on CIFAR-10 in %")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    save_png(figure, path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure what has not been measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder or archive with CIFAR-10, see README.md")
    parser.add_argument("--out", type=Path, required=True, help="folder with baseline.safetensors, and of the results")
    parser.add_argument("--soft-steps", type=int, default=6000, help="steps of training with soft assignments [6000]")
    parser.add_argument("--hard-steps", type=int, default=1500, help="steps with fixed assignments [1500]")
    parser.add_argument("--lr", type=float, default=5e-4, help="learning rate of soft-to-hard training [0.0005]")
    parser.add_argument("--size", type=int, default=64, help="pictures of a batch of soft-to-hard training [64]")
    parser.add_argument("--distil", action="store_true", help="soft-to-hard training learns from the baseline as well")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--settings", nargs="+", type=float, help="the methods' parameters, in place of their own")
    args = parser.parse_args()
    baseline = args.out / "baseline.safetensors"
    if not baseline.exists():
        raise UsageError(f"{baseline} is not there; train.py makes it")
    train, test = (read_cifar(args.data, part).to(DEVICE) for part in ("train", "test"))
    steps = args.soft_steps, args.hard_steps
    sweep = Sweep(baseline.read_bytes(), train, test, *steps, args.lr, args.out, args.size, args.distil)
    methods = dict(METHODS)
    if importlib.util.find_spec("nncodec") is not None:
        methods["nncodec"] = (neural_network_coding, POINTS, "")
        args.methods.append("nncodec")
    model = sweep.model()
    parameters = sum(p.numel() for p in model.parameters())
    facts = {"baseline": sweep.accuracy(model), "parameters": parameters}
    rows = results(args.out / "sweep.json")
    for name in args.methods:
        method, settings, told = methods[name]
        training = told.format(sweep)
        for number in args.settings or settings:
            setting = f"{number:g}"
            if any((row.method, row.setting, row.training) == (name, setting, training) for row in rows):
                continue
            torch.manual_seed(0)
            start = time.perf_counter()
            found, size = method(sweep, setting)
            seconds = time.perf_counter() - start
            rows.append(Row(name, setting, training, found, size, 4 * parameters / size, seconds))
            store(rows, args.out, facts)
            print(f"{name} {setting}: {found:.2f} %, {size:,} B, {rows[-1].ratio:.1f} times smaller", flush=True)


if __name__ == "__main__":
    run_script(main)
