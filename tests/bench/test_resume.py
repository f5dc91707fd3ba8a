"""Nothing that was measured is lost: real interruptions, and runs that would drop what is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bench_runs import rows
from conftest import Shc, make_photo, obey_interrupts, spy
from PIL import Image

pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")

from shcodec import bench
from shcodec.bench import Options, crops, measuring
from shcodec.bench.codecs import ShcCodec
from shcodec.support.errors import ShcError, UsageError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder of three pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(make_photo(64, 96)).save(folder / f"{name}.png")
    return folder


def cells(out: Path) -> set[tuple[str, str, str]]:
    return {(row["image"], row["codec"], row["setting"]) for row in rows(out)}


# Interruptions


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_and_resume(pictures: Path, tmp_path: Path, jobs: int) -> None:
    out = tmp_path / "out"
    arguments = ["bench", "--dataset", str(pictures), "--codecs", "jpeg420,heic444,avif444", "--out", str(out)]
    command = [sys.executable, "-m", "shcodec", *arguments, "--crops", "0", "--jobs", str(jobs)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=obey_interrupts
    )
    deadline = time.monotonic() + 60
    while not (out / "results.csv").exists() or len(rows(out)) < 12:
        assert process.poll() is None, "over before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    kept = rows(out)
    assert 12 <= len(kept) < 3 * 27
    assert json.loads((out / "results.json").read_text())["complete"] is False
    assert not (out / "report.html").exists()

    subprocess.run([*command, "--resume"], stdout=subprocess.DEVNULL, check=True, timeout=120)
    assert len(rows(out)) == len(cells(out)) == 3 * 27
    assert all(row in rows(out) for row in kept)
    assert json.loads((out / "results.json").read_text())["complete"] is True
    assert (out / "report.html").exists()


def test_interrupted_among_the_crops(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(crops, "make_viewer", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bench.run(str(pictures), tmp_path / "out", Options(codecs=["jpeg420"]))
    kept = rows(tmp_path / "out")
    monkeypatch.setattr(measuring, "measure_cell", lambda task: pytest.fail("measured again"))
    bench.run(str(pictures), tmp_path / "out", Options(codecs=["jpeg420"], resume=True))
    assert rows(tmp_path / "out") == kept


# Runs that leave something out


@pytest.mark.parametrize("narrower", [{"codecs": ["jpeg420"]}, {"limit": 2}])
def test_a_narrower_run_does_not_drop_results(pictures: Path, tmp_path: Path, narrower: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"codecs": ["jpeg420", "webp"], "crops": 0}
    bench.run(str(pictures), tmp_path / "out", Options(**whole))
    before = (tmp_path / "out" / "results.csv").read_bytes()
    with pytest.raises(UsageError, match="would drop"):
        bench.run(str(pictures), tmp_path / "out", Options(**{**whole, **narrower}, resume=True))
    assert (tmp_path / "out" / "results.csv").read_bytes() == before


def test_a_wider_run_adds_to_the_results(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(str(pictures), tmp_path / "out", Options(codecs=["jpeg420"], limit=2, crops=0))
    before = cells(tmp_path / "out")
    tasks = spy(monkeypatch, measuring, "measure_cell")
    bench.run(str(pictures), tmp_path / "out", Options(codecs=["jpeg420", "webp"], crops=0, resume=True))
    measured = [(task.picture.name, task.codec.name) for (task,) in tasks]
    assert len(cells(tmp_path / "out") - before) == len(measured) == 10 + 3 * 9
    assert set(measured) == {("c.png", "jpeg420"), ("a.png", "webp"), ("b.png", "webp"), ("c.png", "webp")}


def test_a_picture_that_became_damaged(pictures: Path, tmp_path: Path) -> None:
    bench.run(str(pictures), tmp_path / "out", Options(codecs=["jpeg420"]))
    (pictures / "b.png").write_bytes(b"no picture")
    report = bench.run(str(pictures), tmp_path / "out", Options(codecs=["jpeg420"], resume=True))
    assert [failure.image for failure in report.failures] == ["b.png"]
    assert {image for image, _, _ in cells(tmp_path / "out")} == {"a.png", "c.png"}


# Whole processes


def test_process_times(pictures: Path, tmp_path: Path, tiny_model: str) -> None:
    options: dict[str, Any] = {"codecs": ["shc-model", "jpeg420"], "betas": [50], "limit": 1, "crops": 0}
    plain = bench.run(str(pictures), tmp_path / "out", Options(**options))
    assert all(row["enc_process_s"] == row["dec_process_s"] == "" for row in rows(tmp_path / "out"))
    assert plain.curves[0].points[0].dec_process_s is None
    # A resumed run takes what is lacking, and of this project's codec alone.
    timed = bench.run(str(pictures), tmp_path / "out", Options(**options, resume=True, process_times=True))
    for row in rows(tmp_path / "out"):
        own = row["codec"] == "shc-model"
        assert (row["enc_process_s"] != "") == (row["dec_process_s"] != "") == own
        assert not own or float(row["dec_process_s"]) > float(row["dec_s"])
    written = float(rows(tmp_path / "out")[0]["dec_process_s"])
    assert timed.curves[0].points[0].dec_process_s == pytest.approx(written, abs=1e-6)


def test_process_times_are_medians(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    taken = iter([5.0, 1.0, 3.0, 0.5, 0.9, 0.7])
    monkeypatch.setattr(measuring, "_seconds_of", lambda arguments: next(taken))
    assert measuring.time_processes(ShcCodec("model"), pictures / "a.png", 50.0, repeat=3) == (3.0, 0.7)


def test_a_process_that_fails(pictures: Path, tiny_model: str) -> None:
    with pytest.raises(ShcError, match=r"shc encode as a process failed \(1\): shc: error: .*'nobody'"):
        measuring.time_processes(ShcCodec("nobody"), pictures / "a.png", 50.0)


def test_process_times_need_one_job(shc: Shc, pictures: Path, tmp_path: Path) -> None:
    done = shc("bench", "--dataset", pictures, "--process-times", "-j", 2, "--out", tmp_path / "out")
    assert (done.code, (tmp_path / "out").exists()) == (2, False)
    assert "--process-times needs --jobs 1" in done.err
