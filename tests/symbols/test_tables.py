"""The symbol path: grouping, index search, round trips, agreement with an independent reader, and bad tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import symbols_reference as reference
from conftest import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_model import CLASSES, Picture, draw_symbols, make_tensors

from shcodec.support.errors import CorruptFileError, ModelError
from shcodec.symbols import stream
from shcodec.symbols.ans import Decoder, Table, encode, integer_table
from shcodec.symbols.bands import Band, Indices
from shcodec.symbols.choice import NEAREST, choose
from shcodec.symbols.classes import class_coordinate, class_spread, vector_counts
from shcodec.symbols.grid import Grid, first_half
from shcodec.symbols.tables import SymbolTables


def write(tables: SymbolTables, picture: Picture) -> bytes:
    z, orders, indices = picture
    return stream.write(tables, z, list(zip(orders, indices, strict=True)))


def assert_same(found: Picture, expected: Picture) -> None:
    assert (found[0] is None) == (expected[0] is None)
    if found[0] is not None and expected[0] is not None:
        assert np.array_equal(found[0], expected[0])
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert np.array_equal(ours.elements, theirs.elements)
        assert ours.numbers == theirs.numbers
    for group, other in zip(itertools.chain(*found[2]), itertools.chain(*expected[2]), strict=True):
        assert np.array_equal(group, other)


sides = st.integers(1, 150)
beta_bytes = st.integers(0, 255)
seeds = st.integers(0, 2**32)

# Grouping


@st.composite
def groupings(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Elements per class, vector lengths that never rise with the class, and the first coded class."""
    dims = sorted(draw(st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=12)), reverse=True)
    counts = draw(st.lists(st.integers(0, 30), min_size=len(dims), max_size=len(dims)))
    return counts, dims, draw(st.integers(0, len(dims) - 1))


@settings(deadline=None)
@given(groupings())
def test_vector_counts(grouping: tuple[list[int], list[int], int]) -> None:
    counts, dims, skip = grouping
    numbers = vector_counts(counts, dims, skip)
    assert len(numbers) == len(counts)
    assert not any(numbers[:skip])
    for k in range(skip, len(counts)):
        held = sum(numbers[j] * dims[j] for j in range(k, len(counts)))
        there = sum(counts[k:])
        if k > skip:  # what is left over is less than a vector, and waits for the next class
            assert 0 <= there - held < dims[k]
        else:  # everything is coded, with less than a vector of padding
            assert 0 <= held - there < dims[k]


def test_vector_counts_by_hand() -> None:
    #   class      0  1  2  3     3: one pair, 1 left; 2: 1 + 2 = one pair, 1 left; 1: 1 + 5 = one four, 2 left, padded
    assert vector_counts([9, 5, 2, 3], [0, 4, 2, 2], 1) == [0, 2, 1, 1]
    assert vector_counts([0, 0], [4, 1], 0) == [0, 0]


def test_class_spreads_are_log_spaced() -> None:
    spread = class_spread(range(64))
    assert np.allclose(class_coordinate(spread), np.arange(64) + 0.5)
    assert class_coordinate(np.array([0.12, 64.0])) == pytest.approx([0, 63])


@settings(deadline=None)
@given(seeds, st.booleans())
def test_order_takes_every_coded_element_once(seed: int, hyper: bool) -> None:
    rng = np.random.default_rng(seed)
    tables = SymbolTables(make_tensors(hyper=hyper, skip=2 if hyper else 0))
    classes = rng.integers(0, CLASSES, (4, *rng.integers(1, 9, 2))).astype(np.uint8)
    orders = tables.orders(classes)
    assert len(orders) == (2 if hyper else 1)
    together = np.concatenate([order.elements for order in orders])
    assert np.array_equal(np.sort(together), np.flatnonzero(classes.ravel() >= tables.skip))
    halves = first_half(*classes.shape).ravel()
    for order, half in zip(orders, (True, False), strict=False):
        assert not hyper or np.all(halves[order.elements] == half)
        keys = [(-int(classes.ravel()[element]), int(element)) for element in order.elements]
        assert keys == sorted(keys)  # hottest first, equal ones in raster order
        assert [k for k, _ in order.numbers] == sorted((k for k, _ in order.numbers), reverse=True)
        padding = sum(n * tables.dims[k] for k, n in order.numbers) - len(order.elements)
        assert 0 <= padding < 4


@pytest.mark.parametrize("shape", [(4, 1, 1), (4, 5, 6), (7, 3, 2), (1, 2, 2)])
def test_first_half(shape: tuple[int, int, int]) -> None:
    ours = first_half(*shape)
    for channel, row, column in np.ndindex(*shape):
        assert ours[channel, row, column] == ((row + column) % 2 == (channel >= shape[0] // 2))


def test_first_half_is_the_one_of_training() -> None:
    pytest.importorskip("torch", reason="training needs torch")
    from shcodec.nets import codec as nets

    for shape in ((4, 1, 1), (16, 5, 6), (7, 3, 2)):
        assert np.array_equal(first_half(*shape), nets.first_half(*shape).numpy())


# Classes


@settings(deadline=None)
@given(sides, sides, beta_bytes, seeds)
def test_class_map_is_exact(height: int, width: int, beta_byte: int, seed: int) -> None:
    tensors = make_tensors(seed % 7)
    tables, grid = SymbolTables(tensors), Grid.of(height, width)
    z, _, _ = draw_symbols(tables, grid, beta_byte, seed)
    assert z is not None
    classes = tables.classes_of(z, beta_byte, grid)
    expected = reference.classes_of(tensors, z.astype(np.int64), beta_byte, grid.height, grid.width)
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, expected)


def test_without_hyper_path_the_class_is_a_band_of_the_beta_byte() -> None:
    tables = SymbolTables(make_tensors(hyper=False, skip=0))
    for beta_byte in range(256):
        assert np.all(tables.classes_of(None, beta_byte, Grid.of(20, 40)) == beta_byte * CLASSES // 256)


# Bytes


@settings(deadline=None)
@given(sides, sides, beta_bytes, seeds, st.booleans())
def test_round_trip(height: int, width: int, beta_byte: int, seed: int, hyper: bool) -> None:
    tables = SymbolTables(make_tensors(seed % 5, hyper=hyper, skip=2 if hyper else 0))
    grid = Grid.of(height, width)
    picture = draw_symbols(tables, grid, beta_byte, seed)
    payload = write(tables, picture)
    assert_same(stream.read(tables, payload, beta_byte, grid), picture)


@pytest.mark.parametrize("hyper", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_the_independent_reader_agrees(seed: int, hyper: bool) -> None:
    tensors = make_tensors(seed, hyper=hyper, skip=2 if hyper else 0)
    tables, grid = SymbolTables(tensors), Grid.of(90 + seed, 130 - 9 * seed)
    z, orders, indices = picture = draw_symbols(tables, grid, 40 * seed, seed)
    fields = reference.Fields(b"", 130 - 9 * seed, 90 + seed, 40 * seed, write(tables, picture))
    symbols = reference.read_symbols(tensors, fields)
    assert (symbols.hyper is None) == (z is None)
    if symbols.hyper is not None and z is not None:
        assert np.array_equal(symbols.hyper, z)
    assert symbols.indices == [int(i) for group in itertools.chain(*indices) for i in group]
    assert [[(k, len(group)) for k, group in groups] for groups in symbols.passes] == [
        list(order.numbers) for order in orders
    ]
    size = symbols.classes.size
    values = sum(tables.values(order, index, size) for order, index in zip(orders, indices, strict=True))
    assert np.array_equal(np.reshape(values, symbols.classes.shape), reference.residuals(tensors, symbols))


def test_the_payload_is_as_long_as_the_tables_say() -> None:
    """Symbols drawn from the tables themselves; real files are measured in test_codec.py."""
    tables, grid, rng = SymbolTables(make_tensors()), Grid.of(600, 800), np.random.default_rng(1)
    z, orders, indices = draw_symbols(tables, grid, 100, 1)
    bits = 0.0
    for order, groups in zip(orders, indices, strict=True):
        for (k, n), group in zip(order.numbers, groups, strict=True):
            table = tables.bands[tables.band_of[k]].tables[k - tables.bands[tables.band_of[k]].first]
            group[:] = rng.choice(len(table), n, p=table.frequencies / 2**24)
            bits += table.bits[group].sum()
    assert z is not None
    assert tables.hyper is not None
    values = z.reshape(len(z), -1).astype(int) + tables.hyper.limit
    bits += np.log2(len(tables.hyper.bank)) + min(
        sum(Table(table).bits[value].sum() for table, value in zip(row, values, strict=True))
        for row in tables.hyper.bank
    )
    payload = write(tables, (z, orders, indices))
    assert bits / 8 - 8 <= len(payload) <= bits / 8 * 1.0001 + 8  # the coder starts empty: up to a state less


# Damage


@pytest.mark.parametrize("seed", range(4))
def test_damaged_streams(seed: int) -> None:
    """Every change is noticed or gives a valid stream of other symbols, which the file's checksum would tell apart."""
    tables, grid = SymbolTables(make_tensors(seed)), Grid.of(100, 100)
    picture = draw_symbols(tables, grid, 90, seed)
    payload = write(tables, picture)
    rng, noticed = np.random.default_rng(seed), 0
    for _ in range(100):
        damaged = bytearray(payload)
        damaged[rng.integers(len(payload))] ^= 1 << rng.integers(8)
        try:
            found = stream.read(tables, bytes(damaged), 90, grid)
        except CorruptFileError:
            noticed += 1
        else:
            with pytest.raises(AssertionError):
                assert_same(found, picture)
    assert noticed > 90


@pytest.mark.parametrize("change", [lambda p: p[:-1], lambda p: p[:-4], lambda p: p + b"\1", lambda p: p + b"\1" * 4])
def test_streams_of_another_length(change: Any) -> None:
    tables, grid = SymbolTables(make_tensors()), Grid.of(100, 100)
    payload = write(tables, draw_symbols(tables, grid, 90, 1))
    with pytest.raises(CorruptFileError):
        stream.read(tables, change(payload), 90, grid)


def test_a_zero_byte_at_the_end() -> None:
    tables, grid = SymbolTables(make_tensors()), Grid.of(100, 100)
    with pytest.raises(CorruptFileError, match="zero byte"):
        stream.read(tables, write(tables, draw_symbols(tables, grid, 90, 1)) + b"\0", 90, grid)


def test_a_row_beyond_the_bank() -> None:
    """One row still costs a symbol of two, of which the second names no row."""
    tables, grid = SymbolTables(make_tensors(rows=1)), Grid.of(10, 10)
    picture = draw_symbols(tables, grid, 0, 0)
    payload = write(tables, picture)
    assert_same(stream.read(tables, payload, 0, grid), picture)
    table = Table(integer_table(np.ones(2)))
    decoder = Decoder(payload)
    assert decoder.decode(table, 1) == [0]
    with pytest.raises(CorruptFileError, match="row"):
        stream.read(tables, encode([(np.array([1]), table)]), 0, grid)


# The encoder's choice


@settings(deadline=None)
@given(seeds, st.sampled_from([0.0, 0.05, 0.13, 0.3]))
def test_search_equals_brute_force(seed: int, rate_weight: float) -> None:
    rng = np.random.default_rng(seed)
    tables = SymbolTables(make_tensors(seed % 5))
    for k, vectors, index in searched(tables, rng.normal(0, 2, (4, 6, 5)), rate_weight, rng):
        band = tables.bands[tables.band_of[k]]
        cost = costs(band, k, vectors, rate_weight)
        allowed = np.ones_like(cost, dtype=bool)
        if band.dim == 1:  # of scalars only the neighbours of the nearest level are looked at
            nearest = np.abs(vectors - band.codebook[:, 0]).argmin(1)
            allowed = np.abs(np.arange(cost.shape[1]) - nearest[:, None]) <= NEAREST
        best = np.where(allowed, cost, np.inf).min(1)
        assert np.all(cost[np.arange(len(index)), index] <= best + 1e-4)


def test_with_trained_levels_the_neighbours_are_enough() -> None:
    tables, rng = SymbolTables(reference.load_tables(GOLDEN / "model")), np.random.default_rng(2)
    residual = rng.laplace(0, 1, (16, 30, 30)) * class_spread(rng.integers(0, 64, 14400)).reshape(16, 30, 30)
    for k, vectors, index in searched(tables, residual, 0.13, rng):
        cost = costs(tables.bands[tables.band_of[k]], k, vectors, 0.13)
        assert np.all(cost[np.arange(len(index)), index] <= cost.min(1) + 1e-3)


def searched(
    tables: SymbolTables, residual: npt.NDArray[np.float64], rate_weight: float, rng: np.random.Generator
) -> Iterator[tuple[int, npt.NDArray[np.float32], Indices]]:
    """Quantises residuals (M, h, w) under random classes; yields each class, its vectors and the chosen indices."""
    flat = residual.astype(np.float32).ravel()
    for order in tables.orders(rng.integers(0, tables.classes, residual.shape).astype(np.uint8)):
        ordered, start = np.concatenate([flat[order.elements], np.zeros(4, np.float32)]), 0
        for (k, n), index in zip(order.numbers, choose(tables, order, flat, rate_weight), strict=True):
            assert index.shape == (n,)
            yield k, ordered[start : start + n * tables.dims[k]].reshape(n, tables.dims[k]), index
            start += n * tables.dims[k]


def costs(band: Band, k: int, vectors: npt.NDArray[np.float32], rate_weight: float) -> npt.NDArray[np.float64]:
    """(n, L) cost of every codeword for every vector, in double precision."""
    difference = vectors[:, None].astype(np.float64) - band.codebook
    cost: npt.NDArray[np.float64] = (difference**2).sum(2) + rate_weight * band.bits[k - band.first]
    return cost


def test_search_finds_codewords_again() -> None:
    tables, grid = SymbolTables(make_tensors()), Grid.of(160, 160)
    _, orders, indices = draw_symbols(tables, grid, 60, 4)
    size = 4 * grid.height * grid.width
    for order, index in zip(orders, indices, strict=True):
        values = tables.values(order, index, size)
        again = tables.values(order, choose(tables, order, values, 0.0), size)
        whole = order.elements[:-3]  # the last vector may be padded with zeros, and then it is no codeword
        assert np.array_equal(values[whole], again[whole])
        assert not np.delete(values, order.elements).any()


# Tables that do not fit together


def test_the_frozen_model_loads() -> None:
    tables = SymbolTables(reference.load_tables(GOLDEN / "model"))
    assert (tables.classes, tables.skip, len(tables.bands)) == (64, 7, 5)
    assert min(band.dim for band in tables.bands) == 1


@pytest.mark.parametrize("name", [name for name in make_tensors() if name != "hyper.bank"])
def test_missing_tensors(name: str) -> None:
    tensors = make_tensors()
    del tensors[name]
    with pytest.raises(ModelError):
        SymbolTables(tensors)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("latent.channels", lambda t: t + 1),
        ("latent.channels", lambda t: t[:0]),
        ("class.count", lambda t: t + 1),
        ("class.count", lambda t: t + 256),
        ("class.bands", lambda t: t[:0]),
        ("codebook.1", lambda t: t[:-1]),
        ("histogram.0", lambda t: t[:-1]),
        ("histogram.0", lambda t: t.astype(np.int64)),
        ("hyper.bank", lambda t: t[0]),
        ("hyper.bank", lambda t: t[:, :-1]),
        ("hyper.bank", lambda t: t[:, :, :-1]),
        ("hyper.bank", lambda t: np.repeat(t, 27, axis=2)),
        ("class_map.weight", lambda t: t[:-1]),
        ("class_map.weight", lambda t: t.astype(np.int16)),
        ("class_map.shift", lambda t: t[:-1]),
        ("class_map.shift", lambda t: t * 0 + 32),
        ("class_map.bias", lambda t: t[:-1]),
        ("class_map.bias", lambda t: t * 0 + (1 << 30)),
    ],
)
def test_tables_that_do_not_fit(name: str, change: Any) -> None:
    tensors = make_tensors()
    tensors[name] = change(tensors[name])
    with pytest.raises(ModelError):
        SymbolTables(tensors)


def test_a_class_map_whose_sums_are_not_exact() -> None:
    tensors = make_tensors()
    tensors["hyper.bank"] = np.broadcast_to(integer_table(np.ones(255)), (1, 1041, 255))
    tensors["class_map.weight"] = np.full((64, 1041), 127, np.int8)  # 1041 * 127 * 127 is beyond 2^24
    with pytest.raises(ModelError, match="exact"):
        SymbolTables(tensors)


def test_a_histogram_that_is_none() -> None:
    tensors = make_tensors()
    tensors["histogram.2"] = tensors["histogram.2"] - np.uint32(1)
    with pytest.raises(ModelError, match="frequencies"):
        SymbolTables(tensors)
