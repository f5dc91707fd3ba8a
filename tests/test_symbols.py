"""The symbol path: grouping, index search, round trips, agreement with an independent reader, and bad tables."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import symbols_reference as reference
from conftest import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from shcodec.entropy import Decoder, Table, encode, integer_table
from shcodec.errors import CorruptFileError, ModelError
from shcodec.symbols import (
    KNOTS,
    Band,
    Grid,
    Indices,
    Order,
    SymbolTables,
    class_coordinate,
    class_spread,
    first_half,
    vector_counts,
)

Tensors = dict[str, npt.NDArray[Any]]
Picture = tuple[npt.NDArray[np.int8] | None, list[Order], list[list[Indices]]]

BANDS = ((2, 4, 4, 20), (5, 6, 2, 17), (7, 9, 1, 15))  # first class, last class, vector length, codewords
CLASSES = 10


def make_tensors(seed: int = 0, *, hyper: bool = True, latent: int = 4, rows: int = 3, skip: int = 2) -> Tensors:
    """Raw tables of a made-up model; with `skip = 0` a last band makes every class a coded one."""
    rng = np.random.default_rng(seed)

    def histogram(size: int) -> npt.NDArray[np.uint32]:
        return integer_table(rng.random(size) ** 4)

    bands = BANDS if skip else ((0, 1, 4, 9), *BANDS)
    tensors: Tensors = {
        "latent.channels": np.array([latent], np.int32),
        "class.count": np.array([CLASSES], np.int32),
        "class.bands": np.array([first for first, *_ in bands], np.int32),
    }
    for i, (first, last, dim, codewords) in enumerate(bands):
        codebook = rng.normal(0, 1 + i, (codewords, dim))
        tensors[f"codebook.{i}"] = (np.sort(codebook, axis=0) if dim == 1 else codebook).astype(np.float16)
        tensors[f"histogram.{i}"] = np.stack([histogram(codewords) for _ in range(first, last + 1)])
    if hyper:
        channels, limit = 3, 5
        tensors["hyper.bank"] = np.stack(
            [[histogram(2 * limit + 1) for _ in range(channels)] for _ in range(rows)]
        )  # fmt: skip
        tensors["class_map.weight"] = rng.integers(-127, 128, (16 * latent, channels)).astype(np.int8)
        tensors["class_map.shift"] = rng.integers(4, 8, latent).astype(np.uint8)
        tensors["class_map.bias"] = rng.integers(-200, 900, (KNOTS, latent)).astype(np.int32)
    return tensors


def draw_symbols(tables: SymbolTables, grid: Grid, beta_byte: int, seed: int) -> Picture:
    """Random symbols of a picture: z, the orders that follow from it, and indices."""
    rng = np.random.default_rng(seed)
    z = None
    if tables.has_hyper:
        shape = (tables.bank.shape[1], grid.hyper_height, grid.hyper_width)
        z = rng.integers(-tables.limit, tables.limit + 1, shape).astype(np.int8)
    orders = tables.orders(tables.class_map(z, beta_byte, grid))
    indices = [
        [rng.integers(0, len(tables.bands[tables.band_of[k]].codebook), n).astype(np.int32) for k, n in order.numbers]
        for order in orders
    ]
    return z, orders, indices


def write(tables: SymbolTables, picture: Picture) -> bytes:
    z, orders, indices = picture
    return tables.write(z, list(zip(orders, indices, strict=True)))


def assert_same(found: Picture, expected: Picture) -> None:
    assert (found[0] is None) == (expected[0] is None)
    assert expected[0] is None or np.array_equal(found[0], expected[0])
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


@given(sides, sides, beta_bytes, seeds)
def test_class_map_is_exact(height: int, width: int, beta_byte: int, seed: int) -> None:
    tensors = make_tensors(seed % 7)
    tables, grid = SymbolTables(tensors), Grid.of(height, width)
    z, _, _ = draw_symbols(tables, grid, beta_byte, seed)
    assert z is not None
    classes = tables.class_map(z, beta_byte, grid)
    expected = reference.classes_of(tensors, z.astype(np.int64), beta_byte, grid.height, grid.width)
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, expected)


@pytest.mark.parametrize("shift", [0, 12])
def test_class_map_is_exact_at_its_limits(shift: int) -> None:
    """The largest sums and biases that are let through: float32 products and int32 sums still hold them."""
    tensors, channels = make_tensors(), 1039  # 1039 * 127 * 127 is just below 2^24
    tensors["hyper.bank"] = np.broadcast_to(integer_table(np.ones(255)), (1, channels, 255))
    rng = np.random.default_rng(3)
    tensors["class_map.weight"] = rng.choice(np.array([-127, 127], np.int8), (64, channels))
    tensors["class_map.shift"] = np.full(4, shift, np.uint8)
    tensors["class_map.bias"] = rng.choice([1 - 2**30, 2**30 - 1, -(2**24), 2**24], (KNOTS, 4)).astype(np.int32)
    tables, grid = SymbolTables(tensors), Grid.of(64, 192)
    z = np.where(tensors["class_map.weight"][:3].T.reshape(channels, 1, 3) > 0, 127, -127).astype(np.int8)
    z[::2, :, 1] -= np.sign(z[::2, :, 1])  # odd sums as well: powers of two are exact for longer
    for beta_byte in (0, 7, 100, 255):
        expected = reference.classes_of(tensors, z.astype(np.int64), beta_byte, grid.height, grid.width)
        assert np.array_equal(tables.class_map(z, beta_byte, grid), expected)


def test_without_hyper_path_the_class_is_a_band_of_the_beta_byte() -> None:
    tables = SymbolTables(make_tensors(hyper=False, skip=0))
    for beta_byte in range(256):
        assert np.all(tables.class_map(None, beta_byte, Grid.of(20, 40)) == beta_byte * CLASSES // 256)


# Bytes


@settings(deadline=None)
@given(sides, sides, beta_bytes, seeds, st.booleans())
def test_round_trip(height: int, width: int, beta_byte: int, seed: int, hyper: bool) -> None:
    tables = SymbolTables(make_tensors(seed % 5, hyper=hyper, skip=2 if hyper else 0))
    grid = Grid.of(height, width)
    picture = draw_symbols(tables, grid, beta_byte, seed)
    payload = write(tables, picture)
    assert_same(tables.read(payload, beta_byte, grid), picture)


@pytest.mark.parametrize("hyper", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_the_independent_reader_agrees(seed: int, hyper: bool) -> None:
    tensors = make_tensors(seed, hyper=hyper, skip=2 if hyper else 0)
    tables, grid = SymbolTables(tensors), Grid.of(90 + seed, 130 - 9 * seed)
    z, orders, indices = picture = draw_symbols(tables, grid, 40 * seed, seed)
    fields = reference.Fields(b"", 130 - 9 * seed, 90 + seed, 40 * seed, write(tables, picture))
    symbols = reference.read_symbols(tensors, fields)
    assert z is None or np.array_equal(symbols.hyper, z)
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
    values = z.reshape(len(z), -1).astype(int) + tables.limit
    bits += np.log2(len(tables.bank)) + min(
        sum(Table(table).bits[value].sum() for table, value in zip(row, values, strict=True)) for row in tables.bank
    )
    payload = write(tables, (z, orders, indices))
    assert bits / 8 - 1 <= len(payload) <= bits / 8 * 1.0001 + 8


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
            found = tables.read(bytes(damaged), 90, grid)
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
        tables.read(change(payload), 90, grid)


def test_a_zero_byte_at_the_end() -> None:
    tables, grid = SymbolTables(make_tensors()), Grid.of(100, 100)
    with pytest.raises(CorruptFileError, match="zero byte"):
        tables.read(write(tables, draw_symbols(tables, grid, 90, 1)) + b"\0", 90, grid)


def test_a_row_beyond_the_bank() -> None:
    """One row still costs a symbol of two, of which the second names no row."""
    tables, grid = SymbolTables(make_tensors(rows=1)), Grid.of(10, 10)
    picture = draw_symbols(tables, grid, 0, 0)
    payload = write(tables, picture)
    assert_same(tables.read(payload, 0, grid), picture)
    table = Table(integer_table(np.ones(2)))
    decoder = Decoder(payload)
    assert decoder.decode(table, 1) == [0]
    with pytest.raises(CorruptFileError, match="row"):
        tables.read(encode([(np.array([1]), table)]), 0, grid)


# The encoder's choice


@given(seeds, st.sampled_from([0.0, 0.05, 0.13, 0.3]))
def test_search_equals_brute_force(seed: int, rate_weight: float) -> None:
    rng = np.random.default_rng(seed)
    tables = SymbolTables(make_tensors(seed % 5))
    classes = rng.integers(0, CLASSES, (4, 6, 5)).astype(np.uint8)
    residual = rng.normal(0, 2, classes.size).astype(np.float32)
    for order in tables.orders(classes):
        flat = np.concatenate([residual[order.elements], np.zeros(4, np.float32)])
        found, start = tables.search(order, residual, rate_weight), 0
        for (k, n), index in zip(order.numbers, found, strict=True):
            band = tables.bands[tables.band_of[k]]
            vectors = flat[start : start + n * band.dim].reshape(n, 1, band.dim)
            start += n * band.dim
            cost = ((vectors - band.codebook.astype(np.float64)) ** 2).sum(2) + rate_weight * band.bits[k - band.first]
            if band.dim == 1 and rate_weight:  # the search looks at neighbouring levels only
                cost = cost[:, _neighbours(band, 3)] if len(band.codebook) <= 7 else _masked(cost, vectors, band)
            assert index.shape == (n,)
            assert np.allclose(cost[np.arange(n), index], cost.min(1), atol=1e-4)


def test_search_finds_codewords_again() -> None:
    tables, grid = SymbolTables(make_tensors()), Grid.of(160, 160)
    _, orders, indices = draw_symbols(tables, grid, 60, 4)
    size = 4 * grid.height * grid.width
    for order, index in zip(orders, indices, strict=True):
        values = tables.values(order, index, size)
        again = tables.values(order, tables.search(order, values, 0.0), size)
        assert np.array_equal(values, again)
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
        ("class.bands", lambda t: t[:0]),
        ("codebook.1", lambda t: t[:-1]),
        ("histogram.0", lambda t: t[:-1]),
        ("histogram.0", lambda t: t.astype(np.int64)),
        ("hyper.bank", lambda t: t[0]),
        ("hyper.bank", lambda t: t[:, :-1]),
        ("hyper.bank", lambda t: t[:, :, :-1]),
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
    tables = SymbolTables(tensors)
    with pytest.raises(ModelError):
        [band.tables for band in tables.bands]


def _neighbours(band: Band, reach: int) -> npt.NDArray[np.intp]:
    raise NotImplementedError
