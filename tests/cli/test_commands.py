"""The command line as a user meets it: names of outputs, result lines, streams, help."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, Shc, make_photo, open_picture, run_process
from PIL import Image

import shcodec
from shcodec import __version__
from shcodec.cli import COMMANDS
from shcodec.codec import decoding, encoding
from shcodec.codec.request import Request
from shcodec.container import pack, unpack
from shcodec.pictures.picture import Picture
from shcodec.support.progress import Report
from shcodec.symbols import grid as grids

ENCODED = re.compile(r"photo\.png 83x61 -> photo\.shc [\d,]+ B \d+\.\d{3} bpp \d+\.\d dB \d+\.\d\d s\n")
DECODED = re.compile(r"photo\.shc [\d,]+ B \d+\.\d{3} bpp -> back\.png 83x61 \d+\.\d\d s\n")


@pytest.fixture
def encode(shc: Shc, tiny_model: str, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shc:
    """`shc encode` with the frozen model, in a folder that holds photo.png."""
    monkeypatch.chdir(photo_path.parent)
    return lambda *arguments: shc("encode", "--model", tiny_model, *arguments)


# There and back


def test_one_picture_there_and_back(encode: Shc, shc: Shc, photo: np.ndarray) -> None:
    encoded = encode("photo.png")
    assert (encoded.code, encoded.err) == (0, "")
    assert ENCODED.fullmatch(encoded.out)
    decoded = shc("decode", "photo.shc", "back.png")
    assert (decoded.code, decoded.err) == (0, "")
    assert DECODED.fullmatch(decoded.out)
    assert np.array(Image.open("back.png")).shape == photo.shape


def test_a_grey_file_becomes_a_grey_picture(encode: Shc, shc: Shc) -> None:
    encode("photo.png")
    Path("grey.shc").write_bytes(pack(replace(unpack(Path("photo.shc").read_bytes()), grey=True)))
    assert shc("decode", "grey.shc", "grey.png").code == 0
    assert open_picture("grey.png").mode == "L"
    assert shcodec.decode("grey.shc").mode == "L"


def test_the_result_line_tells_the_truth(encode: Shc, shc: Shc, photo: np.ndarray) -> None:
    told = json.loads(encode("--json", "--beta", 10, "photo.png").out)
    size = Path("photo.shc").stat().st_size
    assert told["bytes"] == size
    assert told["bpp"] == pytest.approx(8 * size / (83 * 61))
    assert told["beta"] == pytest.approx(10, rel=0.02)
    shc("decode", "photo.shc", "back.png")
    error = np.mean((np.array(Image.open("back.png")).astype(float) - photo) ** 2)
    assert told["psnr"] == pytest.approx(10 * np.log10(255**2 / error))


def test_beta_reaches_the_file(encode: Shc, shc: Shc) -> None:
    encode("photo.png", "small.shc", "--beta", 400)
    encode("photo.png", "large.shc", "--beta", 5)
    small, large = (json.loads(line) for line in shc("info", "--json", "small.shc", "large.shc").out.splitlines())
    assert (small["beta"], large["beta"]) == (pytest.approx(400, rel=0.02), pytest.approx(5, rel=0.02))


def test_notes_go_to_stderr(encode: Shc, photo: np.ndarray) -> None:
    Image.fromarray(photo).convert("LA").save("grey.png")
    outcome = encode("grey.png")
    assert outcome.code == 0
    assert outcome.err == "shc: note: grey.png: alpha dropped (all opaque)\n"
    assert encode("--quiet", "-f", "grey.png") == type(outcome)(0, "", "")


@pytest.mark.parametrize("sides", [(1, 1), (1, 50), (64, 1), (16, 16), (65, 63)])
def test_odd_sides(encode: Shc, shc: Shc, sides: tuple[int, int]) -> None:
    Image.fromarray(make_photo(*sides)).save("odd.png")
    assert encode("odd.png").code == 0
    assert shc("decode", "-f", "odd.shc").code == 0
    assert open_picture("odd.png").size == sides[::-1]


# Names of outputs


def test_several_inputs_beside_and_in_a_folder(encode: Shc, shc: Shc, photo: np.ndarray) -> None:
    Path("sub").mkdir()
    Image.fromarray(photo).save("sub/other.bmp")
    assert encode("photo.png", "sub/other.bmp").code == 0
    assert Path("photo.shc").exists()
    assert Path("sub/other.shc").exists()
    outcome = shc("decode", "photo.shc", "sub/other.shc", "-o", "out/deep", "--format", "webp")
    assert outcome.code == 0
    assert sorted(os.listdir("out/deep")) == ["other.webp", "photo.webp"]
    assert open_picture("out/deep/other.webp").format == "WEBP"
    assert len(outcome.out.splitlines()) == 2


def test_two_pictures_are_two_inputs(encode: Shc, photo: np.ndarray) -> None:
    Image.fromarray(photo).save("second.png")
    assert encode("photo.png", "second.png").code == 0
    assert Path("second.shc").exists()
    assert open_picture("second.png").size == (83, 61)


def test_the_suffix_chooses_the_format(encode: Shc, shc: Shc) -> None:
    encode("photo.png")
    for name, kind in {"a.jpg": "JPEG", "b.tif": "TIFF", "c.WEBP": "WEBP"}.items():
        assert shc("decode", "photo.shc", name).code == 0
        assert open_picture(name).format == kind


@pytest.mark.parametrize(
    "arguments",
    [
        ("photo.png", "out.shc", "-o", "folder"),
        ("photo.png", "copy/photo.png", "-o", "out"),
        ("photo.png", "-", "photo.png"),
        ("-", "-o", "folder"),
        ("photo.png", "folder.shc"),
    ],
)
def test_ambiguous_outputs_are_wrong_usage(encode: Shc, arguments: tuple[str, ...]) -> None:
    Path("folder.shc").mkdir()
    outcome = encode(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("shc: error: ")
    assert outcome.err.count("\n") == 1
    assert sorted(os.listdir(".")) == ["folder.shc", "photo.png"]


def test_a_file_is_no_command(encode: Shc, shc: Shc) -> None:
    assert encode("photo.png").code == 0
    for name, command in (("photo.png", "encode"), ("photo.shc", "decode")):
        outcome = shc(name)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert f"{name} is no command; did you mean 'shc {command} {name}'" in outcome.err


# Streams


def test_stdin_and_stdout_carry_the_file(tiny_model: str, photo_path: Path) -> None:
    encoded = run_process("encode", "--model", tiny_model, "-", stdin=photo_path.read_bytes())
    assert encoded.returncode == 0
    assert encoded.stdout.startswith(b"\x89SHC\n")
    assert re.match(rb"- 83x61 -> - [\d,]+ B ", encoded.stderr)
    decoded = run_process("decode", "-", "-", stdin=encoded.stdout)
    assert decoded.returncode == 0
    assert Image.open(io.BytesIO(decoded.stdout)).size == (83, 61)
    assert Image.open(io.BytesIO(decoded.stdout)).format == "PNG"
    assert run_process("verify", "-", stdin=encoded.stdout).stdout == b"- OK\n"


def test_one_end_may_be_a_file(tiny_model: str, photo_path: Path) -> None:
    folder = photo_path.parent
    encoded = run_process("encode", "--model", tiny_model, "photo.png", "-", cwd=folder)
    assert encoded.stdout.startswith(b"\x89SHC\n")
    decoded = run_process("decode", "-", "back.png", stdin=encoded.stdout, cwd=folder)
    assert re.match(rb"- [\d,]+ B .* -> back\.png 83x61 ", decoded.stdout)
    assert (folder / "back.png").exists()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no names of descriptors here")
def test_descriptors_are_written_where_they_stand(encode: Shc, photo_path: Path) -> None:
    """What others wrote before stays, and what they write later comes behind; nothing is renamed over it."""
    assert encode("photo.png").code == 0
    whole = Path("photo.shc").read_bytes()
    for target, fd in (("/dev/stdout", 1), ("/dev/fd/3", 3)):
        for arguments in (f"photo.png {target}", f"photo.png -o {target}"):
            Path("stream").write_bytes(b"before")
            identity = os.stat("stream").st_ino
            script = f"exec {fd}>>stream; {sys.executable} -m shcodec encode -m model {arguments}; printf after >&{fd}"
            done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=True)
            assert Path("stream").read_bytes() == b"before" + whole + b"after", (arguments, done)
            assert os.stat("stream").st_ino == identity
            assert b"photo.png 83x61 ->" in (done.stderr if fd == 1 else done.stdout)


def test_a_terminal_is_refused_before_any_work(encode: Shc, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    assert encode("photo.png").code == 0

    def worked(*arguments: object, **others: object) -> None:
        raise AssertionError

    monkeypatch.setattr("shcodec.cli.batch.plan.is_terminal", lambda stream: True)
    for place in ("pictures.reading.read_picture", "model.zoo.load", "codec.decoding.decode_picture"):
        monkeypatch.setattr(f"shcodec.{place}", worked)
    for arguments in (("encode", "-"), ("encode", "photo.png", "/dev/stdout"), ("decode", "photo.shc", "-o", "-")):
        outcome = shc(*arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err == "shc: error: not writing a picture to a terminal; name an output or redirect stdout\n"


def test_permissions_follow_the_umask(encode: Shc) -> None:
    before = os.umask(0o027)
    try:
        encode("photo.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("photo.shc").stat().st_mode) == 0o640


def test_a_link_stays_a_link(encode: Shc) -> None:
    Path("real.shc").write_bytes(b"old")
    Path("link.shc").symlink_to("real.shc")
    assert encode("-f", "photo.png", "link.shc").code == 0
    assert Path("link.shc").is_symlink()
    assert Path("real.shc").read_bytes().startswith(b"\x89SHC\n")


def test_a_device_is_written_not_replaced(encode: Shc, shc: Shc) -> None:
    encode("photo.png")
    assert shc("decode", "photo.shc", os.devnull, "--format", "png").code == 0
    assert not Path(os.devnull).is_file()


# Details


def test_verbose_tells_parts_and_times(encode: Shc, shc: Shc) -> None:
    parts = r"  header \d+ B, chunks 0 B, payload \d+ B, checksum 4 B"
    steps = r"; reading \d+\.\d\d s, {} \d+\.\d\d s, {} \d+\.\d\d s"
    line, more = encode("-v", "photo.png").out.splitlines()
    assert ENCODED.fullmatch(f"{line}\n")
    assert re.fullmatch(parts + steps.format("encoding", "checking") + r"; beta 50\.5 for 50", more)
    assert encode("-v", "-f", "--psnr", "21", "photo.png").out.count(" for ") == 0
    line, more = shc("decode", "-v", "photo.shc", "back.png").out.splitlines()
    assert DECODED.fullmatch(f"{line}\n")
    assert re.fullmatch(parts + steps.format("decoding", "writing"), more)
    assert re.fullmatch(parts, shc("verify", "-v", "photo.shc").out.splitlines()[1])


def test_strip_leaves_out_metadata(encode: Shc, shc: Shc, photo: np.ndarray) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    Image.fromarray(photo).save("turned.jpg", exif=exif)
    assert encode("turned.jpg").code == 0
    told = json.loads(shc("info", "--json", "turned.shc").out)
    assert (told["metadata"], told["width"], told["height"]) == (["EXIF"], 83, 61)
    assert encode("--strip", "-f", "turned.jpg").code == 0
    told = json.loads(shc("info", "--json", "turned.shc").out)
    assert (told["metadata"], told["width"], told["height"]) == ([], 61, 83)


def test_seconds_are_those_of_the_whole_work(encode: Shc, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = decoding.decode_picture

    def slow(*arguments: object, **options: object) -> object:
        time.sleep(0.3)
        return decode(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "decode_picture", slow)
    told = json.loads(encode("--json", "photo.png").out)
    assert told["seconds"] == pytest.approx(told["times"]["encoding"] + told["times"]["checking"])
    assert told["seconds"] >= 0.3
    told = json.loads(shc("decode", "--json", "photo.shc", "back.png").out)
    assert told["seconds"] == pytest.approx(told["times"]["decoding"] + told["times"]["writing"])


def test_the_wanted_beta_beside_the_coded_one(encode: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, wanted in (((), 50), (("--beta", "300"), 300), (("--size", "1k"), None)):
        outcome = encode("--json", "-f", "photo.png", *arguments)
        told = json.loads(outcome.out)
        assert told["beta_wanted"] == wanted
        assert wanted is None or told["beta"] == pytest.approx(wanted, rel=0.02)
        assert "took" not in outcome.err
    encode_picture = encoding.encode_picture

    def coarser(picture: Picture, request: Request, report: Report) -> object:
        assert request.beta is not None
        outcome = encode_picture(picture, replace(request, beta=2 * request.beta), report)
        return replace(outcome, missed=f"wanted beta {request.beta:g}, took 10")

    monkeypatch.setattr(encoding, "encode_picture", coarser)
    outcome = encode("-f", "photo.png", "--beta", "5")
    assert outcome.err == "shc: note: photo.png: wanted beta 5, took 10\n"


# Looking at files and models


def test_info(encode: Shc, shc: Shc) -> None:
    encode("photo.png")
    size = Path("photo.shc").stat().st_size
    text = shc("info", "photo.shc")
    assert text.code == 0
    assert "83x61" in text.out
    told = json.loads(shc("info", "--json", "photo.shc").out)
    assert (told["file"], told["width"], told["height"], told["total"]) == ("photo.shc", 83, 61, size)
    assert sum(told["sizes"].values()) == size


def test_info_on_several_files_is_a_table(encode: Shc, shc: Shc, photo: np.ndarray) -> None:
    Path("deep").mkdir()
    Image.fromarray(photo).convert("L").save("deep/grey.png")
    encode("photo.png", "deep/grey.png")
    Path("bad.shc").write_bytes(b"bad")
    outcome = shc("info", ".")
    assert outcome.code == 1
    assert outcome.err == "shc: error: ./bad.shc: not an .shc file\n"
    header, first, second = outcome.out.splitlines()
    assert header.split() == ["file", "bytes", "size", "mode", "bpp", "beta", "model", "extras"]
    size = Path("photo.shc").stat().st_size
    assert first.split()[:4] == ["./photo.shc", f"{size:,}", "83x61", "RGB"]
    assert second.split()[0] == "./deep/grey.shc"
    assert second.split()[3] == "L"
    told = [json.loads(line) for line in shc("info", "--json", ".").out.splitlines()]
    assert [entry["file"] for entry in told] == ["./photo.shc", "./deep/grey.shc"]


def test_verify(encode: Shc, shc: Shc) -> None:
    encode("photo.png")
    assert shc("verify", "photo.shc").out == "photo.shc OK\n"


def test_models(shc: Shc, tiny_model: str) -> None:
    assert tiny_model in shc("models").out
    listed = [json.loads(line) for line in shc("models", "list", "--json").out.splitlines()]
    assert tiny_model in {model["name"] for model in listed}
    card = tomllib.loads((GOLDEN / tiny_model / "model.toml").read_text(encoding="utf-8"))
    assert json.loads(shc("models", "show", "--json", tiny_model).out).keys() == card.keys()
    assert tomllib.loads(shc("models", "show", tiny_model).out) == card
    assert shc("models", "verify", tiny_model).out == f"{tiny_model} OK\n"


# Help


def test_help_names_every_command_and_each_has_help(shc: Shc) -> None:
    overview = shc("--help")
    assert overview.code == 0
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", overview.out, re.MULTILINE)
        assert importlib.import_module(f"shcodec.cli.{name}").command.short_help == summary
        outcome = shc(name, "--help")
        assert outcome.code == 0
        assert "Example" in outcome.out


def test_version_names_the_models(shc: Shc, tiny_model: str) -> None:
    lines = shc("--version").out.splitlines()
    assert lines[0] == f"shc {__version__}"
    card = tomllib.loads((GOLDEN / tiny_model / "model.toml").read_text(encoding="utf-8"))
    assert f"model {tiny_model} {card['id']}" in lines


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shc: Shc, shell: str) -> None:
    outcome = shc("completion", shell)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"_SHC_COMPLETE={shell}_complete" in outcome.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [("shc enc", "plain,encode"), ("shc encode --bet", "plain,--beta"), ("shc encode -m mod", "plain,model")],
)
def test_completion_completes(tiny_model: str, words: str, expected: str) -> None:
    environment = {
        **os.environ,
        "_SHC_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    # As bash calls it: by the name of the program, whatever that is.
    code = "import sys; from shcodec.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [expected]


def test_completion_of_inputs_is_left_to_the_shell(tiny_model: str) -> None:
    environment = {**os.environ, "_SHC_COMPLETE": "bash_complete", "COMP_WORDS": "shc encode ph", "COMP_CWORD": "2"}
    code = "import sys; from shcodec.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["file,ph"]


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["encode", "--help"],
        ["compare", "--help"],
        ["completion", "bash"],
        ["info", str(next((GOLDEN / "files").glob("*.shc")))],
    ],
)
def test_help_and_info_import_nothing_heavy(command: list[str]) -> None:
    code = (
        f"import sys, shcodec.cli; shcodec.cli.main({command});"
        "print(sorted({'numpy', 'PIL', 'onnxruntime', 'rich', 'torch', 'constriction'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_coding_never_imports_torch(tiny_model: str, photo_path: Path) -> None:
    code = (
        "import sys, shcodec.cli as c;"
        f"assert c.main(['encode', '--model', '{tiny_model}', 'photo.png']) == 0;"
        "assert c.main(['decode', 'photo.shc', 'back.png']) == 0;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=photo_path.parent
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_a_region(encode: Shc, shc: Shc) -> None:
    assert encode("photo.png").code == 0
    assert shc("decode", "photo.shc", "part.png", "--region", "10,20,30,25").code == 0
    assert shc("decode", "photo.shc", "whole.png").code == 0
    part, whole = (np.asarray(Image.open(name)).astype(int) for name in ("part.png", "whole.png"))
    assert part.shape == (25, 30, 3)
    assert np.abs(part - whole[20:45, 10:40]).max() <= 1
    assert shc("decode", "photo.shc", "more.png", "--region", "60,0,30,5").code == 2
    assert shc("decode", "photo.shc", "more.png", "--region", "1,2,3").code == 2
    assert not Path("more.png").exists()


def test_what_is_whole_in_a_damaged_file_can_be_saved(
    encode: Shc, shc: Shc, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grids, "TILE_SIDE", 1)
    Image.fromarray(np.tile(photo, (2, 2, 1))).save("large.png")
    assert encode("large.png").code == 0
    data = bytearray(Path("large.shc").read_bytes())
    data[-8] ^= 1
    Path("large.shc").write_bytes(data)
    assert shc("decode", "large.shc", "large.png", "-f").code == 1
    outcome = shc("decode", "large.shc", "saved.png", "--keep-going", "--json")
    assert outcome.code == 1
    assert "damaged, and grey in what was saved: 128,64,38,58" in outcome.err
    assert json.loads(outcome.out)["damaged"] == [[128, 64, 38, 58]]
    assert (np.asarray(Image.open("saved.png"))[64:, 128:] == 128).all()
