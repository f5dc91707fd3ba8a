"""The package as a user gets it: a wheel with its models, in a bare environment, without torch."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, make_photo, open_picture
from PIL import Image

from shcodec import __version__

MODELS = sorted(path.parent.name for path in (ROOT / "models").glob("*/model.toml"))
UNREACHABLE = re.compile(
    r"NewConnectionError|Failed to establish|name resolution|Network is unreachable|Read timed out|ProxyError"
)


@dataclass(frozen=True)
class Bare:
    """An environment that holds the wheel and what it depends on, and a folder far from the checkout."""

    python: Path
    shc: Path
    folder: Path

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        return run([str(part) for part in command], self.folder)


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without what this process was told about Python paths and models."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SHC_MODELS"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built through the source distribution, so that this one is seen to be complete as well."""
    out = tmp_path_factory.mktemp("dist")
    done = run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)], out)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """Return a new environment with the wheel in it; skipped where pip reaches no packages."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    bare = Bare(scripts / "python", scripts / "shc", folder)
    done = bare.run(bare.python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", "--retries", 1, wheel)
    if done.returncode and UNREACHABLE.search(done.stdout + done.stderr):
        pytest.skip("pip cannot reach the packages that the wheel depends on")
    assert done.returncode == 0, done.stdout + done.stderr
    return bare


def test_the_wheel_carries_models_configs_and_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert MODELS
    for model in MODELS:
        for path in (ROOT / "models" / model).iterdir():
            assert f"shcodec/_models/{model}/{path.name}" in names
    assert "shcodec/py.typed" in names
    assert "shcodec/FORMAT.md" in names
    assert any(name.startswith("shcodec/train/configs/") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "models/"))]


def test_the_source_distribution_can_be_tested(wheel: Path) -> None:
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "README.md", "LICENSE", "tests/conftest.py", "benchmarks/demo.py"} <= names


def test_the_environment_has_no_torch(bare: Bare) -> None:
    listed = bare.run(bare.python, "-m", "pip", "list", "--format", "freeze").stdout.lower()
    assert f"shcodec=={__version__}" in listed
    assert not re.search(r"^(torch|onnx|matplotlib|scikit-image|scipy)==", listed, re.MULTILINE)
    where = bare.run(bare.python, "-c", "import shcodec; print(shcodec.__file__)").stdout
    assert str(bare.folder) in where


def test_encode_and_decode(bare: Bare) -> None:
    Image.fromarray(make_photo(75, 130)).save(bare.folder / "photo.png")
    for command in (
        ["encode", "photo.png"],
        ["info", "photo.shc"],
        ["verify", "photo.shc"],
        ["decode", "photo.shc", "back.png"],
        ["models", "verify"],
    ):
        done = bare.run(bare.shc, *command)
        assert (done.returncode, done.stderr) == (0, "")
    assert open_picture(bare.folder / "back.png").size == (130, 75)
    code = "import shcodec; image = shcodec.decode(shcodec.encode('photo.png', beta=50)); print(image.size)"
    assert bare.run(bare.python, "-c", code).stdout == "(130, 75)\n"


def test_python_m_is_the_same_command(bare: Bare) -> None:
    assert bare.run(bare.python, "-m", "shcodec", "--version").stdout.splitlines()[0] == f"shc {__version__}"


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["train", "fast", "--data", ".", "--out", "run"], "train"),
        (["export", ".", "model"], "train"),
        (["bench", "--dataset", "."], "bench"),
    ],
)
def test_commands_that_need_an_extra_say_so(bare: Bare, command: list[str], extra: str) -> None:
    done = bare.run(bare.shc, *command)
    assert done.returncode == 1
    assert done.stdout == ""
    expected = f"shc {command[0]} needs the extra '{extra}': pip install 'shcodec[{extra}]'"
    assert done.stderr == f"shc: error: {expected}\n"


def test_every_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[<>=\[]", requirement)[0] for requirement in wanted} - {"shcodec"}
    normal = {name.lower().replace("_", "-") for name in pinned}
    assert names <= normal
