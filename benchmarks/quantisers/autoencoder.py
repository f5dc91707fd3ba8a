"""A small autoencoder around a quantiser: trained, then measured on real bitstreams."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from baselines import MovingAverage, Residual, SoftToHard, StraightThrough, VectorQuantiser
from pictures import Array, Pictures
from sparse import WHOLE_P, Convex
from streams import StreamTables
from torch import Tensor, nn
from torch.nn import functional as F

from shcodec.quantize.convex import gap
from shcodec.support.errors import UsageError

GRID = 8  # the latent has 8x8 positions
USED = 0.01  # a codeword counts as used from this share of an even use
CHUNK = 64  # pictures at a time in measurements
GAP_VECTORS = 1024
LEAST_REPEATS, MOST_REPEATS = 3, 21  # of what is timed: as many as fit into a second


@dataclass(frozen=True)
class Trial:
    """A quantiser and its size."""

    quantiser: str  # "soft", "straight-through", "ema", "residual", "convex" or "convex-exact"
    codewords: int = 128  # K
    vectors: int = 1  # that a position's channels are cut into
    levels: int = 1  # of "residual"
    support: int = 0  # corners of P that are coded ("convex"); 0: the whole P, in training too
    units: int = WHOLE_P  # of the weights of P
    ridge: float = 0.1  # lambda of "convex"
    start: str = "data"  # codewords at the beginning: vectors of the first batch, or "uniform" around 0
    gain: float = 1.0  # on the encoder's last layer at the beginning
    own_loss: float = 1.0  # weight of the quantiser's own loss

    def build(self, channels: int) -> VectorQuantiser:
        """Return the quantiser for positions of so many channels.

        Raises:
            UsageError: the trial is not valid.
        """
        if channels % self.vectors or self.start not in ("data", "uniform"):
            raise UsageError(f"{self} is not valid for {channels} channels")
        dim = channels // self.vectors
        convex = {"ridge": self.ridge, "support": self.support, "units": self.units}
        makers: dict[str, Callable[[], VectorQuantiser]] = {
            "soft": lambda: SoftToHard(self.codewords, dim),
            "straight-through": lambda: StraightThrough(self.codewords, dim),
            "ema": lambda: MovingAverage(self.codewords, dim),
            "residual": lambda: Residual(self.codewords, dim, levels=self.levels),
            "convex": lambda: Convex(self.codewords, dim, **convex),  # type: ignore[arg-type]
            "convex-exact": lambda: Convex(self.codewords, dim, converged=True, **convex),  # type: ignore[arg-type]
        }
        if self.quantiser not in makers:
            raise UsageError(f"no quantiser '{self.quantiser}' (there are {', '.join(makers)})")
        return makers[self.quantiser]()


@dataclass(frozen=True)
class Budget:
    """What all trials have in common."""

    steps: int = 1500
    time_limit: float = 300.0  # seconds of training, if they end before the steps
    batch: int = 32
    channels: int = 16  # of the latent: 8x8 positions of so many
    width: int = 64
    lr: float = 1e-3
    test: int = 1000  # pictures that are coded, from the beginning of the test set
    tables: int = 2000  # training pictures from which histograms are counted

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Budget:
        """Check the names of values; raises UsageError for an unknown one."""
        unknown = set(values) - {field.name for field in fields(Budget)}
        if unknown:
            raise UsageError(f"no setting '{min(unknown)}'")
        return Budget(**values)


class Block(nn.Module):
    """Residual 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run on x (B, width, h, w), which keeps its shape."""
        out: Tensor = x + self.body(x)
        return out


class Autoencoder(nn.Module):
    """Pictures to 8x8 positions and back, with a quantiser in between."""

    def __init__(self, quantiser: VectorQuantiser, budget: Budget, vectors: int) -> None:
        super().__init__()
        width, channels = budget.width, budget.channels
        self.quantiser, self.channels, self.dim = quantiser, channels, channels // vectors
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 4, stride=2, padding=1),
            Block(width),
            Block(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            Block(width),
            Block(width),
            nn.ReLU(),
            nn.Conv2d(width, width * 2, 1),
            nn.PixelShuffle(2),
            nn.Conv2d(width // 2, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def vectors(self, pixels: Tensor) -> Tensor:
        """Turn pixels (B, 3, 32, 32) in 0..1 into vectors (n, d)."""
        latent: Tensor = self.encoder(pixels - 0.5)
        return latent.permute(0, 2, 3, 1).reshape(-1, self.dim)

    def pixels(self, vectors: Tensor) -> Tensor:
        """Turn vectors (n, d) into pixels (B, 3, 32, 32)."""
        latent = vectors.view(-1, GRID, GRID, self.channels).permute(0, 3, 1, 2)
        out: Tensor = self.decoder(latent) + 0.5
        return out


def to_pixels(pictures: Array) -> Tensor:
    """Turn pictures (B, 32, 32, 3) uint8 into pixels (B, 3, 32, 32) in 0..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def run(trial: Trial, budget: Budget, pictures: Pictures, seed: int) -> dict[str, Any]:
    """Train and measure; the same trial, budget and seed see the same batches from the same start.

    Returns:
        The trial's and the seed's values, steps and seconds of training, and all that `measure` finds.
    """
    torch.manual_seed(seed)
    net = Autoencoder(trial.build(budget.channels), budget, trial.vectors)
    torch.manual_seed(seed)
    for module in (*net.encoder.modules(), *net.decoder.modules()):
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()  # the same whatever the quantiser drew before
    with torch.no_grad():
        for parameter in net.encoder[-1].parameters():
            parameter.mul_(trial.gain)
    steps, seconds = train(net, trial, budget, pictures.train, seed)
    net.eval()
    return asdict(trial) | {"seed": seed, "steps": steps, "seconds": seconds} | measure(net, trial, budget, pictures)


def train(net: Autoencoder, trial: Trial, budget: Budget, train_set: Array, seed: int) -> tuple[int, float]:
    """Train to the end of the budget, steps or time; return what was used of both."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(net.parameters(), lr=budget.lr, weight_decay=0.0)
    begun = time.monotonic()
    with torch.no_grad():
        vectors = net.vectors(to_pixels(train_set[rng.integers(0, len(train_set), budget.batch)]))
        if trial.start == "data":
            net.quantiser.start(vectors)
    step, progress = 0, 0.0
    while progress < 1:
        for group in optimiser.param_groups:
            group["lr"] = budget.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        pixels = to_pixels(train_set[rng.integers(0, len(train_set), budget.batch)])
        out = net.quantiser(net.vectors(pixels), progress)
        loss = F.mse_loss(net.pixels(out.value), pixels) + trial.own_loss * out.loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        progress = max(step / budget.steps, (time.monotonic() - begun) / budget.time_limit)
    return step, time.monotonic() - begun


@torch.no_grad()
def measure(net: Autoencoder, trial: Trial, budget: Budget, pictures: Pictures) -> dict[str, Any]:
    """Return everything that is told of a trained autoencoder.

    Returns:
        `mse` of the decoded pictures and `mse_uncoded` with what the decoder saw in training, both on 0..1 values;
        `bytes` per picture; `perplexity` and `used` (share) of the codebook; `forward_ms` and `training_ms` of the
        quantiser for the vectors of 64 pictures; for "convex" the mean number of `corners` in a file, and
        `relaxed_error` and `exact_error` of its vectors.
    """
    test = pictures.test[: budget.test]
    symbols = [net.quantiser.symbols(v).numpy() for v in _all_vectors(net, pictures.train[: budget.tables])]
    tables = StreamTables.fit(net.quantiser.layout, np.concatenate(symbols))
    square, uncoded, lengths, usage, corners = 0.0, 0.0, [], [], []
    for place, vectors in enumerate(_all_vectors(net, test)):
        original = test[place * CHUNK : (place + 1) * CHUNK]
        out = net.quantiser(vectors)
        uncoded += _squares(net.pixels(out.value), original)
        usage.append(out.usage * len(vectors))
        coded = net.quantiser.symbols(vectors).numpy()
        files = [tables.encode(one) for one in np.split(coded, len(original))]
        lengths += [len(data) for data in files]
        rebuilt = np.concatenate([tables.decode(data, len(coded) // len(original)) for data in files])
        square += _squares(net.pixels(net.quantiser.values(torch.from_numpy(rebuilt))), original)
        corners.append(coded[:, 0] + 1)
    perplexity, used = statistics_of(torch.stack(usage).sum(0))
    sample = next(_all_vectors(net, test))
    found = {
        "mse": square / test.size,
        "mse_uncoded": uncoded / test.size,
        "bytes": float(np.mean(lengths)),
        "perplexity": perplexity,
        "used": used,
    }
    found |= timings(net.quantiser, sample)
    if isinstance(net.quantiser, Convex):
        between = gap(sample[:GAP_VECTORS], net.quantiser.codebook, trial.ridge)
        found |= {"corners": float(np.concatenate(corners).mean())}
        found |= {"relaxed_error": between.relaxed_error, "exact_error": between.exact_error}
    return found


def _all_vectors(net: Autoencoder, pictures: Array) -> Iterator[Tensor]:
    for start in range(0, len(pictures), CHUNK):
        yield net.vectors(to_pixels(pictures[start : start + CHUNK]))


def _squares(pixels: Tensor, original: Array) -> float:
    """Sum of squared errors of 8-bit pictures, on 0..1 values."""
    decoded = (pixels.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    return float(np.square((decoded - original.astype(np.float32)) / 255).sum(dtype=np.float64))


def statistics_of(usage: Tensor) -> tuple[float, float]:
    """Return the perplexity and share in use of codebooks by their total use (levels, K), averaged over levels."""
    share = usage / usage.sum(1, keepdim=True)
    perplexity = torch.exp(-(share * (share + 1e-12).log()).sum(1)).mean()
    return float(perplexity), float((share > USED / usage.shape[1]).float().mean())


def timings(quantiser: VectorQuantiser, vectors: Tensor) -> dict[str, float]:
    """Return the median milliseconds of the quantiser alone: forward, and forward and backward in training."""
    trained = copy.deepcopy(quantiser).train()

    def training() -> None:
        with torch.enable_grad():
            leaf = vectors.clone().requires_grad_()
            out = trained(leaf)
            (out.value.square().mean() + out.loss).backward()

    return {"forward_ms": _median_ms(lambda: quantiser(vectors)), "training_ms": _median_ms(training)}


def _median_ms(call: Callable[[], object]) -> float:
    call()
    seconds: list[float] = []
    while len(seconds) < LEAST_REPEATS or (len(seconds) < MOST_REPEATS and sum(seconds) < 1):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds)


def psnr(mse: float | npt.NDArray[np.float64]) -> Any:
    """Return the PSNR in dB of a mean squared error on 0..1 values."""
    return -10 * np.log10(mse)
