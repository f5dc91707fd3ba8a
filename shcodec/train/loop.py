"""The training loop: phases, checkpoints that resume exactly, runs that stop when they are asked to."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shcodec.quantize.annealing import GAP_EVERY
from shcodec.support.errors import ShcError, UsageError
from shcodec.symbols.grid import HYPER_PATCH
from shcodec.train import checkpoint, log, result, schedule
from shcodec.train.ahead import Ahead
from shcodec.train.calibrate import calibrate, fit_codebooks
from shcodec.train.config import TrainConfig
from shcodec.train.data import load_pictures
from shcodec.train.device_crops import DeviceCrops, crops_of
from shcodec.train.drawings import drawings_beside
from shcodec.train.idle import lowest_priority
from shcodec.train.objective import Outcome, Phase, State, evaluate
from shcodec.train.plots import plot_log
from shcodec.train.progress import progress
from shcodec.train.recorded import RecordedSteps
from shcodec.train.start import Start
from shcodec.train.state import RunState
from shcodec.train.step import Stepper, smooth_state
from shcodec.train.validation import Validation
from shcodec.train.watch import Watch

LOG_EVERY = 50
VALIDATE_EVERY = 1000  # steps
RESEED_EVERY = 200  # steps of the soft phase
LEAST_SIDE = 128  # of training pictures; a crop that is larger than its picture is enlarged
CHECKPOINT_SECONDS = 120.0
COMPILE_STEP = 30_000_000  # number of crops that no step uses


class Trainer:
    """One run: its state, its crops, and what is done to them step by step."""

    def __init__(self, config: TrainConfig, data: Path, out: Path, device: str, time_limit: float | None) -> None:
        self.config, self.out, self.time_limit = config, out, time_limit
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True  # the shapes of a phase's batches are all the same
        self.run = RunState.fresh(config, torch.device(device))
        self.stepper = Stepper(self.run)
        self.watch = Watch()
        self.validation: Validation | None = None
        started = time.monotonic()
        pictures, self.left_out = load_pictures(data, least=min(config.crop, LEAST_SIDE))
        drawn = drawings_beside(pictures, config.drawings, config.seed)
        pictures += drawn
        self.crops = crops_of(pictures, config.seed, self.run.device)
        self.recorded: RecordedSteps | None = None
        if isinstance(self.crops, DeviceCrops) and self.run.device.type == "cuda":
            self.recorded = RecordedSteps(self.stepper, self.crops, record=True)
        pixels = sum(p.shape[0] * p.shape[1] for p in pictures)
        told = f"{len(pictures)} pictures" + (f", {len(drawn)} drawn" if drawn else "")
        self.loading = f"{told}, {pixels / 1e6:.0f} MP, in {time.monotonic() - started:.1f} s"
        self.run.origin = {  # where the weights come from; goes into the model's card
            "data": f"{told}, {pixels / 1e6:.0f} megapixels",
            "device": device,
            "torch": str(torch.__version__),
        }

    # -- schedule ---------------------------------------------------------------------------------

    def fraction(self) -> float:
        """Share of the budget that is spent, 0..1."""
        return schedule.fraction(self.run, self.time_limit)

    def _enter(self, phase: Phase) -> None:
        """Begin a phase: fit codebooks, freeze what is final, start a fresh running average."""
        run, learner = self.run, self.run.learner
        if run.phase is Phase.SMOOTH:
            checkpoint.save(run, self.out, checkpoint.SMOOTH)
        torch.backends.cuda.matmul.allow_tf32 = False
        learner.load_state_dict(run.average, strict=False)
        from_data = not self.config.model.has_hyper and phase is Phase.SOFT
        fit_codebooks(learner, self.crops, run.step, start="data" if from_data else "keep")
        net, frozen = learner.net, []
        if self.config.model.has_hyper:
            # what decides classes, and the steps in which they are spreads: without the density they would drift apart
            frozen += [net.h_a, net.h_s, net.class_map, learner.histograms]
        if phase is Phase.HARD:
            frozen += [net.g_a, learner.density]
        for module in frozen:
            module.requires_grad_(False)
        run.begin_phase(phase)

    def _advance(self, fraction: float) -> None:
        run, settings = self.run, self.config.schedule
        if self.config.model.has_hyper and schedule.integers(run, fraction):
            run.learner.net.class_map.fake_integer = True
        if settings.stable:
            return
        if run.phase is Phase.SMOOTH and fraction >= settings.codebooks:
            self._enter(Phase.SOFT)
        if run.phase is Phase.SOFT and fraction >= settings.hard:
            self._enter(Phase.HARD)
        if run.phase is Phase.SOFT and self.config.annealing.mode == "budget":
            run.sigma.by_budget((fraction - settings.codebooks) / (settings.hard - settings.codebooks))

    # -- one step ---------------------------------------------------------------------------------

    def batch_size(self) -> tuple[int, int]:
        """Return the side of the crops and their number in the present phase: about the same area throughout."""
        c = self.config
        if self.run.phase is not Phase.SMOOTH:
            return c.late_crop, max(1, c.batch * c.crop**2 // c.late_crop**2)
        return c.crop, c.batch

    def _border(self) -> tuple[int, int]:
        """Return the padding of this step's pictures: in the last phase half of the batches are not multiples of 64."""
        rng = np.random.default_rng((self.config.seed, self.run.step, 1))
        if self.run.phase is not Phase.HARD or rng.random() < 0.5:
            return 0, 0
        rows, columns = rng.integers(0, HYPER_PATCH, 2)
        return int(rows), int(columns)

    def train_step(self, crops: Any, beta_bytes: Any, fraction: float) -> Outcome:
        """Do one step: forward, backward, optimiser, running average."""
        run = self.run
        state = State(
            run.phase,
            run.sigma.value,
            skip=schedule.skips(run, fraction),
            measure_gap=run.phase is Phase.SOFT and self._gap_is_due(),
            border=self._border(),
        )
        self.stepper.set(schedule.learning_rate(run, fraction))
        outcome = self.stepper.body(*self.stepper.tensors(crops, beta_bytes), state)
        hard_loss = outcome.hard_loss
        if hard_loss is not None and self.config.annealing.mode == "gap":
            run.sigma.by_gap(float(outcome.loss.detach()), hard_loss, run.step - run.phase_start)
        elif hard_loss is not None:
            run.sigma.last_gap = 1 - float(outcome.loss.detach()) / hard_loss
        if run.phase is Phase.SOFT and run.step % RESEED_EVERY == RESEED_EVERY - 1:
            run.reseeded += run.learner.books.reseed(run.generator)
        return outcome

    def _gap_is_due(self) -> bool:
        """Whether this step measures the gap: as often as its rule asks for, or as the log shows it."""
        if self.config.annealing.mode == "gap":
            return self.run.step % GAP_EVERY == 0
        return (self.run.step + 1) % LOG_EVERY == 0

    def _next_step(self, ahead: Ahead, fraction: float) -> Outcome:
        """Do one step on its own batch, recorded where that is possible, and count it."""
        run = self.run
        size, number = self.batch_size()
        if self.recorded is not None and run.phase is Phase.SMOOTH:
            state = smooth_state(schedule.skips(run, fraction))
            outcome = self.recorded.step(state, schedule.learning_rate(run, fraction))
        else:
            self.recorded = None  # its memory is needed
            outcome = self.train_step(*ahead.batch(run.step, size, number), fraction)
        run.step += 1
        run.pixels += number * size * size
        return outcome

    def compile(self) -> None:
        """Compile the networks, if so configured, in a step that changes nothing; go without if it fails."""
        wanted = self.config.compile
        if wanted is False or (wanted == "auto" and self.run.device.type == "cpu"):
            return
        started, learner = time.monotonic(), self.run.learner
        learner.compile_for_training()
        pixels, beta = self.stepper.tensors(*self.crops.batch(COMPILE_STEP, *self.batch_size()))
        try:
            evaluate(learner, pixels, beta, smooth_state(skip=False)).loss.backward()  # type: ignore[no-untyped-call]
            torch._dynamo.config.suppress_errors = True  # should a later phase need to compile again, in vain
            said = f"compiled in {time.monotonic() - started:.0f} s"
        except Exception as error:  # the compiler's errors are of many kinds, and none of them matters
            learner.interpret()
            said = f"not compiled: {type(error).__name__}"
        learner.zero_grad(set_to_none=True)
        print(said, file=sys.stderr)

    # -- the run ----------------------------------------------------------------------------------

    def train(self, resumed: bool, stop_after: float | None = None) -> None:
        """Train to the end of the budget, then calibrate; save checkpoints on the way.

        SIGTERM and SIGINT end the run after the step that is being done, with a checkpoint.

        Args:
            resumed: the log goes on.
            stop_after: seconds after which to leave a checkpoint and return, whatever is left of the budget.

        Raises:
            ShcError: the training went wrong; see `Watch`.
        """
        run, path = self.run, self.out / "log.csv"
        torch.backends.cuda.matmul.allow_tf32 = run.phase is Phase.SMOOTH  # distances to codewords must be exact
        run.finished = run.finished and self.fraction() >= 1  # a larger budget reopens a finished run
        log.begin(path, run.step if resumed else None)
        print(self.loading, file=sys.stderr)
        begun = last_saved = time.monotonic()
        started = begun - run.elapsed
        self.compile()
        with progress() as show, ThreadPoolExecutor(1) as pool, _asked_to_stop() as asked:
            ahead = Ahead(self.crops, pool)
            while (fraction := self.fraction()) < 1:
                entering = time.monotonic()
                self._advance(fraction)
                started += time.monotonic() - entering  # fits are not part of the budget, on a processor they take long
                outcome = self._next_step(ahead, fraction)
                run.elapsed = time.monotonic() - started
                if run.step % LOG_EVERY == 0:
                    self._look()
                    log.add(path, run, outcome, self.stepper.rate)
                    size, number = self.batch_size()
                    show(fraction, run, outcome, self.watch.figures(number * size * size))
                if self.validation is not None and run.step % VALIDATE_EVERY == 0:
                    print(self.validation.look(run, self.out), file=sys.stderr)
                if time.monotonic() - last_saved > CHECKPOINT_SECONDS:
                    self._save()
                    last_saved = time.monotonic()
                late = stop_after is not None and time.monotonic() - begun > stop_after
                if (late or asked()) and self.fraction() < 1:
                    self._save()
                    print(f"stopped at step {run.step}, {run.gpx:.3f} Gpx; --resume goes on", file=sys.stderr)
                    return
        self._end()

    def _end(self) -> None:
        if self.config.schedule.stable:
            self._save()
        elif not self.run.finished:  # a second calibration would change the tables of a finished run
            self._finish()
        if find_spec("matplotlib") is not None:
            plot_log(self.out)

    def _look(self) -> None:
        """Wait for the device and look whether all is well; raises ShcError where it is not."""
        self.watch.look(self.run.step, self.run.elapsed, self.stepper.mean_loss())

    def _save(self) -> None:
        """Write a checkpoint; weights that are not finite must not take the place of an earlier one."""
        norms = torch._foreach_norm([p.detach() for p in self.run.learner.parameters()])
        if not torch.stack(norms).isfinite().all():
            raise ShcError(f"step {self.run.step}: the weights are not finite any more; try a smaller learning rate")
        checkpoint.save(self.run, self.out)

    def _finish(self) -> None:
        run = self.run
        self._advance(1.0)  # a budget that ran out within a single step still ends in the hard phase
        run.learner.load_state_dict(run.average, strict=False)
        self._save()
        calibrate(run.learner, self.crops)
        run.finished = True
        checkpoint.save(run, self.out)
        result.save(run, self.out)


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or SIGINT came; what they do otherwise, they do once the block has ended."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    came: list[int] = []
    try:
        before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    except ValueError:  # not the main thread: signals are another's business
        yield lambda: False
        return
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def train(
    config: str,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    init: Path | None = None,
    init_stable: Path | None = None,
    cooldown_from: Path | None = None,
    time_limit: float | None = None,
    device: str = "auto",
    steps: int | None = None,
    stop_after: float | None = None,
    least_speed: float | None = None,
    validation: Path | None = None,
    idle: bool = False,
) -> None:
    """Train a codec.

    Args:
        config: name of a shipped configuration or path of a TOML file.
        data: folder tree of pictures or tar packs.
        out: folder of the run: checkpoint, log, plots, result.
        resume: go on from the checkpoint in `out`.
        init: folder of a shipped model whose weights to start from.
        init_stable: folder of a stable phase that this one goes on from; see `shcodec.train.stable`.
        cooldown_from: folder of a stable phase that this run branches off, to end as a model.
        time_limit: seconds; the schedule is scaled to it if it ends before the configured steps.
        device: "auto", "cpu" or "cuda".
        steps: instead of the configured number of steps.
        stop_after: seconds; leave a checkpoint then and return, for a later call with `resume`.
        least_speed: steps per second; give the run up early if it is slower, or if its loss rises.
        validation: folder of pictures on which the smooth loss is measured now and then.
        idle: take only what other programs leave of the processor.

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
    start = Start.of(settings, resume, init, init_stable, cooldown_from)
    if idle:
        lowest_priority()
    watched = None if validation is None else Validation(validation)
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(settings, data, out, device, time_limit)
    trainer.watch, trainer.validation = Watch(least_speed), watched
    limit = f" --time-limit {time_limit:g}" if time_limit else ""
    limit += f" --steps {steps}" if steps is not None else ""
    command = f"shc train {config} --data DIR --out RUN{start.option} --device {device}{limit}"
    trainer.run.origin["command"] = command
    start.apply(trainer.run, trainer.crops, out)
    trainer.train(resume, stop_after)
