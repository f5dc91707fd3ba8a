"""Trellis, histograms and classes: the parts of the quantiser."""

from __future__ import annotations

import numpy as np
import pytest

from shcodec.netpack.packing import histograms, spread, trellis
from shcodec.netpack.packing.histograms import Histogram, first_guess, fit_density, fit_shifts, knot_count, knots
from shcodec.netpack.packing.quantiser import make_costs, make_runs
from shcodec.netpack.packing.spread import Spread, classes, measure
from shcodec.symbols.ans import TOTAL


@pytest.mark.parametrize("memory", range(8))
def test_every_state_is_left_and_reached_twice(memory: int) -> None:
    following = trellis.transitions(memory)
    assert following.shape == (1 << memory, 2)
    if memory:
        assert np.bincount(following.reshape(-1)).tolist() == [2] * (1 << memory)


def test_four_states_are_those_of_the_table() -> None:
    assert trellis.transitions(2).tolist() == [[0, 1], [2, 3], [1, 0], [3, 2]]


def brute_force(x: np.ndarray, histogram: Histogram, memory: int) -> float:
    """Return the least cost of any path: a search over all states, element by element, all indices allowed."""
    costs = make_costs([histogram])
    best = {0: 0.0}
    for value in x.tolist():
        following: dict[int, float] = {}
        for state, so_far in best.items():
            for k in range(-histogram.largest, histogram.largest + 1):
                m = 2 * abs(k) - (state & 1 and k != 0)
                rate = costs.zero[0] if (state & 1 and k == 0) else costs.rate[m]
                cost = so_far + (abs(value) - np.copysign(costs.level[m], k * value if k else 1)) ** 2 + rate
                target = int(trellis.transitions(memory)[state, k & 1])
                following[target] = min(following.get(target, np.inf), cost)
        best = following
    return min(best.values())


@pytest.mark.parametrize("memory", [1, 2, 3, 5])
def test_the_search_finds_the_best_path(memory: int) -> None:
    rng = np.random.default_rng(memory)
    histogram = first_guess(4, 2.0)
    costs = make_costs([histogram])
    for _ in range(5):
        x = rng.normal(0, 2.5, 30).astype(np.float32)
        n = trellis.lane_count(x.size)
        k = trellis.search(x, np.zeros(x.size, np.uint8), costs, memory)
        odd = trellis.odd_ones(k, memory)
        m = 2 * np.abs(k) - (odd & (k != 0))
        rate = np.where(odd & (k == 0), costs.zero[0], costs.rate[m])
        cost = np.square(np.abs(x) - costs.level[m]) + rate
        for lane in range(n):
            assert cost[lane::n].sum() == pytest.approx(brute_force(x[lane::n], histogram, memory), rel=1e-4)


def test_the_search_does_not_depend_on_threads() -> None:
    x = np.random.default_rng(3).laplace(0, 3, 1 << 21).astype(np.float32)[: 1100 * 600]
    costs = make_costs([first_guess(20, 3.0)])
    tables = np.zeros(x.size, np.uint8)
    one = trellis.search(x, tables, costs, 3)
    np.testing.assert_array_equal(one, trellis.search(x, tables, costs, 3, threads=3))


def test_more_states_are_better() -> None:
    x = np.random.default_rng(4).normal(0, 4, 1 << 14).astype(np.float32)
    costs = make_costs([first_guess(16, 3.2)])
    errors = []
    for memory in (0, 2, 3, 6):
        # A scalar quantiser has the codewords of the even half alone, so its step is about half as wide.
        scaled = x * (2 if memory == 0 else 1)
        costs = make_costs([first_guess(32, 3.2 * (2 if memory == 0 else 1))])
        k = trellis.search(scaled, np.zeros(x.size, np.uint8), costs, memory)
        odd = trellis.odd_ones(k, memory)
        m = 2 * np.abs(k) - (odd & (k != 0))
        errors.append(float(np.square(np.abs(scaled) - m).mean()))
    assert errors[1] > errors[2] > errors[3]


def test_segments_cover_their_range() -> None:
    counts = trellis.ends_of(np.array([3, 0, 5, 2]))
    assert list(trellis.segments(counts, 0, 10)) == [(0, 3, 0), (3, 8, 2), (8, 10, 3)]
    assert list(trellis.segments(counts, 2, 4)) == [(2, 3, 0), (3, 4, 2)]
    assert list(trellis.segments(counts, 4, 4)) == []


# -- histograms ------------------------------------------------------------------------------------


def test_powers_are_exact() -> None:
    found = histograms.powers(np.array([0, -1, -64, -65, -30 * 64, -31 * 64, -100000]))
    assert found.tolist() == [1 << 30, 1062175491, 1 << 29, 531087745, 1, 0, 0]


def test_knots_end_in_the_largest() -> None:
    assert knots(2).tolist() == [0, 1, 2]
    assert knots(10).tolist() == [0, 1, 2, 3, 4, 6, 8, 10]
    assert knot_count(5) == 9


@pytest.mark.parametrize("largest", [1, 2, 7, 300, histograms.MAX_INDEX])
def test_tables_are_tables(largest: int) -> None:
    histogram = first_guess(largest, 1.5)
    for table in histogram.tables:
        assert len(table) == 2 * largest + 1
        assert int(table.frequencies.sum()) == TOTAL
        np.testing.assert_array_equal(table.frequencies, table.frequencies[::-1])


@pytest.mark.parametrize("shape", ["gauss", "laplace", "spike"])
def test_fitted_tables_cost_hardly_more_than_the_entropy(shape: str) -> None:
    k = np.arange(41)
    density = {"gauss": np.exp(-((k / 9) ** 2)), "laplace": np.exp(-k / 5), "spike": np.exp(-k / 3) + 9 * (k == 0)}
    counts = np.round(density[shape] * 20000)
    tables = Histogram(40, fit_density(counts, counts), np.zeros(knot_count(40) - 2, np.int64)).tables
    p = np.concatenate([counts[:0:-1], 2 * counts[:1], counts[1:]]) / (2 * counts.sum())
    entropy = -float((p[p > 0] * np.log2(p[p > 0])).sum())
    cost = float((counts * tables[0].bits[40:]).sum() / counts.sum())
    assert cost < entropy + 0.02


def test_fits_survive_nothing_and_little() -> None:
    nothing = np.zeros(6)
    assert fit_density(nothing, nothing).max() == 0
    one = np.eye(6)[5]
    assert fit_density(one, nothing).shape == (knot_count(5),)
    assert not fit_shifts(np.zeros(11), np.zeros(11)).any()


def test_codewords_move_to_their_means() -> None:
    counts = np.full(21, 1e4)
    shifts = fit_shifts(counts, -0.25 * counts)
    assert set(shifts.tolist()) == {-8}
    histogram = Histogram(10, np.zeros(knot_count(10), np.int64), shifts)
    assert histogram.levels[[0, 1, 20]].tolist() == [0.0, 0.75, 19.75]
    assert histogram.words[1, [10, 11, 9]].tolist() == [0.0, 0.75, -0.75]


# -- classes ---------------------------------------------------------------------------------------


def test_classes_add_up_and_are_cut() -> None:
    found = classes(Spread(5, (np.array([0, -60], np.int8), None, np.array([1, 2], np.int8))), (2, 2, 2))
    assert found.tolist() == [6, 7, 6, 7, 0, 0, 0, 0]
    assert classes(Spread(127, (np.array([3], np.int8),)), (1,)).tolist() == [127]
    assert classes(Spread(9, ()), ()).tolist() == [9]


def test_rows_and_columns_of_different_spread_are_found() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(64, 32, 9)) * np.exp2(np.arange(64) % 4)[:, None, None] * np.exp2(np.arange(9) % 3)
    level, axes = measure(x.astype(np.float32))
    assert [offsets is not None for offsets in axes] == [True, False, True]
    assert axes[0] is not None and len(set(axes[0].tolist())) <= 12
    flat, nothing = measure(rng.normal(size=(64, 288)).astype(np.float32))
    assert nothing == (None, None)
    assert flat < level


def test_zeros_have_a_spread() -> None:
    level, axes = measure(np.zeros((4, 4), np.float32))
    assert np.isfinite(level) and axes == (None, None)


def test_runs_take_every_class() -> None:
    for population in (np.zeros(128), np.full(128, 10), np.full(128, 10000), np.eye(128)[127] * 1e6):
        runs = make_runs(population.astype(np.int64))
        assert sum(runs.lengths) == 128 and min(runs.lengths) > 0
        assert runs.lookup().size == 128
    assert spread.CLASSES == 128
