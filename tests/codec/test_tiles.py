"""Large pictures: tiles of symbols, and networks that see across their borders."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT, make_photo, spy
from hypothesis import given
from hypothesis import strategies as st

from shcodec import container
from shcodec.codec import decoding, encoding, inspection, synthesis
from shcodec.container.payload import join, split
from shcodec.model import networks
from shcodec.model.networks import Model
from shcodec.pictures.picture import psnr
from shcodec.support.errors import CorruptFileError, LimitError, UsageError
from shcodec.symbols import grid as grids
from shcodec.symbols import stream
from shcodec.symbols.grid import Grid

HEAD = b"what stands before"
STREAMS = [b"first", b"", b"third stream", b"4"]

pytestmark = pytest.mark.usefixtures("tiny_model")


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_tiles_cover_the_grid_once(height: int, width: int) -> None:
    grid = Grid.of(height, width)
    rows, columns = np.zeros(grid.height, int), np.zeros(grid.width, int)
    parts = grids.tiles_of(grid)
    for tile in parts:
        assert 1 <= tile.grid.hyper_height <= grids.TILE_SIDE and 1 <= tile.grid.hyper_width <= grids.TILE_SIDE
        rows[tile.area[0]] += 1
        columns[tile.area[1]] += 1
    down, across = len({tile.top for tile in parts}), len({tile.left for tile in parts})
    assert len(parts) == down * across
    assert (rows == across).all() and (columns == down).all()
    assert sum(tile.grid.height * tile.grid.width for tile in parts) == grid.height * grid.width


def test_pictures_of_up_to_2048_pixels_are_not_cut() -> None:
    assert len(grids.tiles_of(Grid.of(2048, 2048))) == 1
    assert len(grids.tiles_of(Grid.of(2048, 2049))) == 2


def test_a_single_stream_is_the_payload() -> None:
    assert join(HEAD, [b"alone"]) == b"alone"
    assert split(HEAD, b"alone", 1) == [b"alone"]


def test_streams_come_back() -> None:
    assert split(HEAD, join(HEAD, STREAMS), 4) == STREAMS


def test_every_damage_is_noticed() -> None:
    payload = join(HEAD, STREAMS)
    table = 4 * 5 + 4
    for position in range(len(payload)):
        damaged = bytearray(payload)
        damaged[position] ^= 1
        with pytest.raises(CorruptFileError):
            split(HEAD, bytes(damaged), 4)
        if position < table:
            with pytest.raises(CorruptFileError):
                split(HEAD, bytes(damaged), 4, salvage=True)
        else:
            saved = split(HEAD, bytes(damaged), 4, salvage=True)
            assert [mine for mine in saved if mine is not None] == [
                s for s, m in zip(STREAMS, saved, strict=True) if m is not None
            ]
            assert saved.count(None) == 1
    for head, changed in ((HEAD, payload + b"x"), (HEAD, payload[:-1]), (b"another head", payload)):
        with pytest.raises(CorruptFileError):
            split(head, changed, 4)


def test_what_is_cut_off_is_missing() -> None:
    payload = join(HEAD, STREAMS)
    assert split(HEAD, payload[:-3], 4, salvage=True) == [b"first", b"", None, None]


# Pictures


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "TILE_SIDE", 2)
    monkeypatch.setattr(networks, "WINDOW", 12)


PICTURE = make_photo(300, 500)  # 3 x 4 tiles


def test_no_seam_can_be_measured(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decoding.decode_array(encoding.encode_array(PICTURE, 20, model=model), model=model)
    monkeypatch.setattr(grids, "TILE_SIDE", 2)
    data = encoding.encode_array(PICTURE, 20, model=model)
    tiled = decoding.decode_array(data, model=model)
    near = np.zeros(PICTURE.shape[:2], bool)
    for tile in grids.tiles_of(Grid.of(300, 500)):
        left, top, _, _ = tile.box(500, 300)
        near[max(top - 32, 0) : top + 32] |= top > 0
        near[:, max(left - 32, 0) : left + 32] |= left > 0
    assert 0.2 < near.mean() < 1
    assert psnr(tiled[near][None], PICTURE[near][None]) == pytest.approx(
        psnr(whole[near][None], PICTURE[near][None]), abs=0.05
    )


def test_a_region_is_part_of_the_whole(model: Model, small_tiles: None) -> None:
    data = encoding.encode_array(PICTURE, 50, model=model)
    whole = decoding.decode_array(data, model=model).astype(int)
    for left, top, width, height in ((0, 0, 500, 300), (499, 299, 1, 1), (130, 70, 200, 100), (0, 127, 129, 2)):
        part = decoding.decode_picture(data, model=model, region=(left, top, width, height)).samples
        assert part.shape == (height, width, 3)
        assert np.abs(part - whole[top : top + height, left : left + width]).max() <= 1


def test_a_region_reads_only_the_tiles_it_needs(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "TILE_SIDE", 2)
    picture = np.tile(PICTURE, (2, 4, 1))  # 5 x 16 tiles
    data = encoding.encode_array(picture, 500, model=model)
    read = spy(monkeypatch, stream, "read")
    decoding.decode_picture(data, model=model, region=(0, 0, 64, 64))
    assert 0 < len(read) < 40


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 0, 5), (499, 0, 2, 1), (0, 299, 1, 2), (10**9, 0, 1, 1)])
def test_a_region_must_lie_in_the_picture(region: tuple[int, int, int, int], model: Model) -> None:
    data = encoding.encode_array(PICTURE, 500, model=model)
    with pytest.raises(UsageError, match="not within the picture of 500x300"):
        decoding.decode_picture(data, model=model, region=region)


def test_a_damaged_tile(model: Model, small_tiles: None) -> None:
    data = encoding.encode_array(PICTURE, 20, model=model)
    whole = decoding.decode_array(data, model=model).astype(int)
    damaged = bytearray(data)
    damaged[-20] ^= 4  # in the last tile
    with pytest.raises(CorruptFileError, match="checksum does not match"):
        decoding.decode_array(bytes(damaged), model=model)
    parts = decoding.decode_picture(bytes(damaged), model=model, keep_going=True)
    assert parts.damaged == ((384, 192, 116, 108),)
    assert (parts.samples[192:, 384:] == synthesis.GREY).all()
    assert np.abs(parts.samples[:100] - whole[:100]).max() <= 1
    region = decoding.decode_picture(bytes(damaged), model=model, keep_going=True, region=(380, 186, 20, 20)).samples
    assert (region[6:, 4:] == synthesis.GREY).all() and not (region[:6, :4] == synthesis.GREY).all()


def test_a_file_that_breaks_off(model: Model, small_tiles: None) -> None:
    data = encoding.encode_array(PICTURE, 20, model=model)
    whole = decoding.decode_array(data, model=model).astype(int)
    parts = decoding.decode_picture(data[: 2 * len(data) // 3], model=model, keep_going=True)
    assert 1 <= len(parts.damaged) < 12
    assert parts.damaged[-1] == (384, 192, 116, 108)
    assert np.abs(parts.samples[:20, :20] - whole[:20, :20]).max() <= 1


def test_nothing_can_be_saved_of_a_small_picture(model: Model) -> None:
    data = bytearray(encoding.encode_array(make_photo(60, 60), 20, model=model))
    data[-10] ^= 1
    with pytest.raises(CorruptFileError):
        decoding.decode_picture(bytes(data), model=model, keep_going=True)


def test_verify_reads_every_tile(small_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoding.encode_array(PICTURE, 50, model="model")
    inspection.verify(data)
    file = container.unpack(data)
    streams = split(container.head(file), file.payload, 12)
    streams[7] = b"\x01\x02\x03\x04" + (streams[7] or b"")
    forged = container.pack(
        container.Container(
            file.model_id,
            file.width,
            file.height,
            file.beta_byte,
            join(container.head(file), [s or b"" for s in streams]),
        )
    )
    with pytest.raises(CorruptFileError):
        inspection.verify(forged)


def test_a_model_without_hyper_path_takes_four_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """There a few bytes may be a valid picture of any size, so that its size is limited instead."""
    model = Model(ROOT / "models" / "sha")
    data = encoding.encode_array(make_photo(64, 320), 50, model=model)
    monkeypatch.setattr(grids, "TILE_SIDE", 1)
    with pytest.raises(LimitError, match="at most 4 tiles"):
        encoding.encode_array(make_photo(64, 320), 50, model=model)
    with pytest.raises(LimitError, match="at most 4 tiles"):
        decoding.decode_array(data, model=model)
    four = encoding.encode_array(make_photo(128, 128), 50, model=model)
    assert decoding.decode_array(four, model=model).shape == (128, 128, 3)
