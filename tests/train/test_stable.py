"""Stable phases and cooldowns: steps without bias, what is kept and gone on from, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripts import script
from toy_training import VARIANTS, shorten, toy_config, write_config, write_pictures

from shcodec.support.errors import UsageError
from shcodec.train import checkpoint, loop, result, stable
from shcodec.train.config import Schedule, TrainConfig
from shcodec.train.device_crops import DeviceCrops
from shcodec.train.export import export
from shcodec.train.guard import Guard
from shcodec.train.loop import Trainer, train
from shcodec.train.objective import Phase, State
from shcodec.train.recorded import RecordedSteps
from shcodec.train.schedule import learning_rate
from shcodec.train.state import RunState, make_optimiser
from shcodec.train.step import Stepper
from shcodec.train.validation import FILE as VALIDATION
from shcodec.train.validation import Validation

CPU = torch.device("cpu")
STABLE = Schedule(steps=6, warmup=2, stable=True)
COOLDOWN = Schedule(steps=8, warmup=2, skip=0.0, integer=0.0, codebooks=0.5, hard=0.5, decay=0.0)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of pictures; trainings are kept short."""
    shorten(monkeypatch)
    monkeypatch.setattr("shcodec.train.stable.HARD_WARMUP", 1)
    return write_pictures(tmp_path / "pictures")


def stable_config(family: str = "lapped", **changes: Any) -> TrainConfig:
    return toy_config(family, **{"schedule": STABLE, "adam_beta2": 0.999, "clip_factor": 3.0} | changes)


def cooldown_config(family: str = "lapped", **changes: Any) -> TrainConfig:
    return stable_config(family, **{"schedule": COOLDOWN, "hard_lr": 2e-4} | changes)


def stable_run(folder: Path, pictures: Path, family: str = "lapped", **options: Any) -> Path:
    config = write_config(stable_config(family), folder)
    train(config, pictures, folder / "stable", device="cpu", **options)
    return folder / "stable"


# -- steps ------------------------------------------------------------------------------------------


def fitted(beta2: float, limit: float, factor: float, samples: torch.Tensor) -> torch.Tensor:
    """Fits a vector to batches of samples by their squared errors; its mean over the last half of the steps."""
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.ones(samples.shape[2]))
    optimiser = torch.optim.AdamW([module.w], lr=6e-3, betas=(0.9, beta2), weight_decay=0.0, fused=True)
    guard, seen = Guard(limit, factor, CPU), []
    for batch in samples:
        loss = 0.5 * (module.w - batch).square().sum(1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        guard.clip(module, optimiser)
        optimiser.step()
        seen.append(module.w.detach().clone())
    return torch.stack(seen[len(seen) // 2 :]).mean(0)


def test_steps_reach_the_mean_of_skewed_gradients_with_heavy_tails() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.exp(torch.randn(1500, 8, 24, generator=generator))
    mean, median = samples.mean((0, 1)), samples.flatten(0, 1).median(0).values

    def bias(beta2: float, limit: float, factor: float) -> float:
        return float(((fitted(beta2, limit, factor, samples) - mean) / (mean - median)).mean())

    assert abs(bias(0.999, 1.0, 3.0)) < 0.015
    assert bias(0.95, 1.0, 0.0) < -0.04  # a short memory, and every step shortened


def test_the_usual_norm_is_the_median() -> None:
    guard, module = Guard(1.0, 3.0, CPU), torch.nn.Linear(1, 1, bias=False)
    optimiser = torch.optim.AdamW(module.parameters(), fused=True)
    norms = np.exp(np.random.default_rng(0).normal(1, 1, 3000))
    for norm in norms:
        module.weight.grad = torch.full((1, 1), norm)
        guard.clip(module, optimiser)
        assert float(module.weight.grad) <= norm * (1 + 1e-6)
    assert float(guard.usual) == pytest.approx(np.median(norms), rel=0.3)


def test_a_step_that_is_not_finite_is_left_out_and_counted() -> None:
    for factor in (0.0, 3.0):
        torch.manual_seed(0)
        run = RunState.fresh(stable_config(clip_factor=factor), CPU)
        stepper = Stepper(run)
        pixels, beta = 255 * torch.rand(2, 3, 64, 64), torch.tensor([40, 200])
        state = State(Phase.SMOOTH, 1.0, skip=True)
        for number, bad in enumerate((False, True, False)):
            before = {name: p.detach().clone() for name, p in run.learner.named_parameters()}
            counts = {p: float(entry["step"]) for p, entry in run.optimiser.state.items()}
            stepper.set(1e-3)
            stepper.body(pixels * float("nan") if bad else pixels, beta, state)
            moved = any(not torch.equal(before[name], p) for name, p in run.learner.named_parameters())
            assert moved != bad, number
            assert not bad or all(float(run.optimiser.state[p]["step"]) == n for p, n in counts.items())
        assert float(run.guard.left_out) == 1
        assert math.isfinite(stepper.mean_loss())
        assert math.isfinite(float(run.guard.usual))
        assert all(p.isfinite().all() for p in [*run.learner.parameters(), *run.average.values()])


@pytest.mark.parametrize("family", VARIANTS)
def test_the_recorded_body_gives_the_losses_of_the_loop(family: str, pictures: Path, tmp_path: Path) -> None:
    """What an accelerator records, run without recording, from the fixed buffers that a replay reads."""
    config = stable_config(family)
    trainer = Trainer(config, pictures, tmp_path, "cpu", None)
    eager = []
    for _ in range(4):
        crops, beta = trainer.crops.batch(trainer.run.step, config.crop, config.batch)
        outcome = trainer.train_step(crops, beta, 0.0)
        eager.append(float(outcome.loss.detach()))
        trainer.run.step += 1
    run = RunState.fresh(config, CPU)
    steps = RecordedSteps(Stepper(run), trainer.crops, record=False)
    recorded = []
    for _ in range(4):
        rate = learning_rate(run, 0.0)
        recorded.append(float(steps.step(State(Phase.SMOOTH, 1.0, skip=True), rate).loss.detach()))
        run.step += 1
    assert recorded == eager
    assert all(torch.equal(a, b) for a, b in zip(run.average.values(), trainer.run.average.values(), strict=True))


def test_a_recording_leaves_no_trace(pictures: Path) -> None:
    from shcodec.train.recorded import _Kept

    run = RunState.fresh(stable_config(), CPU)
    stepper = Stepper(run)
    pixels, beta = 255 * torch.rand(2, 3, 64, 64), torch.tensor([40, 200])
    kept = _Kept(stepper)
    before = {name: p.detach().clone() for name, p in run.learner.named_parameters()}
    for _ in range(2):
        stepper.set(1e-3)
        stepper.body(pixels, beta, State(Phase.SMOOTH, 1.0, skip=True))
    kept.restore()
    assert all(torch.equal(before[name], p) for name, p in run.learner.named_parameters())
    assert all((t == 0).all() for entry in run.optimiser.state.values() for t in entry.values())
    assert float(run.guard.usual) == 0 and not stepper.losses.any()


# -- the rate ---------------------------------------------------------------------------------------


def test_rates_of_stable_phases_and_cooldowns() -> None:
    run = RunState.fresh(stable_config("hyper", lr=1e-3), CPU)
    assert learning_rate(run, 0.0) == pytest.approx(5e-4)  # of two steps of warm-up the first
    run.step = 500
    assert learning_rate(run, 1.0) == 1e-3
    run = RunState.fresh(cooldown_config("hyper", lr=1e-3, last_lr=1e-5), CPU)
    run.warm_from = None
    rates = [learning_rate(run, spent) for spent in (0.0, 0.25, 0.5)]
    assert rates == pytest.approx([1e-3, 1e-5 + (1e-3 - 1e-5) / 2, 1e-5])
    run.phase = Phase.HARD
    run.step, run.phase_start = 1000, 900
    assert [learning_rate(run, spent) for spent in (0.5, 0.75, 1.0)] == pytest.approx([2e-4, 1.05e-4, 1e-5])
    run.phase_start = run.step
    assert learning_rate(run, 0.5) < 2e-5  # warms up


# -- stable phases ----------------------------------------------------------------------------------


def test_a_stable_phase_goes_on_for_as_long_as_it_is_given(pictures: Path, tmp_path: Path) -> None:
    run = stable_run(tmp_path, pictures)
    _, state = checkpoint.read(run)
    assert (state["step"], state["phase"], state["finished"]) == (6, "smooth", False)
    assert state["pixels"] == 6 * 2 * 64 * 64 and not (run / result.FILE).exists()
    train(str(tmp_path / "toy.toml"), pictures, run, device="cpu", resume=True, steps=9)
    train(str(tmp_path / "toy.toml"), pictures, tmp_path / "whole", device="cpu", steps=9)
    (_, resumed), (_, whole) = checkpoint.read(run), checkpoint.read(tmp_path / "whole")
    assert resumed["step"] == 9
    for part in ("learner", "average"):
        assert all(torch.equal(value, whole[part][name]) for name, value in resumed[part].items())
    assert resumed["guard"] == whole["guard"]


def test_a_cooldown_branches_off_and_becomes_a_model(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = stable_run(tmp_path, pictures)
    before = (parent / checkpoint.FILE).read_bytes()
    _, stood = checkpoint.read(parent)
    config = write_config(cooldown_config(), tmp_path)
    started: list[Trainer] = []
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", lambda self, *_: started.append(self))
        train(config, pictures, tmp_path / "begun", device="cpu", cooldown_from=parent)
    run = started[0].run
    assert (run.step, run.first_step, run.pixels, run.warm_from) == (6, 6, stood["pixels"], None)
    for name, parameter in run.learner.named_parameters():
        assert torch.equal(parameter, stood["learner"][name]) and torch.equal(run.average[name], stood["average"][name])
    names = [name for name, p in run.learner.named_parameters() if p in run.optimiser.state]
    assert len(names) == len(stood["optimiser"]["state"])
    theirs = RunState.fresh(stable_config(), CPU)
    checkpoint.load(theirs, parent)
    for (name, ours), (_, other) in zip(run.learner.named_parameters(), theirs.learner.named_parameters(), strict=True):
        for key, value in theirs.optimiser.state[other].items():
            assert torch.equal(run.optimiser.state[ours][key], value), (name, key)
    train(config, pictures, tmp_path / "branch", device="cpu", cooldown_from=parent)
    assert (parent / checkpoint.FILE).read_bytes() == before
    _, state = checkpoint.read(tmp_path / "branch")
    assert (state["step"], state["phase"], state["finished"]) == (14, "hard", True)
    assert "--cooldown-from stable" in state["origin"]["command"] and "6 steps" in state["origin"]["init"]
    export(tmp_path / "branch", tmp_path / "model")


def test_a_cooldown_resumes_bit_for_bit(pictures: Path, tmp_path: Path) -> None:
    parent, config = stable_run(tmp_path, pictures), write_config(cooldown_config(), tmp_path)
    for name in ("whole", "halves"):
        options: dict[str, Any] = {"cooldown_from": parent}
        if name == "halves":
            train(config, pictures, tmp_path / name, device="cpu", stop_after=1e-6, **options)
            options = {"resume": True}
        train(config, pictures, tmp_path / name, device="cpu", **options)
    ours, theirs = (checkpoint.read(tmp_path / name)[1]["learner"] for name in ("whole", "halves"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_packed_phase_is_small_and_goes_on(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "PART_BYTES", 20_000)
    parent, packed = stable_run(tmp_path, pictures), tmp_path / "packed"
    stable.pack(parent, packed)
    facts = json.loads((packed / stable.FACTS).read_text())
    assert len(facts["files"]) > 1 and facts["steps"] == 6
    stable.pack(parent, packed)  # once more, in its place
    assert {path.name for path in packed.iterdir()} == {stable.FACTS, *facts["files"]}
    config = write_config(stable_config(), tmp_path)
    train(config, pictures, tmp_path / "second", device="cpu", init_stable=packed, steps=2)
    _, state = checkpoint.read(tmp_path / "second")
    assert (state["step"], state["first_step"], state["warm_from"]) == (8, 6, 6)
    assert state["pixels"] == pytest.approx((6 + 2) * 2 * 64 * 64, abs=1e5)
    cooldown = write_config(cooldown_config(), tmp_path)
    train(cooldown, pictures, tmp_path / "branch", device="cpu", cooldown_from=packed)
    assert checkpoint.read(tmp_path / "branch")[1]["finished"]


def test_phases_of_an_earlier_program(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = stable_config()
    run = RunState.fresh(config, CPU)
    stepper = Stepper(run)
    stepper.set(1e-3)
    stepper.body(255 * torch.rand(2, 3, 64, 64), torch.tensor([40, 200]), State(Phase.SMOOTH, 1.0, skip=True))
    live = {name: p.detach().clone() for name, p in run.learner.named_parameters()}
    without = replace(config, codebook_lr=config.lr)  # it left codebooks out
    for parameter in run.learner.books.parameters():
        parameter.requires_grad_(False)
    optimiser = make_optimiser(run.learner, without)
    for key, entry in run.optimiser.state.items():
        if key.requires_grad:
            optimiser.state[key] = entry
    theirs = {"live": live, "average": run.average, "adam": optimiser.state_dict(), "step": 77, "gpx": 0.25}
    folder = tmp_path / "earlier"
    folder.mkdir()
    torch.save(theirs | {"grafted": True, "usual": 8.5}, folder / stable.EARLIER)
    ungrafted = replace(config, model=replace(config.model, lapped=False, modulation="stage"))
    monkeypatch.setattr(TrainConfig, "load", staticmethod(lambda _: ungrafted))
    read = stable.read(folder)
    assert (read.model, read.step, read.pixels) == (config.model, 77, 250_000_000)
    fresh = RunState.fresh(config, CPU)
    stable.begin_from(fresh, read, folder)
    assert float(fresh.guard.usual) == pytest.approx(8.5)
    for (name, ours), other in zip(fresh.learner.named_parameters(), run.learner.parameters(), strict=True):
        if name.startswith("books."):
            continue
        assert torch.equal(ours, live[name])
        assert torch.equal(fresh.optimiser.state[ours]["exp_avg_sq"], run.optimiser.state[other]["exp_avg_sq"]), name


def test_sigterm_leaves_a_checkpoint(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Trainer.train_step

    def train_step(self: Trainer, *arguments: Any) -> Any:
        if self.run.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, *arguments)

    def terminate(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(SystemExit) as ended:
            stable_run(tmp_path, pictures)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert checkpoint.read(tmp_path / "stable")[1]["step"] == 3  # the step that was being done is in it


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no idle class")
def test_idle_runs_have_the_lowest_priority_and_leave_others_theirs() -> None:
    code = "import os; from shcodec.train.idle import lowest_priority; lowest_priority(); "
    code += "print(os.nice(0), os.sched_getscheduler(0))"
    group = Path("/proc/self/autogroup")
    before = group.read_text() if group.exists() else ""
    for own_session in (False, True):
        told = subprocess.run(
            [sys.executable, "-c", code],
            check=True, capture_output=True, text=True, timeout=60, start_new_session=own_session,
        ).stdout  # fmt: skip
        assert told.split() == ["19", str(os.SCHED_IDLE)]
        assert (group.read_text() if group.exists() else "") == before


# -- validation -------------------------------------------------------------------------------------


def test_validation_while_training(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "VALIDATE_EVERY", 3)
    run = stable_run(tmp_path, pictures, validation=pictures)
    with (run / VALIDATION).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [3, 6]
    assert all(float(row["loss"]) > 0 and float(row["gpx"]) >= 0 for row in rows)
    state = RunState.fresh(stable_config(), CPU)
    checkpoint.load(state, run)
    before = {name: p.detach().clone() for name, p in state.learner.named_parameters()}
    losses = Validation(pictures).losses(state)
    assert losses.shape == (3, 6) and losses.mean() == pytest.approx(float(rows[-1]["loss"]), rel=1e-4)
    assert all(torch.equal(before[name], p) for name, p in state.learner.named_parameters())
    (tmp_path / "other").mkdir()
    stable_run(tmp_path / "other", pictures)
    _, other = checkpoint.read(tmp_path / "other" / "stable")  # looking changes nothing
    assert all(torch.equal(value, other["average"][name]) for name, value in state.average.items())


def test_crops_of_a_device_are_recorded_from_too(pictures: Path) -> None:
    run = RunState.fresh(stable_config(), CPU)
    source = [np.full((80, 90, 3), 90, np.uint8)]
    steps = RecordedSteps(Stepper(run), DeviceCrops(source, 1, CPU), record=False)
    assert math.isfinite(float(steps.step(State(Phase.SMOOTH, 1.0, skip=True), 1e-3).loss.detach()))


# -- bad input --------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_anything_is_written(pictures: Path, tmp_path: Path) -> None:
    parent, out = stable_run(tmp_path, pictures), tmp_path / "out"
    stable.pack(parent, tmp_path / "packed")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / checkpoint.FILE).write_bytes((parent / checkpoint.FILE).read_bytes()[:5000])
    halved = tmp_path / "halved"
    halved.mkdir()
    for path in (tmp_path / "packed").iterdir():
        data = path.read_bytes()
        (halved / path.name).write_bytes(data if path.suffix == ".json" else data[: len(data) // 2])
    finished = tmp_path / "finished"
    train(write_config(cooldown_config(), tmp_path), pictures, finished, device="cpu", cooldown_from=parent)
    branch, other = cooldown_config(), cooldown_config("shortcut")
    short = replace(branch, schedule=replace(COOLDOWN, steps=1))
    cases: list[tuple[TrainConfig, dict[str, Any], str]] = [
        (branch, {"cooldown_from": tmp_path / "empty"}, "holds no stable phase"),
        (branch, {"cooldown_from": broken}, "not a readable checkpoint"),
        (branch, {"cooldown_from": halved}, "not a readable stable phase"),
        (branch, {"cooldown_from": finished}, "has left its smooth phase"),
        (other, {"cooldown_from": parent}, "another architecture"),
        (short, {"cooldown_from": parent}, "no room for its phases"),
        (stable_config(), {"cooldown_from": parent}, "comes to an end"),
        (branch, {"init_stable": parent}, "whose schedule is stable"),
        (stable_config(), {"init_stable": parent, "resume": True}, "exclude each other"),
    ]
    for config, options, message in cases:
        with pytest.raises(UsageError, match=message) as caught:
            train(write_config(config, tmp_path), pictures, out, device="cpu", **options)
        assert "\n" not in str(caught.value) and not out.exists(), message


def test_weights_that_are_not_finite_are_not_gone_on_from(pictures: Path, tmp_path: Path) -> None:
    parent = stable_run(tmp_path, pictures)
    state = torch.load(parent / checkpoint.FILE, weights_only=True)
    state["learner"]["net.g_s.head.bias"][0] = float("inf")
    torch.save(state, parent / checkpoint.FILE)
    config = write_config(cooldown_config(), tmp_path)
    with pytest.raises(UsageError, match="not finite"):
        train(config, pictures, tmp_path / "out", device="cpu", cooldown_from=parent)


def test_shipped_configurations_of_a_stable_phase() -> None:
    phase, branch = TrainConfig.load("best-stable"), TrainConfig.load("best-cooldown")
    assert phase.model == branch.model == TrainConfig.load("best").model
    assert phase.schedule.stable and not branch.schedule.stable
    for config in (phase, branch):
        assert (config.adam_beta2, config.clip_factor) == (0.999, 3.0)


def test_what_more_pixels_bring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gains = script("training/gpx")
    gpx, before = np.linspace(1, 50, 40), 50.0
    exact = 20 * (before + gpx) ** math.log2(0.95)  # 5 % a doubling
    noisy = exact * np.exp(0.002 * np.random.default_rng(0).normal(size=40))
    for loss, tolerance in ((exact, 1e-6), (noisy, 0.3)):
        line = gains.fit(before + gpx, loss)
        assert 100 * (2**-line.slope - 1) == pytest.approx(-5, abs=tolerance)
    assert line.change(100, 200)[1] > 0.05
    log = tmp_path / "validation.csv"
    rows = [f"{i},{g:.3f},0,{x:.5f}" for i, (g, x) in enumerate(zip(gpx, exact, strict=True))]
    log.write_text("\n".join(["step,gpx,seconds,loss", *rows]) + "\n")
    gains.main([str(log), "--next", "100"])
    told = capsys.readouterr().out
    assert "changes the loss by -5.00 %" in told and "next 100 Gpx should change it by -5.00 %" in told
    assert (tmp_path / "validation.png").stat().st_size > 1000
    for content, message in (("a,b\n1,2\n", "not the validation log"), ("gpx,loss\n1,2\n", "not enough")):
        log.write_text(content)
        with pytest.raises(UsageError, match=message):
            gains.main([str(log)])
