"""Whole runs of the benchmark on tiny pictures: files, failures, resuming, several processes, cards."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_runs import rows
from conftest import Shc, make_photo, open_picture, spy
from PIL import Image

pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")

from rich.console import Console

from shcodec import bench
from shcodec.bench import Options, benchmark, datasets, measuring
from shcodec.bench.cells import COLUMNS, STORED, Cell, from_row, read_csv, to_row, write_csv
from shcodec.bench.curves import build_curves, compare
from shcodec.bench.report import Report
from shcodec.bench.tables import print_report
from shcodec.support.errors import MissingExtraError, ShcError, UsageError

CODECS = ("jpeg420", "jpeg444")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder of two pictures, one large enough for every measure."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(make_photo(168, 176)).save(folder / "large.png")
    Image.fromarray(make_photo(48, 64)).save(folder / "small.png")
    return folder


@pytest.fixture
def run(pictures: Path, tmp_path: Path) -> Callable[..., Report]:
    """Return a run over these pictures with JPEG alone."""

    def start(**options: Any) -> Report:
        return bench.run(str(pictures), tmp_path / "out", Options(**{"codecs": CODECS, "crops": 0, **options}))

    return start


@dataclass(frozen=True)
class Brittle:
    """A codec that cannot take pictures as wide as they are high or more at setting 1."""

    name: str = "brittle"
    settings: tuple[float, ...] = (1, 2, 3)

    def describe(self) -> str:
        return "for tests, setting = bits to keep"

    def version(self) -> str:
        return "1"

    def encode(self, rgb: np.ndarray, setting: float) -> bytes:
        if setting == 1 and rgb.shape[1] == 176:
            raise ValueError("too\nwide")
        shape = np.array(rgb.shape, np.uint16).tobytes()
        return shape + (rgb >> int(8 - setting)).tobytes()[: int(setting * rgb.size / 8)]

    def decode(self, data: bytes) -> np.ndarray:
        height, width, _ = np.frombuffer(data[:6], np.uint16)
        bits = round(8 * (len(data) - 6) / (int(height) * int(width) * 3))
        noise = np.random.default_rng(bits).integers(-(2 ** (6 - bits)), 2 ** (6 - bits), (int(height), int(width), 3))
        return np.clip(make_photo(int(height), int(width)) + noise, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Absent(Brittle):
    """A codec that is not installed."""

    name: str = "absent"

    def version(self) -> str:
        raise MissingExtraError("needs a package")


# Files


def test_what_a_run_leaves(run: Callable[..., Report], tmp_path: Path) -> None:
    report = run(command="shc bench --dataset pictures")
    table = rows(tmp_path / "out")
    assert tuple(table[0]) == COLUMNS
    assert len(table) == 2 * 2 * 10
    first = table[0]
    assert (first["image"], first["codec"], first["setting"]) == ("large.png", "jpeg420", "2")
    assert float(first["bpp"]) == pytest.approx(8 * int(first["bytes"]) / (168 * 176), abs=1e-6)
    assert all(float(row["enc_s"]) > 0 and float(row["dec_s"]) > 0 for row in table)
    assert all((row["ms_ssim"] == "") == (row["image"] == "small.png") for row in table)

    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["complete"] is True
    assert document["environment"]["command"] == "shc bench --dataset pictures"
    assert {"processor", "cores", "packages", "python"} <= set(document["environment"])
    assert document["curves"]["jpeg420"]["points"][0]["setting"] == 2
    assert [codec["name"] for codec in document["codecs"]] == list(CODECS)
    assert "libjpeg" in document["codecs"][0]["version"]
    for plot in ("rd_psnr.png", "rd_ms_ssim.png", "speed.png"):
        with Image.open(tmp_path / "out" / plot) as image:
            assert image.width > 500
    assert len((tmp_path / "out" / "curves.csv").read_text().splitlines()) == 1 + 2 * 10
    assert not report.failures
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "curves.csv",
        "rd_ms_ssim.png",
        "rd_psnr.png",
        "report.html",
        "results.csv",
        "results.json",
        "speed.png",
    ]


def test_psnr_is_that_of_the_file(run: Callable[..., Report], pictures: Path, tmp_path: Path) -> None:
    run(limit=1, codecs=["jpeg444"])
    original = open_picture(pictures / "large.png")
    original.save(tmp_path / "q60.jpg", quality=60, subsampling="4:4:4", optimize=True)
    error = np.asarray(Image.open(tmp_path / "q60.jpg"), float) - np.asarray(original, float)
    row = next(row for row in rows(tmp_path / "out") if row["setting"] == "60")
    assert int(row["bytes"]) == (tmp_path / "q60.jpg").stat().st_size
    assert float(row["psnr"]) == pytest.approx(10 * math.log10(255**2 / np.mean(error**2)), abs=1e-4)


def test_several_processes_measure_the_same(run: Callable[..., Report], tmp_path: Path) -> None:
    def measured() -> list[dict[str, str]]:
        return [{key: value for key, value in row.items() if not key.endswith("_s")} for row in rows(tmp_path / "out")]

    run()
    alone = measured()
    run(jobs=2, force=True)
    assert measured() == alone
    assert all(row["enc_s"] == "" and row["dec_s"] == "" for row in rows(tmp_path / "out"))


def test_tables_on_the_terminal(run: Callable[..., Report], tmp_path: Path) -> None:
    with (tmp_path / "text").open("w") as file:
        print_report(run(anchors=["jpeg420"]), Console(file=file))
    text = (tmp_path / "text").read_text()
    for part in ("BD-rate against jpeg420", "Bits per pixel at equal PSNR", "Means over the pictures", "MP/s"):
        assert part in text
    assert "…" not in text


# Comparisons


def test_an_anchor_is_measured_too(run: Callable[..., Report]) -> None:
    report = run(codecs=["jpeg444"], anchors=["jpeg420"], limit=1)
    assert report.anchors == ("jpeg420",)
    comparison = report.comparison("jpeg444", "jpeg420", "psnr")
    assert comparison is not None
    assert comparison.mean_curve is not None
    assert comparison.mean_curve.percent == pytest.approx(comparison.mean_of_images)
    assert (comparison.images, comparison.images_in_mean) == (1, 1)


def test_small_pictures_have_no_ms_ssim(run: Callable[..., Report]) -> None:
    report = run(anchors=["jpeg420"])
    psnr, ms_ssim = (report.comparison("jpeg444", "jpeg420", measure) for measure in ("psnr", "ms_ssim_db"))
    assert psnr is not None
    assert ms_ssim is not None
    assert (psnr.images, ms_ssim.images) == (2, 1)


def test_means_are_over_the_same_pictures() -> None:
    def cell(image: str, codec: str, setting: float, size: int, psnr: float) -> Cell:
        return Cell(image, codec, setting, size, 100, 80, psnr, None, None, None)

    cells = [
        cell(image, codec, setting, factor * size, psnr)
        for image in ("a", "b", "c")
        for codec, factor in (("full", 2), ("partial", 1))
        for setting, size, psnr in ((1, 1000, 30.0), (2, 2000, 35.0))
        if (image, codec, setting) != ("c", "partial", 2)
    ]
    full, partial = build_curves(cells, ["full", "partial", "none"])
    assert (full.images, partial.images) == (("a", "b", "c"), ("a", "b"))
    assert [point.bpp for point in partial.points] == [1.0, 2.0]
    comparison = compare(partial, full, "psnr")
    assert comparison.images == 2
    assert comparison.mean_curve is not None
    assert comparison.mean_curve.percent == pytest.approx(-50.0)
    assert compare(partial, full, "ms_ssim_db").mean_curve is None


def test_stored_measurements_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(datasets, "load_pins", lambda name: {})
    (tmp_path / "data" / "kodak").mkdir(parents=True)
    Image.fromarray(make_photo(192, 256)).save(tmp_path / "data" / "kodak" / "kodim01.png")
    report = bench.run(
        "kodak", tmp_path / "out", Options(data_root=tmp_path / "data", codecs=["jpeg420", "bpg444"], crops=0)
    )
    stored = [row for row in rows(tmp_path / "out") if row["codec"] == "bpg444"]
    assert len(stored) == 13
    assert all(row["source"] == STORED and row["enc_s"] == "" for row in stored)
    assert report.curves[1].source == STORED
    assert "stored, since bpgenc is not on the PATH" in report.codecs[1].version
    assert report.anchors == ("jpeg420", "bpg444")
    # In a folder of one's own, equal names mean nothing.
    report = bench.run(
        str(tmp_path / "data" / "kodak"), tmp_path / "out", Options(codecs=["jpeg420", "bpg444"], crops=0, force=True)
    )
    assert report.unavailable == {"bpg444": "bpgenc is not on the PATH"}


# Failures


def test_failures_are_listed_and_the_rest_goes_on(
    run: Callable[..., Report], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "broken.png").write_bytes((pictures / "large.png").read_bytes()[:2000])
    monkeypatch.setattr(benchmark, "select_codecs", lambda names, betas, qualities: (Brittle(), Absent()))
    report = run()
    assert [str(failure) for failure in report.failures][1:] == ["large.png brittle 1: ValueError: too wide"]
    assert str(report.failures[0]).startswith("broken.png: ")
    assert report.unavailable == {"absent": "needs a package"}
    assert len(rows(tmp_path / "out")) == 5
    assert report.curves[0].images == ("small.png",)
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(document["failures"]) == 2
    assert document["unavailable"] == {"absent": "needs a package"}
    with (tmp_path / "text").open("w") as file:
        print_report(report, Console(file=file))
    text = (tmp_path / "text").read_text()
    assert "not available: absent: needs a package" in text
    assert "failed: large.png brittle 1: ValueError: too wide" in text
    assert "1 only" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(run: Callable[..., Report], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(OSError, match="Permission denied"):
        run()


def test_out_is_a_file(run: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").write_text("in the way")
    monkeypatch.setattr(measuring, "measure_cell", lambda task: pytest.fail("worked before the output was tried"))
    with pytest.raises(OSError, match="exists"):
        run()


def test_out_lies_under_a_file(run: Callable[..., Report], pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "check_pictures", lambda pictures: pytest.fail("read before the output was tried"))
    with pytest.raises(OSError, match="Not a directory"):
        bench.run(str(pictures), pictures / "small.png" / "out", Options(codecs=CODECS))


@pytest.mark.parametrize("options", [{"jobs": 0}, {"repeat": 0}, {"limit": 0}, {"betas": [1.0]}, {"codecs": ["gif"]}])
def test_wrong_usage(run: Callable[..., Report], tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        run(**options)
    assert not (tmp_path / "out").exists()


def test_the_command_line(shc: Shc, pictures: Path, tmp_path: Path) -> None:
    arguments = ("bench", "--dataset", pictures, "--codecs", "jpeg420", "--limit", 1, "--out", tmp_path / "out")
    done = shc(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "jpeg420" in done.out
    again = shc(*arguments)
    assert again.code == 2
    assert "holds results already" in again.err
    told = json.loads(shc(*arguments, "--resume", "--json").out)
    assert told["images"] == 1
    (pictures / "large.png").write_bytes(b"no picture")
    assert shc(*arguments, "--force").code == 1


# Resuming


class Stop(BaseException):
    """Stands for Ctrl-C."""


def test_interrupted_and_resumed(run: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    whole = [{key: value for key, value in row.items() if not key.endswith("_s")} for row in rows(tmp_path / "out")]
    measure, count = measuring.measure_cell, 0

    def limited(task: measuring.Task) -> Any:
        nonlocal count
        count += 1
        if count > 7:
            raise Stop
        return measure(task)

    monkeypatch.setattr(measuring, "measure_cell", limited)
    with pytest.raises(Stop):
        run(force=True)
    assert len(rows(tmp_path / "out")) == 7
    assert json.loads((tmp_path / "out" / "results.json").read_text())["complete"] is False
    # The machine went down in the middle of a line.
    with (tmp_path / "out" / "results.csv").open("a") as file:
        file.write("large.png,jpeg420,80,12")
    count = -1000
    run(resume=True)
    assert count == -1000 + 40 - 7
    assert [
        {key: value for key, value in row.items() if not key.endswith("_s")} for row in rows(tmp_path / "out")
    ] == whole


def test_a_codec_that_changed_is_measured_again(
    run: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(limit=1)
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    document["codecs"][1]["version"] = "older"
    (tmp_path / "out" / "results.json").write_text(json.dumps(document))
    measured = spy(monkeypatch, measuring, "measure_cell")
    run(limit=1, resume=True)
    assert [task.codec.name for (task,) in measured] == ["jpeg444"] * 10


def test_results_of_another_set_are_left_alone(run: Callable[..., Report], tmp_path: Path) -> None:
    run(limit=1)
    before = (tmp_path / "out" / "results.csv").read_text()
    with pytest.raises(UsageError, match="give --resume to go on, -f to start anew"):
        run()
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(make_photo(8, 8)).save(other / "a.png")
    with pytest.raises(UsageError, match="holds results for pictures, not other"):
        bench.run(str(other), tmp_path / "out", Options(codecs=CODECS, resume=True))
    (tmp_path / "out" / "results.json").write_text("[]")
    with pytest.raises(ShcError, match="cannot be read"):
        run(resume=True)
    assert (tmp_path / "out" / "results.csv").read_text() == before


def test_cells_survive_the_file(tmp_path: Path) -> None:
    cell = Cell("a, b.png", "j2k", 0.05, 123, 40, 30, math.inf, None, None, 0.5, 0.25, None)
    assert from_row(to_row(cell)) == cell
    write_csv(tmp_path / "results.csv", [cell, replace(cell, setting=1.5)])
    assert read_csv(tmp_path / "results.csv") == [cell, replace(cell, setting=1.5)]
    (tmp_path / "results.csv").write_text("image,codec\na,b\n")
    with pytest.raises(ShcError, match="not a table of results"):
        read_csv(tmp_path / "results.csv")
