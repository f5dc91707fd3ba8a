"""Golden files: what was written once decodes to the same symbols for ever, on every machine and by every route."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator

import make_golden
import numpy as np
import pytest
import symbols_reference as reference
from conftest import GOLDEN, make_photo, open_picture
from golden_files import MANIFEST, assert_pixels_as_stored, pinned, read, symbols_in_a_process

from shcodec import container
from shcodec.codec import decoding, encoding, inspection
from shcodec.model import zoo
from shcodec.model.networks import Model
from shcodec.symbols import ans, stream
from shcodec.symbols.grid import Grid
from shcodec.symbols.tables import SymbolTables

MODEL_LIMIT = 200_000  # bytes; the model is part of every clone
MODEL_ID = "b0c5a7e0"


@pytest.fixture(autouse=True)
def frozen_model(tiny_model: str) -> str:
    """Every test here reads with the frozen model."""
    return tiny_model


@pytest.fixture(params=sorted(MANIFEST))
def name(request: pytest.FixtureRequest) -> str:
    """Each golden file in turn."""
    return str(request.param)


def test_the_model_is_frozen_and_small() -> None:
    files = list((GOLDEN / "model").iterdir())
    assert sum(path.stat().st_size for path in files) <= MODEL_LIMIT
    assert zoo.card("model")["id"] == MODEL_ID
    assert zoo.verify("model") == []
    assert reference.identity(reference.load_tables(GOLDEN / "model")).hex() == MODEL_ID


def test_the_folder_and_the_manifest_agree() -> None:
    assert {path.stem for path in make_golden.FILES.glob("*.shc")} == MANIFEST.keys()
    assert {path.stem for path in make_golden.FILES.glob("*.png")} == MANIFEST.keys()
    assert {case.name for case in make_golden.CASES} == MANIFEST.keys()


def test_bytes_and_symbols(name: str) -> None:
    data = read(name)
    assert hashlib.sha256(data).hexdigest() == MANIFEST[name]["sha256"]
    assert make_golden.describe(data) == pinned(name)


def test_pixels(name: str) -> None:
    assert_pixels_as_stored(name, decoding.decode_array(read(name)))
    stored, decoded = open_picture(make_golden.FILES / f"{name}.png"), decoding.decode(read(name))
    assert decoded.mode == stored.mode
    if decoded.mode.endswith("A"):
        assert decoded.getchannel("A").tobytes() == stored.getchannel("A").tobytes()
    told = {"icc_profile", "exif", "xmp"} if name.endswith("-told") else set()
    assert {key for key, value in decoded.info.items() if value} == told
    if told:
        assert decoded.getexif()[0x0112] == 6


def test_header(name: str) -> None:
    expected = MANIFEST[name]
    info = inspection.info(read(name))
    assert (info.width, info.height, info.model_id) == (expected["width"], expected["height"], MODEL_ID)
    assert info.beta == pytest.approx(expected["beta"], rel=0.016)
    alpha = ["ALPH"] if MANIFEST[name].get("mode", "RGB").endswith("A") else []
    told = ["iccp", "exif", "xmlp"] if name.endswith("-told") else []
    assert info.chunks == [*alpha, *told, *(["noTe"] if name.endswith("-chunk") else [])]


def test_an_independent_reader_finds_the_same_symbols(name: str) -> None:
    tensors = reference.load_tables(GOLDEN / "model")
    fields = reference.read_fields(read(name))
    assert fields.model_id.hex() == MODEL_ID
    assert (fields.width, fields.height) == (MANIFEST[name]["width"], MANIFEST[name]["height"])
    tiles = reference.read_tiles(read(name))
    symbols = [reference.read_symbols(tensors, tile) for tile in tiles]
    expected = pinned(name)
    assert make_golden.sha256([tile.hyper for tile in symbols if tile.hyper is not None], "<i1") == expected["hyper"]
    assert make_golden.sha256([tile.classes for tile in symbols], "<u1") == expected["classes"]
    assert make_golden.sha256([np.array(tile.indices) for tile in symbols], "<i4") == expected["indices"]
    assert sum(len(tile.indices) for tile in symbols) == expected["symbols"]

    tables = SymbolTables(tensors)
    for tile, known in zip(tiles, symbols, strict=True):
        _, orders, indices = stream.read(tables, tile.payload, tile.beta_byte, Grid.of(tile.height, tile.width))
        size = known.classes.size
        total = sum(tables.values(order, index, size) for order, index in zip(orders, indices, strict=True))
        assert np.array_equal(np.reshape(total, known.classes.shape), reference.residuals(tensors, known))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_threads_change_no_symbol(threads: int) -> None:
    count = str(threads)
    told = symbols_in_a_process(SHC_THREADS=count, OMP_NUM_THREADS=count, OPENBLAS_NUM_THREADS=count)
    assert told == {name: pinned(name) for name in MANIFEST}


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_threads_change_pixels_by_one_at_most(threads: int) -> None:
    model = Model(GOLDEN / "model", threads=threads)
    for name in MANIFEST:
        assert_pixels_as_stored(name, decoding.decode_array(read(name), model=model))


def test_encoding_on_two_threads_is_readable_on_one() -> None:
    one, two = (Model(GOLDEN / "model", threads=threads) for threads in (1, 2))
    data = encoding.encode_array(make_photo(140, 200), 20, model=two)
    difference = decoding.decode_array(data, model=one).astype(int) - decoding.decode_array(data, model=two)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("blocked", [("onnxruntime", "torch"), ("onnxruntime", "torch", "constriction")])
def test_symbols_without_the_picture_path(blocked: tuple[str, ...]) -> None:
    assert symbols_in_a_process(blocked) == {name: pinned(name) for name in MANIFEST}


@pytest.fixture
def no_picture_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No network can be run: ONNX Runtime cannot be imported, and no loaded model is kept."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    zoo._load.cache_clear()
    yield
    zoo._load.cache_clear()


def test_verify_needs_no_network(no_picture_path: None, name: str) -> None:
    inspection.verify(read(name))
    with pytest.raises(ImportError):
        decoding.decode_array(read(name))


def test_python_coder_writes_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without constriction a picture's symbols become the same stream."""
    for name in ("scene-63x65-15", "scene-130x67-4096"):
        file = container.unpack(read(name))
        streams = []
        for blocked in (False, True):
            with monkeypatch.context() as patch:
                if blocked:
                    patch.setitem(sys.modules, "constriction", None)
                ans._backend.cache_clear()
                tables = SymbolTables(reference.load_tables(GOLDEN / "model"))
                z, orders, indices = stream.read(tables, file.payload, file.beta_byte, Grid.of(file.height, file.width))
                streams.append(stream.write(tables, z, list(zip(orders, indices, strict=True))))
        ans._backend.cache_clear()
        assert streams == [file.payload, file.payload]
