"""Models: found by name and by id, checked, and never used where anything is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, make_photo
from safetensors.numpy import load_file, save_file

from shcodec.codec import decoding, encoding
from shcodec.model import zoo
from shcodec.model.card import model_id, read_card
from shcodec.model.networks import Model
from shcodec.support.errors import ModelError

pytestmark = pytest.mark.usefixtures("tiny_model")  # the frozen one, whatever else is installed


@pytest.fixture
def tampered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the frozen model under the same name, found before it, to be damaged."""
    shutil.copytree(GOLDEN / "model", tmp_path / "models" / "model")
    monkeypatch.setenv("SHC_MODELS", str(tmp_path / "models"))
    return tmp_path / "models" / "model"


def test_models_are_found_by_name_and_id(model: Model) -> None:
    assert "model" in zoo.model_names()
    assert zoo.model_dir("model") == GOLDEN / "model"
    assert zoo.load("model") is zoo.load_by_id(model.id)
    assert zoo.name_of(model.id) == "model"
    assert zoo.verify("model") == []


def test_a_name_that_stands_for_two_models(tampered: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files name their model by id, so another model of the same name further up the search must not be taken."""
    data = encoding.encode_array(make_photo(40, 50), 50, model=model)
    change_decoder(tampered)
    folders = [tampered, GOLDEN / "model"]
    monkeypatch.setattr(zoo, "_folders", lambda: folders)
    assert zoo.load("model").id != model.id
    assert zoo.load_by_id(model.id).id == model.id
    assert np.array_equal(decoding.decode_array(data), decoding.decode_array(data, model=model))


def change_decoder(folder: Path) -> None:
    """Give a model another codeword and the id that goes with it."""
    tensors = load_file(folder / "decoder.safetensors")
    tensors["codebook.0"][0] += 1
    save_file(tensors, folder / "decoder.safetensors")
    card = folder / "model.toml"
    old, new = read_card(folder)["id"], model_id(tensors).hex()
    card.write_text(card.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("file", sorted(path.name for path in (GOLDEN / "model").iterdir() if path.suffix != ".toml"))
def test_tampered_and_missing_files(tampered: Path, file: str) -> None:
    data = bytearray((tampered / file).read_bytes())
    data[-1] ^= 1
    (tampered / file).write_bytes(data)
    assert [problem for problem in zoo.verify("model") if file in problem and "SHA-256" in problem]
    (tampered / file).unlink()
    assert zoo.verify("model") == [f"{tampered / file}: missing model file"]


def test_weights_that_are_not_those_of_the_card(tampered: Path) -> None:
    tensors = load_file(tampered / "decoder.safetensors")
    tensors["codebook.0"][0, 0] += 1
    save_file(tensors, tampered / "decoder.safetensors")
    with pytest.raises(ModelError, match="id"):
        Model(tampered)


@pytest.mark.parametrize("file", ["model.toml", "decoder.safetensors", "encoder.safetensors", "synthesis.onnx"])
@pytest.mark.parametrize("content", [None, b"", b"\x80garbage"])
def test_a_model_that_cannot_be_read(tampered: Path, file: str, content: bytes | None) -> None:
    """Whatever is wrong with a model's file: one line that names it."""
    (tampered / file).unlink() if content is None else (tampered / file).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{file}|the card says") as caught:
        model = Model(tampered)
        decoding.decode_array(encoding.encode_array(make_photo(8, 8), 50, model=model), model=model)
    assert "\n" not in str(caught.value)


def test_an_encoder_that_lacks_a_tensor(tampered: Path) -> None:
    tensors = load_file(tampered / "encoder.safetensors")
    for name in ("rate_weight", "g_a.knots", "g_a.stem.weight"):
        save_file({key: value for key, value in tensors.items() if key != name}, tampered / "encoder.safetensors")
        with pytest.raises(ModelError):
            encoding.encode_array(make_photo(8, 8), 50, model=Model(tampered))
