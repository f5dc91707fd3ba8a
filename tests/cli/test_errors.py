"""Bad input: one clear line, the right exit code, nothing overwritten, nothing left behind, never a traceback."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import GOLDEN, Outcome, Shc
from made_up_bytes import sealed

from shcodec.cli.batch.files import Job, write_output
from shcodec.codec import encoding


@pytest.fixture
def folder(tmp_path: Path, photo_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder with photo.png and good.shc; afterwards no temporary file may be left in it."""
    monkeypatch.chdir(tmp_path)
    Path("good.shc").write_bytes(encoding.encode("photo.png", 50, model=tiny_model))
    yield tmp_path
    assert not list(tmp_path.rglob(".shc-*"))


def assert_fails(outcome: Outcome, *words: str, code: int = 1) -> None:
    """One line of error that contains the words, and the exit code."""
    assert outcome.code == code, outcome
    assert outcome.err.startswith("shc: error: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    assert "internal error" not in outcome.err
    for word in words:
        assert word in outcome.err


# Inputs


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_not_a_picture(folder: Path, shc: Shc, tiny_model: str, content: bytes) -> None:
    Path("bad.png").write_bytes(content)
    assert_fails(shc("encode", "-m", tiny_model, "bad.png"), "bad.png: ", "not a picture")
    assert not Path("bad.shc").exists()


@pytest.mark.parametrize("command", ["decode", "info", "verify"])
@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_not_an_shc(folder: Path, shc: Shc, command: str, content: bytes) -> None:
    Path("bad.shc").write_bytes(content)
    assert_fails(shc(command, "bad.shc"), "bad.shc: not an .shc file")
    assert_fails(shc(command, "photo.png"), "photo.png: not an .shc file")


@pytest.mark.parametrize("command", ["decode", "info", "verify"])
def test_truncated_at_any_byte(folder: Path, shc: Shc, command: str) -> None:
    data = Path("good.shc").read_bytes()
    for length in {*range(30), *range(30, len(data), 41), *range(len(data) - 6, len(data))}:
        Path("cut.shc").write_bytes(data[:length])
        assert_fails(shc(command, "cut.shc"), "cut.shc: ")
    assert not Path("cut.png").exists()


@pytest.mark.parametrize("command", ["decode", "info", "verify"])
def test_any_flipped_byte(folder: Path, shc: Shc, command: str) -> None:
    data = Path("good.shc").read_bytes()
    for position in {*range(24), *range(24, len(data), 37), len(data) - 1}:
        damaged = bytearray(data)
        damaged[position] ^= 0x55
        Path("flipped.shc").write_bytes(damaged)
        assert_fails(shc(command, "flipped.shc"), "flipped.shc: ")
    assert not Path("flipped.png").exists()


def test_wrong_model_id(folder: Path, shc: Shc) -> None:
    data = bytearray(Path("good.shc").read_bytes()[:-4])
    data[6:10] = bytes.fromhex("deadbeef")
    Path("foreign.shc").write_bytes(sealed(data))
    assert_fails(shc("decode", "foreign.shc"), "foreign.shc: ", "deadbeef")
    assert_fails(shc("verify", "foreign.shc"), "foreign.shc: ", "deadbeef")
    assert shc("info", "foreign.shc").code == 0


@pytest.mark.parametrize("sides", [b"\xff\xff\x03\xff\xff\x03", b"\xff\xff\x7f\x01", b"\x00\x01", b"\x80\x00\x01"])
def test_absurd_sizes(folder: Path, shc: Shc, sides: bytes) -> None:
    data = Path("good.shc").read_bytes()
    Path("absurd.shc").write_bytes(sealed(data[:10] + sides + data[12:-4]))
    assert_fails(shc("decode", "absurd.shc"), "absurd.shc: ")


def test_an_endless_input_is_not_read_to_its_end(folder: Path, shc: Shc) -> None:
    assert_fails(shc("decode", "/dev/zero", "out.png"), "not an .shc file")


def test_missing_inputs(folder: Path, shc: Shc, tiny_model: str) -> None:
    for command in (("encode", "-m", tiny_model), ("decode",), ("info",), ("verify",)):
        assert_fails(shc(*command, "absent.x"), "absent.x: No such file or directory")
    Path("sub").mkdir()
    assert_fails(shc("encode", "-m", tiny_model, "sub"), "sub: no pictures in this folder")
    for name in ("decode", "info", "verify"):
        assert_fails(shc(name, "sub"), "sub: no .shc files in this folder")


def test_names_cannot_forge_lines(folder: Path, shc: Shc) -> None:
    assert_fails(shc("info", "a\nshc: error: \x1b[31mb"), r"a\nshc: error: \x1b[31mb")


def test_one_bad_input_among_several(folder: Path, shc: Shc, tiny_model: str) -> None:
    Path("bad.png").write_text("no picture")
    outcome = shc("encode", "-m", tiny_model, "bad.png", "photo.png", "-o", "out")
    error, _, totals = outcome.err.partition("\n")
    assert_fails(replace(outcome, err=f"{error}\n"), "bad.png: ")
    assert totals.startswith("shc: 1 file, ")
    assert outcome.out.startswith("photo.png 83x61 -> out/photo.shc ")
    assert os.listdir("out") == ["photo.shc"]


# Models


def test_unknown_model_name(folder: Path, shc: Shc) -> None:
    assert_fails(shc("encode", "-m", "nonesuch", "photo.png"), "nonesuch")
    assert_fails(shc("models", "show", "nonesuch"), "nonesuch")


def test_missing_model_files(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [path.name for path in (GOLDEN / "model").iterdir() if path.name != "model.toml"]
    assert names
    for name in names:
        root = folder / f"without-{name}"
        shutil.copytree(GOLDEN / "model", root / "model")
        (root / "model" / name).unlink()
        monkeypatch.setenv("SHC_MODELS", str(root))
        assert_fails(shc("models", "verify", "model"), name)
        outcome = shc("encode", "-f", "-m", "model", "photo.png")
        if outcome.code:
            assert_fails(outcome, name)


# Outputs


def test_existing_output_is_kept(folder: Path, shc: Shc, tiny_model: str) -> None:
    Path("photo.shc").write_bytes(b"precious")
    assert_fails(shc("encode", "-m", tiny_model, "photo.png"), "photo.shc: exists already", "-f")
    assert Path("photo.shc").read_bytes() == b"precious"
    Path("good.png").write_bytes(b"precious")
    assert_fails(shc("decode", "good.shc"), "good.png: exists already", "-f")
    assert Path("good.png").read_bytes() == b"precious"
    assert shc("decode", "-f", "good.shc").code == 0
    assert Path("good.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_appears_meanwhile_is_kept(
    folder: Path, shc: Shc, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has made it; or another job, on a disk that takes a.shc and A.shc for one name."""
    encode = encoding.encode_picture

    def slow(*arguments: object, **options: object) -> object:
        Path("photo.shc").write_bytes(b"precious")
        return encode(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(encoding, "encode_picture", slow)
    assert_fails(shc("encode", "-m", tiny_model, "photo.png"), "photo.shc: exists by now", "-f")
    assert Path("photo.shc").read_bytes() == b"precious"
    assert shc("encode", "-f", "-m", tiny_model, "photo.png").code == 0


def test_bad_input_never_replaces_a_good_output(folder: Path, shc: Shc) -> None:
    Path("good.png").write_bytes(b"precious")
    Path("good.shc").write_bytes(Path("good.shc").read_bytes()[:-1])
    assert_fails(shc("decode", "-f", "good.shc"), "good.shc: ")
    assert Path("good.png").read_bytes() == b"precious"


def test_an_input_is_never_its_own_output(folder: Path, shc: Shc, tiny_model: str) -> None:
    data = Path("photo.png").read_bytes()
    Path("photo.png").rename("picture.shc")
    assert_fails(shc("encode", "-f", "-m", tiny_model, "picture.shc"), "is the input itself", code=2)
    assert Path("picture.shc").read_bytes() == data


def test_two_inputs_with_one_output(folder: Path, shc: Shc, tiny_model: str) -> None:
    shutil.copy("photo.png", "photo.bmp")
    Path("deep").mkdir()
    shutil.copy("photo.png", "deep")
    arguments = ("encode", "-m", tiny_model, "photo.png", "photo.bmp", "deep/photo.png", "-o", "out")
    assert_fails(shc(*arguments), "same output out/photo.png.shc", code=2)
    assert not Path("out").exists()


def test_unwritable_outputs(folder: Path, shc: Shc) -> None:
    assert_fails(shc("decode", "good.shc", "absent/out.png"), "absent/out.png: No such file or directory")
    assert_fails(shc("decode", "good.shc", "photo.png/out.png"), "photo.png/out.png: Not a directory")
    assert_fails(shc("decode", "good.shc", f"{'x' * 300}.png"), "File name too long")
    assert_fails(shc("decode", "good.shc", "out.xyz"), "out.xyz: unknown picture suffix", code=2)
    assert_fails(shc("decode", "good.shc", "-o", "photo.png"), "photo.png: exists already", "-f")
    assert_fails(shc("decode", "good.shc", "-o", "photo.png/deep"), "photo.png/deep: Not a directory")


def test_what_will_fail_costs_no_work(folder: Path, shc: Shc, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(*arguments: object, **options: object) -> None:
        raise AssertionError

    Path("closed").mkdir()
    monkeypatch.setattr("shcodec.codec.encoding.encode_picture", worked)
    monkeypatch.setattr("shcodec.codec.decoding.decode_picture", worked)
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("closed"))
    encode, decode = ("encode", "-m", tiny_model, "photo.png"), ("decode", "good.shc")
    for command, name in ((encode, "photo.shc"), (decode, "good.png")):
        assert_fails(shc(*command, f"absent/{name}"), f"absent/{name}: No such file or directory")
        assert_fails(shc(*command, f"photo.png/{name}"), f"photo.png/{name}: Not a directory")
        assert_fails(shc(*command, f"closed/{name}"), f"closed/{name}: Permission denied")
        assert_fails(shc(*command, "-o", "closed", "-f"), f"closed/{name}: Permission denied")
    shutil.copy("photo.png", "closed")
    outcome = shc("encode", "-m", tiny_model, "closed", "nosuch.png", "bad.png")
    assert outcome.code == 1
    assert "closed/photo.shc: Permission denied\n" in outcome.err
    assert "nosuch.png: No such file or directory\n" in outcome.err
    assert not Path("absent").exists()


def test_empty_names(folder: Path, shc: Shc) -> None:
    """As those of variables that are not set."""
    for arguments in (("encode", ""), ("encode", "photo.png", ""), ("encode", "photo.png", "-o", ""), ("decode", "")):
        assert_fails(shc(*arguments), "an empty name is none of a file", code=2)
    for command in ("info", "verify"):
        assert_fails(shc(command, "", "good.shc"), "an empty name is none of a file", code=2)


def test_nobody_types_a_picture(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shcodec.cli.batch.files.is_terminal", lambda stream: True)
    for arguments in (("encode", "-", "out.shc"), ("decode", "-", "out.png"), ("info", "-"), ("verify", "-")):
        assert_fails(shc(*arguments), "not reading a file from a terminal; name an input or redirect stdin", code=2)


def test_a_full_disk(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Path("good.png").write_bytes(b"precious")
    monkeypatch.setattr("os.replace", full)
    assert_fails(shc("decode", "-f", "good.shc"), "good.png: No space left on device")
    assert Path("good.png").read_bytes() == b"precious"


def test_overwriting_keeps_permissions(folder: Path, shc: Shc) -> None:
    Path("good.png").write_bytes(b"old")
    Path("good.png").chmod(0o640)
    assert shc("decode", "-f", "good.shc").code == 0
    assert stat.S_IMODE(Path("good.png").stat().st_mode) == 0o640


def test_standard_output_is_named_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(Full()))
    with pytest.raises(OSError, match="standard output"):
        write_output(Job("in.shc", "-"), b"data")


def test_a_damaged_model_does_not_hide_the_others(shc: Shc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.toml").write_text("not toml", encoding="utf-8")
    monkeypatch.setenv("SHC_MODELS", str(tmp_path))
    outcome = shc("models")
    assert outcome.code == 1
    assert "fast" in outcome.out
    assert outcome.err.startswith("shc: error: broken:")


def test_interruption_leaves_nothing(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    outcome = shc("decode", "good.shc")
    assert (outcome.code, outcome.err) == (130, "shc: interrupted\n")
    assert not Path("good.png").exists()


# Usage


@pytest.mark.parametrize("beta", ["1.9", "4097", "-5", "0", "nan", "inf", "many"])
def test_beta_outside_its_range(folder: Path, shc: Shc, tiny_model: str, beta: str) -> None:
    assert_fails(shc("encode", "-m", tiny_model, "photo.png", f"--beta={beta}"), "beta", code=2)
    assert not Path("photo.shc").exists()


@pytest.mark.parametrize(
    "arguments",
    [("encode",), ("decode",), ("nonesuch",), ("--nonesuch",), ("encode", "--nonesuch", "x"), ("train",), ("info",)],
)
def test_wrong_usage(shc: Shc, arguments: tuple[str, ...]) -> None:
    assert_fails(shc(*arguments), "--help", code=2)


def test_no_arguments_show_the_help(shc: Shc) -> None:
    outcome = shc()
    assert outcome.code == 2
    assert outcome.err.startswith("Usage: shc ")


def test_even_a_bug_is_one_line(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes, **options: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("shcodec.codec.inspection.verify", broken)
    outcome = shc("verify", "good.shc")
    assert outcome.code == 1
    assert (
        outcome.err
        == "shc: error: good.shc: internal error: RuntimeError: first second (SHC_TRACEBACK=1 shows where)\n"
    )
    monkeypatch.setenv("SHC_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        shc("verify", "good.shc")
