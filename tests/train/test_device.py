"""Training on an accelerator, as far as it can be checked without one: crops, lookups, compilation, watch, results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from toy_training import VARIANTS, shorten, toy_batch, toy_config, write_config, write_pictures

from shcodec.pictures.picture import Pixels
from shcodec.quantize.density import SmoothDensity
from shcodec.quantize.lookup import SpreadLookup
from shcodec.support.errors import ShcError, UsageError
from shcodec.train import checkpoint, loop, result
from shcodec.train.config import TrainConfig
from shcodec.train.device_crops import DeviceCrops, Draw
from shcodec.train.export import export
from shcodec.train.loop import Trainer, train
from shcodec.train.objective import Learner, Phase, State, evaluate
from shcodec.train.watch import Watch

CPU = torch.device("cpu")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of pictures; trainings are kept short."""
    shorten(monkeypatch)
    return write_pictures(tmp_path / "pictures")


# -- crops ------------------------------------------------------------------------------------------


def cut_by_pillow(picture: Pixels, draw: Draw, i: int, size: int) -> np.ndarray:
    """One crop of a batch, step by step."""
    side, top, left, turned = draw.side[i], draw.top[i], draw.left[i], draw.turned[i]
    crop = picture[top : top + side, left : left + side]
    if side != size:
        crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
    crop = crop[::-1] if turned & 1 else crop
    crop = crop[:, ::-1] if turned & 2 else crop
    crop = crop.transpose(1, 0, 2) if turned & 4 else crop
    toned = np.clip((crop - 127.5) * draw.contrast[i] + 127.5 + draw.shift[i], 0, 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(toned).convert("L").convert("RGB")) if draw.grey[i] else toned


def test_crops_are_cut_as_pillow_cuts_them() -> None:
    source = [make_photo(130, 170), make_photo(96, 100), make_photo(40, 64)]
    crops = DeviceCrops(source, 1, CPU)
    draw = crops.draw(np.random.default_rng(3), 64, 48)
    draw = replace(draw, grey=np.arange(48) % 4 == 0)
    cut = crops.cut(draw, 64).numpy().astype(int)
    for i in range(48):
        error = np.abs(cut[i] - cut_by_pillow(source[draw.picture[i]], draw, i, 64))
        # Pillow rounds between its two passes
        assert error.max() <= (5 if draw.side[i] != 64 else 0) and error.mean() < 0.2, (i, draw.side[i])


def test_crops_are_drawn_from_everything() -> None:
    source = [make_photo(200, 300), make_photo(100, 100)]
    crops = DeviceCrops(source, 1, CPU)
    draw = crops.draw(np.random.default_rng(0), 64, 20_000)
    assert np.mean(draw.picture == 0) == pytest.approx(6 / 7, abs=0.01)
    assert np.bincount(draw.turned) / 20_000 == pytest.approx(np.full(8, 1 / 8), abs=0.01)
    assert np.mean(draw.side == 64) == pytest.approx(0.4, abs=0.03)
    assert (draw.side[draw.picture == 1].max(), draw.side[draw.picture == 0].max()) == (100, 107)
    assert draw.side.min() == 46  # 64 / 1.4
    assert np.mean(draw.contrast != 1) == pytest.approx(0.2, abs=0.02)
    assert np.mean(draw.grey) == pytest.approx(0.04, abs=0.01)
    height, width = crops.heights[draw.picture], crops.widths[draw.picture]
    assert (draw.top.min(), (draw.top + draw.side - height).max()) == (0, 0)
    assert (draw.left.min(), (draw.left + draw.side - width).max()) == (0, 0)


def test_batches_depend_on_seed_and_step_alone() -> None:
    source = [make_photo(100, 140), make_photo(64, 64)]
    crops, beta = DeviceCrops(source, 1, CPU).batch(5, 64, 12)
    assert (crops.shape, crops.dtype, beta.dtype) == ((12, 64, 64, 3), torch.uint8, torch.int64)
    again, beta_again = DeviceCrops(source, 1, CPU).batch(5, 64, 12)
    assert torch.equal(crops, again) and torch.equal(beta, beta_again)
    assert not torch.equal(crops, DeviceCrops(source, 1, CPU).batch(6, 64, 12)[0])
    assert not torch.equal(crops, DeviceCrops(source, 2, CPU).batch(5, 64, 12)[0])
    assert torch.equal(torch.div(beta * 12 + 11, 256, rounding_mode="floor").sort().values, torch.arange(12))


def test_a_run_on_crops_of_the_device(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "crops_of", lambda source, seed, device: DeviceCrops(source, seed, CPU))
    train(write_config(toy_config("shortcut"), tmp_path), pictures, tmp_path / "run", device="cpu")
    _, state = checkpoint.read(tmp_path / "run")
    assert (state["step"], state["finished"]) == (8, True)


# -- the step ---------------------------------------------------------------------------------------


class Calls(TorchDispatchMode):
    """Counts what a block asks of the device."""

    def __enter__(self) -> Calls:
        self.counts: Counter[str] = Counter()
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **kwargs or {})


WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique", "is_nonzero", "equal"}


@pytest.mark.parametrize("family", VARIANTS)
@pytest.mark.parametrize("phase", Phase)
def test_a_step_neither_waits_for_the_device_nor_works_sample_by_sample(family: str, phase: Phase) -> None:
    calls = []
    for batch in (2, 5, 5):  # the first fills the caches
        torch.manual_seed(0)
        config = toy_config(family, batch=batch)
        learner, crops = Learner(config), DeviceCrops([make_photo(200, 300)], 1, CPU)
        pixels, beta = crops.batch(3, 64, batch)
        with Calls() as seen:
            crops.batch(4, 64, batch)
            state = State(phase, 4.0, skip=True, border=(21, 37))
            evaluate(learner, pixels.permute(0, 3, 1, 2).float(), beta, state).loss.backward()
        calls.append(seen.counts)
    assert not WAITING & calls[-1].keys()
    if phase is Phase.SMOOTH:  # afterwards the number of bands that occur counts too
        assert calls[-1].total() <= calls[0].total()


@pytest.mark.parametrize("shape", [(7,), (7, 3)])
def test_gradients_of_lookups(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    table, index = torch.randn(shape, requires_grad=True), torch.randint(7, (50, 9))
    weight = torch.randn(*index.shape, *shape[1:])
    (expected,) = torch.autograd.grad((table[index] * weight).sum(), table)
    looked_up = SpreadLookup.apply(table, index)
    assert torch.equal(looked_up, table[index])
    (grad,) = torch.autograd.grad((looked_up * weight).sum(), table)
    assert torch.allclose(grad, expected, atol=1e-4)


def test_training_may_use_spread_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    from shcodec.quantize import codebooks, density

    gradients = []
    for spread in (False, True):
        if spread:
            for module in (codebooks, density):
                monkeypatch.setattr(module, "lookup", SpreadLookup.apply)
        torch.manual_seed(0)
        learner = Learner(toy_config())
        pixels, beta = toy_batch(learner.config)
        for phase in Phase:
            torch.manual_seed(1)
            evaluate(learner, pixels, beta, State(phase, 4.0, skip=True)).loss.backward()
        gradients.append({n: p.grad for n, p in learner.named_parameters() if p.grad is not None})
    for name, grad in gradients[0].items():
        assert torch.allclose(gradients[1][name], grad, rtol=1e-3, atol=1e-4 * float(grad.abs().max())), name
    assert isinstance(learner.density, SmoothDensity)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the compiler looks at all of them
def test_compiled_transforms_compute_the_same() -> None:
    """The compiler's front end, without the code generator, which takes a minute."""
    outcomes: list[tuple[float, Any]] = []
    for compiled in (False, True):
        torch.manual_seed(0)
        learner = Learner(toy_config("shortcut"))
        learner.net.mixed = True
        if compiled:
            learner.compile_for_training("aot_eager")
        pixels, beta = toy_batch(learner.config)
        torch.manual_seed(1)
        outcome = evaluate(learner, pixels, beta, State(Phase.SOFT, 4.0, skip=True))
        outcome.loss.backward()
        outcomes.append((float(outcome.loss.detach()), learner.net.g_a.stem.weight.grad))
    assert outcomes[1][0] == pytest.approx(outcomes[0][0], rel=0.02)
    assert torch.nn.functional.cosine_similarity(outcomes[0][1].flatten(), outcomes[1][1].flatten(), 0) > 0.98


def test_a_training_goes_on_where_compilation_fails(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    train(write_config(toy_config(compile=True), tmp_path), pictures, tmp_path / "run", device="cpu")
    assert checkpoint.read(tmp_path / "run")[1]["finished"]
    assert "not compiled: RuntimeError" in capsys.readouterr().err


# -- the watch --------------------------------------------------------------------------------------


def test_watch() -> None:
    watch = Watch(least_speed=5.0)
    for look in range(1, 6):
        watch.look(50 * look, 20.0 + 9.0 * look, 30.0 - look)  # slow to start, then 50 steps in 9 s
    assert watch.speed == pytest.approx(50 / 9)
    with pytest.raises(ShcError, match=r"step 150: 5 steps/s, 6 were"):
        looks(Watch(least_speed=6.0), [20, 30, 40], [30, 29, 28])
    with pytest.raises(ShcError, match="rose from 30 to 70"):
        looks(Watch(least_speed=1.0), [20, 30, 40], [30, 50, 70])
    looks(Watch(), [20, 30, 40], [30, 50, 70])
    with pytest.raises(ShcError, match="step 100: the loss is not finite"):
        looks(Watch(), [20, 30], [30, float("nan")])


def looks(watch: Watch, seconds: list[float], losses: list[float]) -> None:
    for i, (second, loss) in enumerate(zip(seconds, losses, strict=True), 1):
        watch.look(50 * i, second, loss)


def test_weights_that_are_not_finite_are_not_saved(pictures: Path, tmp_path: Path) -> None:
    trainer = Trainer(toy_config(), pictures, tmp_path, "cpu", None)
    trainer._save()
    before = (tmp_path / checkpoint.FILE).read_bytes()
    with torch.no_grad():
        trainer.run.learner.net.g_s.get_parameter("head.bias")[0] = float("inf")
    with pytest.raises(ShcError, match="weights are not finite"):
        trainer._save()
    assert (tmp_path / checkpoint.FILE).read_bytes() == before


def test_a_loss_that_is_not_finite_ends_the_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer.train_step

    def train_step(self: Trainer, *arguments: Any) -> object:
        outcome = whole(self, *arguments)
        self.stepper.losses += float("nan")
        return outcome

    monkeypatch.setattr(Trainer, "train_step", train_step)
    with pytest.raises(ShcError, match="the loss is not finite"):
        train(write_config(toy_config(), tmp_path), pictures, tmp_path / "run", device="cpu")


# -- stopping and results ---------------------------------------------------------------------------


def test_a_run_in_two_sittings(pictures: Path, tmp_path: Path) -> None:
    config, run = write_config(toy_config(), tmp_path), tmp_path / "run"
    train(config, pictures, run, device="cpu", stop_after=1e-6)
    assert (checkpoint.read(run)[1]["step"], (run / result.FILE).exists()) == (1, False)
    train(config, pictures, run, device="cpu", resume=True)
    train(config, pictures, tmp_path / "whole", device="cpu")
    ours, theirs = (checkpoint.read(folder)[1]["learner"] for folder in (run, tmp_path / "whole"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_model_of_a_result_is_the_model_of_the_checkpoint(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result, "PART_BYTES", 20_000)
    run = tmp_path / "run"
    train(write_config(toy_config("shortcut"), tmp_path), pictures, run, device="cpu", steps=9)
    export(run, tmp_path / "a" / "model")
    (run / checkpoint.FILE).unlink()
    files = json.loads((run / result.FILE).read_text())["files"]
    assert len(files) > 1 and all((run / file).stat().st_size < 60_000 for file in files)
    export(run, tmp_path / "b" / "model")
    for path in (tmp_path / "a" / "model").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "model" / path.name).read_bytes(), path.name
    with pytest.raises(UsageError, match="--init"):
        train(str(tmp_path / "toy.toml"), pictures, run, device="cpu", resume=True, steps=9)
    (run / files[-1]).write_bytes(b"")
    with pytest.raises(UsageError, match="not a readable result"):
        checkpoint.read(run)


def test_training_needs_no_package_beside_torch_and_safetensors() -> None:
    blocked = ("constriction", "onnx", "onnxruntime", "tomli_w", "pytorch_msssim", "pooch", "platformdirs", "skimage")
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); import shcodec.train.loop"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)


# -- configurations ---------------------------------------------------------------------------------


def test_configurations_derived_from_others(tmp_path: Path) -> None:
    fast, best = TrainConfig.load("fast"), TrainConfig.load("best")
    assert best.model.analysis == fast.model.analysis and best.model.quantiser == fast.model.quantiser
    assert best.model.synthesis.blocks8 == 8 and best.batch == 16
    assert TrainConfig.load("best-relay").model == TrainConfig.load("best").model
    path = tmp_path / "derived.toml"
    path.write_text('base = "tiny"\n[training]\nlr = 1e-4\n')
    assert TrainConfig.load(str(path)) == replace(TrainConfig.load("tiny"), lr=1e-4)
    for base in (f'"{path}"', '"nothing"', "3"):
        path.write_text(f"base = {base}\n")
        with pytest.raises(UsageError):
            TrainConfig.load(str(path))


@pytest.mark.parametrize("value", ["maybe", 1, 0.5])
def test_compile_is_yes_no_or_auto(value: object) -> None:
    tables = TrainConfig.load("tiny").to_dict()
    with pytest.raises(UsageError, match="compile"):
        TrainConfig.from_dict(tables | {"training": tables["training"] | {"compile": value}})
