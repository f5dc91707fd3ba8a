"""Hostile model folders: whatever lies in one, it is used as it should be, or named in one line and not used."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, ROOT, make_photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_model import make_tensors
from safetensors.numpy import load_file, save_file

from shcodec.codec import decoding, encoding
from shcodec.model import zoo
from shcodec.model.card import read_card
from shcodec.model.networks import Model
from shcodec.support.errors import ModelError, ShcError
from shcodec.symbols.tables import SymbolTables

FILES = sorted(path.name for path in (GOLDEN / "model").iterdir())


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def use(folder: Path) -> None:
    """Run every network of a model."""
    model = Model(folder, threads=1)
    decoding.decode_array(encoding.encode_array(make_photo(20, 24), 50, model=model), model=model)


def pin(folder: Path, name: str) -> None:
    """Tells a file's SHA-256 in the card, as someone would who has changed it on purpose."""
    card = folder / "model.toml"
    text = card.read_text(encoding="utf-8")
    old = read_card(folder)["sha256"][name]
    card.write_text(text.replace(old, hashlib.sha256((folder / name).read_bytes()).hexdigest()), encoding="utf-8")


def assert_refused(folder: Path, match: str = ".") -> None:
    with pytest.raises(ModelError, match=match) as caught:
        use(folder)
    assert "\n" not in str(caught.value)
    assert zoo.verify("model")


def test_the_shipped_models_are_pinned_to_the_last_file() -> None:
    for folder in (ROOT / "models").iterdir():
        card = read_card(folder)
        assert set(card["sha256"]) == {path.name for path in folder.iterdir()} - {"model.toml"}
        assert {path.suffix for path in folder.iterdir()} == {".onnx", ".safetensors", ".toml"}
        for name, digest in card["sha256"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("file", [name for name in FILES if name not in ("training.safetensors", "model.toml")])
def test_a_changed_bit(own_model: Path, file: str) -> None:
    data = bytearray((own_model / file).read_bytes())
    data[-3] ^= 4
    (own_model / file).write_bytes(data)
    assert_refused(own_model, file if file != "decoder.safetensors" else "the weights have id")


@pytest.mark.parametrize("file", ["decoder.safetensors", "encoder.safetensors"])
@pytest.mark.parametrize("pinned", [False, True])
def test_a_pickle_in_the_place_of_weights(own_model: Path, tmp_path: Path, file: str, pinned: bool) -> None:
    (own_model / file).write_bytes(pickle.dumps(Trap(tmp_path / "trapped")))
    if pinned:
        pin(own_model, file)
    assert_refused(own_model, file)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("file", ["decoder.safetensors", "encoder.safetensors"])
def test_truncated_weights(own_model: Path, file: str) -> None:
    data = (own_model / file).read_bytes()
    for length in (0, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
        (own_model / file).write_bytes(data[:length])
        assert_refused(own_model)


def test_headers_of_weights_that_lie(own_model: Path) -> None:
    for size in (1 << 62, (1 << 64) - 1, 100_000_001, 3):
        (own_model / "decoder.safetensors").write_bytes(size.to_bytes(8, "little") + b"{}" + bytes(100))
        assert_refused(own_model, "not a readable model file")


def test_swapped_graphs(own_model: Path) -> None:
    shutil.copy(own_model / "synthesis.onnx", own_model / "refine.onnx")
    assert_refused(own_model, r"refine.onnx: does not match")
    pin(own_model, "refine.onnx")
    with pytest.raises(ShcError):
        use(own_model)


def test_a_graph_that_names_a_file_of_the_machine(own_model: Path, tmp_path: Path) -> None:
    """Weights are fed from the safetensors; a graph that points elsewhere is not the one that the card pins."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 16))
    graph = (own_model / "synthesis.onnx").read_bytes()
    (own_model / "synthesis.onnx").write_bytes(graph.replace(b"fed-at-load-time", b"../../secret\0\0\0\0"))
    assert_refused(own_model, "synthesis.onnx: does not match")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/file", "..", ".", ""])
def test_paths_in_a_card(own_model: Path, name: str) -> None:
    card = own_model / "model.toml"
    card.write_text(card.read_text(encoding="utf-8") + f'"{name}" = "{"0" * 64}"\n', encoding="utf-8")
    assert_refused(own_model, "is not the name of a file")


@pytest.mark.parametrize("table", ["sha256 = 5", "sha256 = []", "[sha256]\nx = 5", "[sha256.x]\ny = 'z'", ""])
def test_cards_without_a_proper_table(own_model: Path, table: str) -> None:
    card = own_model / "model.toml"
    card.write_text(f'name = "model"\nid = "{read_card(own_model)["id"]}"\n{table}\n', encoding="utf-8")
    assert_refused(own_model)


@pytest.mark.parametrize("text", ["[" * 5000, "a = " + "[" * 5000, "id = 5", "\ud800", "a = 1\n" * 3, "id = 1e999999"])
def test_cards_that_make_no_sense(own_model: Path, text: str) -> None:
    (own_model / "model.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert_refused(own_model)
    assert zoo.name_of(bytes(4)) is None
    zoo.model_names()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
def test_links_to_what_never_ends(own_model: Path) -> None:
    """`verify` reads regular files only; a model that lacks one is not loaded either."""
    (own_model / "training.safetensors").unlink()
    (own_model / "training.safetensors").symlink_to("/dev/zero")
    assert zoo.verify("model") == [f"{own_model / 'training.safetensors'}: missing model file"]
    (own_model / "training.safetensors").unlink()
    os.mkfifo(own_model / "training.safetensors")
    assert zoo.verify("model") == [f"{own_model / 'training.safetensors'}: missing model file"]


def test_unlisted_files_are_reported(own_model: Path) -> None:
    (own_model / "more.py").write_text("import os")
    assert zoo.verify("model") == [f"{own_model / 'more.py'}: not listed in the card"]


# -- tables -----------------------------------------------------------------------------------------


def wrong_sum(tensors: dict[str, Any]) -> None:
    tensors["histogram.1"][0, 0] += 1


def zero_frequency(tensors: dict[str, Any]) -> None:
    row = tensors["histogram.0"][0]
    row[1], row[0] = row[1] + row[0], 0


def wrong_bank(tensors: dict[str, Any]) -> None:
    tensors["hyper.bank"][1, 2, 3] -= 1


def sums_beyond_float32(tensors: dict[str, Any]) -> None:
    tensors["hyper.bank"] = np.full((1, 1100, 255), (1 << 24) // 255, np.uint32)
    tensors["hyper.bank"][:, :, 0] += (1 << 24) % 255
    tensors["class_map.weight"] = np.full((64, 1100), -127, np.int8)


def codeword_that_is_no_number(tensors: dict[str, Any]) -> None:
    tensors["codebook.0"][0, 0] = np.nan


@pytest.mark.parametrize(
    "change", [wrong_sum, zero_frequency, wrong_bank, sums_beyond_float32, codeword_that_is_no_number]
)
def test_wrong_tables(change: Callable[[dict[str, Any]], None]) -> None:
    tensors = make_tensors()
    SymbolTables(tensors)
    change(tensors)
    with pytest.raises(ModelError):
        SymbolTables(tensors)


def test_the_sums_that_float32_may_take() -> None:
    """1040 * 127 * 127 is the most channels whose sums stay below 2^24."""
    for channels, valid in ((1040, True), (1041, False)):
        tensors = make_tensors()
        tensors["hyper.bank"] = np.full((1, channels, 255), (1 << 24) // 255, np.uint32)
        tensors["hyper.bank"][:, :, 0] += (1 << 24) % 255
        tensors["class_map.weight"] = np.full((64, channels), -127, np.int8)
        if valid:
            SymbolTables(tensors)
        else:
            with pytest.raises(ModelError, match="exact"):
                SymbolTables(tensors)


NAMES = sorted(make_tensors(1))
TYPES = ("uint8", "int8", "int32", "uint32", "int64", "float16", "float32", "float64", "bool")


@given(st.sampled_from(NAMES), st.sampled_from(TYPES), st.sampled_from(["type", "shape", "cut", "value", "gone"]),
       st.integers(0, 2**32 - 1), st.lists(st.integers(0, 3), max_size=4))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_tensor_may_be_wrong(name: str, dtype: str, kind: str, number: int, shape: list[int]) -> None:
    """Tables are accepted or refused; nothing else comes out of them."""
    tensors = make_tensors(1)
    tensor = tensors[name]
    if kind == "gone":
        del tensors[name]
    elif kind == "type":
        with np.errstate(all="ignore"):
            tensors[name] = tensor.astype(dtype)
    elif kind == "shape":
        tensors[name] = np.zeros(shape, tensor.dtype)
    elif kind == "cut":
        tensors[name] = tensor[..., : number % 3] if number % 2 else tensor[: number % 3]
    else:
        with np.errstate(all="ignore"):
            tensor.flat[number % tensor.size] = np.array(number).astype(tensor.dtype)
    try:
        SymbolTables(tensors)
    except ModelError as error:
        assert "\n" not in str(error)


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_byte_of_the_weights_may_be_wrong(tmp_path: Path, data: st.DataObject) -> None:
    """Also where the card has been made to fit: the header of a safetensors file is no way in."""
    original = (GOLDEN / "model" / "decoder.safetensors").read_bytes()
    header = 8 + int.from_bytes(original[:8], "little")
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "decoder.safetensors"
    path.write_bytes(changed)
    from shcodec.model.tensors import read_tensors

    try:
        SymbolTables(read_tensors(path))
    except ModelError as error:
        assert "\n" not in str(error)


def test_weights_that_lack_what_the_networks_need(own_model: Path) -> None:
    tensors = load_file(own_model / "decoder.safetensors")
    for name in ("g_s.knots", "h_s.knots", "refine.knots"):
        save_file({key: value for key, value in tensors.items() if key != name}, own_model / "decoder.safetensors")
        assert_refused(own_model)
