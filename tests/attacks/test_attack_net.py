"""Hostile .shcn files: each attack, and the one line with which it ends."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from conftest import GOLDEN, Shc
from made_up_bytes import deflated, sealed

from shcodec import netpack
from shcodec.netpack.packing.directory import write_directory
from shcodec.netpack.packing.exact_elements import Exact
from shcodec.netpack.packing.file import FREE, MAGIC, PER_BYTE, split
from shcodec.netpack.packing.histograms import first_guess
from shcodec.netpack.packing.layout import (
    ONE_RUN,
    Codebook,
    Directory,
    Entry,
    Foreign,
    Indexed,
    Machine,
    Runs,
    Told,
    Trellis,
)
from shcodec.netpack.packing.plan import PackConfig
from shcodec.netpack.packing.spread import Spread
from shcodec.support.bytestream import varint
from shcodec.support.errors import CorruptFileError, LimitError, ShcError

DATA = (GOLDEN / "net" / "weights.shcn").read_bytes()


def forged(
    directory: bytes, plain: bytes = b"", symbols: bytes = b"", described: int | None = None, version: int = 1
) -> bytes:
    """Return a file with a matching checksum whose directory is any bytes."""
    head, kept = deflated(directory), deflated(plain)
    size = len(directory) if described is None else described
    parts = (varint(len(part)) + part for part in (head, kept, symbols))
    return sealed(MAGIC + bytes([version]) + varint(size) + b"".join(parts))


def rejected(data: bytes) -> str:
    """Why a file is rejected; it is an error of the test if it is not, or costs more than 64 MB."""
    tracemalloc.start()
    try:
        with pytest.raises(ShcError) as caught:
            netpack.unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_truncated_at_every_byte() -> None:
    for length in range(0, len(DATA)):
        with pytest.raises(CorruptFileError):
            split(DATA[:length])


def test_every_single_bit_flip_is_noticed() -> None:
    for bit in range(8 * len(DATA)):
        flipped = bytearray(DATA)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFileError):
            split(bytes(flipped))


def test_bit_flips_under_a_matching_checksum() -> None:
    random = Random(1)
    whole = DATA[:-4]
    count = 0
    for bit in random.sample(range(8 * len(whole)), 100):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            netpack.unpack(sealed(bytes(flipped)))
        except ShcError:
            count += 1
    assert count > 60


def test_bit_flips_of_the_directory_under_matching_checksums() -> None:
    """Each ends in tensors or in one line."""
    parts = split(DATA)
    directory = write_directory(parts.directory)
    random = Random(2)
    for bit in random.sample(range(8 * len(directory)), 150):
        flipped = bytearray(directory)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            netpack.unpack(forged(bytes(flipped), parts.inflated_plain(), bytes(parts.symbols)), max_weights=1 << 16)
        except ShcError as error:
            assert "\n" not in str(error)


def test_bytes_after_the_end() -> None:
    assert "after the end" in rejected(DATA + b"\0")
    assert "after the directory" in rejected(forged(write_directory(Directory(())) + b"\0"))


SPREAD = Spread(0, (None,))
TRELLIS = Trellis(0, 0.0, SPREAD)
MACHINE = Machine(1.0, 2, ONE_RUN, (first_guess(3, 1.0),))
BOOK = Codebook(np.zeros((2, 1), np.float32), ONE_RUN, np.zeros((1, 2), np.uint8))


def one(coding: Trellis | Indexed | None = TRELLIS, **changes: object) -> Entry:
    return replace(Entry("a", "F32", (50,), coding), **changes)  # type: ignore[arg-type]


def book(**changes: object) -> Directory:
    return Directory((one(Indexed(0, 1.0, SPREAD)),), codebooks=(replace(BOOK, **changes),))  # type: ignore[arg-type]


def machine(**changes: object) -> Directory:
    return Directory((one(),), machine=replace(MACHINE, **changes))  # type: ignore[arg-type]


HISTOGRAM = first_guess(3, 1.0)
LIES: dict[str, tuple[Directory, str]] = {
    "names": (Directory((one(None), one(None))), "twice"),
    "many elements": (Directory((one(None, shape=(1 << 40,)),)), "more than the limit"),
    "huge sizes": (Directory((one(None, shape=(1 << 48,) * 16),)), "more than the limit"),
    "no symbols": (Directory((one(shape=(FREE + 1,)),), machine=MACHINE), "too many"),
    "kept bytes": (Directory((one(None),)), "holds 0 bytes, not 200"),
    "rank": (
        Directory((one(shape=(1,) * 9, coding=Trellis(0, 0.0, Spread(0, (None,) * 9))),), machine=MACHINE),
        "axes",
    ),
    "kept rank": (Directory((one(None, shape=(1,) * 17),)), "axes"),
    "integers": (Directory((one(dtype="I32"),), machine=MACHINE), "no numbers"),
    "empty": (Directory((one(shape=(0,)),), machine=MACHINE), "no numbers"),
    "centre": (Directory((one(Trellis(0, float("nan"), SPREAD)),), machine=MACHINE), "not finite"),
    "exponent": (Directory((one(Trellis(32767, 0.0, SPREAD)),), machine=MACHINE), "no normal number"),
    "negative exponent": (Directory((one(Trellis(-2000, 0.0, SPREAD)),), machine=MACHINE), "no normal number"),
    "base": (Directory((one(Trellis(0, 0.0, Spread(128, (None,)))),), machine=MACHINE), "classes"),
    "mask": (Directory((one(Trellis(0, 0.0, Spread(0, (None, np.zeros(1, np.int8))))),), machine=MACHINE), "classes"),
    "offsets": (Directory((one(Trellis(0, 0.0, Spread(0, (np.full(50, 64, np.int8),)))),), machine=MACHINE), "offsets"),
    "step": (machine(step=0.0), "not positive"),
    "negative step": (machine(step=-1.0), "not positive"),
    "infinite step": (machine(step=float("inf")), "not finite"),
    "states": (machine(memory=8), "2^8 states"),
    "runs": (machine(runs=Runs((127,))), "every class"),
    "no runs": (machine(runs=Runs(()), histograms=()), "every class"),
    "empty runs": (machine(runs=Runs((128, 0)), histograms=(HISTOGRAM,) * 2), "every class"),
    "largest": (machine(histograms=(replace(HISTOGRAM, largest=0),)), "up to 0"),
    "huge largest": (machine(histograms=(replace(HISTOGRAM, largest=1 << 15),)), "up to 32768"),
    "density": (machine(histograms=(replace(HISTOGRAM, density=HISTOGRAM.density - 1),)), "normal form"),
    "shifts": (machine(histograms=(replace(HISTOGRAM, shifts=HISTOGRAM.shifts - 128),)), "normal form"),
    "codebooks": (Directory((one(None),), codebooks=(BOOK,)), "not those"),
    "no codebook": (Directory((one(Indexed(0, 1.0, SPREAD)),)), "not those"),
    "scale": (Directory((one(Indexed(0, float("inf"), SPREAD)),), codebooks=(BOOK,)), "not finite"),
    "words": (book(words=np.full((2, 1), np.nan, np.float32)), "not finite"),
    "few words": (book(words=np.zeros((1, 1), np.float32)), "not allowed"),
    "dimensions": (book(words=np.zeros((2, 3), np.float32)), "not allowed"),
    "deficits": (book(deficits=np.ones((1, 2), np.uint8)), "normal form"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies(lie: str) -> None:
    directory, reason = LIES[lie]
    assert reason in rejected(forged(write_directory(directory)))


def far(*positions: int, values: bytes | None = None) -> Exact:
    return Exact(np.array(positions, np.int64), bytes(4 * len(positions)) if values is None else values)


def second(coding: Trellis | None, foreign: Foreign | None = None, dtype: str = "F32", told: int = 1) -> Directory:
    entry = replace(one(coding, dtype=dtype), foreign=foreign)
    return Directory((entry,), machine=MACHINE if coding else None, told=(Told(9),) * told if coding else ())


SECOND: dict[str, tuple[Directory, str]] = {
    "nothing new": (Directory((one(None),)), "nothing that needs it"),
    "not told": (second(replace(TRELLIS, exact=far(3)), told=0), "truncated"),
    "told too much": (second(TRELLIS, told=2), "after the directory"),
    "positions": (second(replace(TRELLIS, exact=far(3, 50))), "beyond its end"),
    "far positions": (second(replace(TRELLIS, exact=far(3, 1 << 32))), "beyond its end"),
    "scale": (second(replace(TRELLIS, scale=(np.full(50, -128, np.int8),))), "offsets beyond"),
    "scale of no axis": (second(replace(TRELLIS, scale=(None, np.zeros(1, np.int8)))), "do not exist"),
    "foreign that is none": (second(None, Foreign(200, 4)), "normal form"),
    "foreign without a name": (second(None, Foreign(200, 4), dtype=""), "normal form"),
    "width": (second(None, Foreign(200, 3), dtype="X"), "normal form"),
    "many bytes": (second(None, Foreign(801, 1), dtype="X"), "do not fit"),
    "odd bytes": (second(None, Foreign(33, 2), dtype="X"), "do not fit"),
    "bytes that are not there": (second(None, Foreign(40, 2), dtype="X"), "holds 0 bytes, not 40"),
}


@pytest.mark.parametrize("lie", SECOND)
def test_lies_of_the_second_version(lie: str) -> None:
    directory, reason = SECOND[lie]
    assert reason in rejected(forged(write_directory(directory), version=2))


def test_the_first_version_knows_nothing_of_the_second() -> None:
    for directory in (second(replace(TRELLIS, exact=far(3))), second(None, Foreign(40, 2), dtype="X")):
        assert "not known here" in rejected(forged(write_directory(directory)))
    assert "not known here" in rejected(forged(write_directory(second(TRELLIS)), version=3))


def test_a_claimed_number_of_exact_elements() -> None:
    whole = write_directory(second(replace(TRELLIS, exact=far(3))))
    at = whole.index(b"\x01\0\0\0\x03")
    assert "truncated" in rejected(forged(whole[:at] + varint(1 << 27) + whole[at + 1 :], version=2))


def test_bit_flips_of_a_directory_of_the_second_version() -> None:
    rng = np.random.default_rng(5)
    arrays = {"w": rng.normal(size=(40, 40)).astype(np.float32), "c": np.ones((3, 3), np.complex64)}
    arrays["w"][[3, 9]] *= 1e4
    arrays["w"][5, 5] = np.nan
    parts = split(netpack.pack(arrays, config=PackConfig(states=4)))
    assert parts.version == 2
    directory = write_directory(parts.directory)
    for bit in Random(3).sample(range(8 * len(directory)), 150):
        flipped = bytearray(directory)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            data = forged(bytes(flipped), parts.inflated_plain(), bytes(parts.symbols), version=2)
            netpack.unpack(data, max_weights=1 << 16)
        except ShcError as error:
            assert "\n" not in str(error)


RAW: dict[str, tuple[Callable[[], bytes], str]] = {
    "metadata": (lambda: b"\x02\x01a\x00\x01a\x00" + b"\0\0", "twice"),
    "text": (lambda: b"\x01\x01\xff\x00", "UTF-8"),
    "long text": (lambda: b"\x01" + varint(1 << 17), "longer than the limit"),
    "many tensors": (lambda: b"\x00" + varint((1 << 20) + 1), "more than the limit"),
    "claimed tensors": (lambda: b"\x00" + varint(1 << 20), "truncated"),
    "dtype": (lambda: b"\x00\x01\x01a\x0f\x00\x00", "dtype 15"),
    "coding": (lambda: b"\x00\x01\x01a\x00\x03\x00", "coding 3"),
    "many codebooks": (lambda: b"\x00\x00" + varint(4097), "more than the limit"),
    "nothing": (lambda: b"", "truncated"),
}


@pytest.mark.parametrize("lie", RAW)
def test_raw_lies(lie: str) -> None:
    make, reason = RAW[lie]
    assert reason in rejected(forged(make()))


def test_the_directory_is_no_bomb() -> None:
    bomb = bytes(200 << 20)
    assert "larger than the limit" in rejected(forged(bomb))
    assert "holds more than" in rejected(forged(bomb, described=100))
    assert "not 1000" in rejected(forged(b"\0\0\0", described=1000))


def test_the_lossless_part_is_no_bomb() -> None:
    entry = Directory((Entry("a", "U8", (10,), None),))
    assert "holds more than 10" in rejected(forged(write_directory(entry), bytes(200 << 20)))


def test_symbols_that_do_not_end() -> None:
    directory = write_directory(machine())
    assert "does not end" in rejected(forged(directory, symbols=b"\x01" * 400))
    assert "zero byte" in rejected(forged(directory, symbols=b"\1\0"))


def test_a_file_never_becomes_much_larger() -> None:
    entry = one(shape=(FREE + PER_BYTE * 4 + 1,))
    with pytest.raises(LimitError, match="too many"):
        netpack.unpack(forged(write_directory(Directory((entry,), machine=MACHINE)), symbols=b"\1" * 4))


def test_the_limit_of_elements_is_the_callers() -> None:
    weights = netpack.info(DATA).weights
    assert netpack.unpack(DATA, max_weights=weights)
    with pytest.raises(LimitError):
        netpack.unpack(DATA, max_weights=weights - 1)


def test_the_command_says_it_in_one_line(tmp_path: Path, shc: Shc) -> None:
    bad = tmp_path / "bad.shcn"
    for content in (b"", DATA[:100], b"\x89SHC\n\x10", forged(b"\x00\x01\x01a\x00\x03\x00")):
        bad.write_bytes(content)
        for command in ("unpack", "info"):
            done = shc("net", command, bad)
            assert (done.code, done.out) == (1, "")
            assert done.err.startswith("shc: error: ") and done.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.shcn"]
