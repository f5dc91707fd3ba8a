"""The networks in ONNX Runtime: windows without seams, and the same pixels as in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, make_photo
from windows import count_runs

from shcodec import container
from shcodec.codec import analysis, decoding, encoding, inspection
from shcodec.model.card import read_card
from shcodec.model.networks import Model
from shcodec.pictures.picture import psnr
from shcodec.support.errors import UsageError
from shcodec.symbols import stream
from shcodec.symbols.grid import Grid, first_half

pytestmark = pytest.mark.usefixtures("tiny_model")  # the frozen one, whatever else is installed


# Windows


def test_windows_leave_no_seams(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = make_photo(400, 700)
    data = encoding.encode_array(pixels, 20, model=model)
    whole = decoding.decode_array(data, model=model)
    y, z = model.analyse(pixels, 100, Grid.of(400, 700))
    monkeypatch.setattr("shcodec.model.networks.WINDOW", 4)
    calls = count_runs(model, monkeypatch)
    pieces = decoding.decode_array(data, model=model)
    assert np.abs(pieces.astype(int) - whole).max() <= 1
    windowed_y, windowed_z = model.analyse(pixels, 100, Grid.of(400, 700))
    assert np.abs(windowed_y - y).max() < 1e-3
    assert z is not None
    assert windowed_z is not None
    assert np.abs(windowed_z.astype(int) - z).max() <= 1  # rounding may fall the other way, rarely
    assert np.mean(windowed_z != z) < 0.01
    assert min(calls.values()) > 1
    assert calls.keys() == {"analysis", "hyper", "refine", "synthesis"}
    coded = encoding.encode_array(pixels, 20, model=model)
    assert psnr(decoding.decode_array(coded, model=model), pixels) == pytest.approx(psnr(whole, pixels), abs=0.05)


# ONNX Runtime against torch


@pytest.fixture(scope="module")
def learner() -> Any:
    """Return the frozen model as training has it, in torch."""
    torch = pytest.importorskip("torch", reason="comparing with torch needs torch")
    from shcodec.train.config import TrainConfig
    from shcodec.train.objective import Learner
    from shcodec.train.pretrained import load_model

    torch.set_num_threads(1)
    learner = Learner(TrainConfig.from_dict(read_card(GOLDEN / "model")["config"]))
    load_model(learner, GOLDEN / "model")
    learner.net.class_map.fake_integer = True
    return learner.eval()


@pytest.mark.parametrize("beta", [2, 50, 700])
def test_pixels_are_those_of_torch(model: Model, learner: Any, beta: float) -> None:
    torch = pytest.importorskip("torch")
    from shcodec.nets.codec import Latents
    from shcodec.nets.layers import knot_weights

    data = encoding.encode_array(make_photo(128, 192), beta, model=model)
    file = container.unpack(data)
    z, orders, indices = stream.read(model.tables, file.payload, file.beta_byte, Grid.of(128, 192))
    assert z is not None
    beta_byte, shape = torch.tensor([file.beta_byte]), (16, 8, 12)
    values = [
        torch.from_numpy(model.tables.values(order, index, 16 * 8 * 12).reshape(shape))
        for order, index in zip(orders, indices, strict=True)
    ]
    with torch.no_grad():
        net = learner.net
        weights = knot_weights(beta_byte)
        features, mean, step = net.h_s(torch.from_numpy(z[None].astype(np.float32)), net.h_s.gain(weights))
        first = mean + step * values[0]
        half = torch.from_numpy(first_half(*shape))
        latents = Latents(y=mean, mean=mean, step=step, coordinate=mean, features=features, z=None)
        second = net.second_means(first, latents, beta_byte)
        y_hat = torch.where(half, first, second + step * values[1])
        pixels = net.synthesise(y_hat, beta_byte)[0].round().clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(decoding.decode_array(data, model=model) - pixels).max() <= 1


@pytest.mark.parametrize("beta_byte", [0, 31, 108, 255])
@pytest.mark.parametrize("border", [(0, 0), (16, 40)])
def test_training_measures_what_the_file_gives(
    model: Model, learner: Any, beta_byte: int, border: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rate and PSNR of the last phase of training are those of a real file, where a picture is padded too."""
    torch = pytest.importorskip("torch")
    from shcodec.train.objective import Phase, State, evaluate

    monkeypatch.setattr(analysis, "STEERINGS", ())  # training takes z as it comes
    pixels = make_photo(256, 384)
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    with torch.no_grad():
        told = evaluate(learner, x, torch.tensor([beta_byte]), State(Phase.HARD, 40.0, skip=True, border=border))
    pixels = pixels[: 256 - border[0], : 384 - border[1]]
    data = encoding.encode_array(pixels, container.byte_to_beta(beta_byte), model=model)
    assert told.psnr == pytest.approx(psnr(decoding.decode_array(data, model=model), pixels), abs=0.3)
    assert told.bpp == pytest.approx(inspection.info(data).bpp, rel=0.05, abs=24 * 8 / (256 * 384))


# Settings


def test_threads_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHC_THREADS", "two")
    with pytest.raises(UsageError, match="SHC_THREADS"):
        Model(GOLDEN / "model")
