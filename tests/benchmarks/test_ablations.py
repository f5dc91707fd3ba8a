"""The ablations and statistics in benchmarks/: their arithmetic, and that the commands run on small models."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, ROOT, make_photo
from PIL import Image
from scripts import importable

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("scipy", reason="needs the extra 'bench'")


@pytest.fixture(autouse=True)
def scripts() -> Iterator[None]:
    with importable(ROOT / "benchmarks" / "ablations", ROOT / "benchmarks"):
        yield


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder laid out like the data: one pack, a validation picture, one for each test set."""
    folder = tmp_path / "data"
    photo = make_photo(192, 256)
    for name in ("val", "kodak", "b100"):
        (folder / name).mkdir(parents=True)
        Image.fromarray(photo[: 128 + 16 * len(name)]).save(folder / name / "a.png")
    with tarfile.open(folder / "train-0.tar", "w") as pack:
        for shift in range(10):
            stream = io.BytesIO()
            Image.fromarray(np.roll(photo, 19 * shift, (0, 1))).save(stream, "PNG")
            member = tarfile.TarInfo(f"{shift}.png")
            member.size = stream.tell()
            stream.seek(0)
            pack.addfile(member, stream)
    return folder


@pytest.mark.parametrize(("dim", "codewords"), [(1, 31), (1, 7), (2, 40), (4, 60)])
def test_choice_of_codewords_is_that_of_a_full_search(dim: int, codewords: int) -> None:
    fitting = import_module("fitting")
    rng = np.random.default_rng(3)
    vectors = rng.normal(0, 2, (3000, dim)).astype(np.float32)
    codebook = rng.normal(0, 2, (codewords, dim)).astype(np.float32)
    if dim == 1:  # levels about a step apart, as they are in a model
        codebook = (np.arange(codewords)[:, None] - codewords // 2 + codebook / 20).astype(np.float32)
    bits = rng.uniform(1, 6, codewords).astype(np.float32)
    distances = np.square(vectors[:, None].astype(np.float64) - codebook).sum(2)
    for weight, chosen in zip((0.0, 0.2), fitting.choose(vectors, codebook, bits, (0.0, 0.2)), strict=True):
        cost = distances + weight * bits
        best = cost.min(1)
        got = np.take_along_axis(cost, chosen[:, None], 1)[:, 0]
        assert np.allclose(got, best, atol=1e-4)


@pytest.mark.parametrize(("first", "last", "dim", "codewords"), [(16, 19, 4, 64), (20, 23, 2, 40), (32, 35, 1, 63)])
def test_fast_rounds_agree_with_those_of_the_trainer(first: int, last: int, dim: int, codewords: int) -> None:
    fitting = import_module("fitting")
    from shcodec.quantize.lattice import lattice, lloyd

    rng = np.random.default_rng(5)
    classes, size = last - first + 1, codewords
    rows = np.sort(rng.integers(0, classes, 4000))
    vectors = rng.laplace(0, 1 + rows[:, None] / 4, (4000, dim)).astype(np.float32)
    prior = np.full((classes, size), 1 / size, np.float32)
    start = lattice(dim, codewords)
    told = lloyd(
        torch.from_numpy(vectors), torch.from_numpy(rows), start, torch.from_numpy(prior), torch.from_numpy(prior),
        rate_weight=0.06, rounds=3,
    )  # fmt: skip
    codebook, counts = fitting.lloyd(vectors, rows, start.numpy(), prior, prior, 0.06, 3)
    theirs = told[0].numpy() if dim > 1 else np.sort(told[0].numpy(), 0)
    assert np.abs(codebook - theirs).max() < 0.02
    assert counts.sum() == pytest.approx(float(told[1].sum()))


def test_trials_tile_the_classes() -> None:
    trials = import_module("trials")
    from shcodec.train.config import TrainConfig

    base = trials.base_units(TrainConfig.load("fast").model.quantiser.bands)
    every = trials.all_trials(base)
    assert len({(trial.question, trial.name) for trial in every}) == len(every)
    for trial in every:
        firsts = [unit.first for unit in trial.units]
        lasts = [unit.last for unit in trial.units]
        assert firsts[1:] == [last + 1 for last in lasts[:-1]]
        assert lasts[-1] == 63
        assert all(a <= b for a, b in zip(firsts, lasts, strict=True))
        if trial.question not in ("first coded class", "vector length, one band"):
            assert firsts[0] == base[0].first


def test_ablations_of_the_quantiser_run(
    pictures: Path, tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quantiser = import_module("quantiser")
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("head\n<!-- quantiser: begin -->\nold\n<!-- quantiser: end -->\ntail\n")
    arguments = ["--model", tiny_model, "--data", pictures, "--work", tmp_path / "work", "--out", out]
    questions = ["--question", "choice of index", "--question", "histograms"]
    quantiser.main([*map(str, arguments), *questions])
    rows = (out / "quantiser.csv").read_text().splitlines()
    assert any(row.startswith('vector length,"best limits: fours') for row in rows)
    assert any(row.startswith("choice of index,nearest") for row in rows)
    text = (out / "README.md").read_text()
    assert text.startswith("head\n")
    assert text.endswith("tail\n")
    assert "old" not in text
    assert "hyper indices" in text
    assert (out / "quantiser.png").stat().st_size > 5000
    capsys.readouterr()


def test_statistics_of_a_model(pictures: Path, tmp_path: Path, tiny_model: str) -> None:
    out = tmp_path / "statistics.json"
    arguments = ["--model", tiny_model, "--data", pictures, "--betas", "20", "300", "--out", out]
    import_module("model_statistics").main([str(argument) for argument in arguments])
    told = json.loads(out.read_text())
    for row in told["spending"]:
        # ideal bits of the histograms and those of z make up the file, but for the container and the coder's last word
        assert 90 < sum(row["bands_percent"]) + row["hyper_percent"] < 100
    assert sum(row["elements_percent"] for row in told["classes"]) == pytest.approx(100, abs=0.1)
    assert {len(result["betas"]) for result in told["monotone"].values()} == {16}
    assert told["monotone"]["b100"]["pictures"] == 1


def test_growing_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = import_module("model_statistics")
    from shcodec.model.networks import Model

    sizes = iter([90, 80, 81, 70, *range(69, 57, -1)])

    class File:
        def __init__(self) -> None:
            self.data = bytes(next(sizes))

    monkeypatch.setattr(statistics, "analyse", lambda *_: None)
    monkeypatch.setattr(statistics, "encode_latent", lambda *_: File())
    found = statistics.violations(Model(GOLDEN / "model"), iter([("a.png", make_photo(8, 8))]))
    assert [case["bytes"] for case in found["violations"]] == [[80, 81]]


def test_surrogates_are_trained_measured_and_kept(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tomli_w", reason="needs the extra 'train'")
    import tomli_w
    from toy_training import shorten, toy_config

    shorten(monkeypatch)
    surrogates = import_module("surrogates")
    trials = tmp_path / "trials.toml"
    changes = {"noise": {"training": {"surrogate": "noise"}}}
    trials.write_text(tomli_w.dumps({"base": toy_config().to_dict(), "trials": changes}))
    arguments = ["--trials", trials, "--steps", 8, "--seeds", 1, "--data", pictures, "--work", tmp_path / "work"]
    arguments += ["--device", "cpu", "--out", tmp_path / "table.csv"]
    surrogates.main([str(argument) for argument in arguments])
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert rows[0].startswith("trial,bd_rate")
    assert [row.split(",")[0] for row in rows[1:]] == ["base", "noise"]
    packs = sorted(path.name for path in (tmp_path / "work" / "packs").iterdir())
    assert packs == ["train-0.tar"]  # nothing but training pictures

    monkeypatch.setattr(surrogates, "train", lambda *_, **__: pytest.fail("a finished trial is kept"))
    surrogates.main([str(argument) for argument in arguments])
    capsys.readouterr()


def test_every_trial_of_the_surrogates_is_a_valid_configuration() -> None:
    surrogates = import_module("surrogates")
    from shcodec.train.config import TrainConfig

    every = surrogates.configurations(ROOT / "benchmarks" / "ablations" / "surrogates.toml")
    settings = {name: TrainConfig.from_dict(config) for name, config in every.items()}
    assert len({repr(config) for config in settings.values()}) == len(settings)
