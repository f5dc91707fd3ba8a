"""Fixtures that several tests share: pictures, the frozen model, and the command line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shcodec.cli import main
from shcodec.model.networks import Model

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code and what it printed."""

    code: int
    out: str
    err: str


Shc = Callable[..., Outcome]


def assert_wrong_usage(outcome: Outcome) -> None:
    """Exit code 2, nothing on stdout, one line of error."""
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("shc: error: ")
    assert outcome.err.count("\n") == 1


@pytest.fixture
def shc_data() -> Path:
    """Return the folder of real pictures that SHC_DATA names; the test is skipped without it."""
    folder = os.environ.get("SHC_DATA")
    if not folder:
        pytest.skip("SHC_DATA names no folder of pictures")
    return Path(folder)


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of the small frozen model that never changes, made known to this process and its children."""
    monkeypatch.setenv("SHC_MODELS", str(GOLDEN))
    return "model"


@pytest.fixture
def own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a copy of the frozen model, the only one beside the shipped ones, to be changed."""
    monkeypatch.setenv("SHC_MODELS", str(tmp_path / "models"))
    return shutil.copytree(GOLDEN / "model", tmp_path / "models" / "model")


@pytest.fixture
def photo() -> np.ndarray:
    """Return a small picture with smooth parts, edges and texture, (61, 83, 3) uint8: odd sides on purpose."""
    return make_photo(61, 83)


@pytest.fixture
def photo_path(tmp_path: Path, photo: np.ndarray) -> Path:
    """Return the same picture as a PNG file."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    return path


def make_photo(height: int, width: int) -> np.ndarray:
    """Return a generated picture, (height, width, 3) uint8, the same on every call."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    noise = np.random.default_rng(7).normal(0, 6, (height, width))
    disc = 60.0 * ((x - width / 3) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2)
    planes = [90 + 100 * x / width + disc, 60 + 120 * y / height + noise, 128 + 80 * np.sin(x / 9) - disc]
    return np.asarray(np.clip(np.stack(planes, axis=-1), 0, 255), dtype=np.uint8)


def open_picture(path: str | Path) -> Image.Image:
    """Return the picture of a file that is closed again."""
    with Image.open(path) as image:
        image.load()
    return image


@pytest.fixture
def shc(capsys: pytest.CaptureFixture[str]) -> Shc:
    """Run a command in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def model() -> Model:
    """Return the frozen model, loaded on one thread."""
    return Model(GOLDEN / "model", threads=1)


def run_process(
    *arguments: object, stdin: bytes = b"", cwd: Path | None = None, models: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m shcodec` as a process of its own; `models` is a folder of models to look in first."""
    environment = dict(os.environ) if models is None else {**os.environ, "SHC_MODELS": str(models)}
    return subprocess.run(
        [sys.executable, "-m", "shcodec", *(str(argument) for argument in arguments)],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=environment,
        timeout=120,
        check=False,
    )


def spy(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[Any]:
    """Return a list that takes the positional arguments of every call of a function from here on, as tuples."""
    calls: list[Any] = []
    original = getattr(owner, name)

    def recorded(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, recorded)
    return calls


def obey_interrupts() -> None:
    """For `preexec_fn`: a process that tests start in the background would inherit an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
