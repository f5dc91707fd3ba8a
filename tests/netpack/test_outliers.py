"""Weights beside masks, outliers, infinities and other scales: they get what they would get alone."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_weights import make_weights, sqnr

from shcodec import netpack
from shcodec.netpack.packing.histograms import first_guess, fit_density, knots
from shcodec.netpack.packing.packer import pack_tensors
from shcodec.netpack.packing.plan import PackConfig
from shcodec.netpack.packing.report import PackReport
from shcodec.netpack.packing.targets import Target
from shcodec.netpack.packing.tensors import from_array
from shcodec.support.errors import LimitError

Arrays = dict[str, npt.NDArray[np.floating]]

QUICK = PackConfig(states=1)
RELATIVE = PackConfig(states=1, weighting="relative")
CLOSE = 0.6  # dB


def weights(side: int = 96, seed: int = 0) -> npt.NDArray[np.float32]:
    return (0.05 * np.random.default_rng(seed).normal(size=(side, side))).astype(np.float32)


def with_outliers(value: float, number: int = 1) -> npt.NDArray[np.float32]:
    found = weights()
    found.reshape(-1)[np.random.default_rng(1).choice(found.size, number, replace=False)] = value
    return found


def packed(arrays: Arrays, config: PackConfig = QUICK, **target: float) -> tuple[Arrays, PackReport]:
    data, report = netpack.pack_report(arrays, target=Target(**(target or {"bits": 4})), config=config)  # type: ignore[arg-type]
    return netpack.unpack(data), report


ALONE: dict[tuple[float, PackConfig], float] = {}


def alone(bits: float, config: PackConfig = QUICK) -> float:
    """Return what the weights get without anything beside them."""
    key = (bits, config)
    if key not in ALONE:
        ALONE[key] = sqnr(weights(), packed({"w": weights()}, config, bits=bits)[0]["w"])
    return ALONE[key]


MASKS = {
    "triangle": np.where(np.tri(64), 0, -1e4),
    "random": np.where(np.random.default_rng(3).random((64, 64)) < 0.5, 0, -1e4),
    "infinite": np.where(np.tri(64), 0, -np.inf),
    "the least number": np.where(np.tri(64), 0, np.finfo(np.float32).min),
}


@pytest.mark.parametrize(("mask", "config"), [*((mask, QUICK) for mask in MASKS), ("triangle", RELATIVE)])
def test_a_mask_costs_the_weights_nothing(mask: str, config: PackConfig) -> None:
    arrays = {"mask": MASKS[mask].astype(np.float32), "w": weights()}
    found, report = packed(arrays, config)
    np.testing.assert_array_equal(found["mask"], arrays["mask"])
    assert sqnr(arrays["w"], found["w"]) > alone(4, config) - CLOSE
    assert report.bits is not None and 0.97 * 4 <= report.bits <= 4


@pytest.mark.parametrize(
    ("bits", "config", "value", "number"),
    [
        (4, QUICK, 5e4, 1),
        (12, QUICK, 5e4, 20),
        (4, RELATIVE, 5e4, 1),
        (8, RELATIVE, -1e30, 5),
        (8, QUICK, 15.0, 1),
        (4, QUICK, 500.0, 90),
    ],
)
def test_outliers_cost_the_rest_hardly_anything(bits: float, config: PackConfig, value: float, number: int) -> None:
    before = with_outliers(value, number)
    found, report = packed({"w": before}, config, bits=bits)
    rest = before != np.float32(value)
    # 90 of them are one in a hundred, whose places and values cost a quarter of a bit a weight.
    assert sqnr(before, found["w"], rest) > alone(bits, config) - (CLOSE if number < 90 else 2.0)
    assert np.abs(found["w"][~rest] / before[~rest] - 1).max() < 1e-2
    assert report.bits is not None and 0.97 * bits <= report.bits <= bits


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_what_is_not_finite_is_kept_and_told(value: float) -> None:
    before = with_outliers(value, 3)
    found, report = packed({"w": before, "v": weights(64)})
    rest = np.isfinite(before)
    np.testing.assert_array_equal(found["w"][~rest], before[~rest])
    assert sqnr(before, found["w"], rest) > alone(4) - CLOSE
    (told,) = [tensor for tensor in report.tensors if tensor.name == "w"]
    assert (told.coding, told.exact) == ("trellis", 3)
    assert any("3 elements of 1 tensor" in note and "in w" in note for note in report.notes)


def test_bits_of_what_is_not_finite_survive() -> None:
    before = weights()
    before.view(np.uint32)[7, 7] = 0xFFABCDEF
    found, _ = packed({"w": before})
    assert found["w"].view(np.uint32)[7, 7] == 0xFFABCDEF


def test_mostly_not_finite_is_kept_and_told() -> None:
    before = with_outliers(np.nan, 6000)
    found, report = packed({"w": before})
    np.testing.assert_allclose(found["w"], before, rtol=2**-9)
    assert any("kept with 8 bits" in note and "w" in note for note in report.notes)


@pytest.mark.parametrize(
    ("rows", "factor"),
    [(slice(0, 300, 50), 50.0), (slice(3, 4), 1e20), (slice(0, 120), 1e4)],
)
def test_outlier_rows_and_columns_get_steps_of_their_own(rows: slice, factor: float) -> None:
    before = np.random.default_rng(4).normal(size=(300, 64)).astype(np.float32)
    reference = sqnr(before, packed({"e": before, "w": weights()})[0]["e"])
    for turned in (False, True):
        own = before.copy()
        own[rows] *= np.float32(factor)
        rest = np.ones(300, dtype=bool)
        rest[rows] = False
        arrays = {"e": own.T.copy() if turned else own, "w": weights()}
        found, _ = packed(arrays)
        back = found["e"].T if turned else found["e"]
        assert sqnr(own, back, rest) > reference - CLOSE
        assert sqnr(own, back, ~rest) > 17
        assert sqnr(arrays["w"], found["w"]) > alone(4) - CLOSE


@pytest.mark.parametrize(("side", "factor"), [(64, 100.0), (160, 1e4), (160, 1e-20), (64, 1e25)])
def test_another_order_of_magnitude_costs_nothing(side: int, factor: float) -> None:
    other = weights(side, seed=5) * np.float32(factor)
    found, report = packed({"big": other, "w": weights()})
    assert sqnr(weights(), found["w"]) > alone(4) - CLOSE
    assert sqnr(other, found["big"]) > alone(4) - CLOSE - 0.5
    assert report.bits is not None and 0.97 * 4 <= report.bits <= 4


def test_a_large_part_that_is_kept_does_not_eat_the_bits() -> None:
    arrays = {"kept": np.arange(100000, dtype=np.int64).reshape(100, 1000) ** 3, "w": weights(64)}
    _, report = netpack.pack_report(arrays, target=Target(bits=4), config=QUICK)
    assert report.bits is not None and 0.97 * 4 <= report.bits <= 4


def test_denormals_keep_their_precision() -> None:
    before = (1e-41 * np.random.default_rng(6).normal(size=(64, 64))).astype(np.float32)
    found, _ = packed({"d": before, "w": weights()})
    assert sqnr(before, found["d"]) > 50
    assert sqnr(weights(), found["w"]) > alone(4) - CLOSE


def test_tensors_without_anything_to_quantise() -> None:
    arrays = {
        "zeros": np.zeros((64, 64), np.float32),
        "one": np.array([[1e30]], np.float32),
        "scalar": np.array(-np.inf, np.float32),
        "none": np.zeros((0, 300), np.float32),
        "huge": np.full((20, 20), 3e38, np.float32),
        "w": weights(),
    }
    found, report = packed(arrays)
    for name in ("zeros", "one", "scalar", "none", "huge"):
        np.testing.assert_allclose(found[name], arrays[name], rtol=2**-9)
    assert sqnr(arrays["w"], found["w"]) > alone(4) - CLOSE
    assert report.worst == "w"


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(dtype: type) -> None:
    before: npt.NDArray[np.floating] = weights().astype(dtype)
    before[5, 5] = 6e4 if dtype is np.float16 else 1e300
    before[6, 6] = -np.inf
    found, _ = packed({"w": before})
    assert found["w"][5, 5] == before[5, 5] and found["w"][6, 6] == -np.inf
    rest = np.abs(before) < 1
    assert sqnr(before, found["w"], rest) > alone(4) - CLOSE


odd_tensors = st.one_of(
    st.builds(
        lambda value, rows: np.where(np.tri(rows, 64), 0, value),
        st.sampled_from([-1e4, -1e9, 1.0, -np.inf]),
        st.integers(8, 80),
    ),
    st.builds(
        lambda scale, rows: scale * weights(64, seed=7)[:rows],
        st.sampled_from([1e-30, 1e-7, 1e3, 1e9, 1e28]),
        st.integers(8, 64),
    ),
    st.builds(
        lambda value, number: with_outliers(value, number)[:64],
        st.sampled_from([1e3, -1e12, 3e38, np.nan, np.inf]),
        st.integers(1, 12),
    ),
)


@settings(max_examples=4, deadline=None)
@given(st.lists(odd_tensors, min_size=1, max_size=3), st.sampled_from([3, 4, 6]), st.sampled_from([QUICK, RELATIVE]))
def test_random_mixtures(others: list[npt.NDArray[np.floating]], bits: int, config: PackConfig) -> None:
    arrays = {f"odd{number}": other.astype(np.float32) for number, other in enumerate(others)} | {"w": weights()}
    found, report = packed(arrays, config, bits=bits)
    assert sqnr(arrays["w"], found["w"]) > alone(bits, config) - 1.0
    assert report.bits is not None and 0.97 * bits <= report.bits <= bits
    for name, before in arrays.items():
        special = ~np.isfinite(before)
        np.testing.assert_array_equal(found[name][special], before[special])


def test_more_bits_are_never_worse() -> None:
    heavy = np.random.default_rng(8).standard_t(1, size=(64, 64)).astype(np.float32)
    for arrays in ({"mask": MASKS["triangle"].astype(np.float32), "w": weights(64)}, {"w": heavy}):
        quality = [packed(arrays, bits=bits)[1].sqnr or 0.0 for bits in (4, 4.25)]
        assert quality[1] > quality[0] + 1.0


@pytest.mark.parametrize("bits", [15, 20])
def test_no_index_ends_what_a_budget_gives(bits: float) -> None:
    found, report = packed({"w": weights(40)}, bits=bits)
    assert report.bits is not None and 0.97 * bits <= report.bits <= bits
    assert sqnr(weights(40), found["w"]) > 78


def test_what_fits_as_it_is_is_kept() -> None:
    half = weights(32).astype(np.float16)
    found, report = packed({"w": half}, bits=16)
    np.testing.assert_array_equal(found["w"], half)
    assert any("nothing is quantised" in note for note in report.notes)
    assert netpack.pack({"w": half}, sqnr=110, config=QUICK) == netpack.pack({"w": half}, bits=16, config=QUICK)


def test_ratios_of_any_size_are_met() -> None:
    found, report = packed({"w": weights(24)}, sqnr=110)
    assert not report.missed
    assert sqnr(weights(24), found["w"]) == pytest.approx(110, abs=0.1)


def test_a_ratio_is_not_met_by_what_is_large_alone() -> None:
    moved = (1e6 + np.random.default_rng(3).normal(size=(64, 64))).astype(np.float32)
    found, report = packed({"moved": moved, "w": weights()}, sqnr=30)
    assert 26 < sqnr(weights(), found["w"]) < 31
    assert not report.missed


def test_damage_is_told_and_the_worst_is_named() -> None:
    arrays = {"good": weights(), "small": (weights(64) / 4).astype(np.float32), "b": np.zeros(4, np.float32)}
    data, report = netpack.pack_report(arrays, target=Target(bits=1.5), config=QUICK)
    assert report.worst == "small"
    told = {tensor.name: tensor for tensor in report.tensors}
    after = netpack.unpack(data)
    for name in ("good", "small"):
        assert told[name].sqnr == pytest.approx(sqnr(arrays[name], after[name]), abs=0.05)
        assert told[name].zeroed == pytest.approx(float((after[name] == 0).mean()), abs=0.01)
    found = netpack.info(data)
    assert (found.version, found.worst) == (2, "small")
    for tensor in found.tensors:
        expected = told[tensor.name].sqnr
        assert tensor.sqnr == (None if expected is None else pytest.approx(expected, abs=0.26))


def test_a_tensor_of_which_nothing_is_left_is_the_worst() -> None:
    """Its ratio of energies may be the best: a few of the elements are thousands of times larger."""
    before = weights()
    before[np.random.default_rng(2).random(before.shape) < 0.04] *= 1e3
    data, report = netpack.pack_report({"mixed": before, "w": weights(64) * 300}, target=Target(bits=1), config=QUICK)
    assert report.worst == "mixed" == netpack.info(data).worst
    assert any("mixed" in note and "hardly anything" in note for note in report.notes)


def test_the_error_names_the_remedy_and_the_remedy_works() -> None:
    arrays = {"w": weights(24), "b": weights(10)}
    with pytest.raises(LimitError, match="ask for") as caught:
        netpack.pack(arrays, size=60, config=QUICK)
    least = int(re.findall(r"ask for (\d+)", str(caught.value))[0])
    assert len(netpack.pack(arrays, size=least, config=QUICK)) <= least
    small = {f"b{number}": np.random.default_rng(number).normal(size=200).astype(np.float32) for number in range(40)}
    with pytest.raises(LimitError, match="--fine-bits"):
        netpack.pack(small, size=8000)
    with pytest.raises(LimitError, match="ask for more bits"):
        netpack.pack({"w": weights(300)}, bits=0.001, config=QUICK)


def test_the_fit_finds_what_is_far_out() -> None:
    """Counts near 0 and some thousands of steps away: the tables must cost what the counts are worth."""
    rng = np.random.default_rng(9)
    near, far = rng.laplace(scale=2, size=50000), rng.normal(scale=8000, size=500)
    m = np.minimum(np.abs(np.rint(np.concatenate([near, far]))).astype(int), 30000)
    even, odd = np.bincount(m[m % 2 == 0] // 2, minlength=15001), np.bincount((m[m % 2 == 1] + 1) // 2, minlength=15001)
    odd[0] = even[0]
    guess = first_guess(15000, 1.0)
    density = fit_density(even.astype(float), odd.astype(float))
    assert density.size == guess.density.size == knots(30000).size + 1
    tables = type(guess)(15000, density, guess.shifts).tables
    bits = sum(float((counts * table.bits[15000:]).sum()) for counts, table in zip((even, odd), tables, strict=True))
    assert bits / (even.sum() + odd.sum()) < 3.4


def test_ordinary_networks_need_no_more_than_before() -> None:
    """The size that the first version of the format took, with what is told of each tensor."""
    tensors = [from_array(name, array) for name, array in make_weights().items()]
    data, report = pack_tensors(tensors, target=Target(sqnr=30), config=PackConfig(states=4))
    assert all(tensor.exact == 0 for tensor in report.tensors) and not report.notes
    assert len(data) <= 8896 + len(tensors)
