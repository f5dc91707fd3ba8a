"""A second, quicker painter: trained on frozen latents, put into its model, and used where it is asked for."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Shc, assert_wrong_usage, make_photo
from PIL import Image

tomli_w = pytest.importorskip("tomli_w", reason="needs the extra 'train'")
pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("onnx", reason="needs the extra 'train'")

import shcodec  # noqa: E402
from shcodec.bench.codecs import select_codecs  # noqa: E402
from shcodec.codec import decoding, encoding  # noqa: E402
from shcodec.model import zoo  # noqa: E402
from shcodec.model.card import CARD, QUICK, read_card  # noqa: E402
from shcodec.model.networks import Model  # noqa: E402
from shcodec.pictures.picture import psnr  # noqa: E402
from shcodec.support.errors import ModelError, UsageError  # noqa: E402
from shcodec.train import painter  # noqa: E402
from shcodec.train.export import export_painter  # noqa: E402
from shcodec.train.painter import PainterConfig, train_painter  # noqa: E402

SMALL = {"width16": 8, "blocks16": 1, "width8": 8, "blocks8": 1, "width4": 8, "expand4": 8}
SHORT = {"crops": 6, "crop": 64, "batch": 2, "steps": 4}


def write_config(folder: Path, **changes: Any) -> str:
    """Write a painter's configuration, small and short but for `changes`."""
    path = folder / "painter.toml"
    synthesis = {key: changes.pop(key, value) for key, value in SMALL.items()}
    path.write_text(tomli_w.dumps({"synthesis": synthesis, "training": SHORT | changes}), encoding="utf-8")
    return str(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(make_photo(96, 160)).save(folder / "a.png")
    return folder


@pytest.fixture
def quick_model(own_model: Path, pictures: Path, tmp_path: Path) -> Path:
    """Return the folder of a model that has got a quick painter."""
    train_painter(write_config(tmp_path), own_model, pictures, tmp_path / "run")
    export_painter(tmp_path / "run", own_model)
    return own_model


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_nothing_but_the_painter_is_new(own_model: Path, pictures: Path, tmp_path: Path) -> None:
    before, identity = files_of(own_model), Model(own_model).id
    data = encoding.encode_array(make_photo(100, 130), 50, model=Model(own_model))
    train_painter(write_config(tmp_path), own_model, pictures, tmp_path / "run")
    export_painter(tmp_path / "run", own_model)
    after = files_of(own_model)
    assert after.keys() - before.keys() == {QUICK, "quick.onnx"}
    assert {name for name in before if before[name] != after[name]} == {CARD}
    assert Model(own_model).id == identity
    assert encoding.encode_array(make_photo(100, 130), 50, model=Model(own_model)) == data
    assert zoo.verify("model") == []
    told = read_card(own_model)["quick"]
    assert told["steps"] == 4
    assert told["config"]["synthesis"] == SMALL


def test_a_painter_can_be_replaced_without_touching_files(quick_model: Path, pictures: Path, tmp_path: Path) -> None:
    """An old file decodes with a new painter, and to another picture."""
    data = encoding.encode_array(make_photo(100, 130), 50, model=Model(quick_model))
    full, first = (decoding.decode_array(data, model=Model(quick_model), quick=quick) for quick in (False, True))
    train_painter(write_config(tmp_path, steps=9, lr=0.01), quick_model, pictures, tmp_path / "run")
    export_painter(tmp_path / "run", quick_model)
    second = decoding.decode_array(data, model=Model(quick_model), quick=True)
    assert np.array_equal(decoding.decode_array(data, model=Model(quick_model)), full)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, full)


def test_steps_make_better_pictures(own_model: Path, pictures: Path, tmp_path: Path) -> None:
    photo = make_photo(100, 130)
    data, qualities = encoding.encode_array(photo, 50, model=Model(own_model)), []
    for steps in (1, 120):
        train_painter(write_config(tmp_path, steps=steps, lr=3e-3), own_model, pictures, tmp_path / "run")
        export_painter(tmp_path / "run", own_model)
        qualities.append(psnr(photo, decoding.decode_array(data, model=Model(own_model), quick=True)))
    assert qualities[1] > qualities[0] + 1


def test_a_painter_of_the_same_size_is_the_models_own(own_model: Path, pictures: Path, tmp_path: Path) -> None:
    """Cut to its own widths, and hardly trained, it shows what the model's own painter shows."""
    sizes = read_card(own_model)["config"]["model"]["synthesis"]
    train_painter(write_config(tmp_path, **sizes, lr=1e-9, steps=1), own_model, pictures, tmp_path / "run")
    export_painter(tmp_path / "run", own_model)
    data = encoding.encode_array(make_photo(100, 130), 50, model=Model(own_model))
    full, quick = (
        decoding.decode_array(data, model=Model(own_model), quick=quick).astype(int) for quick in (False, True)
    )
    assert np.abs(full - quick).max() <= 1


@pytest.mark.usefixtures("quick_model")
def test_quick_from_python_pillow_and_the_command_line(tmp_path: Path, shc: Shc) -> None:
    shcodec.register_pillow()
    path = tmp_path / "photo.shc"
    path.write_bytes(shcodec.encode(make_photo(100, 130), model="model"))
    quick, full = (np.asarray(shcodec.decode(path, quick=quick)) for quick in (True, False))
    assert np.abs(quick.astype(int) - full).max() > 0
    assert shc("decode", path, tmp_path / "quick.png", "--quick").code == 0
    same = shc("compare", tmp_path / "quick.png", path, "--quick", "--json")
    assert json.loads(same.out)["psnr"] is None  # infinite
    with Image.open(tmp_path / "quick.png") as shown:
        assert np.array_equal(np.asarray(shown), quick)
    with Image.open(path) as drafted:
        assert drafted.draft("RGB", (10, 10)) == ("RGB", (0, 0, 130, 100))
        assert np.array_equal(np.asarray(drafted), quick)
        assert drafted.draft("RGB", (10, 10)) is None  # it is decoded
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), full)
    with Image.open(path) as small:
        small.thumbnail((64, 64))
        assert small.size == (64, 49)
    (codec,) = select_codecs(["shc-model-quick"])
    assert (codec.name, codec.describe()) == ("shc-model-quick", "shc, model model, quick, setting = beta")
    assert np.array_equal(codec.decode(path.read_bytes()), quick)


def test_regions_and_windows_of_the_quick_painter(quick_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(quick_model)
    data = encoding.encode_array(make_photo(300, 200), 50, model=model)
    whole = decoding.decode_array(data, model=model, quick=True).astype(int)
    part = decoding.decode_picture(data, model=model, region=(70, 40, 90, 120), quick=True).samples
    assert np.abs(part - whole[40:160, 70:160]).max() <= 1
    monkeypatch.setattr("shcodec.model.networks.WINDOW", 4)
    assert np.abs(decoding.decode_array(data, model=model, quick=True) - whole).max() <= 1


def test_a_model_without_takes_its_own(tiny_model: str, tmp_path: Path) -> None:
    data = shcodec.encode(make_photo(50, 60), model=tiny_model)
    assert not zoo.load(tiny_model).has_quick
    assert shcodec.decode(data, quick=True) == shcodec.decode(data)
    with pytest.raises(UsageError, match="no codec 'shc-model-quick'"):
        select_codecs(["shc-model-quick"])


def test_resumed_to_the_same_number_of_steps(own_model: Path, pictures: Path, tmp_path: Path) -> None:
    config, out = write_config(tmp_path), tmp_path / "run"
    train_painter(config, own_model, pictures, out, time_limit=1e-9)
    gathered = (out / painter.LATENTS).stat().st_mtime_ns
    train_painter(config, own_model, pictures, out, resume=True)
    assert json.loads((out / painter.FILE).read_text())["steps"] == 4
    assert (out / painter.LATENTS).stat().st_mtime_ns == gathered  # not gathered again
    shutil.copy(out / painter.CHECKPOINT, tmp_path)
    with pytest.raises(UsageError, match="another model or configuration"):
        train_painter(write_config(tmp_path, lr=0.5), own_model, pictures, out, resume=True)
    (out / painter.CHECKPOINT).write_bytes(b"not one")
    with pytest.raises(UsageError, match="not a readable checkpoint"):
        train_painter(write_config(tmp_path), own_model, pictures, out, resume=True)
    (out / painter.CHECKPOINT).unlink()
    with pytest.raises(UsageError, match="no checkpoint there"):
        train_painter(write_config(tmp_path), own_model, pictures, out, resume=True)


def test_what_does_not_fit_is_refused(quick_model: Path, pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UsageError, match=r"larger than the model's own \(stem\.weight\)"):
        train_painter(write_config(tmp_path, width16=99), quick_model, pictures, tmp_path / "other")
    told = json.loads((run / painter.FILE).read_text())
    (run / painter.FILE).write_text(json.dumps({**told, "on": "00000000"}))
    before = files_of(quick_model)
    with pytest.raises(UsageError, match="of the model with id 00000000"):
        export_painter(run, quick_model)
    (run / painter.FILE).write_text("{}")
    with pytest.raises(UsageError, match="no finished painter"):
        export_painter(run, quick_model)
    assert files_of(quick_model) == before
    (quick_model / QUICK).write_bytes((quick_model / QUICK).read_bytes()[:-1])
    with pytest.raises(ModelError, match="SHA-256"):
        Model(quick_model).synthesise(np.zeros((Model(quick_model).tables.latent, 4, 4), np.float32), 50, quick=True)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"training": {"crop": 65}}, "multiples of 64"),
        ({"training": {"steps": 0}}, "above 0"),
        ({"training": {"speed": 1}}, "unexpected keyword"),
        ({"network": {}}, "other tables"),
        ({"synthesis": {"width16": "wide"}}, "width16"),
    ],
)
def test_configurations_are_checked(table: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        PainterConfig.from_dict(table)


def test_shipped_configurations_load() -> None:
    config = PainterConfig.load("quick")
    assert PainterConfig.from_dict(config.to_dict()) == config
    with pytest.raises(UsageError, match="shipped: quick"):
        PainterConfig.load("nosuch")


def test_the_commands(own_model: Path, pictures: Path, tmp_path: Path, shc: Shc) -> None:
    run = tmp_path / "run"
    shared = ("--data", pictures, "--out", run)
    assert_wrong_usage(shc("train", *shared))
    assert_wrong_usage(shc("train", "--painter", "quick", *shared))
    assert_wrong_usage(shc("train", "tiny", "--on", own_model, *shared))
    assert_wrong_usage(shc("train", "--painter", "quick", "--on", own_model, *shared, "--init", own_model))
    config = write_config(tmp_path)
    assert shc("train", "--painter", config, "--on", own_model, *shared, "--time-limit", 5).code == 0
    assert_wrong_usage(shc("export", run, own_model, "--tune", pictures))
    assert shc("export", run, own_model).code == 0
    assert Model(own_model).has_quick
