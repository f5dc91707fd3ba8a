"""Quality from 0 to 100: the map to beta, and every place that takes it."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import Shc, assert_wrong_usage, make_photo, open_picture
from PIL import Image

import shcodec
from shcodec import container
from shcodec.bench.codecs import ShcCodec, select_codecs
from shcodec.codec import encoding
from shcodec.codec.quality import beta_of, quality_of
from shcodec.pictures.writing import FORMATS, write_picture
from shcodec.support.errors import UsageError

pytestmark = pytest.mark.usefixtures("tiny_model")


@pytest.fixture
def encode(shc: Shc, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shc:
    """`shc encode -f photo.png` with the frozen model, in a folder that holds photo.png."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(make_photo(90, 120)).save("photo.png")
    return lambda *arguments: shc("encode", "--model", tiny_model, "-f", "photo.png", *arguments)


# The map


@pytest.mark.parametrize(("quality", "beta"), [(0, 4096), (75, 50), (100, 2), (37.5, (4096 * 50) ** 0.5), (87.5, 10)])
def test_the_points_it_goes_through(quality: float, beta: float) -> None:
    assert beta_of(quality) == pytest.approx(beta)
    assert quality_of(beta) == pytest.approx(quality)


def test_every_whole_quality_is_a_step_of_its_own() -> None:
    steps = [container.beta_to_byte(beta_of(quality)) for quality in range(101)]
    assert (steps[0], steps[-1]) == (255, 0)
    assert all(low > high for low, high in pairwise(steps))
    assert all(quality_of(beta_of(quality / 10)) == pytest.approx(quality / 10, abs=1e-9) for quality in range(1001))


@pytest.mark.parametrize("quality", [-0.1, 100.1, float("nan"), float("inf")])
def test_outside_its_range(quality: float) -> None:
    with pytest.raises(UsageError, match="from 0 to 100"):
        beta_of(quality)
    with pytest.raises(UsageError, match="from 0 to 100"):
        shcodec.encode(make_photo(8, 8), quality=quality, model="model")


# Encoding


def test_encode_takes_a_quality() -> None:
    pixels = make_photo(60, 80)
    assert shcodec.encode(pixels, quality=75, model="model") == shcodec.encode(pixels, model="model")
    assert shcodec.encode(pixels, quality=100, model="model") == shcodec.encode(pixels, 2, model="model")
    data = shcodec.encode(pixels, quality=80.5, model="model")
    assert data == shcodec.encode(pixels, beta_of(80.5), model="model")
    assert shcodec.info(data).quality == pytest.approx(80.5, abs=0.3)


@pytest.mark.parametrize("other", [{"beta": 50}, {"size": 900}, {"bpp": 1.0}, {"psnr": 30}])
def test_one_target_alone(other: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        shcodec.encode(make_photo(8, 8), quality=80, model="model", **other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"quality": "80"}, {"beta": "50"}, {"size": "40k"}, {"effort": "3"}, {"effort": 2.5}]
)
def test_numbers_must_be_numbers(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="number"):
        shcodec.encode(make_photo(8, 8), model="model", **options)  # type: ignore[arg-type]


def test_the_command_line(encode: Shc) -> None:
    told = {
        option: json.loads(encode("--json", *option.split()).out) for option in ("-q 90", "--quality 62.5", "-q 75")
    }
    assert told["-q 90"]["beta"] == pytest.approx(beta_of(90), rel=0.02)
    assert told["--quality 62.5"]["beta"] == pytest.approx(beta_of(62.5), rel=0.02)
    assert told["-q 75"]["bytes"] == json.loads(encode("--json").out)["bytes"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-q", "101"),
        ("-q", "-1"),
        ("-q", "nan"),
        ("-q", "high"),
        ("-q", "80", "-b", "50"),
        ("-q", "80", "--size", "4k"),
    ],
    ids=" ".join,
)
def test_wrong_usage(encode: Shc, arguments: tuple[str, ...]) -> None:
    assert_wrong_usage(encode(*arguments))
    assert not Path("photo.shc").exists()


def test_whoever_meant_quiet_is_told_its_name(encode: Shc, shc: Shc) -> None:
    for command in ("encode", "decode"):
        outcome = shc(command, "-q", "photo.png")
        assert (outcome.code, outcome.out) == (2, "")
        assert "--quiet" in outcome.err


# Decoding


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
def test_the_quality_of_what_is_written(encode: Shc, shc: Shc, suffix: str) -> None:
    encode("-q", "95")
    sizes = []
    for quality in (0, 20, 80, 100):
        assert shc("decode", "-f", "-q", quality, "photo.shc", f"back.{suffix}").code == 0
        sizes.append(Path(f"back.{suffix}").stat().st_size)
        assert open_picture(f"back.{suffix}").size == (120, 90)
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3]


def test_webp_is_lossless_unless_told(encode: Shc, shc: Shc) -> None:
    encode()
    for name, arguments in {"plain": (), "lossy": ("-q", "100")}.items():
        assert shc("decode", "photo.shc", f"{name}.webp", *arguments).code == 0
    exact = np.asarray(shcodec.decode("photo.shc"))
    assert np.array_equal(np.asarray(Image.open("plain.webp")), exact)
    assert not np.array_equal(np.asarray(Image.open("lossy.webp")), exact)


@pytest.mark.parametrize("suffix", sorted(set(FORMATS) - {".jpg", ".jpeg", ".webp", ".avif"}))
def test_formats_without_a_quality(encode: Shc, shc: Shc, suffix: str) -> None:
    encode()
    for arguments in (("photo.shc", f"back{suffix}"), ("photo.shc", "-o", "out", "--format", suffix)):
        outcome = shc("decode", "-q", 80, *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert "no quality to choose" in outcome.err
    assert not Path(f"back{suffix}").exists()
    assert not Path("out").exists()
    with pytest.raises(UsageError, match="no quality"):
        write_picture(Image.new("RGB", (4, 4)), io.BytesIO(), FORMATS[suffix], quality=80)


# The benchmark


def test_points_named_by_quality() -> None:
    chosen = {
        codec.name: codec for codec in select_codecs(["shc-model", "jpeg420", "avif444", "j2k"], qualities=(40, 80))
    }
    assert [chosen[name].settings for name in ("shc-model", "jpeg420", "avif444")] == [(40, 80)] * 3
    assert chosen["j2k"].settings == next(iter(select_codecs(["j2k"]))).settings
    assert chosen["shc-model"].describe().endswith("setting = quality")
    pixels = make_photo(20, 30)
    assert chosen["shc-model"].encode(pixels, 80) == encoding.encode_array(pixels, beta_of(80), model="model")
    assert ShcCodec("model").describe().endswith("setting = beta")


@pytest.mark.parametrize(
    "arguments", [("--qualities", "80", "--betas", "50"), ("--qualities", "101"), ("--qualities", "much")], ids=" ".join
)
def test_wrong_points(shc: Shc, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")
    outcome = shc("bench", "--dataset", tmp_path, "--out", tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
