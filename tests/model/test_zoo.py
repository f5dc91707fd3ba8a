"""Models: found by name and by id, checked, and never used where anything is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, make_photo
from safetensors.numpy import load_file, save_file

from shcodec.codec import decoding, encoding
from shcodec.model import zoo
from shcodec.model.card import read_card
from shcodec.model.networks import Model
from shcodec.model.tensors import model_id
from shcodec.support.errors import ModelError

pytestmark = pytest.mark.usefixtures("tiny_model")  # the frozen one, whatever else is installed


def test_models_are_found_by_name_and_id(model: Model) -> None:
    assert "model" in zoo.model_names()
    assert zoo.model_dir("model") == GOLDEN / "model"
    assert zoo.load("model") is zoo.load_by_id(model.id)
    assert zoo.name_of(model.id) == "model"
    assert zoo.verify("model") == []


def test_a_name_that_stands_for_two_models(own_model: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files name their model by id, so another model of the same name further up the search must not be taken."""
    data = encoding.encode_array(make_photo(40, 50), 50, model=model)
    change_decoder(own_model)
    folders = [own_model, GOLDEN / "model"]
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
def test_tampered_and_missing_files(own_model: Path, file: str) -> None:
    data = bytearray((own_model / file).read_bytes())
    data[-1] ^= 1
    (own_model / file).write_bytes(data)
    assert [problem for problem in zoo.verify("model") if file in problem and "SHA-256" in problem]
    (own_model / file).unlink()
    assert zoo.verify("model") == [f"{own_model / file}: missing model file"]


def test_weights_that_are_not_those_of_the_card(own_model: Path) -> None:
    tensors = load_file(own_model / "decoder.safetensors")
    tensors["codebook.0"][0, 0] += 1
    save_file(tensors, own_model / "decoder.safetensors")
    with pytest.raises(ModelError, match="id"):
        Model(own_model)


@pytest.mark.parametrize("file", ["model.toml", "decoder.safetensors", "encoder.safetensors", "synthesis.onnx"])
@pytest.mark.parametrize("content", [None, b"", b"\x80garbage"])
def test_a_model_that_cannot_be_read(own_model: Path, file: str, content: bytes | None) -> None:
    """Whatever is wrong with a model's file: one line that names it."""
    (own_model / file).unlink() if content is None else (own_model / file).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{file}|the card says") as caught:
        model = Model(own_model)
        decoding.decode_array(encoding.encode_array(make_photo(8, 8), 50, model=model), model=model)
    assert "\n" not in str(caught.value)


def test_an_encoder_that_lacks_a_tensor(own_model: Path) -> None:
    tensors = load_file(own_model / "encoder.safetensors")
    for name in ("rate_weight", "g_a.knots", "g_a.stem.weight"):
        save_file({key: value for key, value in tensors.items() if key != name}, own_model / "encoder.safetensors")
        with pytest.raises(ModelError):
            encoding.encode_array(make_photo(8, 8), 50, model=Model(own_model))
