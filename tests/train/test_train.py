"""Training: phases and surrogates, schedules, exact resumption, budgets, data, and what a run leaves behind."""

from __future__ import annotations

import csv
import io
import math
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image
from toy_training import FAMILIES, SCHEDULE, VARIANTS, shorten, toy_batch, toy_config, write_config, write_pictures

from shcodec.nets.config import BandConfig, QuantiserConfig
from shcodec.quantize.codebooks import ClassCodebooks
from shcodec.quantize.lattice import lattice
from shcodec.support.errors import PictureError, UsageError
from shcodec.train import checkpoint, log, loop
from shcodec.train.annealing import Sigma
from shcodec.train.config import Annealing, Schedule, TrainConfig
from shcodec.train.data import Crops, load_pictures
from shcodec.train.drawings import SIDE, drawings
from shcodec.train.loop import Trainer, train
from shcodec.train.objective import Learner, Phase, State, evaluate
from shcodec.train.plots import plot_log
from shcodec.train.schedule import learning_rate
from shcodec.train.start import start_from_data
from shcodec.train.state import snapshot


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of pictures; trainings are kept short."""
    shorten(monkeypatch)
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def make_trainer(pictures: Path, tmp_path: Path) -> Callable[[TrainConfig], Trainer]:
    def make(config: TrainConfig) -> Trainer:
        (tmp_path / "run").mkdir(exist_ok=True)
        return Trainer(config, pictures, tmp_path / "run", "cpu", None)

    return make


def steps(trainer: Trainer, number: int) -> list[float]:
    """Trains on one fixed batch, schedule included; returns the losses."""
    pixels, beta = toy_batch(trainer.config)
    crops, losses = pixels.permute(0, 2, 3, 1).byte().numpy(), []
    for _ in range(number):
        fraction = trainer.fraction()
        trainer._advance(fraction)
        losses.append(float(trainer.train_step(crops, beta.numpy(), fraction).loss.detach()))
        trainer.run.step += 1
    return losses


def read_log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def parameters(trainer: Trainer, prefix: str) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in trainer.run.learner.named_parameters() if n.startswith(prefix)}


# -- one step ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", VARIANTS)
@pytest.mark.parametrize("surrogate", ["soft", "straight-through", "noise", "convex"])
@pytest.mark.parametrize("phase", Phase)
def test_one_step(family: str, surrogate: str, phase: Phase) -> None:
    torch.manual_seed(0)
    config = toy_config(family, surrogate=surrogate)
    learner = Learner(config)
    pixels, beta = toy_batch(config)
    outcome = evaluate(learner, pixels, beta, State(phase, 4.0, skip=True, measure_gap=phase is Phase.SOFT))
    assert math.isfinite(float(outcome.loss.detach())) and outcome.bpp > outcome.hyper_bpp >= 0
    assert (outcome.hyper_bpp > 0) == (family != "seed")
    assert (outcome.symbols > 0) == (phase is not Phase.SMOOTH)
    outcome.loss.backward()
    expected = {"net.g_s."}
    if phase is not Phase.HARD:
        expected |= {"net.g_a."}
    expected |= {"density."} if phase is Phase.SMOOTH else {"books."}
    if family != "seed":
        expected |= {"net.h_s.", "net.h_a.", "net.refine.", "histograms."}
        expected |= {"net.class_map."} if phase is Phase.SMOOTH else set()
    moved = {name for name, p in learner.named_parameters() if p.grad is not None and p.grad.any()}
    assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)
    for prefix in expected:
        assert any(name.startswith(prefix) for name in moved), prefix


@pytest.mark.parametrize("surrogate", ["soft", "straight-through", "noise", "convex"])
def test_a_hard_forward_shows_the_decoder_what_it_will_see(surrogate: str) -> None:
    torch.manual_seed(0)
    config = toy_config(surrogate=surrogate, forward="hard")
    learner = Learner(config).eval()
    pixels, beta = toy_batch(config)
    outcomes = []
    for phase in (Phase.SOFT, Phase.HARD):
        torch.manual_seed(1)
        outcomes.append(evaluate(learner, pixels, beta, State(phase, 4.0, skip=True)))
    assert outcomes[0].mse == pytest.approx(outcomes[1].mse, rel=1e-3)
    assert outcomes[0].bpp == pytest.approx(outcomes[1].bpp, rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_lies_beyond_the_picture_is_not_seen(family: str) -> None:
    config = toy_config(family)
    learner = Learner(config).eval()
    pixels, beta = toy_batch(config)
    other = pixels.clone()
    other[:, :, 64 - 21 :], other[:, :, :, 64 - 37 :] = 0, 255
    outcomes = []
    for batch in (pixels, other):
        torch.manual_seed(1)
        outcomes.append(evaluate(learner, batch, beta, State(Phase.HARD, 4.0, skip=False, border=(21, 37))))
    assert float(outcomes[0].loss.detach()) == float(outcomes[1].loss.detach())
    torch.manual_seed(1)
    assert outcomes[0].symbols < evaluate(learner, pixels, beta, State(Phase.HARD, 4.0, skip=False)).symbols


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gap_closes_with_sigma(family: str) -> None:
    torch.manual_seed(0)
    config = toy_config(family, forward="soft")
    learner = Learner(config).eval()
    pixels, beta = toy_batch(config)
    gaps = []
    for sigma in (1.0, 10.0, 1e5):
        torch.manual_seed(1)
        outcome = evaluate(learner, pixels, beta, State(Phase.SOFT, sigma, skip=True, measure_gap=True))
        assert outcome.hard_loss is not None
        gaps.append(abs(1 - float(outcome.loss.detach()) / outcome.hard_loss))
    assert gaps[0] > 20 * gaps[2]
    assert gaps[2] < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls(family: str, make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    schedule = Schedule(steps=1000, warmup=5)
    losses = steps(make_trainer(toy_config(family, schedule=schedule, lr=3e-3)), 30)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls_in_the_soft_phase(family: str, make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    schedule = Schedule(steps=1000, warmup=5, integer=0.0, codebooks=0.0, hard=1.0)
    trainer = make_trainer(toy_config(family, schedule=schedule, lr=3e-3))
    losses = steps(trainer, 30)
    assert trainer.run.phase is Phase.SOFT
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_shortcuts_begin_as_a_working_codec(make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    losses = {}
    for family in ("hyper", "shortcut"):
        trainer = make_trainer(toy_config(family))
        start_from_data(trainer.run, trainer.crops)
        assert all(torch.equal(trainer.run.average[n], p) for n, p in trainer.run.learner.named_parameters())
        (losses[family],) = steps(trainer, 1)
    assert losses["shortcut"] < 0.3 * losses["hyper"]


# -- phases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_codebooks_start_from_latents(family: str, make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    config = toy_config(family)
    trainer = make_trainer(config)
    steps(trainer, 4)
    bands = config.model.quantiser.bands
    starts = [lattice(band.dim, band.codewords) for band in bands]
    assert all(torch.equal(a, b) for a, b in zip(starts, trainer.run.learner.books.codebooks, strict=True))
    trainer._advance(trainer.fraction())
    assert trainer.run.phase is Phase.SOFT
    moved = [not torch.equal(a, b) for a, b in zip(starts, trainer.run.learner.books.codebooks, strict=True)]
    assert any(moved) and (family == "hyper" or all(moved))


def test_the_last_phase_moves_the_decoder_alone(make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    trainer = make_trainer(toy_config())
    steps(trainer, 6)
    trainer._advance(trainer.fraction())
    assert trainer.run.phase is Phase.HARD
    frozen = ("net.g_a.", "net.h_a.", "net.h_s.", "net.class_map.", "histograms.", "density.")
    before = parameters(trainer, "")
    steps(trainer, 2)
    after = parameters(trainer, "")
    for name, value in before.items():
        if name.startswith(frozen):
            assert torch.equal(value, after[name]) and torch.equal(value, trainer.run.average[name]), name
    for prefix in ("net.g_s.", "net.refine.", "books."):
        assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith(prefix)), prefix


def test_drawings_join_the_pictures(make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    drawn = drawings(3, seed=1)
    assert all(picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8 for picture in drawn)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, drawings(3, seed=1), strict=True))
    assert not np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawings(1, seed=2)[0])
    trainer = make_trainer(toy_config(drawings=0.1))
    assert [picture.shape for picture in trainer.crops.pictures].count((SIDE, SIDE, 3)) == 1
    assert "4 pictures, 1 drawn" in trainer.loading


def test_the_class_map_is_integer_and_final_before_the_codebooks(
    make_trainer: Callable[[TrainConfig], Trainer],
) -> None:
    trainer = make_trainer(toy_config())
    steps(trainer, 2)
    assert not trainer.run.learner.net.class_map.fake_integer
    steps(trainer, 3)
    assert trainer.run.learner.net.class_map.fake_integer
    before = parameters(trainer, "net.class_map.")
    steps(trainer, 1)
    assert all(torch.equal(value, before[name]) for name, value in parameters(trainer, "net.class_map.").items())


def test_running_average(make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    trainer = make_trainer(toy_config(ema=0.15))
    expected = snapshot(trainer.run.learner)
    for step in range(3):
        steps(trainer, 1)
        decay = min(0.15, (1 + step) / (10 + step))
        live = snapshot(trainer.run.learner)
        expected = {name: decay * value + (1 - decay) * live[name] for name, value in expected.items()}
    assert all(torch.allclose(trainer.run.average[name], value, atol=1e-6) for name, value in expected.items())
    assert not torch.equal(trainer.run.average["net.g_s.head.weight"], live["net.g_s.head.weight"])


def test_phases_begin_from_the_average(make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    trainer = make_trainer(toy_config())
    steps(trainer, 4)
    average = {name: value.clone() for name, value in trainer.run.average.items()}
    trainer._advance(trainer.fraction())
    assert all(
        torch.equal(value, average[name])
        for name, value in trainer.run.learner.named_parameters()
        if not name.startswith("books.")
    )


# -- annealing --------------------------------------------------------------------------------------


def test_sigma_by_budget() -> None:
    sigma = Sigma(Annealing(start=2.0, end=32.0), 2.0)
    values = []
    for fraction in (-0.5, 0.0, 0.25, 0.5, 1.0, 2.0):
        sigma.by_budget(fraction)
        values.append(sigma.value)
    assert values == pytest.approx([2, 2, 4, 8, 32, 32])


def test_sigma_by_gap_raises_sigma_and_closes_the_gap() -> None:
    """A fixed toy source: gap and target fall together, sigma only follows."""
    torch.manual_seed(0)
    books = ClassCodebooks(QuantiserConfig(classes=1, skip=0, bands=(BandConfig(0, 0, 2, 64),))).eval()
    r, classes, weight = torch.randn(2000), torch.zeros(2000).long(), torch.full((2000,), 0.05)
    sigma = Sigma(Annealing(mode="gap", start=1.0, gain=30.0, horizon=300.0), 1.0)
    gaps, sigmas = [], []
    for step in range(0, 6000, 10):
        out = books(r, classes, weight, sigma=sigma.value, rate_weight=0.1, surrogate="soft")
        soft = float(((out.value - r).square().sum() + out.bits).detach())
        hard = float(((out.hard - r).square().sum() + out.hard_weighted).detach())
        sigma.by_gap(soft, hard, step)
        gaps.append(abs(1 - soft / hard))
        sigmas.append(sigma.value)
    assert sigma.first_gap is not None
    target = abs(sigma.first_gap) * 300 / (300 + 6000)
    assert max(sigmas[0], 5.0) < sigmas[300] < sigmas[-1]
    assert gaps[-1] < 0.2 * gaps[0]
    assert gaps[-1] == pytest.approx(target, rel=0.5)


def test_sigma_never_falls_below_its_start() -> None:
    sigma = Sigma(Annealing(mode="gap", start=2.0), 2.0)
    sigma.by_gap(5.0, 10.0, 0)
    for step in range(10, 200, 10):
        sigma.by_gap(10.0, 10.0, step)  # no gap at all
    assert sigma.value == 2.0


@pytest.mark.parametrize("mode", ["budget", "gap"])
def test_sigma_rises_in_a_training(mode: str, make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    schedule = Schedule(steps=120, warmup=2, codebooks=0.5, hard=1.0)
    annealing = Annealing(mode=mode, start=1.0, end=20.0, gain=30.0, horizon=5.0)
    trainer = make_trainer(toy_config("seed", forward="soft", lr=1e-3, schedule=schedule, annealing=annealing))
    steps(trainer, 65)
    early, gap = trainer.run.sigma.value, trainer.run.sigma.first_gap
    steps(trainer, 54)
    assert trainer.run.phase is Phase.SOFT
    assert trainer.run.sigma.value > 1.5 * early
    assert mode == "budget" or gap is not None


def test_learning_rate(make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    config = toy_config(lr=1e-3, last_lr=1e-5, schedule=Schedule(steps=100, warmup=10, decay=0.5))
    trainer = make_trainer(config)
    assert learning_rate(trainer.run, 0.0) == pytest.approx(1e-4)
    trainer.run.step = 40
    assert learning_rate(trainer.run, 0.4) == pytest.approx(1e-3)
    assert learning_rate(trainer.run, 0.75) == pytest.approx(1e-5 + (1e-3 - 1e-5) / 2)
    assert learning_rate(trainer.run, 1.0) == pytest.approx(1e-5)


# -- whole runs -------------------------------------------------------------------------------------


class Stopped(Exception):
    """Stands for a power cut."""


def stop_before(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Save a checkpoint after every step and breaks off before the given one."""
    whole = Trainer.train_step

    def train_step(self: Trainer, *arguments: Any) -> Any:
        if self.run.step == step:
            raise Stopped
        return whole(self, *arguments)

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(Trainer, "train_step", train_step)


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Equal bit for bit, through dictionaries, lists and tensors."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_same(left, right, f"{path}.{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


@pytest.mark.parametrize("family", VARIANTS)
def test_a_run_resumes_bit_for_bit(
    family: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(toy_config(family), tmp_path)
    train(config, pictures, tmp_path / "whole", device="cpu")
    _, whole = checkpoint.read(tmp_path / "whole")
    assert (whole["step"], whole["phase"], whole["finished"]) == (8, "hard", True)
    # in every phase, and at both steps with which a phase begins
    for stop in (3, 6) if family in ("shortcut", "lapped") else (3, 4, 5, 6, 7):
        run = tmp_path / f"stopped-{stop}"
        with monkeypatch.context() as patch:
            stop_before(patch, stop)
            with pytest.raises(Stopped):
                train(config, pictures, run, device="cpu")
        _, state = checkpoint.read(run)
        assert (state["step"], state["finished"]) == (stop, False)
        train(config, pictures, run, resume=True, device="cpu")
        _, resumed = checkpoint.read(run)
        assert_same(whole | {"elapsed": 0}, resumed | {"elapsed": 0})
        different = {"seconds"}
        for ours, theirs in zip(read_log(tmp_path / "whole"), read_log(run), strict=True):
            assert {k: v for k, v in ours.items() if k not in different} == {
                k: v for k, v in theirs.items() if k not in different
            }


def test_resuming_a_finished_run_changes_nothing(pictures: Path, tmp_path: Path) -> None:
    config, run = write_config(toy_config(), tmp_path), tmp_path / "run"
    train(config, pictures, run, device="cpu")
    before = (run / checkpoint.FILE).read_bytes(), (run / "log.csv").read_bytes()
    train(config, pictures, run, resume=True, device="cpu")
    assert ((run / checkpoint.FILE).read_bytes(), (run / "log.csv").read_bytes()) == before


def test_rows_logged_after_the_checkpoint_are_not_logged_twice(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = write_config(toy_config(), tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_before(patch, 3)
        with pytest.raises(Stopped):
            train(config, pictures, run, device="cpu")
    last = (run / "log.csv").read_text().splitlines()[-1]
    with (run / "log.csv").open("a") as stream:
        stream.write(last.replace("3", "4", 1) + "\n4,half a ro")  # trained on after the checkpoint, then cut off
    train(config, pictures, run, resume=True, device="cpu")
    assert [int(row["step"]) for row in read_log(run)] == list(range(1, 9))


def test_log_and_plot(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "plot_log", plot_log)
    config, run = write_config(toy_config("seed"), tmp_path), tmp_path / "run"
    train(config, pictures, run, device="cpu")
    rows = read_log(run)
    assert tuple(rows[0]) == log.FIELDS
    assert [row["phase"] for row in rows] == ["smooth"] * 4 + ["soft"] * 2 + ["hard"] * 2
    for row in rows:
        assert all(math.isfinite(float(row[name])) for name in log.FIELDS if name != "phase")
        assert float(row["bpp"]) > 0 and 0 < float(row["usage"]) <= 1
    with Image.open(run / "log.png") as plot:
        assert min(plot.size) > 300


def test_a_time_limit_ends_in_the_hard_phase(pictures: Path, tmp_path: Path) -> None:
    config, run = toy_config(schedule=Schedule(steps=10**7, warmup=2)), tmp_path / "run"
    train(write_config(config, tmp_path), pictures, run, time_limit=1.5, device="cpu")
    _, state = checkpoint.read(run)
    assert state["finished"] and state["phase"] == "hard" and 3 < state["step"] < 10**5
    assert state["elapsed"] >= 1.5
    assert state["origin"]["command"].endswith("--time-limit 1.5")
    assert {row["phase"] for row in read_log(run)} == {"smooth", "soft", "hard"}


def test_fits_are_not_part_of_the_budget(
    make_trainer: Callable[[TrainConfig], Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitting codebooks for longer than the whole run leaves the phases after it their steps."""
    clock = {"seconds": 0.0}
    monkeypatch.setattr("shcodec.train.loop.time.monotonic", lambda: clock["seconds"])
    trainer = make_trainer(toy_config())
    trainer.time_limit = 10.0
    phases: list[Phase] = []
    enter, next_step = trainer._enter, trainer._next_step

    def slow_fit(phase: Phase) -> None:
        clock["seconds"] += 100
        enter(phase)

    def counted(*arguments: Any) -> Any:
        clock["seconds"] += 1
        phases.append(trainer.run.phase)
        return next_step(*arguments)

    monkeypatch.setattr(trainer, "_enter", slow_fit)
    monkeypatch.setattr(trainer, "_next_step", counted)
    monkeypatch.setattr(trainer, "config", replace(trainer.config, schedule=replace(SCHEDULE, steps=1000)))
    trainer.run.config = trainer.config
    trainer.train(resumed=False)
    assert phases.count(Phase.SMOOTH) == 5
    assert phases.count(Phase.HARD) >= 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_budget_spent_in_one_step_still_ends_in_the_hard_phase(family: str, pictures: Path, tmp_path: Path) -> None:
    config, run = write_config(toy_config(family), tmp_path), tmp_path / "run"
    train(config, pictures, run, time_limit=1e-6, device="cpu")
    _, state = checkpoint.read(run)
    assert (state["phase"], state["step"], state["finished"]) == ("hard", 1, True)
    assert family == "seed" or state["learner"]["bank"].sum() > 0


def test_a_run_is_not_overwritten(pictures: Path, tmp_path: Path) -> None:
    config, run = write_config(toy_config(), tmp_path), tmp_path / "run"
    run.mkdir()
    (run / checkpoint.FILE).write_bytes(b"a run")
    with pytest.raises(UsageError, match="--resume"):
        train(config, pictures, run, device="cpu")
    with pytest.raises(UsageError, match="not a readable checkpoint"):
        train(config, pictures, run, resume=True, device="cpu")
    assert (run / checkpoint.FILE).read_bytes() == b"a run"


def test_resuming_needs_a_checkpoint_of_the_same_configuration(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        train(write_config(toy_config(), tmp_path), pictures, tmp_path / "run", resume=True, device="cpu")
    train(write_config(toy_config(), tmp_path), pictures, tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match="another configuration"):
        train(write_config(toy_config(seed=2), tmp_path), pictures, tmp_path / "run", resume=True, device="cpu")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"a run"])
def test_damaged_checkpoints(content: bytes, tmp_path: Path) -> None:
    (tmp_path / checkpoint.FILE).write_bytes(content)
    with pytest.raises(UsageError, match="not a readable checkpoint"):
        checkpoint.read(tmp_path)


def test_truncated_checkpoint(make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    trainer = make_trainer(toy_config())
    checkpoint.save(trainer.run, trainer.out)
    path = trainer.out / checkpoint.FILE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UsageError, match="not a readable checkpoint"):
        checkpoint.read(trainer.out)


def test_cuda_is_refused_where_there_is_none(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        train(write_config(toy_config(), tmp_path), pictures, tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


# -- data -------------------------------------------------------------------------------------------


def png(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(make_photo(height, width)).save(stream, "png")
    return stream.getvalue()


def test_folders_and_packs_as_data(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "data")
    with tarfile.open(folder / "deeper" / "pack.tar", "w") as pack:
        members = {"d.png": png(70, 90), "sub/e.png": png(80, 80), "bad.png": b"not a picture", "notes.txt": b"no"}
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            pack.addfile(member, io.BytesIO(data))
    (folder / "half.png").write_bytes(png(90, 90)[:300])
    (folder / "wrong.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "small.png").write_bytes(png(20, 90))
    Image.fromarray(make_photo(75, 75)).convert("L").save(folder / "grey.png")
    loaded, left_out = load_pictures(folder, least=64)
    assert sorted(p.shape for p in loaded) == sorted(
        [(96, 160, 3), (130, 70, 3), (64, 64, 3), (70, 90, 3), (80, 80, 3), (75, 75, 3)]
    )
    assert left_out == 4
    again, _ = load_pictures(folder, least=64)
    assert all(np.array_equal(a, b) for a, b in zip(loaded, again, strict=True))
    alone, left_out = load_pictures(folder / "deeper" / "pack.tar", least=64)
    assert (len(alone), left_out) == (2, 1)


def test_neither_hidden_files_nor_pipes(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "data")
    count = len(load_pictures(folder, least=64)[0])
    (folder / "._a.png").write_bytes(b"what a Mac leaves beside a.png")
    (folder / "folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
    with tarfile.open(folder / "pack.tar", "w") as pack:
        pack.addfile(tarfile.TarInfo("deep/._b.png"), io.BytesIO())
    loaded, left_out = load_pictures(folder, least=64)
    assert (len(loaded), left_out) == (count, 0)


def test_a_damaged_pack_is_not_fatal(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "data")
    (folder / "broken.tar").write_bytes(b"this is no archive" * 100)
    with tarfile.open(folder / "cut.tar", "w") as pack:
        for name in ("f.png", "g.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png(90, 90))
            pack.addfile(member, io.BytesIO(png(90, 90)))
    cut = folder / "cut.tar"
    cut.write_bytes(cut.read_bytes()[: 512 + len(png(90, 90)) + 2000])
    loaded, left_out = load_pictures(folder, least=64)
    assert len(loaded) == 4
    assert left_out == 2


def test_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no picture"):
        load_pictures(tmp_path)
    with pytest.raises(PictureError, match="no such folder"):
        load_pictures(tmp_path / "nowhere")
    (tmp_path / "small.png").write_bytes(png(100, 100))
    with pytest.raises(PictureError, match="at least 128"):
        load_pictures(tmp_path)


def test_damaged_pictures_are_counted(pictures: Path, tmp_path: Path) -> None:
    (pictures / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    trainer = Trainer(toy_config(), pictures, tmp_path, "cpu", None)
    assert trainer.left_out == 1
    assert trainer.run.origin["data"].startswith("3 pictures")


def test_crops_depend_on_seed_and_step_alone() -> None:
    source = [make_photo(100, 140), make_photo(64, 64)]
    crops, beta = Crops(source, 1).batch(5, 64, 12)
    assert crops.shape == (12, 64, 64, 3) and crops.dtype == np.uint8
    again, beta_again = Crops(source, 1).batch(5, 64, 12)
    assert np.array_equal(crops, again) and np.array_equal(beta, beta_again)
    assert not np.array_equal(crops, Crops(source, 1).batch(6, 64, 12)[0])
    assert not np.array_equal(crops, Crops(source, 2).batch(5, 64, 12)[0])
    # one beta from each twelfth of the range
    assert np.array_equal(np.sort((beta * 12 + 11) // 256), np.arange(12))


def test_crops_larger_than_the_pictures_are_enlarged() -> None:
    assert Crops([make_photo(64, 70)], 1).batch(0, 128, 2)[0].shape == (2, 128, 128, 3)


# -- configurations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "values", "message"),
    [
        ("training", {"surogate": "soft"}, "surogate"),
        ("training", {"surrogate": "fuzzy"}, "'fuzzy' is not one of soft"),
        ("training", {"forward": "both"}, "forward"),
        ("training", {"crop": 100}, "multiples of 64"),
        ("training", {"late_crop": 0}, "multiples of 64"),
        ("training", {"batch": 0}, "above 0"),
        ("training", {"batch": "8"}, "batch = '8'"),
        ("training", {"lr": -1.0}, "lr = -1.0"),
        ("training", {"clip": float("nan")}, "clip = nan"),
        ("training", {"ema": 1.0}, "ema below 1"),
        ("schedule", {"step": 3}, "step"),
        ("schedule", {"steps": 0}, "above 0"),
        ("schedule", {"steps": 1.5}, "steps = 1.5"),
        ("schedule", {"codebooks": 0.9, "hard": 0.8}, "in order"),
        ("schedule", {"hard": 1.2}, "in order"),
        ("schedule", {"integer": 0.7, "codebooks": 0.6}, "class map"),
        ("annealing", {"mode": "slow"}, "annealing.mode"),
        ("annealing", {"start": 0.0}, "above 0"),
        ("annealing", {"speed": 1}, "speed"),
        ("optimiser", {"name": "sgd"}, "unknown table"),
    ],
)
def test_bad_configurations_are_refused_in_one_line(table: str, values: dict[str, Any], message: str) -> None:
    tables = TrainConfig.load("tiny").to_dict()
    with pytest.raises(UsageError, match=message) as caught:
        TrainConfig.from_dict(tables | {table: tables.get(table, {}) | values})
    assert "\n" not in str(caught.value)


def test_configurations_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shipped: best"):
        TrainConfig.load("nothing")
    with pytest.raises(UsageError, match=r"\[model\]"):
        TrainConfig.from_dict({})
    for content in (b"[model", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(UsageError, match=r"bad\.toml"):
            TrainConfig.load(str(tmp_path / "bad.toml"))


def test_a_configuration_survives_its_file(tmp_path: Path) -> None:
    config = replace(toy_config("seed"), seed=9)
    assert TrainConfig.load(write_config(config, tmp_path)) == config


@pytest.mark.parametrize("part", ["steps", "refine"])
def test_parts_that_are_left_out_stay_as_they_begin(part: str, make_trainer: Callable[[TrainConfig], Trainer]) -> None:
    trainer = make_trainer(toy_config("hyper", without=(part,)))
    net = trainer.run.learner.net
    steps(trainer, 12)
    if part == "refine":
        assert all((parameter == 0).all() for parameter in net.refine.head.parameters())
        return
    crops, _ = trainer.crops.batch(0, 64, 4)
    with torch.no_grad():
        latents = net.latents(torch.as_tensor(crops).permute(0, 3, 1, 2).float(), torch.full((4,), 100))
    assert latents.step.unique().numel() == 1 and latents.mean.unique().numel() > 1


def test_only_known_parts_can_be_left_out() -> None:
    for config, part in ((toy_config("hyper"), "means"), (toy_config("seed"), "refine")):
        with pytest.raises(UsageError, match="without"):
            replace(config, without=(part,)).check()
