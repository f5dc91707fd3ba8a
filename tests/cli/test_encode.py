"""Targets and effort on the command line of `shc encode`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Shc, assert_wrong_usage, make_photo
from PIL import Image

from shcodec.codec import effort


@pytest.fixture
def encode(shc: Shc, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shc:
    """`shc encode --json -f photo.png` with the frozen model, in a folder that holds photo.png."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(make_photo(200, 150)).save("photo.png")
    return lambda *arguments: shc("encode", "--model", tiny_model, "--json", "-f", "photo.png", *arguments)


@pytest.mark.parametrize(
    ("size", "limit"), [("600", 600), ("0.6k", 600), ("0.6kB", 600), ("0.0006M", 600), ("0.6K", 600)]
)
def test_sizes(encode: Shc, size: str, limit: int) -> None:
    outcome = encode("--size", size)
    told = json.loads(outcome.out)
    assert (outcome.code, outcome.err, told["missed"]) == (0, "", "")
    assert 0.97 * limit <= told["bytes"] <= limit
    assert Path("photo.shc").stat().st_size == told["bytes"]
    assert 1 <= told["probes"] <= 8
    assert 2 <= told["beta"] <= 4096


def test_bits_per_pixel(encode: Shc) -> None:
    told = json.loads(encode("--bpp", 0.15).out)
    assert 0.97 * 0.15 <= told["bpp"] <= 0.15


def test_quality(encode: Shc) -> None:
    assert abs(json.loads(encode("--psnr", 19.2).out)["psnr"] - 19.2) <= 0.1


def test_what_cannot_be_met_is_said(encode: Shc) -> None:
    outcome = encode("--size", 10)
    told = json.loads(outcome.out)
    assert outcome.code == 0
    assert outcome.err == f"shc: note: photo.png: wanted 10 bytes, reached {told['bytes']}\n"
    assert told["missed"] == f"wanted 10 bytes, reached {told['bytes']}"


def test_strict_fails_and_writes_nothing(encode: Shc) -> None:
    outcome = encode("--size", "10", "--strict")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("shc: error: photo.png: wanted 10 bytes, reached ")
    assert outcome.err.count("\n") == 1
    assert not Path("photo.shc").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--size", "40k", "--beta", "50"),
        ("--bpp", "1", "--psnr", "30"),
        ("--size", "40k", "--bpp", "1"),
        ("--size", "much"),
        ("--size", "-5"),
        ("--size", "0"),
        ("--bpp", "nan"),
        ("--psnr", "0"),
        ("--effort", "10"),
        ("--effort", "-1"),
        ("--effort", "high"),
    ],
    ids=" ".join,
)
def test_wrong_usage(encode: Shc, arguments: tuple[str, ...]) -> None:
    assert_wrong_usage(encode(*arguments))


def test_effort(encode: Shc) -> None:
    plain, tried = (json.loads(encode("--effort", level).out) for level in (3, 6))
    assert tried["psnr"] > plain["psnr"]
    assert plain["probes"] == 1


def test_interrupted_refinement_leaves_nothing(encode: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shcodec.codec.encoding.improve", interrupted)
    assert effort.DEFAULT_EFFORT < 6
    assert encode("--effort", 6).code == 130
    assert not Path("photo.shc").exists()
