"""Nothing but what was asked for: no files in the user's home, no connections, no word to anybody."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import GOLDEN, ROOT, make_photo
from PIL import Image

BENCH = ("pytorch_msssim", "pooch", "matplotlib", "skimage", "scipy")


@dataclass(frozen=True)
class Traces:
    """What a command left in an empty home, and its calls of the system that reach for others (None: not traced)."""

    files: list[str]
    calls: list[str] | None


CODING = (
    "import sys; from shcodec.cli import main; "
    "sys.exit(main(['encode', '-m', 'model', 'pics/a.png']) or main(['decode', 'pics/a.shc', 'b.png']))"
)
MEASURING = (
    "import sys; from shcodec.cli import main; "
    "sys.exit(main(['bench', '--dataset', 'pics', '--codecs', 'shc-model', '--crops', '0', '--out', 'out']))"
)


@pytest.fixture(scope="module", params=[CODING, MEASURING], ids=["encode and decode", "bench"])
def traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """Encode and decodes, or measures."""
    if request.param == MEASURING and not all(map(importlib.util.find_spec, BENCH)):
        pytest.skip("needs the extra 'bench'")
    folder = tmp_path_factory.mktemp("traces")
    for name in ("pics", "home"):
        (folder / name).mkdir()
    Image.fromarray(make_photo(180, 170)).save(folder / "pics" / "a.png")
    calls, strace = folder / "calls.txt", shutil.which("strace")
    tracer = (strace or "", "--seccomp-bpf", "-f", "-qq", "-e", "trace=socket,connect,sendto", "-o", str(calls))
    if strace is None or subprocess.run([*tracer, "true"], check=False).returncode:
        run(folder, "-c", request.param)
        return Traces(left_in(folder), None)
    run(folder, "-c", request.param, before=tracer)
    return Traces(left_in(folder), [line for line in calls.read_text(encoding="utf-8").splitlines() if "(" in line])


def run(folder: Path, *arguments: str, before: tuple[str, ...] = (), **variables: str) -> str:
    """Run Python in a folder, with its `home`, as a user would who has decided nothing: in particular, this is no CI.

    PATH and whatever finds the package and its dependencies stay.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "HOME": str(folder / "home"),
        "SHC_MODELS": str(GOLDEN),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    command = [*before, sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def left_in(folder: Path) -> list[str]:
    """All that is in the home."""
    home = folder / "home"
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*"))


def test_no_file_in_the_home(traces: Traces) -> None:
    assert traces.files == []


def test_no_connection(traces: Traces) -> None:
    if traces.calls is None:
        pytest.skip("strace is not here, or may not trace")
    assert [call for call in traces.calls if "AF_UNIX" not in call] == []  # those reach this machine alone


def test_telemetry_is_what_the_user_says(tmp_path: Path) -> None:
    """Switched off where nothing is said; importing the package says nothing, and an answer is left as it is."""
    (tmp_path / "home").mkdir()
    code = (
        "import os; import shcodec, shcodec.model.networks;"
        "assert os.environ.get(name := 'ORT_DISABLE_TELEMETRY') == {before};"
        "shcodec.model.networks.load_onnxruntime(); print(os.environ[name])"
    )
    assert run(tmp_path, "-c", code.format(before=None)) == "1\n"
    assert run(tmp_path, "-c", code.format(before="'true'"), ORT_DISABLE_TELEMETRY="true") == "true\n"
    assert left_in(tmp_path) == []
