"""The training loop: three phases, schedules in fractions of the budget, checkpoints that resume exactly."""

from __future__ import annotations

import csv
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shcodec.errors import ShcError, UsageError
from shcodec.runtime import read_card
from shcodec.train import checkpoint, result
from shcodec.train.ahead import Ahead
from shcodec.train.annealing import GAP_EVERY, Sigma
from shcodec.train.calibrate import calibrate, fit_codebooks
from shcodec.train.config import TrainConfig
from shcodec.train.data import load_pictures
from shcodec.train.device_crops import crops_of
from shcodec.train.drawings import drawings_beside
from shcodec.train.objective import Learner, Outcome, Phase, State, evaluate
from shcodec.train.plots import plot_log
from shcodec.train.progress import Progress
from shcodec.train.start import start_from_model
from shcodec.train.watch import Watch

LOG_EVERY = 50
LEAST_SIDE = 128  # of training pictures; a crop that is larger than its picture is enlarged
CHECKPOINT_SECONDS = 120.0
RATES = (  # learning rates by a part of the parameter's name, in proportion to those of the convolutions
    ("bias_knots", 20.0),  # classes: their scale is 0..63, and they start up to 20 from where they end
    ("class_map.weight", 3.0),
    ("knots", 2.0),  # modulation and steps: every row is touched by an eighth of the batches
    ("histograms", 10.0),
    ("shortcut", 0.2),  # start near their optimum: large steps would only shake them
)
FIELDS = (
    "step", "seconds", "phase", "lr", "loss", "mse", "bpp", "hyper_bpp", "psnr", "sigma", "gap", "usage",
    "perplexity", "symbols", "reseeded",
)  # fmt: skip


class Trainer:
    """One run: model, optimiser, running averages, and the place in the schedule."""

    def __init__(self, config: TrainConfig, data: Path, out: Path, device: str, time_limit: float | None) -> None:
        self.config, self.out, self.time_limit = config, out, time_limit
        self.device = torch.device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True  # the shapes of a phase's batches are all the same
        torch.manual_seed(config.seed)
        self.learner = Learner(config).to(self.device)
        self.learner.net.mixed = device != "cpu" or torch.cpu._is_avx512_bf16_supported()  # others imitate it, slowly
        self.learner.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.phase = Phase.SMOOTH
        self.step, self.phase_start, self.elapsed = 0, 0, 0.0
        self.sigma = Sigma(config.annealing, config.annealing.start)
        self.optimiser = self.make_optimiser()
        self.average = self.snapshot()
        self.losses = torch.zeros(2, device=self.device)  # sum and number since the last look, when the host waits
        self.rate = 0.0  # the learning rate of the last step
        self.watch = Watch()
        self.generator = torch.Generator().manual_seed(config.seed)
        started = time.monotonic()
        pictures, self.left_out = load_pictures(data, least=min(config.crop, LEAST_SIDE))
        drawn = drawings_beside(pictures, config.drawings, config.seed)
        pictures += drawn
        self.crops = crops_of(pictures, config.seed, self.device)
        pixels = sum(p.shape[0] * p.shape[1] for p in pictures)
        told = f"{len(pictures)} pictures" + (f", {len(drawn)} drawn" if drawn else "")
        self.loading = f"{told}, {pixels / 1e6:.0f} MP, in {time.monotonic() - started:.1f} s"
        self.origin = {  # where the weights come from; goes into the model's card
            "data": f"{told}, {pixels / 1e6:.0f} megapixels",
            "device": device,
            "torch": str(torch.__version__),
        }
        self.reseeded, self.finished = 0, False

    def start_from_data(self) -> None:
        """Initialises the linear shortcuts, where the model has them, from crops of the training pictures."""
        if not self.config.model.shortcut:
            return
        crops, _ = self.crops.batch(20_000_000, 64, 4096)
        blocks = torch.as_tensor(crops).view(-1, 4, 16, 4, 16, 3).permute(0, 1, 3, 5, 2, 4).reshape(-1, 3, 16, 16)
        self.learner.net.start_from(blocks.to(self.device))
        self.average = self.snapshot()

    def start_from_model(self, folder: Path) -> None:
        """Takes the weights of a shipped model, enlarged where need be."""

        def blocks() -> Tensor:
            crops, _ = self.crops.batch(20_000_000, 64, 1024)
            return torch.as_tensor(crops).permute(0, 3, 1, 2).to(self.device)

        start_from_model(self.learner, folder, blocks)
        self.average = self.snapshot()

    # -- schedule ---------------------------------------------------------------------------------

    def fraction(self) -> float:
        """Share of the budget that is spent, 0..1: steps or time, whichever is further."""
        by_steps = self.step / self.config.schedule.steps
        by_time = self.elapsed / self.time_limit if self.time_limit else 0.0
        return min(max(by_steps, by_time), 1.0)

    def learning_rate(self, fraction: float) -> float:
        """Warm-up, constant, then a cosine to the last rate."""
        s, c = self.config.schedule, self.config
        warm = min((self.step + 1) / max(s.warmup, 1), 1.0)
        if fraction < s.decay:
            return c.lr * warm
        position = (fraction - s.decay) / (1 - s.decay)
        return c.last_lr + (c.lr * warm - c.last_lr) * 0.5 * (1 + float(np.cos(np.pi * position)))

    def _enter(self, phase: Phase) -> None:
        """Begins a phase: fits codebooks, freezes what is final, starts a fresh running average."""
        if self.phase is Phase.SMOOTH:
            checkpoint.save(self, checkpoint.SMOOTH)
        self.learner.load_state_dict(self.average, strict=False)
        fit_codebooks(self, start="data" if not self.config.model.has_hyper and phase is Phase.SOFT else "keep")
        net, frozen = self.learner.net, []
        if self.config.model.has_hyper:
            # what decides classes, and the steps in which they are spreads: without the density they would drift apart
            frozen += [net.h_a, net.h_s, net.class_map, self.learner.histograms]
        if phase is Phase.HARD:
            frozen += [net.g_a, self.learner.density]
        for module in frozen:
            module.requires_grad_(False)
        self.phase, self.phase_start = phase, self.step
        self.optimiser = self.make_optimiser()
        self.average = self.snapshot()

    def _advance(self, fraction: float) -> None:
        schedule = self.config.schedule
        if self.config.model.has_hyper and fraction >= schedule.integer:
            self.learner.net.class_map.fake_integer = True
        if self.phase is Phase.SMOOTH and fraction >= schedule.codebooks:
            self._enter(Phase.SOFT)
        if self.phase is Phase.SOFT and fraction >= schedule.hard:
            self._enter(Phase.HARD)
        if self.phase is Phase.SOFT and self.config.annealing.mode == "budget":
            self.sigma.by_budget((fraction - schedule.codebooks) / (schedule.hard - schedule.codebooks))

    # -- one step ---------------------------------------------------------------------------------

    def make_optimiser(self) -> torch.optim.AdamW:
        """A fresh optimiser of everything that is not frozen, with rates in proportion to what parameters span."""
        by_scale: dict[float, list[torch.nn.Parameter]] = {}
        for name, parameter in self.learner.named_parameters():
            if parameter.requires_grad:
                scale = next((scale for part, scale in RATES if part in name), 1.0)
                if name.startswith("books."):
                    scale = self.config.codebook_lr / self.config.lr
                by_scale.setdefault(scale, []).append(parameter)
        groups = [{"params": parameters, "scale": scale} for scale, parameters in by_scale.items()]
        return torch.optim.AdamW(groups, lr=self.config.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of all parameters, the start of a running average."""
        return {name: p.detach().clone() for name, p in self.learner.named_parameters()}

    def batch_size(self) -> tuple[int, int]:
        """Side of the crops and their number in the present phase: about the same area throughout."""
        c = self.config
        if self.phase is not Phase.SMOOTH:
            return c.late_crop, max(1, c.batch * c.crop**2 // c.late_crop**2)
        return c.crop, c.batch

    def tensors(self, crops: Any, beta_bytes: Any) -> tuple[Tensor, Tensor]:
        """Batch of numpy arrays or tensors -> pixels (B, 3, H, W) float32 and beta bytes on the device."""
        pixels = torch.as_tensor(crops).to(self.device).permute(0, 3, 1, 2).float()
        return pixels, torch.as_tensor(beta_bytes).to(self.device)

    def _border(self) -> tuple[int, int]:
        """Padding of this step's pictures: in the last phase half of the batches are not multiples of 64."""
        rng = np.random.default_rng((self.config.seed, self.step, 1))
        if self.phase is not Phase.HARD or rng.random() < 0.5:
            return 0, 0
        rows, columns = rng.integers(0, 64, 2)
        return int(rows), int(columns)

    def train_step(self, crops: Any, beta_bytes: Any, fraction: float) -> Outcome:
        """Forward, backward, optimiser, running average."""
        state = State(
            self.phase,
            self.sigma.value,
            skip=fraction >= self.config.schedule.skip,
            measure_gap=self.phase is Phase.SOFT and self._gap_is_due(),
            border=self._border(),
        )
        self.rate = self.learning_rate(fraction)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * group["scale"]
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)  # noise depends on the step alone
        pixels, beta = self.tensors(crops, beta_bytes)
        outcome = evaluate(self.learner, pixels, beta, state)
        self.learner.zero_grad(set_to_none=True)  # frozen parameters too: their last gradients must not be clipped with
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.learner.parameters(), self.config.clip)
        self.optimiser.step()
        self._update_average()
        self.losses[0] += outcome.loss.detach()
        self.losses[1] += 1
        hard_loss = outcome.hard_loss
        if hard_loss is not None and self.config.annealing.mode == "gap":
            self.sigma.by_gap(float(outcome.loss.detach()), hard_loss, self.step - self.phase_start)
        elif hard_loss is not None:
            self.sigma.last_gap = 1 - float(outcome.loss.detach()) / hard_loss
        if self.phase is Phase.SOFT and self.step % 200 == 199:
            self.reseeded += self.learner.books.reseed(self.generator)
        return outcome

    def _gap_is_due(self) -> bool:
        """Whether this step measures the gap: as often as its rule asks for, or as the log shows it."""
        if self.config.annealing.mode == "gap":
            return self.step % GAP_EVERY == 0
        return (self.step + 1) % LOG_EVERY == 0

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step - self.phase_start) / (10 + self.step - self.phase_start))
        live = dict(self.learner.named_parameters())
        torch._foreach_lerp_(list(self.average.values()), [live[k].detach() for k in self.average], 1 - decay)

    def compile(self) -> None:
        """Compiles the large transforms, if so configured, in a step that changes nothing; goes without if it fails."""
        wanted = self.config.compile
        if wanted is False or (wanted == "auto" and self.device.type == "cpu"):
            return
        started = time.monotonic()
        self.learner.net.compile_transforms()
        pixels, beta = self.tensors(*self.crops.batch(30_000_000, *self.batch_size()))
        try:
            evaluate(self.learner, pixels, beta, State(Phase.SMOOTH, 1.0, skip=False)).loss.backward()  # type: ignore[no-untyped-call]
            torch._dynamo.config.suppress_errors = True  # should a later phase need to compile again, in vain
            said = f"compiled in {time.monotonic() - started:.0f} s"
        except Exception as error:  # the compiler's errors are of many kinds, and none of them matters
            self.learner.net.compiled.clear()
            said = f"not compiled: {type(error).__name__}"
        self.learner.zero_grad(set_to_none=True)
        print(said, file=sys.stderr)

    # -- the run ----------------------------------------------------------------------------------

    def run(self, resumed: bool, stop_after: float | None = None) -> None:
        """Trains to the end of the budget, then calibrates; saves checkpoints on the way.

        Args:
            resumed: the log goes on.
            stop_after: seconds after which to leave a checkpoint and return, whatever is left of the budget.

        Raises:
            ShcError: the training went wrong; see `Watch`.
        """
        log = self.out / "log.csv"
        self.finished = self.finished and self.fraction() >= 1  # a larger budget reopens a finished run
        kept = self._logged(log) if resumed else []
        with log.open("w", newline="") as stream:
            csv.writer(stream).writerows([FIELDS, *kept])
        print(self.loading, file=sys.stderr)
        begun = last_saved = time.monotonic()
        started = begun - self.elapsed
        self.compile()
        with Progress(self.config.schedule.steps) as bar, ThreadPoolExecutor(1) as pool:
            ahead = Ahead(self.crops, pool)
            while (fraction := self.fraction()) < 1:
                self._advance(fraction)
                crops, beta_bytes = ahead.batch(self.step, *self.batch_size())
                outcome = self.train_step(crops, beta_bytes, fraction)
                self.step += 1
                self.elapsed = time.monotonic() - started
                if self.step % LOG_EVERY == 0:
                    self._look()
                    self._log(log, outcome)
                    size, number = self.batch_size()
                    bar.update(fraction, self.phase, outcome, self.watch.figures(number * size * size))
                if time.monotonic() - last_saved > CHECKPOINT_SECONDS:
                    self._save()
                    last_saved = time.monotonic()
                if stop_after is not None and time.monotonic() - begun > stop_after and self.fraction() < 1:
                    self._save()
                    print(f"stopped at step {self.step}, {self.fraction():.1%}; --resume goes on", file=sys.stderr)
                    return
        if not self.finished:  # a second calibration would change the tables of a finished run
            self._finish()
        if find_spec("matplotlib") is not None:
            plot_log(self.out)

    def _look(self) -> None:
        """Waits for the device and looks whether all is well; raises ShcError where it is not."""
        total, number = self.losses.tolist()
        self.watch.look(self.step, self.elapsed, total / number)
        self.losses.zero_()

    def _save(self) -> None:
        """Writes a checkpoint; weights that are not finite must not take the place of an earlier one."""
        norms = torch._foreach_norm([p.detach() for p in self.learner.parameters()])
        if not torch.stack(norms).isfinite().all():
            raise ShcError(f"step {self.step}: the weights are not finite any more; try a smaller learning rate")
        checkpoint.save(self)

    def _finish(self) -> None:
        self._advance(1.0)  # a budget that ran out within a single step still ends in the hard phase
        self.learner.load_state_dict(self.average, strict=False)
        self._save()
        calibrate(self)
        self.finished = True
        checkpoint.save(self)
        result.save(self)

    def _logged(self, path: Path) -> list[list[str]]:
        """Rows of the log up to the checkpoint: what came after it will be trained and logged again."""
        if not path.exists():
            return []
        with path.open(newline="") as stream:
            rows = [row for row in csv.reader(stream) if len(row) == len(FIELDS)]
        return [row for row in rows if row[0].isdigit() and int(row[0]) <= self.step]

    def _log(self, path: Path, outcome: Outcome) -> None:
        usage, perplexity = self.learner.books.usage()
        values = {
            "step": self.step,
            "seconds": round(self.elapsed, 1),
            "phase": self.phase.value,
            "lr": f"{self.rate:.3g}",
            "loss": f"{float(outcome.loss.detach()):.5g}",
            "mse": f"{outcome.mse:.4g}",
            "bpp": f"{outcome.bpp:.4f}",
            "hyper_bpp": f"{outcome.hyper_bpp:.5f}",
            "psnr": f"{outcome.psnr:.3f}",
            "sigma": f"{self.sigma.value:.4g}",
            "gap": f"{self.sigma.last_gap:.5f}",
            "usage": f"{usage:.4f}",
            "perplexity": f"{perplexity:.4f}",
            "symbols": outcome.symbols,
            "reseeded": self.reseeded,
        }
        with path.open("a", newline="") as stream:
            csv.DictWriter(stream, FIELDS).writerow(values)


def train(
    config: str,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    init: Path | None = None,
    time_limit: float | None = None,
    device: str = "auto",
    steps: int | None = None,
    stop_after: float | None = None,
    least_speed: float | None = None,
) -> None:
    """Trains a codec.

    Args:
        config: name of a shipped configuration or path of a TOML file.
        data: folder tree of pictures or tar packs.
        out: folder of the run: checkpoint, log, plots, result.
        resume: go on from the checkpoint in `out`.
        init: folder of a shipped model whose weights to start from.
        time_limit: seconds; the schedule is scaled to it if it ends before the configured steps.
        device: "auto", "cpu" or "cuda".
        steps: instead of the configured number of steps.
        stop_after: seconds; leave a checkpoint then and return, for a later call with `resume`.
        least_speed: steps per second; give the run up early if it is slower, or if its loss rises.

    Raises:
        UsageError: the configuration is not valid, or `out` holds another run.
        PictureError: there is no usable picture.
        ShcError: the loss is not finite any more, or the run was given up.
    """
    settings = TrainConfig.load(config)
    if steps is not None:
        settings = replace(settings, schedule=replace(settings.schedule, steps=steps))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no CUDA device is available")
    if not resume and (out / checkpoint.FILE).exists():
        raise UsageError(f"{out} already holds a run: use --resume, or another folder")
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(settings, data, out, device, time_limit)
    trainer.watch = Watch(least_speed)
    limit = f" --time-limit {time_limit:g}" if time_limit else ""
    limit += f" --steps {steps}" if steps is not None else ""
    start = f" --init {init.name}" if init is not None else ""
    trainer.origin["command"] = f"shc train {config} --data DIR --out RUN{start} --device {device}{limit}"
    if init is None and not resume:
        trainer.start_from_data()
    if init is not None:
        trainer.start_from_model(init)
        trainer.origin["init"] = f"{init.name} ({read_card(init)['id']})"
    if resume:
        checkpoint.load(trainer)
    trainer.run(resume, stop_after)
