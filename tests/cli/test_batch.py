"""Many files at once: worker processes, interruption, lost workers, going on, and a Dask cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import GOLDEN, ROOT, Shc, make_photo, obey_interrupts
from PIL import Image
from scripts import script

from shcodec.cli.batch import workers
from shcodec.cli.batch.files import Job, write_output
from shcodec.cli.batch.plan import Plan
from shcodec.cli.batch.run import Placement, run
from shcodec.support.errors import ShcError, UsageError

posix = pytest.mark.skipif(os.name != "posix", reason="signals between processes")
dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs the extra 'dask'")


@pytest.fixture
def folder(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder with six pictures in `pics`; afterwards no temporary file may be left in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    for name in ("a", "b", "c", "sub/d", "sub/e", "sub/f"):
        path = Path("pics", f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_photo(40 + len(name), 30 + ord(name[-1]))).save(path)
    yield tmp_path
    assert not list(tmp_path.rglob(".shc-*"))


def contents(root: str) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


# What the workers do; module-level, so that they can be sent to them.


def double(number: int) -> int:
    return 2 * number


def threads(number: int) -> str:
    return os.environ["SHC_THREADS"]


def perish(number: int, *, at: int) -> int:
    """End its own process, as a system does that is out of memory."""
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def complain(number: int) -> int:
    if number == 1:
        raise UsageError("no")
    if number == 2:
        raise Unpicklable("first", "second")
    return number


class Unpicklable(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def sleep(number: int) -> None:
    time.sleep(60)


def source_of(job: Job) -> str:
    return job.source


def never_right(job: Job) -> str:
    raise UsageError("never right")


def perish_on(job: Job, *, name: str) -> str:
    if job.source.endswith(name):
        os.kill(os.getpid(), signal.SIGKILL)
    return job.source


# Workers


def test_every_item_has_its_outcome() -> None:
    found = {item: outcome() for item, outcome in workers.outcomes(double, range(7), 2)}
    assert found == {number: 2 * number for number in range(7)}


def test_workers_compute_on_one_thread() -> None:
    assert [outcome() for _, outcome in workers.outcomes(threads, [0], 1)] == ["1"]


def test_errors_come_back_as_what_they_are() -> None:
    outcomes = dict(workers.outcomes(complain, range(4), 2))
    assert (outcomes[0](), outcomes[3]()) == (0, 3)
    with pytest.raises(UsageError, match=r"^no$"):
        outcomes[1]()
    with pytest.raises(RuntimeError, match=r"^Unpicklable: firstsecond$"):
        outcomes[2]()


@posix
def test_a_killed_worker_loses_its_item_alone() -> None:
    outcomes = dict(workers.outcomes(partial(perish, at=2), range(6), 2))
    assert [outcomes[number]() for number in (0, 1, 3, 4, 5)] == [0, 1, 3, 4, 5]
    with pytest.raises(ShcError, match=r"worker process was killed \(signal 9; out of memory\?\)"):
        outcomes[2]()


@posix
def test_workers_end_when_nobody_wants_their_results() -> None:
    start = time.monotonic()
    idle: Any = workers.outcomes(partial(perish, at=0), range(1, 4), 1)
    with contextlib.closing(idle):
        next(idle)
    busy: Any = workers.outcomes(sleep, range(-1, 3), 2)
    with pytest.raises(KeyboardInterrupt), contextlib.closing(busy), interrupt_in(2.0):
        next(busy)
    assert time.monotonic() - start < 20


@contextlib.contextmanager
def interrupt_in(seconds: float) -> Iterator[None]:
    """Ctrl-C after a while."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Commands


def test_processes_do_what_one_does(folder: Path, shc: Shc, tiny_model: str) -> None:
    Path("pics/bad.png").write_text("no picture")
    alone = shc("encode", "-m", tiny_model, "pics", "-o", "alone")
    spread = shc("encode", "-m", tiny_model, "pics", "-o", "spread", "-j", 2)
    assert alone.code == spread.code == 1
    for outcome in (alone, spread):
        error, totals = outcome.err.splitlines()
        assert error == "shc: error: pics/bad.png: not a picture that Pillow can read"
        assert re.fullmatch(r"shc: 6 files, [\d,]+ B -> [\d,]+ B, \d\.\d{3} bpp, 1 failed, \d+\.\d\d s", totals)
    assert len(spread.out.splitlines()) == 6
    assert contents("spread") == contents("alone")
    assert shc("decode", "alone", "-o", "back1").code == 0
    assert shc("decode", "alone", "-o", "back2", "-j", 0).code == 0
    assert contents("back2") == contents("back1")
    assert sorted(contents("back1")) == ["a.png", "b.png", "c.png", "sub/d.png", "sub/e.png", "sub/f.png"]
    Path("alone/b.shc").write_bytes(b"bad")
    outcome = shc("verify", "alone", "-j", 2)
    error, totals = outcome.err.splitlines()
    assert (outcome.code, error) == (1, "shc: error: alone/b.shc: not an .shc file")
    assert re.fullmatch(r"shc: 5 files, [\d,]+ B, 1 failed, \d+\.\d\d s", totals)
    assert sorted(outcome.out.splitlines()) == [
        f"alone/{name}.shc OK" for name in ("a", "c", "sub/d", "sub/e", "sub/f")
    ]


def test_a_batch_goes_on(folder: Path, shc: Shc, tiny_model: str) -> None:
    encode = partial(shc, "encode", "-m", tiny_model, "pics", "-o", "out")
    assert encode().code == 0
    Path("out/b.shc").unlink()
    Path("out/c.shc").write_bytes(b"precious")
    assert encode().code == 1
    Path("out/b.shc").unlink()
    outcome = encode("--skip-existing", "-j", 2)
    assert outcome.code == 0
    assert outcome.err == "shc: note: 5 left out, as their outputs are there already\n"
    assert outcome.out.startswith("pics/b.png ")
    assert Path("out/c.shc").read_bytes() == b"precious"
    assert encode("--skip-existing", "--quiet") == type(outcome)(0, "", "")
    late = Path("out/a.shc").stat().st_mtime + 10
    os.utime("pics/a.png", (late, late))
    assert "shc: note: outputs older than their inputs: 1 (-f" in encode("--skip-existing").err
    outcome = encode("--skip-existing", "-f")
    assert (outcome.code, outcome.err) == (2, "shc: error: -f and --skip-existing exclude each other\n")
    assert shc("decode", "--quiet", "--skip-existing", "out/a.shc", "pics/a.png").code == 0


def test_wrong_usage_ends_a_batch_at_once() -> None:
    done: list[str] = []
    with pytest.raises(UsageError, match="never right"):
        run(Plan((Job("a"), Job("b"))), never_right, lambda job, result: done.append(result), Placement(2), quiet=True)
    assert not done


def test_two_names_of_one_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a.shc and A.shc are on many disks, also where files may be overwritten."""

    def finish(job: Job, result: str) -> None:
        write_output(job, result.encode())
        if job.target == "a.shc":
            os.link("a.shc", "A.shc")

    jobs = tuple(Job(name, target) for name, target in (("a.png", "a.shc"), ("A.png", "A.shc"), ("b.png", "b.shc")))
    assert not run(Plan(jobs), source_of, finish, Placement(), quiet=True)
    assert capsys.readouterr().err == "shc: error: A.png: has the output of a.png: a.shc and A.shc are one file\n"
    assert Path("A.shc").read_text() == "a.png"
    assert Path("b.shc").read_text() == "b.png"


def test_options_that_contradict_each_other(folder: Path, shc: Shc) -> None:
    for arguments in (("--scheduler", "tcp://nowhere:1"), ("--engine", "dask", "-j", "2"), ("-j", "-1")):
        outcome = shc("verify", "pics", *arguments)
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1


def start_batch(*arguments: str) -> subprocess.Popen[bytes]:
    """Start an endless batch, each picture in its turn, as a process group that has begun to print results."""
    for number in range(400):
        Path(f"pics/{number}.png").symlink_to("a.png")
    command = [sys.executable, "-m", "shcodec", "encode", "-m", "model", "pics", "-o", "out", "-e", "6", *arguments]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=obey_interrupts,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"pics/")
    return process


@posix
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("whole_group", [True, False])
def test_interruption(folder: Path, jobs: str, whole_group: bool) -> None:
    process = start_batch("-j", jobs)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    # Workers hold stderr as well: its end is theirs.
    _, err = process.communicate(timeout=120)  # on an idle machine a fifth of a second
    assert (process.returncode, err) == (130, b"shc: interrupted\n")
    assert all(data.startswith(b"\x89SHC\n") for data in contents("out").values())


@posix
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_termination_leaves_no_workers(folder: Path, number: str) -> None:
    process = start_batch("-j", "2")
    process.send_signal(getattr(signal, number))
    _, err = process.communicate(timeout=30)
    assert process.returncode == {"SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}[number]
    assert err == b""
    if number == "SIGKILL":
        for path in Path("out").rglob(".shc-*"):  # what nobody can prevent
            path.unlink()


def test_colour_is_left_out_where_it_is_not_wanted(folder: Path, tiny_model: str) -> None:
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
    for setting, coloured in (("", True), ("1", False)):
        main, side = pty.openpty()
        with open(side, "wb", buffering=0) as terminal:
            done = subprocess.run(
                [sys.executable, "-m", "shcodec", "encode", "-f", "-m", tiny_model, "pics"],
                env={**os.environ, "NO_COLOR": setting, "TERM": "xterm-256color", "COLUMNS": "80"},
                stdout=subprocess.PIPE,
                stderr=terminal,
                check=True,
                timeout=60,
            )
        assert done.stdout.count(b"\n") == 6
        drawn = os.read(main, 100_000)
        os.close(main)
        assert "━".encode() in drawn
        assert (re.search(rb"\x1b\[(\d+;)*3\d(;\d+)*m", drawn) is not None) == coloured


# Dask


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Yield the address of a cluster of two worker processes."""
    import dask as configuration
    from distributed import LocalCluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHC_MODELS", str(GOLDEN))
        # A worker that is lost counts at once, and not after three others.
        with (
            configuration.config.set({"distributed.scheduler.allowed-failures": 0}),
            LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
            ) as cluster,
        ):
            yield cluster.scheduler_address


@dask
def test_a_cluster_does_what_one_process_does(
    folder: Path, shc: Shc, tiny_model: str, scheduler: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path("pics/bad.png").write_text("no picture")
    Path("pics/gone.png").symlink_to("nowhere.png")
    cluster = ("--engine", "dask", "--scheduler", scheduler)
    outcome = shc("encode", "-m", tiny_model, "pics", "-o", "out", "--json", *cluster)
    assert outcome.code == 1
    *errors, totals = outcome.err.splitlines()
    assert json.loads(totals)["totals"]["failed"] == 2
    assert sorted(errors) == [
        "shc: error: pics/bad.png: not a picture that Pillow can read",
        "shc: error: pics/gone.png: No such file or directory",
    ]
    assert {json.loads(line)["output"] for line in outcome.out.splitlines()} == {
        f"out/{name}" for name in contents("out")
    }
    shc("encode", "--quiet", "-m", tiny_model, "pics", "-o", "alone")
    assert contents("out") == contents("alone")
    assert len(contents("out")) == 6
    # The workers know neither the folder nor its files.
    (folder / "scheduler.json").write_text(json.dumps({"type": "Scheduler", "address": scheduler}))
    cluster = ("--engine", "dask", "--scheduler", "scheduler.json")
    assert shc("decode", "out", "-o", "back", *cluster).code == 0
    assert len(contents("back")) == 6
    outcome = shc("verify", "out", *cluster)
    assert (outcome.code, len(outcome.out.splitlines())) == (0, 6)
    assert outcome.err.startswith("shc: 6 files, ")


@dask
@posix
def test_a_worker_that_the_cluster_loses(folder: Path, scheduler: str) -> None:
    from shcodec.cli.batch.cluster import cluster_outcomes

    jobs = [Job(f"pics/{name}.png") for name in "abc"]
    outcomes = {
        job.source: outcome for job, outcome in cluster_outcomes(partial(perish_on, name="b.png"), jobs, scheduler)
    }
    assert set(outcomes) == {job.source for job in jobs}
    with pytest.raises(ShcError, match="the cluster gave it up: the workers died that ran it"):
        outcomes["pics/b.png"]()


@dask
def test_a_cluster_that_is_not_there(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    from shcodec.cli.batch import cluster

    monkeypatch.setattr(cluster, "_TIMEOUT", 0.5)
    verify = partial(shc, "verify", "a.shc", "--engine", "dask")
    outcome = verify("--scheduler", "tcp://127.0.0.1:9")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("shc: error: no Dask scheduler at tcp://127.0.0.1:9: ")
    assert outcome.err.count("\n") == 1
    for arguments in (("--scheduler", "nonsense"), ()):
        outcome = verify(*arguments)
        assert outcome.code == 2
        assert "--scheduler" in outcome.err


@dask
def test_a_cluster_without_workers(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    from shcodec.cli.batch import cluster

    monkeypatch.setattr(cluster, "_TIMEOUT", 0.5)
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0", protocol="tcp", silence_logs=50) as empty:
        outcome = shc("verify", "a.shc", "--engine", "dask", "--scheduler", empty.scheduler_address)
    assert outcome.code == 1
    assert outcome.err == f"shc: error: the Dask cluster at {empty.scheduler_address} has no workers\n"


def test_without_the_extra(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "distributed" else find(name))
    outcome = shc("verify", "a.shc", "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "shc: error: shc --engine dask needs the extra 'dask': pip install 'shcodec[dask]'\n"


# The measurement


def test_the_benchmark_of_batches(folder: Path, tiny_model: str) -> None:
    batches = script("batch")
    assert batches.lay_out([Path("pics/a.png"), Path("pics/b.png")], Path("pictures")) == 41 * (127 + 128)
    measured = batches.measure(folder, tiny_model, 1, batches.ONE_THREAD)
    assert set(measured) == {"encode", "decode"}
    assert sorted(os.listdir("decoded")) == ["a.png", "b.png"]
    rounds = [
        {"one": {"encode": a, "decode": 4.0}, "two": {"encode": b, "decode": 1.0}}
        for a, b in ((3.0, 2.0), (2.0, 1.0), (9.0, 0.5))
    ]
    told = batches.summarise(rounds, 6.0, baseline="one")
    assert told["one"]["encode"] == {
        "seconds": 3.0,
        "runs": [3.0, 2.0, 9.0],
        "megapixels_per_second": 2.0,
        "ratio": 1.0,
    }
    assert told["two"]["encode"]["ratio"] == 3.0
    assert told["two"]["decode"] == {"seconds": 1.0, "runs": [1.0] * 3, "megapixels_per_second": 6.0, "ratio": 4.0}
