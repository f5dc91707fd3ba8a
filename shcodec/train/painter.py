"""A second painter for a model: a quicker synthesis network, trained on what the model's files decode to.

The rest of the model stays as it is, its id and its files included. Latents are gathered once, as real files give them:
crops of the training pictures at random rates, analysed, quantised and decoded. Then the painter alone learns to make
pictures of them, from the model's own synthesis network cut to its widths. An error counts in proportion to that of
the model's own painter on the same crop, so that all rates and all pictures count alike.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shcodec.codec.analysis import analyse, distortion, encode_latent, own_rate_weight
from shcodec.model.card import DECODER
from shcodec.model.networks import Model
from shcodec.model.tensors import read_tensors, write_tensors
from shcodec.nets.config import ModelConfig, SynthesisConfig, check_values
from shcodec.nets.layers import knot_weights
from shcodec.nets.transforms import Synthesis
from shcodec.support.atomic import replacing, write_text
from shcodec.support.errors import UsageError
from shcodec.support.progress import counting_bar
from shcodec.symbols.grid import HYPER_PATCH, PATCH
from shcodec.symbols.knots import KNOTS
from shcodec.train.checkpoint import BROKEN
from shcodec.train.config import CONFIGS, read_tables
from shcodec.train.data import Crops, load_pictures
from shcodec.train.idle import lowest_priority
from shcodec.train.pretrained import architecture
from shcodec.train.schedule import cosine

FILE, WEIGHTS, CHECKPOINT = "painter.json", "painter.safetensors", "painter.pt"
LATENTS, PIXELS, TOLD = "latents.npy", "pixels.npy", "latents.json"
WARMUP = 100  # steps
LEAST_ERROR = 0.5  # squared error that is added to the model's own, so that perfect crops do not count without end
LARGEST_NORM = 5.0  # of the gradients
LAST_RATE = 1e-3  # share of the learning rate that the cosine ends with
MEMORY = 0.998  # of the running average of the weights
SAVED_EVERY = 250  # steps


@dataclass(frozen=True)
class PainterConfig:
    """How a painter is built and trained.

    Attributes:
        synthesis: widths and depths of the network.
        crops: how many are gathered.
        crop: pixels along a side of each.
        batch: crops of a step.
        steps: unless a time limit comes first.
        lr: learning rate at the beginning; it falls along a cosine.
        seed: of crops and steps.
    """

    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    crops: int = 1600
    crop: int = 384
    batch: int = 4
    steps: int = 6000
    lr: float = 1e-3
    seed: int = 1

    @staticmethod
    def load(name: str) -> PainterConfig:
        """Read a configuration by the name of a shipped one or by path; raises UsageError if it is not valid."""
        return PainterConfig.from_dict(read_tables(name, CONFIGS / "painters"))

    @staticmethod
    def from_dict(values: dict[str, Any]) -> PainterConfig:
        """Build a configuration from parsed TOML; raises UsageError for unknown keys or values."""
        try:
            sizes = SynthesisConfig(**values.get("synthesis", {}))
            config = PainterConfig(synthesis=sizes, **values.get("training", {}))
        except TypeError as error:
            raise UsageError(f"the painter's configuration is not valid: {error}") from None
        if set(values) - {"synthesis", "training"}:
            raise UsageError("the painter's configuration has other tables than [synthesis] and [training]")
        for table in (config, config.synthesis):
            check_values(table)
        if config.crop % HYPER_PATCH or min(config.crop, config.crops, config.batch, config.steps, config.lr) <= 0:
            raise UsageError(f"a painter's crops must be multiples of {HYPER_PATCH}, and its numbers above 0")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as the TOML files have it."""
        training = asdict(self)
        return {"synthesis": training.pop("synthesis"), "training": training}


def train_painter(
    name: str,
    on: Path,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    time_limit: float | None = None,
    steps: int | None = None,
    idle: bool = False,
) -> None:
    """Train a painter for a model.

    Args:
        name: of a shipped configuration, or the path of one.
        on: folder of the model.
        data: training pictures, as for `load_pictures`.
        out: folder of the run; latents that were gathered there before are taken again.
        resume: go on from the run's checkpoint.
        time_limit: seconds to spend on steps; without it the number of steps counts.
        steps: instead of the configuration's.
        idle: take only what other programs leave of the processor.

    Raises:
        UsageError: a configuration or a checkpoint does not fit.
        ModelError, PictureError: the model or the pictures cannot be read.
    """
    if idle:
        lowest_priority()
    config = PainterConfig.load(name)
    config = config if steps is None else replace(config, steps=steps)
    out.mkdir(parents=True, exist_ok=True)
    model = Model(on, threads=1)
    latents = gather(model, data, config, out)
    sizes = architecture(on)
    net = Synthesis(replace(sizes, synthesis=config.synthesis))
    cut_from(net, load_synthesis(on, sizes))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)
    run = _Run(net, optimiser, {key: value.clone() for key, value in net.state_dict().items()})
    identity = {"on": model.id.hex(), "config": config.to_dict()}
    if resume:
        run.load(out / CHECKPOINT, identity)
    rng = np.random.default_rng((config.seed, run.step))
    began = time.monotonic() - run.seconds
    with counting_bar(config.steps, "painting") as tick:
        while run.step < config.steps:
            run.seconds = time.monotonic() - began
            share = max(run.step / config.steps, run.seconds / time_limit if time_limit else 0.0)
            if share >= 1:
                break
            run.advance(latents.batch(rng, config.batch), config.lr * rate_at(run.step, share))
            tick()
            if run.step % SAVED_EVERY == 0:
                run.save(out / CHECKPOINT, identity)
    run.save(out / CHECKPOINT, identity)
    write_tensors(out / WEIGHTS, {f"g_s.{key}": value.numpy().astype(np.float16) for key, value in run.average.items()})
    told = {**identity, "steps": run.step, "hours": round(run.seconds / 3600, 2), "loss": round(run.usual, 4)}
    write_text(out / FILE, json.dumps(told, indent=1) + "\n")


def rate_at(step: int, share: float) -> float:
    """Return the learning rate as a share of the first: a short warm-up, then a cosine over the budget."""
    return min(1.0, (step + 1) / WARMUP) * cosine(1.0, LAST_RATE, share)


# -- latents ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Latents:
    """What files of the model decode to, and what they should show.

    Attributes:
        y: (n, M, h, w) float16, decoded.
        pixels: (n, 16 h, 16 w, 3) uint8, the crops.
        beta_bytes: (n,) rate steps.
        errors: (n,) mean squared errors of the model's own painter.
    """

    y: npt.NDArray[np.float16]
    pixels: npt.NDArray[np.uint8]
    beta_bytes: npt.NDArray[np.int64]
    errors: npt.NDArray[np.float32]

    def batch(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return y (B, M, h, w), pixels (B, 3, H, W), beta bytes (B,) and errors (B,) of random crops."""
        chosen = np.sort(rng.choice(len(self.y), min(count, len(self.y)), replace=False))
        pixels = self.pixels[chosen].astype(np.float32).transpose(0, 3, 1, 2)
        return (
            torch.from_numpy(self.y[chosen].astype(np.float32)),
            torch.from_numpy(pixels),
            torch.from_numpy(self.beta_bytes[chosen]),
            torch.from_numpy(self.errors[chosen]),
        )


def gather(model: Model, data: Path, config: PainterConfig, out: Path) -> Latents:
    """Decode crops of the training pictures with a model, at random rates; what lies in `out` already is taken.

    Args:
        model: whose files are decoded.
        data: training pictures.
        config: how many crops, and how large.
        out: folder of the run; a crop of 384 takes 1 MB there.
    """
    side = config.crop // PATCH
    origin = {"on": model.id.hex(), "crops": config.crops, "crop": config.crop, "seed": config.seed}
    with suppress(FileNotFoundError, ValueError, KeyError):
        told = json.loads((out / TOLD).read_text(encoding="utf-8"))
        if told["origin"] == origin:
            return Latents(
                np.load(out / LATENTS, mmap_mode="r"), np.load(out / PIXELS, mmap_mode="r"),
                np.array(told["beta_bytes"], np.int64), np.array(told["errors"], np.float32),
            )  # fmt: skip
    crops = Crops(load_pictures(data, least=config.crop)[0], config.seed)
    shape = config.crops, model.tables.latent, side, side
    y = np.lib.format.open_memmap(out / LATENTS, "w+", np.float16, shape)
    pixels = np.lib.format.open_memmap(out / PIXELS, "w+", np.uint8, (config.crops, config.crop, config.crop, 3))
    beta_bytes, errors = [], []
    with counting_bar(config.crops, "gathering") as tick:
        for number in range(config.crops):
            (crop,), (beta_byte,) = crops.batch(number, config.crop, 1)
            analysis = analyse(model, crop, int(beta_byte))
            coded = encode_latent(analysis, int(beta_byte), own_rate_weight(model, int(beta_byte)))
            y[number] = coded.latent.values((slice(0, side), slice(0, side)))
            pixels[number] = crop
            beta_bytes.append(int(beta_byte))
            errors.append(distortion(analysis, coded))
            tick()
    y.flush()
    pixels.flush()
    write_text(out / TOLD, json.dumps({"origin": origin, "beta_bytes": beta_bytes, "errors": errors}) + "\n")
    return Latents(y, pixels, np.array(beta_bytes, np.int64), np.array(errors, np.float32))


# -- steps ------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """A painter in training.

    Attributes:
        net: the painter.
        optimiser: of its parameters.
        average: running average of its weights, which is what is kept in the end.
        step: steps done.
        seconds: spent on them.
        usual: running average of the loss.
    """

    net: Synthesis
    optimiser: torch.optim.AdamW
    average: dict[str, Tensor]
    step: int = 0
    seconds: float = 0.0
    usual: float = 0.0

    def advance(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], rate: float) -> None:
        """Do one step; the loss is the error as a multiple of that of the model's own painter."""
        y, pixels, beta_bytes, errors = batch
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        shown = self.net(y, self.net.gain(knot_weights(beta_bytes)))
        loss = ((shown - pixels).square().mean((1, 2, 3)) / (errors + LEAST_ERROR)).mean()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), LARGEST_NORM)
        self.optimiser.step()
        self.step += 1
        memory = min(MEMORY, self.step / (self.step + 10))
        self.usual += (1 - memory) * (float(loss.detach()) - self.usual)
        with torch.no_grad():
            for key, value in self.net.state_dict().items():
                self.average[key].lerp_(value, 1 - memory)

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write a checkpoint."""
        state = {
            **identity, "net": self.net.state_dict(), "average": self.average, "step": self.step,
            "optimiser": self.optimiser.state_dict(), "seconds": self.seconds, "usual": self.usual,
        }  # fmt: skip
        with replacing(path) as file:
            torch.save(state, file)

    def load(self, path: Path, identity: dict[str, Any]) -> None:
        """Go on from a checkpoint; raises UsageError for one that is absent, damaged or of another training."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            same = all(state[key] == value for key, value in identity.items())
        except FileNotFoundError:
            raise UsageError(f"{path.parent}: no checkpoint there") from None
        except BROKEN as error:
            raise UsageError(f"{path}: not a readable checkpoint") from error
        if not same:
            raise UsageError(f"{path.parent}: the checkpoint is of another model or configuration")
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = state["average"]
        self.step, self.seconds, self.usual = state["step"], state["seconds"], state["usual"]


def load_synthesis(folder: Path, config: ModelConfig) -> Synthesis:
    """Return a model's own synthesis network."""
    net = Synthesis(config)
    tensors = read_tensors(folder / DECODER)
    net.load_state_dict({key: torch.from_numpy(tensors[f"g_s.{key}"].astype(np.float32)) for key in net.state_dict()})
    return net


@torch.no_grad()
def cut_from(net: Synthesis, own: Synthesis) -> None:
    """Give a painter the first channels and blocks of a model's own one; raises UsageError where it is the larger."""
    stages = dict(zip(own.stages, torch.split(own.knots, [2 * width for width in own.widths], 1), strict=True))
    source = own.state_dict()
    for key, weights in net.state_dict().items():
        if key == "knots":
            continue
        if key not in source or any(a > b for a, b in zip(weights.shape, source[key].shape, strict=True)):
            raise UsageError(f"the painter is larger than the model's own ({key})")
        weights.copy_(source[key][tuple(slice(side) for side in weights.shape)])
    parts = [stages[name].reshape(KNOTS, 2, -1)[:, :, :width].flatten(1) for name, width in net.stages.items()]
    net.knots.copy_(torch.cat(parts, 1))
