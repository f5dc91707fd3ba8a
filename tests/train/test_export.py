"""Export: what a model folder holds, its id, agreement with the networks in training, and starting from a model."""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import GOLDEN, make_photo
from PIL import Image
from safetensors.numpy import save_file
from toy_training import FAMILIES, SCHEDULE, VARIANTS, shorten, toy_config, write_config, write_pictures

from shcodec.codec import analysis, decoding, encoding, inspection
from shcodec.container import byte_to_beta, unpack
from shcodec.model import latent, zoo
from shcodec.model.card import CARD, DECODER, ENCODER, TRAINING, read_card
from shcodec.model.networks import Model
from shcodec.model.tensors import read_tensors
from shcodec.nets.layers import knot_weights
from shcodec.quantize.lattice import lattice
from shcodec.support.errors import ModelError, UsageError
from shcodec.symbols import choice, stream
from shcodec.symbols.bands import Band
from shcodec.symbols.grid import Grid, first_half
from shcodec.train import checkpoint, objective
from shcodec.train.config import TrainConfig
from shcodec.train.export import export, widened
from shcodec.train.loop import Trainer, train
from shcodec.train.objective import Learner, Phase, State, evaluate
from shcodec.train.pretrained import load_model
from shcodec.train.tune import WEIGHTS, tune_rate_weight

FILES = {
    "hyper": {"analysis.onnx", "hyper.onnx", "refine.onnx", "synthesis.onnx"},
    "seed": {"analysis.onnx", "synthesis.onnx"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, one short run of each family, and the models exported from them, each under its family's name."""
    root = tmp_path_factory.mktemp("export")
    pictures = write_pictures(root / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        for family in VARIANTS:
            config = toy_config(family, lr=3e-3, schedule=replace(SCHEDULE, steps=60))
            train(write_config(config, root), pictures, root / "runs" / family, device="cpu")
            export(root / "runs" / family, root / "models" / family)
    return root


@pytest.fixture
def models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of both models, made known to the codec."""
    monkeypatch.setenv("SHC_MODELS", str(folder / "models"))
    return folder / "models"


def copied(model: Path, target: Path) -> Path:
    shutil.copytree(model, target)
    return target


def altered_run(run: Path, target: Path, name: str, change: float) -> Path:
    """Return a copy of a run with one tensor changed."""
    shutil.copytree(run, target)
    state = torch.load(target / checkpoint.FILE, weights_only=True)
    state["learner"][name] = state["learner"][name] + change
    torch.save(state, target / checkpoint.FILE)
    return target


# -- what is in the folder --------------------------------------------------------------------------


FAMILY_NAMES = {"hyper": "flagship", "seed": "sha"}


@pytest.mark.parametrize("family", FAMILIES)
def test_files_and_card(family: str, models: Path) -> None:
    model = models / family
    tensors = {DECODER, ENCODER, TRAINING}
    assert {path.name for path in model.iterdir()} == FILES[family] | tensors | {CARD}
    assert not list(models.glob(".export-*"))
    card = tomllib.loads((model / CARD).read_text(encoding="utf-8"))
    assert (card["name"], card["family"], card["licence"]) == (family, FAMILY_NAMES[family], "Apache-2.0")
    assert card["training"] == {
        "data": "3 pictures, 0 megapixels",
        "device": "cpu",
        "torch": str(torch.__version__),
        "command": card["training"]["command"],
        "steps": 60,
        "hours": card["training"]["hours"],
        "gpx": 0.0,
        "seed": 1,
    }
    assert card["training"]["command"].startswith("shc train ")
    assert TrainConfig.from_dict(card["config"]).model.has_hyper == (family == "hyper")
    assert set(card["sha256"]) == FILES[family] | tensors
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((model / name).read_bytes()).hexdigest() == digest
    assert zoo.verify(family) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_integer_tables(family: str, models: Path) -> None:
    tensors = read_tensors(models / family / DECODER)
    tables = [value for name, value in tensors.items() if name.startswith(("histogram.", "hyper.bank"))]
    assert len(tables) == (6 if family == "hyper" else 1)
    for table in tables:
        assert table.dtype == np.uint32 and table.min() >= 1
        assert (table.sum(-1, dtype=np.uint64) == 1 << 24).all()
    if family == "hyper":
        assert [tensors[f"class_map.{name}"].dtype for name in ("weight", "shift", "bias")] == ["i1", "u1", "i4"]


@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_are_stored_once_and_in_half_precision(family: str, folder: Path, models: Path) -> None:
    stored = [item for file in (DECODER, ENCODER, TRAINING) for item in read_tensors(models / family / file).items()]
    seen = {name: tensor.dtype for name, tensor in stored}
    assert len(seen) == len(stored)
    floats = {name: kind for name, kind in seen.items() if kind.kind == "f"}
    exact = {"class_map.bias_knots"} if family == "hyper" else set()
    assert {name for name, kind in floats.items() if kind != np.float16} == {"rate_weight"} | exact
    config, _ = checkpoint.read(folder / "runs" / family)
    parameters = {name.removeprefix("net.") for name, _ in Learner(config).named_parameters()}
    codebooks = {name for name in parameters if name.startswith("books.")}
    assert parameters - codebooks <= set(seen)
    assert len(codebooks) == sum(name.startswith("codebook.") for name in seen)


@pytest.mark.parametrize("family", VARIANTS)
def test_graphs_hold_no_weights(family: str, models: Path) -> None:
    names = set()
    for file in FILES["seed" if family == "seed" else "hyper"]:
        graph = onnx.load(models / family / file, load_external_data=False).graph
        for tensor in graph.initializer:
            assert tensor.data_location == onnx.TensorProto.EXTERNAL
            assert not (tensor.raw_data or tensor.float_data or tensor.int64_data or tensor.int32_data)
            names.add(tensor.name)
        for node in graph.node:
            for attribute in node.attribute:
                assert np.prod(attribute.t.dims, initial=1) <= 16, node.name  # constants of shapes, no weights
    stored = {**read_tensors(models / family / DECODER), **read_tensors(models / family / ENCODER)}
    assert names <= set(stored)
    networks = ("g_a.", "g_s.", "h_a.", "h_s.", "refine.")
    assert {n for n in stored if n.startswith(networks) and not n.endswith("knots")} == names


# -- id ---------------------------------------------------------------------------------------------


def test_graphs_and_encoder_do_not_make_the_id(folder: Path, models: Path, tmp_path: Path) -> None:
    identity = read_card(models / "hyper")["id"]
    again = copied(models / "hyper", tmp_path / "again")
    for path in again.glob("*.onnx"):
        path.write_bytes(path.read_bytes() + b"\0")
    tensors = read_tensors(again / ENCODER)
    save_file({name: value * 2 for name, value in tensors.items()}, again / ENCODER)
    assert Model(again).id.hex() == identity

    def exported(parameter: str) -> str:
        run = altered_run(folder / "runs" / "hyper", tmp_path / parameter, parameter, 0.01)
        export(run, tmp_path / f"model-{parameter}")
        return str(read_card(tmp_path / f"model-{parameter}")["id"])

    assert exported("net.g_a.stem.weight") == exported("net.h_a.stem.bias") == exported("density.wide") == identity
    others = ("net.g_s.stem.weight", "net.refine.stem.bias", "net.class_map.bias_knots", "books.codebooks.1", "bank")
    identities = {exported(name) for name in others}
    assert len(identities) == len(others) and identity not in identities


def test_exporting_again_gives_the_same_model(folder: Path, models: Path, tmp_path: Path) -> None:
    for family in FAMILIES:
        export(folder / "runs" / family, tmp_path / family)
        ours, theirs = (path / family for path in (tmp_path, models))
        for name in (DECODER, ENCODER, TRAINING, CARD):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


# -- agreement --------------------------------------------------------------------------------------


def learner_of(model: Path) -> Learner:
    """Return the model as training sees it, from the shipped tensors."""
    learner = Learner(TrainConfig.from_dict(read_card(model)["config"])).eval()
    load_model(learner, model)
    if learner.config.model.has_hyper:
        learner.net.class_map.fake_integer = True
    return learner


def pixels_of(rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("family", [*VARIANTS, "golden"])
@torch.no_grad()
def test_graphs_compute_what_was_trained(family: str, models: Path) -> None:
    folder = GOLDEN / "model" if family == "golden" else models / family
    model, learner = Model(folder), learner_of(folder)
    rgb, beta_byte = make_photo(128, 192), 90
    beta = torch.tensor([beta_byte])
    latents = learner.net.latents(pixels_of(rgb), beta)
    y, z = model.analyse(rgb, beta_byte, Grid.of(128, 192))
    scale = float(latents.y.abs().max())
    assert np.allclose(y, latents.y[0].numpy(), atol=1e-3 * scale)
    mean, step, *features = model.describe(z, beta_byte, y.shape)
    if latents.z is not None and z is not None:
        assert model.tables.hyper is not None
        limit = model.tables.hyper.limit
        assert np.array_equal(z, latents.z[0].round().clamp(-limit, limit).numpy())
        classes = model.tables.classes_of(z, beta_byte, Grid.of(128, 192))
        expected = latents.coordinate[0].floor().clamp(0, 63).numpy()
        # the float class map is stored in half precision, to go on training from: a few elements fall on the other side
        assert np.mean(classes != expected) < 0.02 and np.abs(classes - expected).max() <= 1
        shift = model.refine(mean + step, features[0], beta_byte)
        second = learner.net.second_means(latents.mean + latents.step, latents, beta)
        means = mean + shift
        latent.guard(means, mean + step, step)
        later = ~first_half(*means.shape)  # the second half, which these means are for
        assert np.allclose(means[later], second[0].numpy()[later], atol=1e-3 * scale)
    assert np.allclose(mean, latents.mean[0].numpy(), atol=1e-3 * scale)
    assert np.allclose(step, latents.step[0].expand(y.shape).numpy(), rtol=1e-3)
    trained = learner.net.synthesise(latents.y, beta)[0].permute(1, 2, 0).round().clamp(0, 255).numpy()
    assert np.abs(model.synthesise(y, beta_byte).astype(int) - trained).max() <= 1


def rounded_mse(decoded: torch.Tensor, pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the distortion of training, of pixels as a file holds them."""
    return (decoded.round().clamp(0, 255) - pixels)[:, :, :height, :width].square().mean((1, 2, 3))


def among_trained(band: Band, vectors: np.ndarray, bits: np.ndarray) -> np.ndarray:
    trained = np.flatnonzero(band.histograms.max(0) > 1)
    return trained[choice.search_among(vectors, band.codebook[trained], bits[trained])].astype(np.int32)


@torch.no_grad()
def test_exported_classes_are_those_of_the_run(folder: Path, models: Path) -> None:
    config, state = checkpoint.read(folder / "runs" / "hyper")
    learner, tables = Learner(config), Model(models / "hyper").tables
    learner.load_state_dict(state["learner"])
    learner.net.class_map.fake_integer = True
    generator, limit = np.random.default_rng(0), config.model.hyper.limit
    for beta_byte in (0, 100, 255):
        z = generator.integers(-limit, limit + 1, (config.model.hyper.channels, 16, 16))
        weights = knot_weights(torch.tensor([beta_byte]))
        coordinate = learner.net.class_map(torch.from_numpy(z)[None].float(), weights)
        expected = coordinate[0].floor().clamp(0, 63).numpy()
        exact = tables.classes_of(z.astype(np.int8), beta_byte, Grid.of(1024, 1024))
        assert np.mean(exact != expected) < 0.002 and np.abs(exact - expected).max() <= 1


@pytest.mark.parametrize("family", [*VARIANTS, "golden"])
@pytest.mark.parametrize("beta_byte", [40, 140])
@torch.no_grad()
def test_files_cost_and_show_what_training_measures(
    family: str, beta_byte: int, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last phase of training and the real codec on the same picture: the same distortion, the same bits."""
    folder = GOLDEN / "model" if family == "golden" else models / family
    model, learner = Model(folder), learner_of(folder)
    rgb = make_photo(128, 192)
    monkeypatch.setattr(objective, "_mse", rounded_mse)
    monkeypatch.setattr(choice, "search", among_trained)  # training does without the outer codewords
    monkeypatch.setattr(analysis, "STEERINGS", ())  # and takes z as it comes
    outcome = evaluate(learner, pixels_of(rgb), torch.tensor([beta_byte]), State(Phase.HARD, 1.0, skip=True))
    data = encoding.encode_array(rgb, byte_to_beta(beta_byte), model=model, rate_weight=learner.config.rate_weight)
    decoded = decoding.decode_array(data, model=model)
    mse = np.square(decoded.astype(float) - rgb).mean()
    assert mse == pytest.approx(outcome.mse, rel=0.02)
    file = unpack(data)
    z, orders, _ = stream.read(model.tables, file.payload, beta_byte, Grid.of(128, 192))
    assert sum(n for order in orders for _, n in order.numbers) == pytest.approx(outcome.symbols, rel=0.01, abs=2)
    bits = 8 * len(file.payload) - outcome.hyper_bpp * 128 * 192 if z is not None else 8 * len(file.payload)
    trained = (outcome.bpp - outcome.hyper_bpp) * 128 * 192
    # z is counted from the bank in files, by a smooth density in training: a few bytes apart
    assert bits == pytest.approx(trained, rel=0.03, abs=300)


@pytest.mark.parametrize(("dim", "error"), [(1, 1.0), (2, 12.0), (4, 12.0)])
def test_outer_codewords_reach_far(dim: int, error: float) -> None:
    codebook = lattice(dim, 31)
    histogram = np.full((2, 31), 1 / 31)
    wide, padded = widened(codebook, histogram)
    assert padded.shape == (2, len(wide)) and (padded[:, padded[0] == 0].shape[1]) == len(wide) - 31 > 0
    far = torch.zeros(64, dim)
    far[:, 0] = torch.linspace(-80, 80, 64)  # one element alone: any of them
    assert torch.cdist(far, wide).amin(1).max() <= error
    if dim > 1:
        assert torch.equal(wide[:31], codebook)  # the file's indices are those of training
    if dim == 2:
        both = torch.cartesian_prod(torch.linspace(-60, 60, 31), torch.linspace(-60, 60, 31))
        assert torch.cdist(both, wide).amin(1).max() <= 1.5 * error


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_through_the_installed_model(family: str, models: Path, tmp_path: Path) -> None:
    rgb = make_photo(61, 83)
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    data = encoding.encode(tmp_path / "photo.png", 50, model=family)
    decoded = decoding.decode(data)
    assert decoded.size == (83, 61) and decoded.mode == "RGB"
    inspection.verify(data)
    about = inspection.info(data)
    assert (about.model, about.model_id) == (family, read_card(models / family)["id"])
    flat = np.square(rgb - rgb.mean((0, 1))).mean()
    assert np.square(np.asarray(decoded).astype(float) - rgb).mean() < flat  # it has learned something
    assert len(data) < rgb.size


def test_tuning_changes_the_encoder_alone(folder: Path, models: Path, tmp_path: Path) -> None:
    model = copied(models / "hyper", tmp_path / "tuned")
    before = {name: (model / name).read_bytes() for name in (DECODER, TRAINING, ENCODER)}
    identity = read_card(model)["id"]
    picture = tmp_path / "validation" / "a.png"
    picture.parent.mkdir()
    Image.fromarray(make_photo(64, 64)).save(picture)
    chosen = tune_rate_weight(model, picture.parent)
    assert set(chosen) <= set(WEIGHTS)
    card = read_card(model)
    assert card["id"] == identity and card["rate_weight"]["values"] == chosen
    assert {name for name in before if (model / name).read_bytes() != before[name]} == {ENCODER}
    assert hashlib.sha256((model / ENCODER).read_bytes()).hexdigest() == card["sha256"][ENCODER]
    weights = read_tensors(model / ENCODER)["rate_weight"]
    assert weights.shape == (17,) and min(chosen) <= weights.min() + 1e-6 and weights.max() <= max(chosen) + 1e-6


# -- runs that cannot be exported -------------------------------------------------------------------


def test_an_unfinished_run_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        export(tmp_path, tmp_path / "model")
    trainer = Trainer(toy_config(), folder / "pictures", tmp_path, "cpu", None)
    checkpoint.save(trainer.run, trainer.out)
    with pytest.raises(UsageError, match="not finished"):
        export(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# -- starting from a model --------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_training_starts_from_a_model(
    family: str, folder: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Trainer] = []
    monkeypatch.setattr(Trainer, "train", lambda self, *_: started.append(self))
    config = write_config(toy_config(family), tmp_path)
    train(config, folder / "pictures", tmp_path / "run", init=models / family, device="cpu")
    (trainer,) = started
    _, state = checkpoint.read(folder / "runs" / family)
    for name, value in trainer.run.learner.named_parameters():
        exact = state["learner"][name]
        if name != "net.class_map.weight":  # whose integers have a test of their own
            assert torch.equal(value.detach(), exact if "bias_knots" in name else exact.half().float()), name
        assert torch.equal(trainer.run.average[name], value.detach())
    assert (trainer.run.step, trainer.run.phase, len(trainer.run.optimiser.state)) == (0, Phase.SMOOTH, 0)
    for i in range(len(trainer.run.learner.books.codebooks)):
        trained = state["learner"][f"books.counts{i}"] + 2 * state["learner"][f"books.prior{i}"]  # as in `histogram`
        counts = trainer.run.learner.books.get_buffer(f"counts{i}")
        assert torch.allclose(counts / counts.sum(1, keepdim=True), trained / trained.sum(1, keepdim=True), atol=1e-4)
    assert trainer.run.origin["init"] == f"{family} ({read_card(models / family)['id']})"
    assert f"--init {family}" in trainer.run.origin["command"]


def test_another_architecture_is_refused_in_one_line(models: Path) -> None:
    config = toy_config()
    wider = replace(config, model=replace(config.model, latent=20))
    for other in (wider, toy_config("seed")):
        with pytest.raises(UsageError, match="architecture differs") as caught:
            load_model(Learner(other), models / "hyper")
        assert "\n" not in str(caught.value)
    renamed = replace(config, model=replace(config.model, name="a name is no architecture"))
    load_model(Learner(renamed), models / "hyper")


def test_a_model_from_before_an_option_existed_still_starts_a_training(models: Path, tmp_path: Path) -> None:
    model = copied(models / "hyper", tmp_path / "old")
    card = (model / CARD).read_text(encoding="utf-8")
    assert "shortcut = false\n" in card
    (model / CARD).write_text(card.replace("shortcut = false\n", ""), encoding="utf-8")
    load_model(Learner(toy_config()), model)


def test_a_training_goes_on_from_the_integers_of_the_class_map(models: Path) -> None:
    decoder = read_tensors(models / "hyper" / DECODER)
    weight, shift, bias = learner_of(models / "hyper").net.class_map.integers()
    np.testing.assert_array_equal(weight.numpy(), decoder["class_map.weight"])
    np.testing.assert_array_equal(shift.numpy(), decoder["class_map.shift"])
    np.testing.assert_array_equal(bias.numpy(), decoder["class_map.bias"])


def test_a_damaged_model_is_refused_in_one_line(models: Path, tmp_path: Path) -> None:
    learner = Learner(toy_config())
    for number, file in enumerate((TRAINING, DECODER, CARD)):
        model = copied(models / "hyper", tmp_path / str(number))
        (model / file).unlink()
        with pytest.raises(ModelError, match="missing model file"):
            load_model(learner, model)
    for name, value in {"missing": {}, "shape": {"weight": np.zeros(3, np.float16)}}.items():
        model = copied(models / "hyper", tmp_path / name)
        tensors = {key: tensor for key, tensor in read_tensors(model / TRAINING).items() if key != "density.weight"}
        save_file(tensors | {f"density.{key}": tensor for key, tensor in value.items()}, model / TRAINING)
        with pytest.raises(ModelError, match="do not fit") as caught:
            load_model(learner, model)
        assert "\n" not in str(caught.value)
