"""The symbol stream: round trips, agreement with an independent coder, and damaged streams."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ans_reference
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shcodec
from shcodec.support.errors import CorruptFileError, LimitError, ModelError
from shcodec.symbols import ans
from shcodec.symbols.ans import Decoder, Table, encode, integer_table

Groups = list[tuple[npt.NDArray[np.int32], Table]]
TOTAL = 1 << 24


@pytest.fixture(params=["constriction", "python"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a test with constriction and without."""
    if request.param == "python":
        monkeypatch.setitem(sys.modules, "constriction", None)
    else:
        pytest.importorskip("constriction")
    ans._backend.cache_clear()
    yield request.param
    ans._backend.cache_clear()


def table_of(*frequencies: int) -> Table:
    return Table(np.array(frequencies, dtype=np.uint32))


def random_groups(seed: int, count: int = 12, longest: int = 400) -> Groups:
    """Return groups with alphabets from 2 to 700, flat and peaked tables, some of the groups empty."""
    rng = np.random.default_rng(seed)
    groups: Groups = []
    for _ in range(count):
        weights = rng.random(rng.integers(2, 700)) ** rng.integers(1, 40)
        table = Table(integer_table(weights))
        n = int(rng.integers(0, longest)) * int(rng.integers(0, 2))
        groups.append((rng.choice(len(table), n, p=table.frequencies / TOTAL).astype(np.int32), table))
    return groups


def decode_all(data: bytes, groups: Groups) -> None:
    """Decode ``data`` and compare it with ``groups``."""
    decoder = Decoder(data)
    for symbols, table in groups:
        decoded = decoder.decode(table, len(symbols))
        assert decoded.dtype == np.int32
        assert decoded.shape == symbols.shape
        assert np.array_equal(decoded, symbols)
    decoder.finish()


def plain(groups: Groups) -> list[ans_reference.Group]:
    return [(symbols.tolist(), table.frequencies.tolist()) for symbols, table in groups]


@pytest.mark.parametrize("seed", range(6))
def test_round_trip_and_reference(backend: str, seed: int) -> None:
    groups = random_groups(seed)
    data = encode(groups)
    decode_all(data, groups)
    assert data == ans_reference.encode(plain(groups))
    reference = ans_reference.Decoder(data)
    for symbols, frequencies in plain(groups):
        assert reference.decode(frequencies, len(symbols)) == symbols
    assert reference.at_end()


@pytest.mark.parametrize("seed", range(3))
def test_size_is_near_the_cross_entropy(backend: str, seed: int) -> None:
    groups = random_groups(seed, count=30)
    ideal = sum(float(table.bits[symbols].sum()) for symbols, table in groups) / 8
    assert ideal - 1 <= len(encode(groups)) <= ideal + 6


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 1000), min_size=2, max_size=40),
    picks=st.lists(st.integers(0, 10**6), max_size=60),
)
def test_words_equal_the_reference(counts: list[int], picks: list[int]) -> None:
    table = Table(integer_table(np.array(counts)))
    groups: Groups = [(np.array(picks, dtype=np.int64).astype(np.int32) % len(table), table)]
    data = encode(groups)
    assert data == ans_reference.encode(plain(groups))
    decode_all(data, groups)


@given(st.binary(max_size=40), st.integers(0, 60))
@settings(deadline=None)
def test_any_stream_decodes_like_the_reference(data: bytes, n: int) -> None:
    """Whatever the bytes: no exception but the one for a trailing zero, the same symbols, the same verdict."""
    table = table_of(1, 1, 5, 1 << 23, TOTAL - (1 << 23) - 7)
    if data.endswith(b"\0"):
        with pytest.raises(CorruptFileError):
            Decoder(data)
        return
    decoder, reference = Decoder(data), ans_reference.Decoder(data)
    symbols = decoder.decode(table, n)
    assert symbols.tolist() == reference.decode(table.frequencies.tolist(), n)
    if reference.at_end():
        decoder.finish()
        assert encode([(symbols, table)]) == data
    else:
        with pytest.raises(CorruptFileError):
            decoder.finish()


def test_known_words(backend: str) -> None:
    """The stream of the example in FORMAT.md, so that neither can change alone."""
    symbols = np.array([2, 0, 1, 2, 2, 0, 2, 1, 2, 2], dtype=np.int32)
    data = encode([(symbols, table_of(1 << 22, 1 << 20, TOTAL - (1 << 22) - (1 << 20)))])
    text = (Path(shcodec.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
    assert f"`{data.hex(' ')}`" in text


def test_the_reader_of_the_format_document() -> None:
    text = (Path(shcodec.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def read_symbols" in b)
    scope: dict[str, Any] = {}
    exec(block, scope)
    read_symbols: Callable[[bytes, list[tuple[list[int], int]]], list[list[int]]] = scope["read_symbols"]
    for seed in range(3):
        groups = random_groups(seed)
        data = encode(groups)
        wanted = [(table.frequencies.tolist(), len(symbols)) for symbols, table in groups]
        assert read_symbols(data, wanted) == [symbols.tolist() for symbols, _ in groups]
        with pytest.raises(ValueError):
            read_symbols(data + b"\0", wanted)
        with pytest.raises(ValueError):
            read_symbols(data + b"\1", wanted)


def test_extreme_frequencies(backend: str) -> None:
    rare = table_of(1, TOTAL - 1)
    widest = Table(np.full(1 << 16, 256, dtype=np.uint32))
    rng = np.random.default_rng(0)
    groups: Groups = [
        (np.array([0, 1, 1, 0, 0, 1], dtype=np.int32), rare),
        (rng.integers(0, 1 << 16, 200).astype(np.int32), widest),
        (np.ones(1000, dtype=np.int32), rare),
    ]
    decode_all(encode(groups), groups)


def test_empty_streams(backend: str) -> None:
    table = table_of(TOTAL // 2, TOTAL // 2)
    nothing = np.empty(0, dtype=np.int32)
    assert encode([]) == b""
    assert encode([(nothing, table)]) == b""
    decoder = Decoder(b"")
    assert decoder.decode(table, 0).shape == (0,)
    decoder.finish()
    # The first symbol's interval starts at 0, and so does the state: a run of it costs nothing.
    zeros: Groups = [(np.zeros(1000, dtype=np.int32), table)]
    assert encode(zeros) == b""
    decode_all(b"", zeros)


def test_a_flipped_bit_is_noticed_or_makes_another_valid_stream(backend: str) -> None:
    """The end of the stream gives nearly all damage away; what it does not is left to the container's checksum."""
    groups = random_groups(seed=4, longest=60)
    data = encode(groups)
    unnoticed = 0
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decoder = Decoder(bytes(damaged))
            decoded = [(decoder.decode(table, len(symbols)), table) for symbols, table in groups]
            decoder.finish()
        except CorruptFileError:
            continue
        unnoticed += 1
        assert encode(decoded) == damaged
    assert unnoticed < 0.02 * 8 * len(data)


def test_left_over_bytes_are_noticed(backend: str) -> None:
    groups = random_groups(seed=5)
    data = encode(groups)
    decoder = Decoder(b"\x01\x02\x03\x04" + data)
    for symbols, table in groups:
        decoder.decode(table, len(symbols))
    with pytest.raises(CorruptFileError, match="does not end where its symbols do"):
        decoder.finish()


@pytest.mark.parametrize("data", [b"\0", b"\1\0", b"abcd\0\0\0\0"])
def test_trailing_zero_is_rejected(backend: str, data: bytes) -> None:
    with pytest.raises(CorruptFileError, match="ends in a zero byte"):
        Decoder(data)


def test_counts_are_checked_before_any_allocation(backend: str) -> None:
    table = table_of(TOTAL // 2, TOTAL // 2)
    for n in (ans.MAX_SYMBOLS + 1, 2**36, 2**60, 2**100):
        with pytest.raises(LimitError, match="more than the limit"):
            Decoder(b"abcd").decode(table, n)
    with pytest.raises(ValueError):
        Decoder(b"abcd").decode(table, -1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint32])
def test_any_integer_type_can_be_encoded(backend: str, dtype: type[np.integer[Any]]) -> None:
    table = table_of(1, 2, 3, TOTAL - 6)
    symbols = np.array([3, 0, 1, 2, 3, 3], dtype=dtype)[::-1]
    decode_all(encode([(symbols, table)]), [(symbols.astype(np.int32), table)])


@pytest.mark.parametrize(
    "symbols",
    [
        np.array([0, 2]),
        np.array([-1]),
        np.array([2**32]),
        np.array([0.0, 1.0]),
        np.array([True]),
        np.array([[0, 1]]),
    ],
)
def test_wrong_symbols_are_refused(backend: str, symbols: npt.NDArray[Any]) -> None:
    with pytest.raises(ValueError):
        encode([(symbols, table_of(TOTAL // 2, TOTAL // 2))])


@pytest.mark.parametrize(
    ("frequencies", "message"),
    [
        (np.array([TOTAL], dtype=np.uint32), "from 2 to 65536 entries"),
        (np.empty(0, dtype=np.uint32), "from 2 to 65536 entries"),
        (np.full(1 << 17, 128, dtype=np.uint32), "from 2 to 65536 entries"),
        (np.array([0, TOTAL], dtype=np.uint32), "a frequency of 0"),
        (np.array([1, TOTAL], dtype=np.uint32), "add up to 16777217"),
        (np.array([1, TOTAL - 2], dtype=np.uint32), "add up to 16777215"),
        (np.array([2**32 - 1, TOTAL + 1], dtype=np.uint32), "add up to"),
        (np.array([1, TOTAL - 1], dtype=np.int64), "vector of uint32"),
        (np.array([0.5, 0.5]), "vector of uint32"),
        (np.array([[1, TOTAL - 1]], dtype=np.uint32), "vector of uint32"),
    ],
)
def test_wrong_tables_are_refused(frequencies: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Table(frequencies)


def test_a_table_keeps_its_own_frequencies() -> None:
    frequencies = np.array([1 << 22, TOTAL - (1 << 22)], dtype=np.uint32)
    table = Table(frequencies)
    frequencies[0] = 0
    assert table.frequencies.tolist() == [1 << 22, TOTAL - (1 << 22)]
    assert len(table) == 2
    assert table.bits[0] == 2.0
    assert np.allclose(2.0**-table.bits, table.frequencies / TOTAL)
    for array in (table.frequencies, table.bits):
        with pytest.raises(ValueError):
            array[0] = 1


@given(st.lists(st.floats(0, allow_nan=False, allow_infinity=False), min_size=2, max_size=200))
def test_integer_table_is_always_a_table(counts: list[float]) -> None:
    weights = np.array(counts)
    frequencies = integer_table(weights)
    assert len(Table(frequencies)) == len(counts)
    assert np.array_equal(frequencies, integer_table(weights))


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=200).filter(any))
def test_integer_table_is_proportional(counts: list[int]) -> None:
    rest = TOTAL - len(counts)
    total = sum(counts)
    for count, frequency in zip(counts, integer_table(np.array(counts)).tolist(), strict=True):
        assert 1 + count * rest // total <= frequency + 1e-9 <= 2 + count * rest / total + 1e-6


def test_integer_table_by_hand() -> None:
    assert integer_table(np.array([0, 0])).tolist() == [TOTAL // 2, TOTAL // 2]
    assert integer_table(np.array([0, 7])).tolist() == [1, TOTAL - 1]
    # 2^24 - 3 = 3 * 5592404 + 1: the odd one goes to the lowest index.
    assert integer_table(np.ones(3)).tolist() == [5592406, 5592405, 5592405]
    assert integer_table(np.array([1e308, 1e308, 0.0])).tolist() == [8388608, 8388607, 1]


@pytest.mark.parametrize(
    "counts",
    [
        np.array([1.0]),
        np.empty(0),
        np.ones((2, 2)),
        np.ones((1 << 16) + 1),
        np.array([1.0, -1.0]),
        np.array([1.0, np.nan]),
        np.array([1.0, np.inf]),
    ],
)
def test_integer_table_refuses(counts: npt.NDArray[np.float64]) -> None:
    with pytest.raises(ValueError):
        integer_table(counts)
