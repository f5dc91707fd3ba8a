"""Cards of models take their figures from a run over a whole published set, and from nothing else."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from bench_runs import small_kodak
from conftest import Shc

pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")

from shcodec import bench
from shcodec.bench import Options, card
from shcodec.bench.report import Report
from shcodec.support.errors import UsageError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return small_kodak(tmp_path / "data", monkeypatch, a=(64, 96), b=(64, 96))


@pytest.fixture
def report(own_model: Path, root: Path, tmp_path: Path) -> Report:
    options = Options(
        data_root=root, codecs=["shc-model", "jpeg420"], betas=[20, 200], crops=0, command="shc bench --dataset kodak"
    )
    return bench.run("kodak", tmp_path / "out", options)


def measured(own_model: Path) -> dict[str, object]:
    told = tomllib.loads((own_model / "model.toml").read_text(encoding="utf-8"))
    found: dict[str, object] = told.get("measured", {})
    return found


def test_figures_of_a_model(report: Report, own_model: Path) -> None:
    before = tomllib.loads((own_model / "model.toml").read_text(encoding="utf-8"))
    assert card.update_cards(report) == [own_model / "model.toml"]
    after = tomllib.loads((own_model / "model.toml").read_text(encoding="utf-8"))
    told = after.pop("measured")["kodak"]
    before.pop("measured", None)
    assert after == before
    points = next(curve for curve in report.curves if curve.codec == "shc-model").points
    assert told["beta"] == [200, 20]
    assert told["bpp"] == [round(point.bpp, 4) for point in points]
    assert told["psnr_db"] == [round(point.psnr, 3) for point in points]
    assert (told["images"], told["command"]) == (2, "shc bench --dataset kodak")


def test_results_of_other_sets_stay(report: Report, own_model: Path) -> None:
    card.update_cards(replace(report, dataset="b100"))
    card.update_cards(report)
    assert set(measured(own_model)) >= {"b100", "kodak"}


def test_only_whole_published_sets(report: Report, own_model: Path) -> None:
    before = (own_model / "model.toml").read_bytes()
    with pytest.raises(UsageError, match="measured on 2 of 24 pictures"):
        card.update_cards(replace(report, total=24))
    with pytest.raises(UsageError, match="published sets, and holiday is none"):
        card.update_cards(replace(report, dataset="holiday", is_benchmark=False))
    with pytest.raises(UsageError, match="no model was measured"):
        card.update_cards(replace(report, curves=report.curves[1:]))
    assert (own_model / "model.toml").read_bytes() == before


def test_the_command_line(own_model: Path, root: Path, shc: Shc, tmp_path: Path) -> None:
    arguments = ["--data-root", root, "--codecs", "shc-model", "--betas", "100", "--crops", 0, "--update-cards"]
    done = shc("bench", *arguments, "--dataset", "kodak", "--out", tmp_path / "out")
    assert done.code == 0
    assert done.err == f"shc: note: {own_model / 'model.toml'}: updated\n"
    assert "kodak" in measured(own_model)


@pytest.mark.parametrize("more", [["--dataset", "kodak", "--limit", "1"], ["--dataset", "."]])
def test_refused_before_any_work(own_model: Path, root: Path, shc: Shc, tmp_path: Path, more: list[str]) -> None:
    done = shc("bench", "--data-root", root, "--update-cards", "--out", tmp_path / "out", *more)
    assert done.code == 2
    assert "--update-cards needs a whole set" in done.err
    assert not (tmp_path / "out").exists()
