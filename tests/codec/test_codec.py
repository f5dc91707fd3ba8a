"""Pictures to bytes and back, and that every wrong input is an error of our own."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import ROOT, make_photo
from PIL import Image

import shcodec
from shcodec import container
from shcodec.codec import decoding, encoding, inspection
from shcodec.model import zoo
from shcodec.model.networks import Model
from shcodec.pictures.picture import Pixels, psnr
from shcodec.support.errors import CorruptFileError, LimitError, PictureError, UnknownModelError, UsageError
from shcodec.symbols import stream
from shcodec.symbols.ans import Table
from shcodec.symbols.grid import Grid
from shcodec.symbols.tables import SymbolTables

SIDES = [(1, 1), (1, 70), (70, 1), (16, 16), (63, 65), (130, 67), (64, 128), (17, 200)]  # height, width


pytestmark = pytest.mark.usefixtures("tiny_model")  # the frozen one, whatever else is installed


def smooth(height: int, width: int) -> Pixels:
    """Soft light on a grey wall."""
    y, x = np.mgrid[0:height, 0:width]
    light = 110 + 40 * np.cos(y / 90) * np.sin(x / 70)
    return np.asarray(np.stack([light + 5, light, light - 5], -1), np.uint8)


# There and back


@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize("beta", [2, 50, 4096])
def test_round_trip(model: Model, sides: tuple[int, int], beta: float) -> None:
    data = encoding.encode_array(make_photo(*sides), beta, model=model)
    inspection.verify(data)
    info = inspection.info(data)
    assert (info.height, info.width, info.total) == (*sides, len(data))
    decoded = decoding.decode_array(data, model=model)
    assert decoded.shape == (*sides, 3)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_pictures(model: Model, value: int) -> None:
    pixels = np.full((70, 90, 3), value, np.uint8)
    decoded = decoding.decode_array(encoding.encode_array(pixels, 5, model=model), model=model)
    assert psnr(decoded, pixels) > 20


def test_noise(model: Model) -> None:
    """Far from any photograph: residuals are clipped to the outermost codewords, nothing overflows."""
    pixels = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (100, 120, 3))
    data = encoding.encode_array(pixels, 2, model=model)
    assert psnr(decoding.decode_array(data, model=model), pixels) > 5


def test_quality_and_rate(model: Model) -> None:
    """The frozen model is tiny, but it must draw what is there: better than the mean colour, and more bytes help."""
    pixels = smooth(128, 192)
    files = [encoding.encode_array(pixels, beta, model=model) for beta in (5, 100, 2000)]
    quality = [psnr(decoding.decode_array(data, model=model), pixels) for data in files]
    assert len(files[0]) > len(files[1]) > len(files[2])
    assert quality[0] > quality[2]
    assert quality[0] > 25
    mean = np.broadcast_to(pixels.mean((0, 1)).astype(np.uint8), pixels.shape)
    assert quality[0] > psnr(mean, pixels) + 3


@pytest.mark.parametrize("name", ["model", *(path.parent.name for path in (ROOT / "models").glob("*/model.toml"))])
@pytest.mark.parametrize("beta", [5, 50, 500])
def test_files_are_as_long_as_the_tables_predict(name: str, beta: float) -> None:
    """Within 0.5 % and 24 bytes, which hold header and checksum as well; the shipped models too."""
    data = encoding.encode_array(make_photo(300, 410), beta, model=name)
    file = container.unpack(data)
    bits = cross_entropy(zoo.load(name).tables, file)
    # the coder starts empty: likely symbols cost nothing until its state has grown
    assert bits / 8 - 24 <= len(file.payload) <= bits / 8 * 1.0001 + 8
    assert len(data) <= bits / 8 * 1.005 + 24


def cross_entropy(tables: SymbolTables, file: container.Container) -> float:
    """Bits that the tables predict for the symbols of a file."""
    z, orders, indices = stream.read(tables, file.payload, file.beta_byte, Grid.of(file.height, file.width))
    bits = 0.0
    if z is not None:
        assert tables.hyper is not None
        values = z.reshape(len(z), -1).astype(int) + tables.hyper.limit
        rows = [sum(Table(t).bits[v].sum() for t, v in zip(row, values, strict=True)) for row in tables.hyper.bank]
        bits = np.log2(max(2, len(rows))) + min(rows)
    for order, groups in zip(orders, indices, strict=True):
        for (k, _), group in zip(order.numbers, groups, strict=True):
            band = tables.bands[tables.band_of[k]]
            bits += band.tables[k - band.first].bits[group].sum()
    return float(bits)


def test_the_encoder_weighs_the_rate(model: Model) -> None:
    pixels = make_photo(200, 200)
    nearest, weighed = (encoding.encode_array(pixels, 20, model=model, rate_weight=weight) for weight in (0.0, 0.3))
    assert len(weighed) < len(nearest)


def test_encoding_is_repeatable(model: Model) -> None:
    pixels = make_photo(90, 70)
    assert encoding.encode_array(pixels, 20, model=model) == encoding.encode_array(pixels, 20, model=model)


# Sources


def test_every_kind_of_source(tmp_path: Path) -> None:
    pixels = make_photo(40, 50)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    data = shcodec.encode(Image.fromarray(pixels), 20, model="model")
    assert shcodec.encode(path, 20, model="model") == data
    assert shcodec.encode(str(path), 20, model="model") == data
    assert shcodec.encode(io.BytesIO(path.read_bytes()), 20, model="model") == data
    (tmp_path / "photo.shc").write_bytes(data)
    expected = decoding.decode_array(data)
    for source in (data, tmp_path / "photo.shc", str(tmp_path / "photo.shc"), io.BytesIO(data)):
        decoded = shcodec.decode(source)
        assert decoded.mode == "RGB"
        assert np.array_equal(np.asarray(decoded), expected)


def test_info_names_the_model(model: Model) -> None:
    data = encoding.encode_array(make_photo(40, 50), 50, model=model)
    info = shcodec.info(data)
    assert (info.model, info.model_id, info.version, info.colour) == ("model", model.id.hex(), 1, "RGB")
    assert info.beta == pytest.approx(50, rel=0.02)
    assert info.bpp == 8 * len(data) / 2000
    assert sum(info.sizes.values()) == len(data)
    assert info.sizes["header"] + info.sizes["checksum"] <= 24


# Errors


@pytest.mark.parametrize("beta", [1.9, 4097, float("nan"), -1])
def test_beta_outside_its_range(model: Model, beta: float) -> None:
    with pytest.raises(UsageError):
        encoding.encode_array(make_photo(8, 8), beta, model=model)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1, 65536, 3)),
    ],
    ids=lambda pixels: f"{pixels.shape} {pixels.dtype}",
)
def test_pixels_of_the_wrong_kind(model: Model, pixels: npt.NDArray[Any]) -> None:
    with pytest.raises(PictureError):
        encoding.encode_array(pixels, 50, model=model)


def test_more_pixels_than_allowed(model: Model) -> None:
    data = encoding.encode_array(make_photo(40, 50), 50, model=model)
    with pytest.raises(LimitError):
        decoding.decode_array(data, max_pixels=1999)
    with pytest.raises(LimitError):
        decoding.decode(data, max_pixels=1999)
    assert decoding.decode(data, max_pixels=2000).size == (50, 40)


def test_a_payload_of_another_size(model: Model) -> None:
    """The container is intact, the symbols are those of another picture."""
    file = container.unpack(encoding.encode_array(make_photo(80, 100), 5, model=model))
    for wrong in (replace(file, width=20, height=20), replace(file, width=400, height=400), replace(file, beta_byte=0)):
        for read in (inspection.verify, decoding.decode_array):
            with pytest.raises(CorruptFileError):
                read(container.pack(wrong))


def test_an_unknown_model(model: Model) -> None:
    file = container.unpack(encoding.encode_array(make_photo(8, 8), 50, model=model))
    foreign = container.pack(replace(file, model_id=bytes.fromhex("deadbeef")))
    for read in (inspection.verify, decoding.decode, decoding.decode_array):
        with pytest.raises(UnknownModelError, match="deadbeef"):
            read(foreign)
    assert inspection.info(foreign).model is None
    with pytest.raises(UnknownModelError, match="nonesuch"):
        encoding.encode_array(make_photo(8, 8), model="nonesuch")
