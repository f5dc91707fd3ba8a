"""What a batch came to, JSON for machines, and threads."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path

import pytest
from conftest import Outcome, Shc, make_photo
from PIL import Image

from shcodec import __version__
from shcodec.cli.batch import workers
from shcodec.cli.batch.files import Job
from shcodec.cli.batch.plan import Plan
from shcodec.cli.batch.run import Placement, run
from shcodec.model import zoo

SECONDS = r"\d+\.\d\d s"


@pytest.fixture
def folder(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with three small pictures."""
    monkeypatch.chdir(tmp_path)
    for name, sides in {"a": (20, 30), "b": (30, 20), "c": (17, 33)}.items():
        Image.fromarray(make_photo(*sides)).save(f"{name}.png")
    return tmp_path


def sizes(pattern: str) -> int:
    return sum(path.stat().st_size for path in Path().rglob(pattern))


def last(outcome: Outcome) -> str:
    return outcome.err.splitlines()[-1]


# Totals


def test_totals_after_a_batch(folder: Path, shc: Shc, tiny_model: str) -> None:
    outcome = shc("encode", "-m", tiny_model, ".", "-o", "out")
    read, written, pixels = sizes("*.png"), sizes("*.shc"), 20 * 30 * 2 + 17 * 33
    told = f"shc: 3 files, {read:,} B -> {written:,} B, {8 * written / pixels:.3f} bpp, "
    assert re.fullmatch(re.escape(told) + SECONDS, last(outcome))
    assert len(outcome.out.splitlines()) == 3
    outcome = shc("decode", "out", "-o", "back", "--region", "0,0,9,9")
    told = f"shc: 3 files, {written:,} B -> {sizes('back/*.png'):,} B, {8 * written / pixels:.3f} bpp, "
    assert re.fullmatch(re.escape(told) + SECONDS, last(outcome))
    assert re.fullmatch(rf"shc: 3 files, {written:,} B, {SECONDS}", last(shc("verify", "out")))


def test_failures_are_counted(folder: Path, shc: Shc, tiny_model: str) -> None:
    Path("bad.png").write_bytes(b"no picture")
    Path("empty").mkdir()
    outcome = shc("encode", "-m", tiny_model, "a.png", "bad.png", "empty", "-o", "out")
    assert outcome.code == 1
    assert re.search(rf"^shc: 1 file, .*, 2 failed, {SECONDS}$", last(outcome))
    outcome = shc("encode", "-m", tiny_model, "a.png", "b.png", "-o", "out")  # a.shc is there already
    assert re.search(rf"^shc: 1 file, .*, 1 failed, {SECONDS}$", last(outcome))
    assert re.fullmatch(rf"shc: 0 files, 2 failed, {SECONDS}", last(shc("verify", "a.png", "bad.png")))


def test_totals_for_machines(folder: Path, shc: Shc, tiny_model: str) -> None:
    Path("bad.png").write_bytes(b"no picture")
    outcome = shc("encode", "--json", "-m", tiny_model, "a.png", "b.png", "bad.png", "-o", "out")
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    totals = json.loads(last(outcome))["totals"]
    assert (totals["files"], totals["failed"]) == (len(rows), 1) == (2, 1)
    assert totals["output_bytes"] == sum(row["bytes"] for row in rows) == sizes("*.shc")
    assert totals["input_bytes"] == sum(row["input_bytes"] for row in rows)
    assert totals["bpp"] == pytest.approx(8 * totals["output_bytes"] / 1200)
    assert totals["seconds"] > 0


def test_one_file_and_quiet_batches_have_no_totals(folder: Path, shc: Shc, tiny_model: str) -> None:
    assert shc("encode", "-m", tiny_model, "a.png").err == ""
    assert shc("verify", "a.shc").err == shc("decode", "-f", "a.shc").err == ""
    assert shc("encode", "--quiet", "-f", "-m", tiny_model, "a.png", "b.png") == Outcome(0, "", "")
    assert shc("decode", "--quiet", "-f", "a.shc", "b.shc") == Outcome(0, "", "")
    assert shc("verify", "-q", "a.shc", "b.shc") == Outcome(0, "", "")


# JSON


def test_verify_tells_machines_what_is_whole_and_what_is_not(folder: Path, shc: Shc, tiny_model: str) -> None:
    shc("encode", "-m", tiny_model, "a.png", "b.png")
    Path("b.shc").write_bytes(Path("b.shc").read_bytes()[:-1])
    for jobs in (1, 2):
        outcome = shc("verify", "--json", "a.shc", "b.shc", "absent.shc", "-j", jobs)
        assert outcome.code == 1
        rows = {row["file"]: row for row in map(json.loads, outcome.out.splitlines())}
        assert {name: row["ok"] for name, row in rows.items()} == {"a.shc": True, "b.shc": False, "absent.shc": False}
        assert rows["a.shc"]["error"] is None
        assert sum(rows["a.shc"]["sizes"].values()) == Path("a.shc").stat().st_size
        assert "truncated" in rows["b.shc"]["error"] or "length" in rows["b.shc"]["error"]
        assert "No such file" in rows["absent.shc"]["error"]
        assert sum(line.startswith("shc: error: ") for line in outcome.err.splitlines()) == 2
        assert json.loads(last(outcome))["totals"]["failed"] == 2


def test_models_for_machines(shc: Shc, tiny_model: str) -> None:
    lists = [shc("models", *order).out for order in (("--json",), ("list", "--json"), ("--json", "list"))]
    assert lists[0] == lists[1] == lists[2]
    assert tiny_model in {json.loads(line)["name"] for line in lists[0].splitlines()}
    for order in (("verify", "--json", tiny_model), ("--json", "verify", tiny_model)):
        assert json.loads(shc("models", *order).out) == {"name": tiny_model, "ok": True, "problems": []}
    assert json.loads(shc("models", "--json", "show", tiny_model).out) == zoo.card(tiny_model)


def test_a_damaged_model_for_machines(shc: Shc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.toml").write_text('[sha256]\n"decoder.safetensors" = "00"\n')
    monkeypatch.setenv("SHC_MODELS", str(tmp_path))
    outcome = shc("models", "verify", "--json", "broken")
    told = json.loads(outcome.out)
    assert (outcome.code, told["ok"]) == (1, False)
    assert told["problems"]


def test_version_has_a_short_option(shc: Shc) -> None:
    assert shc("-V").out == shc("--version").out
    assert shc("-V").out.startswith(f"shc {__version__}\n")


# Threads


def wanted_threads(job: Job) -> tuple[int, str | None]:
    return zoo.load("model").threads, os.environ.get("SHC_THREADS")


def test_threads_of_the_networks(folder: Path, shc: Shc, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("shcodec.codec.rate_choice.analyse", _spying(seen))
    monkeypatch.setenv("SHC_THREADS", "3")
    encode = partial(shc, "encode", "-f", "-m", tiny_model, "a.png")
    for arguments in ((), ("--threads", "1"), ("--threads", "2"), ("--threads", "0"), ()):
        assert encode(*arguments).code == 0
    assert seen == [3, 1, 2, 0, 3]
    assert os.environ["SHC_THREADS"] == "3"
    for command in ("decode", "verify"):
        assert shc(command, "a.shc", "--threads", "1", *(["-f"] if command == "decode" else [])).code == 0
    assert shc("compare", "a.png", "a.shc", "--threads", "1").code == 0


def _spying(seen: list[int]) -> object:
    from shcodec.codec.analysis import analyse

    def spy(model: object, *arguments: object, **options: object) -> object:
        seen.append(model.threads)  # type: ignore[attr-defined]
        return analyse(model, *arguments, **options)  # type: ignore[arg-type]

    return spy


def test_threads_of_worker_processes(tiny_model: str) -> None:
    jobs = [Job("a"), Job("b")]
    for threads in (1, 2):
        found: list[tuple[int, str | None]] = []
        spread = Placement(2, threads=threads)
        assert run(Plan(tuple(jobs)), wanted_threads, lambda job, result: found.append(result), spread, quiet=True)  # noqa: B023
        assert found == [(threads, str(threads))] * 2
    assert [outcome() for _, outcome in workers.outcomes(wanted_threads, [jobs[0]], 1)] == [(1, "1")]


@pytest.mark.parametrize("number", ["-1", "many", "5000"])
def test_threads_must_be_a_sensible_number(folder: Path, shc: Shc, number: str) -> None:
    outcome = shc("verify", "a.shc", "--threads", number)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
