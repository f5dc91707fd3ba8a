"""The laboratory of quantisers in benchmarks/quantisers: reading pictures, one run of each quantiser, tables."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, make_photo
from PIL import Image
from scripts import importable

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("scipy", reason="needs the extra 'bench'")

from shcodec.support.errors import UsageError  # noqa: E402

FOLDER = ROOT / "benchmarks" / "quantisers"


@pytest.fixture(autouse=True)
def scripts() -> Iterator[None]:
    with importable(FOLDER):
        yield


def small_pictures(count: int) -> np.ndarray:
    photo = make_photo(96, 128)
    rng = np.random.default_rng(count)
    places = zip(rng.integers(0, 64, count), rng.integers(0, 96, count), strict=True)
    return np.stack([photo[y : y + 32, x : x + 32] for y, x in places])


def png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


# -- pictures ---------------------------------------------------------------------------------------


def test_the_binary_version_and_the_sprites_of_cifar10_are_the_same_pictures(tmp_path: Path) -> None:
    pictures = import_module("pictures")
    train, test = small_pictures(6), small_pictures(3)
    for name, part in (("data_batch_1", train[:4]), ("data_batch_2", train[4:]), ("test_batch", test)):
        planes = part.transpose(0, 3, 1, 2).reshape(len(part), -1)
        labelled = np.concatenate([np.full((len(part), 1), 7, np.uint8), planes], 1)
        for folder in ("binary", "sprites"):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "binary" / f"{name}.bin").write_bytes(labelled.tobytes())
        (tmp_path / "sprites" / f"{name}.png").write_bytes(png(part.reshape(len(part), 1024, 3)))
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "binary", "cifar-10-batches-bin")
    for source in ("binary", "sprites", "packed.tar.gz"):
        found = pictures.load(tmp_path / source)
        assert np.array_equal(found.train, train) and np.array_equal(found.test, test)


def test_pictures_as_files_are_scaled_and_told_apart_by_their_path(tmp_path: Path) -> None:
    pictures = import_module("pictures")
    with zipfile.ZipFile(tmp_path / "signs.zip", "w") as packed:
        packed.writestr("Final_Training/00001/a.ppm", b"P6 32 32 255\n" + bytes(range(256)) * 12)
        packed.writestr("Final_Training/00001/b.png", png(make_photo(40, 60)))
        packed.writestr("Final_Test/c.png", png(make_photo(32, 32)))
        packed.writestr("Final_Test/labels.csv", "a,b")
    found = pictures.load(tmp_path / "signs.zip")
    assert found.train.shape == (2, 32, 32, 3) and np.array_equal(found.test[0], make_photo(32, 32))
    assert np.array_equal(found.train[0].ravel(), np.tile(np.arange(256, dtype=np.uint8), 12))


def test_without_test_pictures_every_sixth_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "signs").mkdir()
    for number, picture in enumerate(small_pictures(12)):
        (tmp_path / "signs" / f"{number:02}.png").write_bytes(png(picture))
    found = import_module("pictures").load(tmp_path / "signs")
    assert np.array_equal(found.test, small_pictures(12)[[0, 6]]) and len(found.train) == 10


@pytest.mark.parametrize("content", [{}, {"data_batch_1.bin": b"short"}, {"a.png": b"no picture"}])
def test_what_holds_no_pictures_is_refused(tmp_path: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError):
        import_module("pictures").load(tmp_path)


# -- runs -------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "test").mkdir(parents=True)
    for number, picture in enumerate(small_pictures(40)):
        (tmp_path / "data" / ("test" if number < 8 else "") / f"{number:02}.png").write_bytes(png(picture))
    return tmp_path / "data"


TRIALS = """
[budget]
steps = 3
batch = 4
channels = 4
width = 8
test = 8
tables = 16
""" + "".join(
    f'[trials."{name}"]\nfamily = "{family}"\ncodewords = 16\nequal_codebook = true\n{rest}\n'
    for name, family, rest in (
        ("one", "averages", 'quantiser = "ema"'),
        ("two", "averages", 'quantiser = "ema"\nvectors = 2'),
        ("soft", "soft", 'quantiser = "soft"'),
        ("plain", "plain", 'quantiser = "straight-through"\nstart = "uniform"'),
        ("levels", "residual", 'quantiser = "residual"\nlevels = 2'),
        ("whole", "convex", 'quantiser = "convex"'),
        ("corners", "convex", 'quantiser = "convex"\nsupport = 2\nunits = 4'),
        ("exact", "exact", 'quantiser = "convex-exact"'),
    )
)


def test_every_quantiser_is_trained_measured_and_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trials.toml").write_text(TRIALS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("a\n<!-- laboratory: begin -->\n<!-- laboratory: end -->\nb\n")
    laboratory = import_module("laboratory")
    arguments = ["--data", f"signs={data}", "--seeds", 2, "--trials", tmp_path / "trials.toml", "--threads", 1]
    arguments += ["--work", tmp_path / "work", "--out", tmp_path / "out"]
    laboratory.main([str(a) for a in arguments])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["runs"]) == 16 and results["budget"]["steps"] == 3
    for row in results["runs"]:
        assert 0 < row["mse"] < 1 and 0 < row["bytes"] < 600 and row["steps"] == 3
        assert 1 <= row["perplexity"] <= 16.01 and 0 < row["used"] <= 1
        assert ("exact_error" in row) == row["quantiser"].startswith("convex")
    readme = (tmp_path / "out" / "README.md").read_text()
    assert readme.startswith("a\n") and readme.endswith("\nb\n") and "### signs, 2 seeds" in readme and "±" in readme
    assert (tmp_path / "out" / "signs.png").stat().st_size > 5000
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 17

    monkeypatch.setattr(laboratory, "run", lambda *_: pytest.fail("a finished run is kept"))
    laboratory.main([str(a) for a in arguments])
    with pytest.raises(UsageError, match="other settings"):
        laboratory.main([str(a) for a in [*arguments, "--steps", 4]])
    capsys.readouterr()


def test_the_same_seed_trains_the_same_from_the_same_start(data: Path) -> None:
    autoencoder, pictures = import_module("autoencoder"), import_module("pictures").load(data)
    budget = autoencoder.Budget(steps=2, batch=4, channels=4, width=8, test=8, tables=16)
    trial = autoencoder.Trial("ema", codewords=16)
    first, second, other = (autoencoder.run(trial, budget, pictures, seed) for seed in (1, 1, 2))
    assert first["mse"] == second["mse"] != other["mse"]
    assert first["bytes"] == second["bytes"]


def test_a_run_ends_with_its_time(data: Path) -> None:
    autoencoder, pictures = import_module("autoencoder"), import_module("pictures").load(data)
    budget = autoencoder.Budget(steps=10**6, time_limit=0.3, batch=4, channels=4, width=8, test=8, tables=16)
    assert autoencoder.run(autoencoder.Trial("ema", codewords=16), budget, pictures, 1)["seconds"] < 3


def test_the_trials_are_valid_and_those_at_equal_size_are_of_equal_size() -> None:
    found, budget = import_module("laboratory").entries(FOLDER / "trials.toml")
    assert len({entry.trial for entry in found}) == len(found) > 15
    equal = [entry.trial for entry in found if entry.equal_codebook]
    assert {(trial.codewords, trial.vectors, trial.support) for trial in equal} == {(128, 1, 0)}
    assert {trial.quantiser for trial in equal} == {entry.trial.quantiser for entry in found}
    assert budget.time_limit <= 300


@pytest.mark.parametrize("change", ['quantiser = "none"', "vectors = 3", "depth = 1", 'start = "zero"'])
def test_trials_that_are_not_valid_are_refused(tmp_path: Path, change: str) -> None:
    kind = "" if change.startswith("quantiser") else 'quantiser = "ema"\n'
    (tmp_path / "trials.toml").write_text(f'[trials.a]\nfamily = "f"\n{kind}{change}\n')
    with pytest.raises(UsageError):
        import_module("laboratory").entries(tmp_path / "trials.toml")


# -- tables -----------------------------------------------------------------------------------------


def test_errors_at_equal_bytes_lie_on_the_curve() -> None:
    comparison = import_module("comparison")
    sizes, qualities = [50.0, 100.0, 200.0], [20.0, 23.0, 26.0]
    assert comparison.error_at(sizes, qualities, 100) == pytest.approx(1000 * 10**-2.3)
    assert comparison.error_at(sizes, qualities, 100 * 2**0.5) == pytest.approx(1000 * 10**-2.45)
    assert comparison.error_at(sizes, qualities, 49) is None and comparison.error_at([50.0], [20.0], 50) is None


def test_figures_tell_their_spread() -> None:
    comparison = import_module("comparison")
    assert comparison.figure([1.0, 2.0, 3.5], 2) == "2.17 ± 1.25"
    assert comparison.figure([1.0], 1) == "1.0" and comparison.figure([1.0, None], 1) == "" == comparison.figure([], 1)


def test_families_are_compared_seed_by_seed() -> None:
    comparison = import_module("comparison")
    rows = [
        {"family": family, "seed": seed, "bytes": factor * size * seed, "mse": 1 / size**2, "trial": str(size)}
        for family, factor in (("averages", 1.0), ("other", 1.5))
        for seed in (1, 2)
        for size in (60.0, 120.0, 240.0)
    ]
    lines = comparison.equal_bytes(rows)
    assert lines[2].startswith("| averages |") and lines[2].endswith("| 0.0 ± 0.0 |")
    assert lines[3].startswith("| other |") and lines[3].endswith("| 50.0 ± 0.0 |")
