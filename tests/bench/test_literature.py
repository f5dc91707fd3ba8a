"""Published curves: what is stored of them, and that nobody can take them for measurements."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bench_runs import small_kodak
from conftest import Shc

pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")

from shcodec import bench
from shcodec.bench import Options, literature, plots, tables
from shcodec.bench.bd_rate import bd_rate
from shcodec.bench.cells import stored_cells
from shcodec.bench.curves import build_curves, mean_curve
from shcodec.support.errors import UsageError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return small_kodak(tmp_path / "data", monkeypatch, a=(168, 176))


def test_every_curve_has_its_source() -> None:
    curves = literature.load("kodak")
    assert len({curve.name for curve in curves}) == len(curves) >= 8
    for curve in curves:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{10}:\S+", curve.source)
        assert len(curve.points) >= 5
        for lower, higher in zip(curve.points, curve.points[1:], strict=False):
            assert lower.bpp < higher.bpp
            assert lower.psnr < higher.psnr
        assert all(0 < point.bpp < 5 and 20 < point.psnr < 50 for point in curve.points)
        assert all(point.ms_ssim is None or 0.8 < point.ms_ssim < 1 for point in curve.points)


@pytest.mark.parametrize(("name", "percent"), [("cheng2020-anchor", -18.9), ("bmshj2018-hyperprior", 4.0)])
def test_rank_against_the_stored_bpg(name: str, percent: float) -> None:
    """The BD-rates that others found for the same files against the same BPG."""
    images = [f"kodim{number:02}" for number in range(1, 25)]
    (bpg,) = build_curves(stored_cells("kodak", "bpg444", images), ["bpg444"])
    points = next(curve.points for curve in literature.load("kodak") if curve.name == name)
    found = bd_rate(mean_curve(bpg.points), mean_curve(points))
    assert found is not None
    assert found.percent == pytest.approx(percent, abs=1.0)


def test_sets_without_curves() -> None:
    with pytest.raises(UsageError, match="no published curves for b100: there are some for kodak"):
        literature.load("b100")


def test_plots_and_tables_mark_them(root: Path, tmp_path: Path) -> None:
    options = Options(data_root=root, codecs=["jpeg420", "jpeg444"], published=True, crops=0)
    report = bench.run("kodak", tmp_path / "out", options)
    names = [f"{curve.name} (published)" for curve in literature.load("kodak")]
    figures = plots.draw(report)
    axes = figures[plots.PSNR_PLOT].axes[0]
    assert [line.get_label() for line in axes.get_lines()] == ["jpeg420", "jpeg444", *names]
    assert {line.get_linestyle() for line in axes.get_lines()[2:]} == {":"}
    assert figures[plots.MS_SSIM_PLOT].axes[0].get_ylabel() == "MS-SSIM, dB of the mean (RGB)"
    titles = [table.title for table in tables.all_tables(report)]
    assert any(title.startswith("Published, not measured here: BD-rate against jpeg420") for title in titles)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "they were not measured here" in text
    assert all(curve.source in text for curve in literature.load("kodak"))


def test_not_beside_a_part_of_the_set(root: Path, shc: Shc, tmp_path: Path) -> None:
    arguments = ["bench", "--data-root", root, "--codecs", "jpeg420", "--published", "--out", tmp_path / "out"]
    limited = shc(*arguments, "--dataset", "kodak", "--limit", "1")
    assert (limited.code, (tmp_path / "out").exists()) == (2, False)
    assert "--published goes without --limit" in limited.err
    (root / "kodak" / "b.png").write_bytes(b"no picture")
    done = shc(*arguments, "--dataset", "kodak")
    assert "not available: published curves: means over 2 pictures, and 1 are here" in done.out
    assert "Published, not measured here" not in done.out


def test_not_beside_a_folder(root: Path, shc: Shc, tmp_path: Path) -> None:
    done = shc("bench", "--dataset", root / "kodak", "--published", "--out", tmp_path / "out")
    assert (done.code, (tmp_path / "out").exists()) == (2, False)
    assert "no published curves for" in done.err
