"""Supply: nothing comes over a network, no file is code, and what is shipped is what was pinned."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GOLDEN, ROOT, Shc

from shcodec.codec import inspection
from shcodec.model import zoo

PACKAGE = ROOT / "shcodec"
# Training reads and writes checkpoints of its own, bench fetches test pictures when it is asked to; neither is needed
# to encode or to decode.
AT_RUN_TIME = sorted(
    path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in ("train", "bench", "nets")
)
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {
    "pickle", "marshal", "shelve", "dill", "socket", "ssl", "http", "urllib", "ftplib", "requests", "httpx", "pooch",
    "subprocess", "ctypes", "xmlrpc", "smtplib", "webbrowser",
}  # fmt: skip
# Results of worker processes come through a pipe that both ends of this program hold, and only errors are tried.
ALLOWED = {"cli/batch/workers.py": {"pickle"}}

# Blocks every way out of the machine, then does what users do.
OFFLINE = """
import socket, sys
def refuse(*arguments, **named):
    raise AssertionError("a socket was asked for")
for name in ("socket", "create_connection", "create_server", "getaddrinfo", "gethostbyname", "socketpair"):
    setattr(socket, name, refuse)
def audit(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        refuse()
sys.addaudithook(audit)
from shcodec.cli import main
for arguments in {commands!r}:
    code = main(arguments)
    assert code == 0, (arguments, code)
"""


def imports(path: Path) -> set[str]:
    """First parts of the names of all modules that a file imports, at any depth of it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", AT_RUN_TIME, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_can_run_or_fetch_anything(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(PACKAGE).as_posix(), set())
    assert imports(path) & FORBIDDEN_MODULES <= allowed
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("allow_pickle", "system", "popen")


def test_checkpoints_run_no_code() -> None:
    """torch's own format is a pickle, of which it reads tensors and plain values only if told to."""
    for path in (PACKAGE / "train").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                weights_only = {keyword.arg: keyword.value for keyword in node.keywords}.get("weights_only")
                assert isinstance(weights_only, ast.Constant) and weights_only.value is True


def test_no_network_at_run_time(tmp_path: Path, photo_path: Path, tiny_model: str) -> None:
    coded, decoded = str(tmp_path / "photo.shc"), str(tmp_path / "back.png")
    commands = [
        ["encode", "-m", tiny_model, str(photo_path), coded],
        ["decode", coded, decoded],
        ["info", coded],
        ["verify", coded],
        ["models"],
        ["models", "verify", tiny_model],
    ]
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE.format(commands=commands)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(decoded).exists()


def test_a_missing_model_is_not_fetched(monkeypatch: pytest.MonkeyPatch, shc: Shc, tmp_path: Path) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a socket was asked for")

    data = (GOLDEN / "files" / "scene-63x65-15.shc").read_bytes()
    (tmp_path / "file.shc").write_bytes(data)
    monkeypatch.setattr(zoo, "_folders", list)
    monkeypatch.setattr(socket, "socket", refuse)
    outcome = shc("decode", tmp_path / "file.shc")
    assert outcome.code == 1
    assert inspection.info(data).model_id in outcome.err


def test_models_verify_covers_every_file(shc: Shc) -> None:
    outcome = shc("models", "verify")
    assert outcome.code == 0, outcome.err
    assert all(f"{folder.name} OK" in outcome.out for folder in (ROOT / "models").iterdir())
