"""Killed, out of space, not allowed: the old output is intact or the new one whole, and nothing else stays."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import kill
import pytest
from conftest import ROOT, Shc, run_process

from shcodec.codec import encoding
from shcodec.support import atomic

resource = pytest.importorskip("resource", reason="the system has no limits on processes")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor these limits")

OLD = b"what was there before"
NEW = b"n" * 200_000

# Replaces a file and is killed at a step of it: all that an unlucky moment can hit.
KILLED = """
import os, signal, sys
from shcodec.support import atomic
step, target = sys.argv[1:]
def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)
original = os.replace
if step in ("fsync", "replace"):
    setattr(os, step, die)
if step == "after":
    os.replace = lambda *arguments: (original(*arguments), die())
with atomic.replacing(target) as file:
    if step == "created":
        die()
    file.write(b"n" * 100_000)
    file.flush()
    if step == "half":
        die()
    file.write(b"n" * 100_000)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder with an output that is worth keeping."""
    (tmp_path / "out").write_bytes(OLD)
    atomic._sweep.cache_clear()
    yield tmp_path
    atomic._sweep.cache_clear()


def temporaries(folder: Path) -> list[Path]:
    return list(folder.glob(".shc-*"))


def replace(target: Path) -> None:
    """Write the new output as a process of its own would: folders are swept again."""
    atomic._sweep.cache_clear()
    with atomic.replacing(target) as file:
        file.write(NEW)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", *map(str, arguments)], env=environment)


@pytest.mark.parametrize("step", ["created", "half", "fsync", "replace", "after"])
def test_killed_at_every_step(folder: Path, step: str) -> None:
    process = start(KILLED, step, folder / "out")
    assert process.wait(60) == -signal.SIGKILL
    assert (folder / "out").read_bytes() == (NEW if step == "after" else OLD)
    assert len(temporaries(folder)) == (step != "after")
    replace(folder / "other")
    assert temporaries(folder) == []
    assert (folder / "other").read_bytes() == NEW


def test_killed_at_random_moments(tmp_path: Path) -> None:
    for counts in kill.attack_both(tmp_path, 5, seed=1).values():
        assert counts["broken"] == counts["left after the next run"] == 0, counts


def test_what_a_living_process_writes_is_not_swept(folder: Path) -> None:
    script = "import sys, time\nfrom shcodec.support import atomic\n"
    script += (
        "with atomic.replacing(sys.argv[1]) as file:\n    file.write(b'slow')\n    file.flush()\n    time.sleep(2)"
    )
    process = start(script, folder / "out")
    deadline = time.monotonic() + 60
    while not temporaries(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    replace(folder / "other")
    assert len(temporaries(folder)) == 1
    assert process.wait(60) == 0
    assert (folder / "out").read_bytes() == b"slow"
    assert temporaries(folder) == []


def test_only_what_is_surely_ours_is_swept(folder: Path) -> None:
    prefix = atomic._prefix()
    (folder / "precious").write_bytes(OLD)
    names = [f"{prefix}{'0' * 12}", f"{prefix}{'0' * 11}.tmp", f"{prefix}{'g' * 12}.tmp", ".shc-00.tmp", "shc.tmp"]
    for name in names:
        (folder / name).write_bytes(OLD)
    (folder / f"{prefix}{'1' * 12}.tmp").symlink_to(folder / "precious")
    (folder / f"{prefix}{'2' * 12}.tmp").mkdir()
    os.mkfifo(folder / f"{prefix}{'3' * 12}.tmp")
    left = folder / f"{prefix}{'4' * 12}.tmp"
    left.write_bytes(OLD)
    before = {path.name for path in folder.iterdir()}
    replace(folder / "out")
    assert before - {path.name for path in folder.iterdir()} == {left.name}
    assert (folder / "precious").read_bytes() == OLD


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_files_of_others_are_not_swept(folder: Path) -> None:
    foreign = folder / f"{atomic._prefix()}{'5' * 12}.tmp"
    foreign.write_bytes(OLD)
    os.chown(foreign, 12_345, 12_345)
    replace(folder / "out")
    assert foreign.exists()


def test_a_file_that_is_swept_while_it_is_made_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = iter([False, True])

    def lock(descriptor: int) -> bool:
        return next(locks)

    monkeypatch.setattr(atomic, "_lock", lock)
    with atomic.replacing(folder / "out") as file:
        file.write(NEW)
    assert (folder / "out").read_bytes() == NEW
    assert temporaries(folder) == []


# -- no space, no permission ------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_no_space_left(folder: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as caught, atomic.replacing(folder / "out") as file:
        file.write(NEW[: 1 << 12])
        if step == "write":
            full()
        monkeypatch.setattr(os, "fsync", full)
    assert caught.value.filename == str(folder / "out")
    assert (folder / "out").read_bytes() == OLD
    assert temporaries(folder) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 64 KB; the test is skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=False)


def test_a_disk_that_is_full(small_disk: Path, tmp_path: Path, photo_path: Path, tiny_model: str, shc: Shc) -> None:
    coded = tmp_path / "photo.shc"
    coded.write_bytes(encoding.encode(photo_path, 50, model=tiny_model))
    target = small_disk / "out.bmp"
    target.write_bytes(OLD)
    (small_disk / "filler").write_bytes(bytes(50_000))
    outcome = shc("decode", "-f", coded, target)
    assert outcome.code == 1 and "No space left on device" in outcome.err
    assert target.read_bytes() == OLD
    assert {path.name for path in small_disk.iterdir()} == {"out.bmp", "filler"}


def test_a_file_that_grows_beyond_its_quota(folder: Path, photo_path: Path, tiny_model: str) -> None:
    """The limit on the size of files stands in for a quota; the signal that comes with it is ignored by Python."""
    coded = folder / "photo.shc"
    coded.write_bytes(encoding.encode(photo_path, 50, model=tiny_model))
    target = folder / "out.bmp"
    target.write_bytes(OLD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # the command inherits it
    try:
        done = run_process("decode", "-f", coded, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.returncode == 1 and b"File too large" in done.stderr, done.stderr
    assert target.read_bytes() == OLD
    assert temporaries(folder) == []


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_is_read_only(folder: Path) -> None:
    (folder / "out").chmod(0o666)
    folder.chmod(0o555)
    try:
        with as_nobody(), pytest.raises(OSError) as caught, atomic.replacing(folder / "out") as file:
            file.write(NEW)
    finally:
        folder.chmod(0o755)
    assert caught.value.errno in (errno.EACCES, errno.EROFS, errno.EPERM)
    assert (folder / "out").read_bytes() == OLD
    assert temporaries(folder) == []
