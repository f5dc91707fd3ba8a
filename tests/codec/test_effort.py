"""Effort: every level's files are read by the same decoder, and more effort gives better ones."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, make_photo
from PIL import Image

from shcodec.codec import decoding, effort, encoding, improvement, inspection
from shcodec.codec.analysis import analyse, decoded_pixels, encode_latent
from shcodec.codec.effort import DEFAULT_EFFORT, LEVELS, Effort, effort_of
from shcodec.codec.improvement import bit_price
from shcodec.codec.request import Request
from shcodec.container import beta_to_byte
from shcodec.model.networks import Model
from shcodec.pictures.picture import Picture
from shcodec.support.errors import LimitError, MissingExtraError, UsageError

pytestmark = pytest.mark.usefixtures("tiny_model")

BETA = 50.0
has_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra 'train'")


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the gradient descent of the highest levels."""
    levels = tuple(replace(level, steps=12 if level.steps else 0) for level in LEVELS)
    monkeypatch.setattr(effort, "LEVELS", levels)


def loss(data: bytes, rgb: np.ndarray, model: Model) -> float:
    """D + beta * R of a file."""
    error = np.square(decoding.decode_array(data, model=model).astype(np.float64) - rgb).mean()
    return float(error + BETA * 8 * len(data) / (rgb.shape[0] * rgb.shape[1]))


@pytest.mark.parametrize("sides", [(1, 1), (17, 5), (70, 90)], ids=str)
@pytest.mark.parametrize("level", range(7))
def test_every_level_decodes(model: Model, sides: tuple[int, int], level: int) -> None:
    rgb = make_photo(*sides)
    data = encoding.encode_array(rgb, BETA, model=model, effort=level)
    inspection.verify(data)
    assert decoding.decode_array(data, model=model).shape == rgb.shape


@has_torch
@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("sides", [(1, 1), (17, 5), (70, 90)], ids=str)
@pytest.mark.parametrize("level", [7, 9])
def test_the_highest_levels_decode(model: Model, sides: tuple[int, int], level: int) -> None:
    rgb = make_photo(*sides)
    data = encoding.encode_array(rgb, BETA, model=model, effort=level)
    inspection.verify(data)
    assert decoding.decode_array(data, model=model).shape == rgb.shape
    assert encoding.encode_array(rgb, BETA, model=model, effort=level) == data  # the draws are seeded


def test_the_default_is_a_level(model: Model) -> None:
    rgb = make_photo(70, 90)
    assert encoding.encode_array(rgb, BETA, model=model) == encoding.encode_array(
        rgb, BETA, model=model, effort=DEFAULT_EFFORT
    )
    assert encoding.encode_array(rgb, BETA, model=model) == encoding.encode_array(rgb, BETA, model=model, effort=0)


def test_refinement_pays(model: Model) -> None:
    rgb = make_photo(130, 200)
    losses = [loss(encoding.encode_array(rgb, BETA, model=model, effort=level), rgb, model) for level in (3, 4, 6)]
    assert losses[0] > losses[1] >= losses[2]


@has_torch
def test_gradient_descent_pays(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, from the analysis's own latent."""
    rgb = make_photo(130, 200)
    monkeypatch.setattr(effort, "LEVELS", (*LEVELS[:9], Effort(9, steps=40)))
    steps: list[tuple[int, int]] = []
    found = encoding.encode_picture(
        Picture(rgb),
        Request(model, BETA, effort=9),
        lambda what, done, total: steps.append((done, total)) if what == "refining" else None,
    )
    assert steps == [(done, 40) for done in range(1, 41)]
    assert loss(found.coded.data, rgb, model) < loss(encoding.encode_array(rgb, BETA, model=model), rgb, model)


@has_torch
def test_descent_sees_what_the_decoder_shows(model: Model) -> None:
    """Draws without chance are the file's own indices; the decoder in torch then shows the file's own picture."""
    import torch

    from shcodec.codec.descent import _Decoder

    rgb, step = make_photo(70, 150), beta_to_byte(BETA)
    analysis = analyse(model, rgb, step)
    cold, exact = 1e-6, encode_latent(analysis, step, 0.1)
    analysis = replace(analysis, z=exact.latent.z)
    decoder = _Decoder(analysis, step, 0.1)
    with torch.no_grad():
        pixels, bits = decoder.draw(cold, refresh=True)
    shown = pixels[0].permute(1, 2, 0).round().clamp(0, 255).numpy()[:70, :150]
    assert np.abs(shown - decoded_pixels(analysis, exact)).max() <= 1
    assert abs(float(bits) / 8 - len(exact.data)) < 60  # container, hyper indices


@pytest.mark.parametrize("wanted", [{"size": 400}, {"psnr": 18.7}])
@pytest.mark.parametrize("level", [0, 4, pytest.param(8, marks=has_torch)])
@pytest.mark.usefixtures("few_steps")
def test_targets_are_met_at_every_effort(model: Model, level: int, wanted: dict[str, Any]) -> None:
    request = Request(model, effort=level, strict=True, **wanted)
    found = encoding.encode_picture(Picture(make_photo(150, 140)), request)
    assert found.probes <= 8
    assert found.missed == ""


def test_the_price_of_a_bit_is_near_beta(model: Model) -> None:
    step = beta_to_byte(BETA)
    price = bit_price(analyse(model, make_photo(130, 200), step), step)
    assert 0.5 * BETA * 0.98 <= price <= 4 * BETA * 1.02


# What stands in the way


def test_large_pictures_are_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(improvement, "MOST_PIXELS", 5000)
    with pytest.raises(LimitError, match=r"effort 7 takes pictures of at most .* not 90x70; effort 6 takes any"):
        encoding.encode_array(make_photo(70, 90), BETA, model=model, effort=7)
    encoding.encode_array(make_photo(70, 90), BETA, model=model, effort=6)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"--effort 7 needs the extra 'train': pip install 'shcodec\[train\]'"):
        effort_of(7)
    assert effort_of(6).level == 6


@pytest.mark.parametrize("level", [-1, 10])
def test_levels_that_there_are_not(level: int) -> None:
    with pytest.raises(UsageError, match="0 to 9"):
        effort_of(level)


def test_torch_is_left_alone_up_to_level_6() -> None:
    code = """
import sys
from conftest import GOLDEN, make_photo
from shcodec.codec import decoding
from shcodec.codec import encoding
from shcodec.codec import inspection
from shcodec.codec.request import Request
from shcodec.model.networks import Model
from shcodec.pictures.picture import Picture

model = Model(GOLDEN / "model")
for level in range(7):
    encoding.encode_array(make_photo(40, 50), 50, model=model, effort=level)
encoding.encode_picture(Picture(make_photo(200, 150)), Request(model=model, size=400, effort=6))
print("torch" in sys.modules)
"""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_the_benchmark_of_effort(model: Model, tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="needs the extra 'bench'")
    for number in (1, 2):
        Image.fromarray(make_photo(100 + number, 120)).save(tmp_path / f"{number}.png")
    out = tmp_path / "effort.json"
    command = [sys.executable, ROOT / "benchmarks" / "effort.py", "--data", tmp_path, "--model", "model"]
    subprocess.run(
        [*map(str, command), "--levels", "3,4", "--crop", "96", "--limit", "1", "--out", str(out)], check=True
    )
    told = json.loads(out.read_text(encoding="utf-8"))
    assert (told["pictures"], told["megapixels"]) == (1, 96 * 96 / 1e6)
    assert told["levels"]["3"]["bd_rate_percent"] == pytest.approx(0)
    assert len(told["files"]["4"]) == len(told["betas"])


def test_a_benchmark_without_pictures_ends_with_one_line(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="needs the extra 'bench'")
    command = [sys.executable, ROOT / "benchmarks" / "effort.py", "--data", tmp_path / "nowhere"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("effort.py: error: ")
    assert done.stderr.count("\n") == 1
