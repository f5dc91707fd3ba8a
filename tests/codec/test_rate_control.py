"""Rate control: wanted sizes and qualities are met with few trials, and what cannot be met is said."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_photo, open_picture
from PIL import Image

import shcodec
from shcodec.codec import decoding, encoding, inspection, rate_control
from shcodec.codec.goals import LEAST, TOLERANCE, WORD, PsnrGoal, SizeGoal, Trial
from shcodec.codec.rate_control import PROBES, RATE_STEPS, TargetError, follow, sample
from shcodec.codec.request import ContradictionError, Request
from shcodec.container import byte_to_beta
from shcodec.model.networks import Model
from shcodec.pictures.picture import Picture, psnr
from shcodec.support.errors import UsageError

pytestmark = pytest.mark.usefixtures("tiny_model")

SIDES = [(1, 1), (17, 5), (61, 83), (200, 150), (300, 420)]  # height, width


def ends(rgb: np.ndarray, model: Model) -> tuple[bytes, bytes]:
    """Return the largest and the smallest file that the search can make."""
    large, small = (encoding.encode_array(rgb, byte_to_beta(int(step)), model=model) for step in RATE_STEPS)
    return large, small


# Sizes


@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_sizes_are_met(model: Model, sides: tuple[int, int], share: float) -> None:
    rgb = make_photo(*sides)
    large, small = (len(data) for data in ends(rgb, model))
    wanted = round(small + share * (large - small))
    found = encoding.encode_picture(Picture(rgb), Request(model=model, size=wanted))
    size = len(found.coded.data)
    assert size <= wanted
    nearly = size >= LEAST * wanted or wanted - size < WORD or size >= large - WORD
    assert nearly or found.missed == f"wanted {wanted:,} bytes, reached {size:,}"  # a smaller one that shows it better
    assert found.probes <= PROBES
    assert not found.missed or wanted < 200 or not nearly
    inspection.verify(found.coded.data)


def test_bits_per_pixel_are_a_size(model: Model) -> None:
    rgb = make_photo(200, 150)
    assert encoding.encode_picture(Picture(rgb), Request(model=model, bpp=0.2)).coded.data == (
        encoding.encode_picture(Picture(rgb), Request(model=model, size=int(0.2 * 200 * 150 / 8))).coded.data
    )


def test_beyond_the_model_the_nearest_end_is_taken(model: Model) -> None:
    rgb = make_photo(200, 150)
    large, small = ends(rgb, model)
    for wanted, end in ((10, small), (1_000_000, large)):
        found = encoding.encode_picture(Picture(rgb), Request(model=model, size=wanted))
        assert found.coded.data == end
        assert found.missed == f"wanted {wanted:,} bytes, reached {len(end):,}"
        with pytest.raises(TargetError, match=rf"wanted {wanted:,} bytes, reached {len(end):,}, which is as near"):
            encoding.encode_picture(Picture(rgb), Request(model=model, size=wanted, strict=True))


# Quality


@pytest.mark.parametrize("sides", [(61, 83), (200, 150), (300, 420)], ids=str)
@pytest.mark.parametrize("beta", [10, 100, 500])
def test_qualities_are_met(model: Model, sides: tuple[int, int], beta: float) -> None:
    rgb = make_photo(*sides)
    wanted = psnr(decoding.decode_array(encoding.encode_array(rgb, beta, model=model), model=model), rgb)
    found = encoding.encode_picture(Picture(rgb), Request(model=model, psnr=wanted, strict=True))
    assert abs(psnr(decoding.decode_array(found.coded.data, model=model), rgb) - wanted) <= TOLERANCE
    assert found.probes <= PROBES


def test_quality_beyond_the_model(model: Model) -> None:
    found = encoding.encode_picture(Picture(make_photo(200, 150)), Request(model=model, psnr=90))
    assert found.missed.startswith("wanted 90.00 dB, reached ")
    with pytest.raises(TargetError, match="wanted 90"):
        encoding.encode_picture(Picture(make_photo(200, 150)), Request(model=model, psnr=90, strict=True))


# How much work it is


def test_the_analysis_runs_once(model: Model, shc_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs over the whole range: one analysis each in the median, never more than two."""
    monkeypatch.delenv("SHC_MODELS")
    analyses, probes = [], []
    for path in sorted((shc_data / "val").iterdir())[:3]:
        rgb = np.ascontiguousarray(np.asarray(open_picture(path).convert("RGB"))[:512, :640])
        for bpp in (0.1, 0.3, 0.7):
            found = encoding.encode_picture(Picture(rgb), Request("fast", bpp=bpp))
            assert not found.missed
            analyses.append(found.analyses)
            probes.append(found.probes)
    assert np.median(analyses) == 1
    assert max(analyses) <= 2
    assert np.median(probes) <= 4


def test_an_analysis_serves_its_neighbours_only(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guess that is far off takes a second analysis."""
    monkeypatch.setattr(rate_control, "guess", lambda *arguments: RATE_STEPS[1])
    rgb = make_photo(300, 420)
    found = encoding.encode_picture(Picture(rgb), Request(model=model, size=len(ends(rgb, model)[0]) * 9 // 10))
    assert not found.missed
    assert found.analyses > 1


class Line(SizeGoal):
    """A goal whose level is the dial's own value with the sign turned."""

    slope = -0.3  # wrong on purpose

    def __init__(self, wanted: float) -> None:
        self.wanted = wanted

    def sure(self, level: float) -> bool:
        return abs(level - self.wanted) < 0.01


@pytest.mark.parametrize(
    "curve", [lambda x: -x, lambda x: -((x / 100) ** 3), lambda x: -math.sqrt(x)], ids=["line", "cube", "root"]
)
@pytest.mark.parametrize("place", [20.0, 133.3, 240.0])
@pytest.mark.parametrize("start", [14.0, 100.0, 249.0])
def test_following_smooth_curves(curve: Callable[[float], float], place: float, start: float) -> None:
    goal = Line(curve(place))
    slope = (curve(249) - curve(14)) / 235 * 1.5
    dial = follow(curve, goal, start, slope, RATE_STEPS, 20)
    assert abs(curve(dial) - goal.wanted) < 0.01


def test_following_a_curve_with_dips() -> None:
    def curve(x: float) -> float:
        return -0.026 * x + 0.02 * math.sin(7 * x)

    for place in (30.0, 77.7, 200.0):
        goal = Line(curve(place))
        assert abs(curve(follow(curve, goal, 120.0, -0.026, RATE_STEPS, 20)) - goal.wanted) < 0.01


@pytest.mark.parametrize("wanted", [-1000.0, 1000.0])
def test_following_ends_at_an_end(wanted: float) -> None:
    calls: list[float] = []

    def curve(x: float) -> float:
        calls.append(x)
        return -x

    assert follow(curve, Line(wanted), 100.0, -1.0, RATE_STEPS, 8) == RATE_STEPS[0 if wanted > 0 else 1]
    assert len(calls) == 2


def test_a_sample_is_an_eighth_at_most() -> None:
    for sides in ((512, 768), (2000, 3000), (130, 1500), (256, 300)):
        part = sample(make_photo(*sides))
        assert part is not None
        assert part.shape[0] in (64, 128) and part.shape[1] % part.shape[0] == 0
        assert part.shape[0] * part.shape[1] <= sides[0] * sides[1] / 8
    assert sample(make_photo(100, 100)) is None
    assert sample(make_photo(20, 5000)) is None


# Wrong usage


@pytest.mark.parametrize(
    "wanted",
    [
        {"beta": 50, "size": 100},
        {"size": 100, "bpp": 0.5},
        {"bpp": 0.5, "psnr": 30},
        {"size": 0},
        {"size": -5},
        {"bpp": math.nan},
        {"psnr": math.inf},
        {"effort": 10},
        {"effort": -1},
    ],
    ids=str,
)
def test_wrong_wishes(wanted: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        shcodec.encode(make_photo(8, 8), **wanted)


def test_a_goal_is_one_thing() -> None:
    with pytest.raises(ContradictionError, match="size and psnr exclude each other"):
        Request("fast", size=100, psnr=30)


def test_the_python_interface(model: Model) -> None:
    rgb = make_photo(200, 150)
    data = shcodec.encode(rgb, size=450, model="model")
    assert 0.97 * 450 <= len(data) <= 450
    assert shcodec.encode(rgb, model="model") == shcodec.encode(rgb, 50, model="model")


# Worlds that are not monotone


class StandIn:
    """What the choice among trials needs of one."""

    def __init__(self, level: float, size: int, error: float) -> None:
        self.level, self.size, self.error = level, size, error

    beats = Trial.beats


def tried(level: float, size: int, error: float = 0.0) -> Any:
    """Return what stands for a trial: level, bytes and error."""
    return StandIn(level, size, error)


def test_no_larger_and_worse_file_is_taken() -> None:
    goal = PsnrGoal(39.4)
    better, worse = tried(39.9, 52_000), tried(38.9, 85_000)
    assert goal.best([worse, better]) is better
    better, worse = tried(39.6, 52_000), tried(39.4, 85_000)
    assert goal.best([worse, better]) is better
    small, large = tried(39.35, 52_000), tried(39.42, 53_000)
    assert goal.best([large, small]) is small
    low, high = tried(38.0, 40_000), tried(39.9, 60_000)
    assert goal.best([low, high]) is high


def test_within_a_size_the_best_picture_is_taken() -> None:
    goal = SizeGoal(150_000, 400_000)
    large, small, beyond = tried(0, 88_000, 16.3), tried(0, 80_000, 4.3), tried(0, 151_000, 1.0)
    assert goal.best([large, beyond, small]) is small
    assert goal.best([beyond, tried(0, 160_000, 0.1)]) is beyond


@pytest.mark.parametrize("place", [60.0, 100.0])
@pytest.mark.parametrize("start", [130.0, 180.0])
def test_following_a_curve_that_turns(place: float, start: float) -> None:
    """Highest at the place, and below what is wanted at the fine end: the peak is looked for."""
    calls: list[float] = []

    def curve(x: float) -> float:
        calls.append(-abs(x - place))
        return calls[-1]

    follow(curve, Line(5.0), start, -1.0, RATE_STEPS, 14)
    assert max(calls) > -8


GREEN = np.broadcast_to(np.array([0, 255, 0], np.uint8), (256, 320, 3))


def test_the_quality_of_a_saturated_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """20.5 dB it was, at beta 2, where beta 4 gave 44.9."""
    monkeypatch.delenv("SHC_MODELS")
    found = encoding.encode_picture(Picture(GREEN), Request(model="fast", psnr=45))
    assert 44.6 < psnr(decoding.decode_array(found.coded.data), GREEN) < 46


def test_a_ceiling_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHC_MODELS")
    rgb = np.tile(np.array([[[0, 255, 255], [255, 0, 0]]], np.uint8), (48, 32, 1))  # stripes, a pixel wide
    told = r"wanted 60.00 dB, reached \d+\.\d\d, the most that model 'fast' can show of this picture"
    found = encoding.encode_picture(Picture(rgb), Request(model="fast", psnr=60))
    assert re.fullmatch(told, found.missed)
    assert f"{psnr(decoding.decode_array(found.coded.data), rgb):.2f}" in found.missed
    with pytest.raises(TargetError, match=told):
        encoding.encode_picture(Picture(rgb), Request(model="fast", psnr=60, strict=True))


@pytest.mark.parametrize(
    ("wanted", "least", "most_bytes"), [({"psnr": 39.4}, 39.3, 56_000), ({"size": 150_000}, 41.5, 85_000)], ids=str
)
def test_targets_of_a_bright_photograph(
    shc_data: Path, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, float], least: float, most_bytes: int
) -> None:
    """38.9 dB in 85 kB, and 36.0 dB in 88 kB it was."""
    monkeypatch.delenv("SHC_MODELS")
    rgb = np.asarray(Image.open(shc_data / "kodak" / "kodim20.webp").convert("RGB"))
    found = encoding.encode_picture(Picture(rgb), Request(model="fast", **wanted))  # type: ignore[arg-type]
    assert psnr(decoding.decode_array(found.coded.data), rgb) >= least
    assert len(found.coded.data) <= most_bytes
