"""The alpha chunk is lossless, as FORMAT.md says, and strict; hidden colours are painted over."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_up_bytes import deflated

import shcodec
from shcodec.container import alpha
from shcodec.container.alpha import pack, unpack
from shcodec.pictures.hidden import STRIP, fill_hidden
from shcodec.support.errors import CorruptFileError

Reader = Callable[[bytes, int, int], list[list[int]]]

planes = st.integers(1, 256).flatmap(
    lambda count: hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=21),
        elements=st.integers(0, count - 1).map(lambda value: (value * 37 + 11) % 256),
    )
)


def soft_mask(height: int, width: int) -> np.ndarray:
    """Return a disc with a soft edge, transparent outside."""
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot(x - width / 2, y - height / 2)
    mask: np.ndarray = np.clip((height / 3 - distance) * 12, 0, 255).astype(np.uint8)
    return mask


@pytest.fixture(scope="module")
def read_alpha() -> Reader:
    """Return the reader that FORMAT.md prints."""
    text = (Path(shcodec.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def read_alpha" in b)
    scope: dict[str, Any] = {}
    exec(block, scope)
    reader: Reader = scope["read_alpha"]
    return reader


@given(plane=planes)
@settings(max_examples=150, deadline=None)
def test_any_channel_comes_back(read_alpha: Reader, plane: np.ndarray) -> None:
    if (plane == 255).all():
        return
    data = pack(plane)
    height, width = plane.shape
    assert np.array_equal(unpack(data, width, height), plane)
    assert read_alpha(data, width, height) == plane.tolist()


@pytest.mark.parametrize("count", [2, 3, 4, 5, 16, 17, 256])
def test_depth_follows_the_number_of_values(read_alpha: Reader, count: int) -> None:
    plane = (
        np.random.default_rng(count)
        .choice(256, count, replace=False)
        .astype(np.uint8)[np.arange(33 * 30).reshape(33, 30) % count]
    )
    data = pack(plane)
    assert data[0] == (count if count <= 16 else 0)
    assert np.array_equal(unpack(data, 30, 33), plane)
    assert read_alpha(data, 30, 33) == plane.tolist()


@pytest.mark.parametrize("filter_", range(4))
@pytest.mark.parametrize("count", [2, 4, 9, 40])
def test_every_filter_is_read(read_alpha: Reader, count: int, filter_: int) -> None:
    samples = (np.random.default_rng(1).integers(0, count, (13, 11))).astype(np.uint8)
    depth = alpha._depth(count if count <= 16 else 0)
    head = bytes([count, *range(0, 10 * count, 10)]) if count <= 16 else b"\0"
    data = head + bytes([filter_]) + deflated(alpha._packed(alpha._filtered(samples, filter_), depth))
    plane = samples * 10 if count <= 16 else samples
    assert np.array_equal(unpack(data, 11, 13), plane)
    assert read_alpha(data, 11, 13) == plane.tolist()


def test_sizes_are_as_expected() -> None:
    assert pack(np.full((500, 400), 9, np.uint8)) == b"\x01\x09"
    assert len(pack(np.where(soft_mask(500, 400) > 0, 255, 0).astype(np.uint8))) < 1000
    assert len(pack(np.tile(np.arange(200, dtype=np.uint8), (300, 1)))) < 200
    noise = np.random.default_rng(0).integers(0, 256, (300, 200)).astype(np.uint8)
    assert len(pack(noise)) < noise.size + 30


BITS = bytes([2, 0, 255])  # the list of a mask
ROW = b"\xf0\x00"  # of 9 samples


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "list of values"),
        (b"\x11" + bytes(range(17)) + b"\0\0", "list of values"),
        (b"\x02\x00", "list of values"),
        (b"\x02\x05\x05\0" + deflated(ROW * 3), "list of values"),
        (b"\x02\x05\x04\0" + deflated(ROW * 3), "list of values"),
        (b"\x01\xff", "shortest form"),
        (b"\x01\x00\x00", "shortest form"),
        (BITS, "no valid filter"),
        (b"\0", "no valid filter"),
        (BITS + b"\x04" + deflated(ROW * 3), "no valid filter"),
        (BITS + b"\x00", "does not end where it should"),
        (BITS + b"\x00" + b"\xff\xff\xff", "is damaged"),
        (BITS + b"\x00" + deflated(ROW * 3) + b"\0", "does not end where it should"),
        (BITS + b"\x00" + deflated(ROW * 3)[:-1], "does not end where it should"),
        (BITS + b"\x00" + deflated(ROW * 2), "ends before the picture does"),
        (BITS + b"\x00" + deflated(ROW * 4), "holds more than 6 bytes"),
        (BITS + b"\x00" + deflated(ROW * 2 + b"\xf0\x01"), "set bits after the end of a row"),
        (b"\x03\0\1\2\x00" + deflated(bytes([0, 3 << 2, 0]) * 3), "an index beyond its list"),
    ],
)
def test_damaged_chunks(read_alpha: Reader, data: bytes, message: str) -> None:
    with pytest.raises(CorruptFileError, match=f"chunk ALPH .*{message}"):
        unpack(data, 9, 3)
    with pytest.raises(ValueError, match=r"\w"):
        read_alpha(data, 9, 3)


@given(data=st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_noise_is_an_error_or_a_channel(read_alpha: Reader, data: bytes) -> None:
    """The library and the reader in FORMAT.md accept the same."""
    try:
        plane = unpack(data, 5, 3)
    except CorruptFileError:
        with pytest.raises(ValueError, match=r"\w"):
            read_alpha(data, 5, 3)
    else:
        assert read_alpha(data, 5, 3) == plane.tolist()


@pytest.mark.parametrize("data", [b"\x01\x05", b"\0\0" + deflated(bytes(900_000)), b"\0\x03" + b"\x01" * 1000])
def test_small_chunks_take_little_memory(data: bytes) -> None:
    """Whatever size the picture claims to have."""
    assert len(data) < 1200
    tracemalloc.start()
    with suppress(CorruptFileError):
        unpack(data, 60_000, 2_900)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


# Hidden colours


def test_visible_pixels_stay_and_hidden_ones_are_smooth() -> None:
    rgb, plane = make_photo(301, 213), soft_mask(301, 213)
    rgb[plane == 0] = np.random.default_rng(0).integers(0, 256, ((plane == 0).sum(), 3))
    filled = rgb.copy()
    fill_hidden(filled, plane)
    assert np.array_equal(filled[plane > 0], rgb[plane > 0])
    steps = np.abs(np.diff(filled.astype(int), axis=1)).max(axis=2)
    hidden = (plane[:, 1:] == 0) & (plane[:, :-1] == 0)
    assert np.percentile(steps[hidden], 99.9) <= 20
    assert steps[hidden].mean() < 1
    low, high = rgb[plane > 0].min(0), rgb[plane > 0].max(0)
    assert ((filled >= low) & (filled <= high)).all()


def test_a_strip_shows_no_seam() -> None:
    """Large pictures are filled in strips; the result is as if there were none, but for rounding."""
    rgb, plane = make_photo(2 * STRIP + 37, 64), soft_mask(2 * STRIP + 37, 64)
    whole = rgb.copy()
    fill_hidden(rgb, plane)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shcodec.pictures.hidden.STRIP", 10_000)
        fill_hidden(whole, plane)
    assert np.abs(rgb.astype(int) - whole).max() <= 2


@pytest.mark.parametrize("sides", [(1, 1), (1, 2), (2, 1), (3, 5), (1, 70), (64, 64), (65, 1)])
def test_fill_of_odd_sides(sides: tuple[int, int]) -> None:
    rgb, plane = np.full((*sides, 3), 7, np.uint8), np.zeros(sides, np.uint8)
    fill_hidden(rgb, plane)
    assert (rgb == 128).all()
    rgb[0, 0], plane[0, 0] = (10, 20, 30), 1
    fill_hidden(rgb, plane)
    assert (rgb == (10, 20, 30)).all()


def test_equal_channels_stay_equal() -> None:
    rgb = np.repeat(make_photo(60, 50)[..., :1], 3, axis=2)
    fill_hidden(rgb, soft_mask(60, 50))
    assert (rgb == rgb[..., :1]).all()


def test_grey_is_filled_as_equal_channels_are() -> None:
    grey, plane = make_photo(301, 203)[..., 0].copy(), soft_mask(301, 203)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    fill_hidden(grey, plane)
    fill_hidden(rgb, plane)
    assert np.array_equal(np.repeat(grey[..., None], 3, axis=2), rgb)
