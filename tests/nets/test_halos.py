"""Windows of the networks: each sees all that its inner part depends on, as the model's card says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from conftest import GOLDEN, make_photo

torch = pytest.importorskip("torch", reason="the networks' definition needs torch")

from toy_training import shorten, toy_config, write_config, write_pictures  # noqa: E402
from windows import LATENTS, count_runs, reach  # noqa: E402

from shcodec.codec import synthesis  # noqa: E402
from shcodec.model.card import CARD, read_card  # noqa: E402
from shcodec.model.latent import Latent  # noqa: E402
from shcodec.model.networks import HALOS, Model, windows  # noqa: E402
from shcodec.nets.codec import CodecNet, halos  # noqa: E402
from shcodec.nets.config import AnalysisConfig, SynthesisConfig  # noqa: E402
from shcodec.nets.layers import Conditioned  # noqa: E402
from shcodec.support.errors import ModelError  # noqa: E402
from shcodec.symbols.grid import Grid  # noqa: E402
from shcodec.symbols.knots import KNOTS  # noqa: E402
from shcodec.train.config import TrainConfig  # noqa: E402
from shcodec.train.export import export  # noqa: E402
from shcodec.train.loop import train  # noqa: E402


@pytest.mark.parametrize("name", ["fast", "best", "sha", "tiny"])
def test_halos_are_the_receptive_fields(name: str) -> None:
    config = TrainConfig.load(name).model
    thin = replace(  # widths do not matter, depths do
        config,
        latent=8,
        shortcut=False,
        analysis=replace(config.analysis, width8=4, width16=4),
        synthesis=replace(config.synthesis, width16=4, width8=4, width4=4, expand4=4),
    )
    net, told = CodecNet(thin), halos(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)  # all positive: no ReLU is closed and nothing cancels out
        weights = torch.full((1, KNOTS), 1 / KNOTS)
        gains = {name: part.gain(weights) for name, part in net.named_children() if isinstance(part, Conditioned)}
    measured = {
        "synthesis": reach(lambda y: net.g_s(y, gains["g_s"]), thin.latent, 1),
        "analysis": reach(lambda x: net.g_a(x, gains["g_a"]), 3, 16),
    }
    if config.has_hyper:
        features = torch.ones(1, thin.hyper.features, 4, LATENTS)
        measured |= {
            "analysis": reach(lambda x: net.h_a(net.g_a(x, gains["g_a"]), gains["h_a"]), 3, 16),
            "hyper": reach(lambda z: net.h_s(z, gains["h_s"])[1], thin.hyper.channels, 0.25),
            "refine": reach(lambda y: net.refine(y, features, gains["refine"]), thin.latent, 1),
        }
    assert told.keys() == measured.keys()
    for graph, need in measured.items():
        assert name == "best" or need <= HALOS[graph]  # what models have whose cards do not tell
        assert need <= told[graph] < need + (4 if graph in ("analysis", "hyper") else 1), graph


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a thin model, deeper than any that is shipped."""
    root = tmp_path_factory.mktemp("deep")
    config = toy_config("shortcut")
    model = replace(
        config.model,
        analysis=AnalysisConfig(16, 4, 16, 4),
        synthesis=SynthesisConfig(16, 5, 16, 8, 12, 16),
        hyper=replace(config.model.hyper, refine_dense=True),
    )
    pictures = write_pictures(root / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        train(write_config(replace(config, model=model), root), pictures, root / "run", device="cpu")
    export(root / "run", root / "model")
    return Model(root / "model")


def test_windows_of_a_deep_model_leave_no_seams(deep: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert deep.halos == {"analysis": 16, "hyper": 4, "refine": 1, "synthesis": 11, "quick": 11}
    pixels = make_photo(448, 704)
    whole = results(deep, pixels)
    calls = count_runs(deep, monkeypatch)
    monkeypatch.setattr("shcodec.model.networks.WINDOW", 4)
    pieces = results(deep, pixels)
    assert min(calls.values()) > 1 and len(calls) == 4
    for name, value in pieces.items():
        assert np.abs(value - whole[name]).max() <= (1 if name in ("z", "rgb") else 1e-3), name
    assert np.mean(pieces["z"] != whole["z"]) < 0.01  # rounding may fall the other way, rarely


def results(model: Model, pixels: Any) -> dict[str, Any]:
    """Return what each network makes of a picture, and of fixed numbers where it would hang on a rounded value."""
    grid = Grid.of(*pixels.shape[:2])
    y, z = model.analyse(pixels, 100, grid)
    assert z is not None
    generator = np.random.default_rng(0)
    latent = Latent(model, generator.integers(-3, 4, z.shape).astype(np.int8), 100, grid)
    latent.residuals[:] = generator.normal(size=latent.residuals.shape)
    values = [
        [latent.values((slice(top, bottom), slice(left, right))) for _, _, left, right in windows(grid.width, 0)]
        for _, _, top, bottom in windows(grid.height, 0)
    ]
    rgb = synthesis.synthesise(latent, pixels.shape[:2])
    return {"y": y, "z": z.astype(int), "values": np.block(values), "rgb": rgb.astype(int)}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, HALOS),
        ({"synthesis": 3}, HALOS | {"synthesis": 3, "quick": 3}),
        ({"analysis": 3}, None),
        ({"synthesis": -1}, None),
        ({"synthesis": 1000}, None),
        ({"synthesis": 2.0}, None),
        ({"other": 2}, None),
        (8, None),
    ],
)
def test_halos_in_the_card(told: Any, expected: dict[str, int] | None, tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN / "model", tmp_path / "model")
    card = {key: value for key, value in read_card(folder).items() if key != "halos"}
    (folder / CARD).write_text(tomli_w.dumps(card | ({} if told is None else {"halos": told})))
    if expected is not None:
        assert Model(folder).halos == expected
    else:
        with pytest.raises(ModelError, match="halos"):
            Model(folder)
