"""What is printed where the terminal, the stream or the name is not as usual: done work is never lost over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Shc, make_photo
from PIL import Image

from shcodec.cli import console

NAMES = ("é", "日本", "a\nb", "\x1b[31mred", "\u202egnp", "\U0001f600", "[b]x", b"\xff\xfe")
STREAMS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}
posix = pytest.mark.skipif(os.name != "posix", reason="names of any bytes, descriptors of streams")


@pytest.fixture
def folder(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with pictures of every kind of name in `pics`."""
    monkeypatch.chdir(tmp_path)
    Path("pics").mkdir()
    Image.fromarray(make_photo(20, 30)).save("one.png")
    for name in NAMES:
        path = os.path.join(b"pics", os.fsencode(name) + b".png")
        try:
            os.link(b"one.png", path)
        except OSError:
            pytest.skip("this file system refuses names that are not UTF-8")
    return tmp_path


def call(commands: list[list[str]], **variables: str) -> tuple[list[list[str]], str]:
    """Run several commands in one process with these variables in its environment.

    Returns:
        The lines that each printed, the last its exit code; and what went to stderr.
    """
    code = (
        "import json, os, sys; from shcodec.cli import main\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    print(main([os.fsdecode(word.encode('latin-1')) for word in command]), end='\\f\\n')"
    )
    told = json.dumps([[os.fsencode(word).decode("latin-1") for word in command] for command in commands])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    arguments = [sys.executable, "-c", code, told]
    done = subprocess.run(arguments, capture_output=True, env=environment, timeout=120, check=True)
    encoding = "cp1252" if variables.get("PYTHONIOENCODING") == "cp1252" else "utf-8"
    printed = done.stdout.decode(encoding).removesuffix("\f\n").split("\f\n")
    return [part.split("\n") for part in printed], done.stderr.decode(encoding)


# Names


@posix
@pytest.mark.parametrize("stream", STREAMS)
def test_any_name_on_any_stream(folder: Path, stream: str) -> None:
    pictures = [os.fsdecode(os.path.join(b"pics", name)) for name in sorted(os.listdir(b"pics"))]
    commands = [
        ["encode", "-m", "model", "pics", "-o", "out"],
        ["verify", "out"],
        ["decode", "out", "-o", "back"],
        ["info", "out"],
        ["compare", "one.png", *pictures],
        ["encode", "-f", "--json", "-m", "model", *pictures],
        ["encode", "nosuch\u00e9"],
        ["encode", "--\u00e9"],
    ]
    printed, errors = call(commands, **STREAMS[stream])
    assert [lines[-1] for lines in printed] == ["0"] * 6 + ["1", "2"]
    assert [len(lines) - 1 for lines in printed] == [len(NAMES)] * 3 + [len(NAMES) + 1] * 2 + [len(NAMES), 0, 0]
    assert all(line.isprintable() for lines in printed for line in lines)
    assert len({json.loads(line)["input"] for line in printed[5][:-1]}) == len(NAMES)
    assert errors.count("shc: error: ") == 2
    assert "internal" not in errors


def test_columns_stay_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(("name", "size"), [("日本", "1"), ("e\u0301\n", "22")], left=(0,))
    assert capsys.readouterr().out == "name  size\n日本     1\ne\u0301\\n     22\n"


def test_messages_of_click_are_one_line(shc: Shc) -> None:
    outcome = shc("encode", "--a\nshc: error: \x1b[31mb")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.isprintable() or outcome.err.rstrip("\n").isprintable()
    outcome = shc("completion")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)


@posix
def test_a_bench_of_any_names(folder: Path, shc: Shc) -> None:
    pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")
    data = Path("$\\frac$[red]日")
    data.mkdir()
    for name in ("[b]x.png", "a\nb.png"):
        os.link("one.png", data / name)
    os.link(b"one.png", os.path.join(os.fsencode(data), b"\xff.png"))
    (data / "[i]bad.png").write_text("no picture")
    arguments = ("bench", "--dataset", data, "--codecs", "jpeg420", "--crops", "3", "--out", "out")
    outcome = shc(*arguments)
    assert outcome.code == 1  # of the bad picture
    assert outcome.err == ""
    assert outcome.out.startswith("$\\frac$[red]日, 3 of 4 pictures")
    assert "failed: [i]bad.png: " in outcome.out
    found = json.loads(Path("out/results.json").read_text(encoding="utf-8"))
    assert found["complete"]
    rows = Path("out/results.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"[b]x.png", "a\\nb.png", "\\udcff.png"}
    assert len(json.loads(shc(*arguments, "--resume", "--json").out)["failures"]) == 1
    assert Path("out/results.csv").read_text(encoding="utf-8").splitlines()[1:] == rows
    assert "\\udcff.png, about " in Path("out/report.html").read_text(encoding="utf-8")


# Streams


def run_with(streams: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `shc` by a shell that redirects its streams."""
    command = 'exec "$0" -m shcodec "$@" ' + streams
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *arguments],
        capture_output=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


@posix
def test_closed_streams(folder: Path) -> None:
    encode = ("encode", "-f", "-m", "model")
    done = run_with("2>&-", *encode, "pics", "-o", "out")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, len(NAMES))
    done = run_with("2>&-", *encode, "one.png", "-")
    assert done.returncode == 0
    Path("piped.shc").write_bytes(done.stdout)
    assert run_with(">&- 2>&-", *encode, "one.png", "one.shc").returncode == 0
    assert Path("one.shc").read_bytes() == done.stdout
    done = run_with(">&-", *encode, "one.png", "-")
    assert (done.returncode, done.stderr) == (2, b"shc: error: standard output is closed; name an output\n")
    done = run_with("<&-", *encode, "-", "two.shc")
    assert (done.returncode, done.stderr) == (1, b"shc: error: -: standard input is closed\n")
    done = run_with("2>&-", "encode", "nosuch.png")
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_below_a_stream(folder: Path) -> None:
    encode = ("encode", "-f", "-m", "model")
    for arguments in ((*encode, "pics"), (*encode, "one.png", "-"), ("--version",)):
        done = run_with(">/dev/full", *arguments)
        assert (done.returncode, done.stderr) == (1, b"shc: error: standard output: No space left on device\n")
    done = run_with("2>/dev/full", *encode, "one.png")
    assert done.returncode == 0
    assert done.stdout.startswith(b"one.png 30x20 ")


@posix
def test_a_reader_who_has_seen_enough(folder: Path) -> None:
    """As `shc ... | head -1`: no complaint, and not the exit code of success."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "shcodec", "encode", "-m", "model", "pics"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
    assert not [path for path in Path("pics").iterdir() if path.suffix == ".tmp"]
