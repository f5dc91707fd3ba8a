"""Hostile .shc files: each attack, and the one line with which it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import forge
import numpy as np
import pytest
from forge import chunk, claiming, put_together, read_or_reject, taken_apart, with_chunks
from made_up_bytes import sealed

from shcodec.codec import decoding, inspection
from shcodec.container.payload import join, split
from shcodec.model import zoo
from shcodec.support.bytestream import varint
from shcodec.support.errors import CorruptFileError, LimitError, ModelError, UnknownModelError
from shcodec.symbols import ans, stream
from shcodec.symbols.grid import TILE_SIDE, Grid

pytestmark = pytest.mark.usefixtures("tiny_model")

SMALL, TILED = "scene-63x65-15", "scene-2100x30-120"


def golden(name: str) -> bytes:
    return (forge.GOLDEN_FILES / f"{name}.shc").read_bytes()


def verified(data: bytes) -> str:
    """Why a file is rejected before any network runs; "" if it is not."""
    return read_or_reject(data, inspection.verify)


# -- damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SMALL, TILED])
def test_truncated_at_every_byte(name: str) -> None:
    data = golden(name)
    for length in range(len(data)):
        with pytest.raises(CorruptFileError, match=r"truncated|empty|does not end|damaged"):
            inspection.verify(data[:length])


def test_every_single_bit_flip_is_noticed() -> None:
    data = golden(SMALL)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFileError):
            inspection.verify(bytes(flipped))


def test_single_bit_flips_under_a_matching_checksum() -> None:
    """The symbols of a forged file may be any, but reading them ends in a picture or in one line."""
    data = golden(SMALL)[:-4]
    rejected = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        rejected += bool(read_or_reject(sealed(bytes(flipped))))
    assert rejected > 8 * 14  # the magic number, the version and the model id at the least


def test_bit_flips_of_a_tiled_file() -> None:
    data = golden(TILED)
    random = Random(1)
    for bit in random.sample(range(8 * len(data)), 400):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFileError):
            inspection.verify(bytes(flipped))
        if bit < 8 * (len(data) - 4):
            verified(sealed(bytes(flipped[:-4])))


def test_truncated_streams_under_a_matching_checksum() -> None:
    parts = taken_apart(golden(SMALL))
    for length in range(len(parts.payload)):
        read_or_reject(put_together(replace(parts, payload=parts.payload[:length])))


# -- lengths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 127, 128, (1 << 28) - 1, (1 << 35) - 1])
def test_the_payload_is_not_as_long_as_the_file_says(length: int) -> None:
    assert verified(put_together(replace(taken_apart(golden(SMALL)), length=varint(length))))


@pytest.mark.parametrize("text", ["8000", "808000", "ff" * 5 + "01", "ff" * 5 + "7f", "ffffffff7f", "80", "ff" * 9])
def test_lengths_that_are_overlong_or_at_their_maximum(text: str) -> None:
    number = bytes.fromhex(text)
    parts = taken_apart(golden(SMALL))
    for lie in (
        replace(parts, length=number),
        replace(parts, width=number),
        replace(parts, height=number),
        with_chunks(parts, chunk(b"noTe", b"", number)),
        with_chunks(parts, chunk(b"noTe", b""), count=number),
    ):
        assert verified(put_together(lie))


def test_lengths_in_the_table_of_tiles() -> None:
    parts = taken_apart(golden(TILED))
    head = forge.body(replace(parts, payload=b"", length=b""))
    streams = [stream or b"" for stream in split(head, parts.payload, 2)]
    start = len(join(head, streams)) - sum(map(len, streams)) - 4
    for lie in (0, 1, len(streams[0]) + 1, 1 << 28, (1 << 35) - 1):
        table = varint(lie) + parts.payload[len(varint(len(streams[0]))) : start]
        for checksum in (parts.payload[start : start + 4], sealed(head + table)[-4:]):
            lying = replace(parts, payload=table + checksum + b"".join(streams))
            assert verified(put_together(lying))
    for cut in range(0, len(parts.payload), 7):
        assert verified(put_together(replace(parts, payload=parts.payload[:cut])))


# -- chunks and models ------------------------------------------------------------------------------


def test_duplicate_unknown_and_misnamed_chunks() -> None:
    parts = taken_apart(golden(SMALL))
    note = chunk(b"noTe", b"x")
    assert verified(put_together(with_chunks(parts, note))) == ""
    assert "twice" in verified(put_together(with_chunks(parts, note, note)))
    assert "TILE, which is not known" in verified(put_together(with_chunks(parts, chunk(b"TILE", b""))))
    for tag in (b"no\0e", b"..//", b"\xffoTe", b"n%s%"):
        assert "not four letters" in verified(put_together(with_chunks(parts, chunk(tag, b""))))
    assert "number of chunks" in verified(put_together(with_chunks(parts)))
    assert verified(put_together(with_chunks(parts, note, count=b"\x02")))
    assert "reserved flags" in verified(put_together(replace(parts, version=parts.version | 4)))
    assert verified(put_together(replace(parts, version=parts.version | 1)))  # a flag without chunks


def test_wrong_model_ids() -> None:
    parts = taken_apart(golden(SMALL))
    for model in (bytes(4), b"../.", b"\xff" * 4, parts.model[::-1]):
        with pytest.raises(UnknownModelError, match=model.hex()):
            decoding.decode(put_together(replace(parts, model=model)))


# -- symbol streams ---------------------------------------------------------------------------------


def test_streams_that_do_not_end_empty() -> None:
    parts = taken_apart(golden(SMALL))
    for extra in (b"\1\0\0\0", b"\xff" * 4, bytes(4), b"\7\0\0\0" * 50):  # words are taken from the end
        assert "does not end" in verified(put_together(replace(parts, payload=extra + parts.payload)))
    for end in (b"\0", b"\0\0\0\0"):
        assert "zero byte" in verified(put_together(replace(parts, payload=parts.payload + end)))


def test_no_file_asks_for_more_symbols_than_the_coder_can_take() -> None:
    """constriction ends the process if it cannot allocate, so nothing may ever ask it for that."""
    side = TILE_SIDE * 64
    for name in zoo.model_names():
        tables = zoo.load(name).tables
        grid = Grid.of(side, side)
        most = max(tables.latent * grid.height * grid.width, grid.hyper_height * grid.hyper_width)
        assert 4 * most <= 1 << 28  # bytes of the largest group of symbols
    table = ans.Table(ans.integer_table(np.ones(2)))
    with pytest.raises(LimitError):
        ans.Decoder(b"").decode(table, ans.MAX_SYMBOLS + 1)


def test_an_empty_stream_is_no_large_picture() -> None:
    parts = taken_apart(golden(SMALL))
    assert read_or_reject(claiming(parts, 64, 64)) == ""  # a stream of all symbols 0: one picture out of many
    for width, height in ((640, 640), (2048, 2048), (16_384, 10_922), (65_535, 2_730), (2_730, 65_535)):
        assert "too short for the picture's size" in verified(claiming(parts, width, height))


def test_no_honest_file_is_too_short() -> None:
    """Even if an encoder could choose the likeliest symbols of all, and nothing but these."""
    side = TILE_SIDE
    for name in zoo.model_names():
        tables = zoo.load(name).tables
        if tables.hyper is None:
            continue
        for histograms in tables.hyper.bank:
            likeliest = histograms.argmax(1) - tables.hyper.limit
            for height, width in ((1, 1), (1, side), (5, 7), (side, side)):
                z = np.broadcast_to(likeliest.astype(np.int8)[:, None, None], (len(likeliest), height, width))
                written = stream.write(tables, z, [])
                stream.check_length(tables, written, Grid(4 * height, 4 * width, height, width))


def test_a_picture_that_could_not_be_told_from_a_forged_one_is_not_written() -> None:
    tables = zoo.load("model").tables
    assert tables.hyper is not None
    lowest = np.full(
        (tables.hyper.channels, 32, 32), -tables.hyper.limit, np.int8
    )  # costs nothing while the state is 0
    with pytest.raises(ModelError, match="forged"):
        stream.write(tables, lowest, [])


# -- cost -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
@pytest.mark.parametrize("model", ["model", zoo.DEFAULT_MODEL])
def test_rejecting_costs_little(tmp_path: Path, model: str) -> None:
    names = []
    for name, data in forge.giants(model).items():
        names.append(str(tmp_path / name))
        Path(names[-1]).write_bytes(data)
    done = subprocess.run(
        [sys.executable, str(Path(forge.__file__).with_name("meter.py")), *names],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(name).name for name in names] == [line["file"] for line in told]
    for line in told:
        assert line["rejected"] and line["seconds"] < 0.5 and line["megabytes"] < 100, line
