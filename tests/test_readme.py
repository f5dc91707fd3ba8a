"""README and guide tell the truth: their commands and snippets run, their targets and links exist."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, make_photo
from made_up_weights import make_weights
from PIL import Image
from safetensors.numpy import save_file

PAGES = (ROOT / "README.md", ROOT / "shcodec" / "GUIDE.md")
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# A block is left out only where the line before it says why: <!-- not run: reason -->
BLOCK = re.compile(r"(?P<mark><!-- not run: .+? -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    """Return the code blocks of one kind that are to be run."""
    return [match["body"] for match in BLOCK.finditer(TEXT) if match["kind"] == kind and not match["mark"]]


def is_make(line: str) -> bool:
    return line.split(maxsplit=1)[0] == "make"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return a folder with the pictures and weights that the pages speak of, and `shc` on its path."""
    Image.fromarray(make_photo(61, 83)).save(tmp_path / "photo.png")
    Image.fromarray(make_photo(83, 61)).save(tmp_path / "portrait.jpg")
    save_file(make_weights(), tmp_path / "weights.safetensors")
    script = tmp_path / "bin" / "shc"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m shcodec "$@"\n', encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def run(command: list[str], desk: Path) -> None:
    environment = {**os.environ, "PATH": f"{desk / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def test_the_commands_run(desk: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line and not line.startswith("#")]
    commands = [line for line in lines if not is_make(line)]
    assert commands
    for line in commands:
        run(["bash", "-c", line], desk)


def test_the_python_snippets_run(desk: Path) -> None:
    snippets = blocks("python")
    assert snippets
    for snippet in snippets:
        run([sys.executable, "-c", snippet], desk)


def test_the_make_targets_exist() -> None:
    named = set(re.findall(r"\bmake (\w+)", TEXT))
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_the_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), target
