"""Quantisers: lattices, index choice, entropy-constrained refinement, densities, and grouping as the codec does it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shcodec.nets.codec import first_half
from shcodec.nets.config import BandConfig, QuantiserConfig
from shcodec.quantize.codebooks import ClassCodebooks, Quantised
from shcodec.quantize.density import HyperHistograms, SmoothDensity, bounded
from shcodec.quantize.lattice import assign, distances, lattice, lloyd
from shcodec.symbols.ans import integer_table
from shcodec.symbols.classes import Order, class_coordinate, class_spread
from shcodec.symbols.tables import SymbolTables

CONFIG = QuantiserConfig(
    classes=64, skip=7, bands=(BandConfig(7, 19, 4, 48), BandConfig(20, 31, 2, 48), BandConfig(32, 63, 1, 63))
)
ONE_CLASS = QuantiserConfig(classes=1, skip=0, bands=(BandConfig(0, 0, 4, 32),))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


def make_books(config: QuantiserConfig = CONFIG) -> ClassCodebooks:
    return ClassCodebooks(config)


def residuals(count: int) -> tuple[Tensor, Tensor]:
    """Residuals of Laplacian shape whose spread is their class's, and the classes."""
    classes = torch.randint(0, 64, (count,))
    spread = torch.from_numpy(class_spread(range(64))).float()[classes]
    sign = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    return sign * torch.empty(count).exponential_() * spread / math.sqrt(2), classes


def quantise(books: ClassCodebooks, r: Tensor, classes: Tensor, **changes: object) -> Quantised:
    arguments: dict[str, object] = {"sigma": 4.0, "rate_weight": 0.13, "surrogate": "soft"}
    found: Quantised = books(r, classes, torch.full(r.shape, 0.01), **arguments | changes)
    return found


# -- lattices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "codewords"), [(1, 63), (1, 64), (2, 48), (2, 512), (4, 48), (4, 768)])
def test_lattice_holds_the_shortest_points_once_each(dim: int, codewords: int) -> None:
    points = lattice(dim, codewords)
    assert points.shape == (codewords, dim)
    assert len({tuple(row) for row in points.mul(1000).round().tolist()}) == codewords
    wider = lattice(dim, 2 * codewords + 1)
    assert points.norm(dim=1).max() <= wider.norm(dim=1).sort().values[codewords - 1] + 1e-5


@pytest.mark.parametrize(("dim", "codewords"), [(1, 1001), (2, 1500), (4, 3000)])
def test_lattice_cells_have_unit_volume(dim: int, codewords: int) -> None:
    radius = lattice(dim, codewords).norm(dim=1).max().item()
    ball = {1: 2 * radius, 2: math.pi * radius**2, 4: math.pi**2 / 2 * radius**4}[dim]
    assert ball == pytest.approx(codewords, rel=0.08)


@pytest.mark.parametrize(("dim", "codewords"), [(1, 63), (2, 301), (4, 500)])
def test_lattice_is_symmetric_in_all_whole_shells(dim: int, codewords: int) -> None:
    points = lattice(dim, codewords)
    inner = points[points.norm(dim=1) < points.norm(dim=1).max() - 1e-3]
    assert torch.cdist(inner, -inner).min(1).values.max() < 0.02  # lattice points are about 1 apart


def test_scalar_levels_are_sorted() -> None:
    assert torch.equal(lattice(1, 5)[:, 0], torch.arange(-2.0, 3.0))


def test_only_three_vector_lengths_have_a_lattice() -> None:
    with pytest.raises(ValueError, match="d = 3"):
        lattice(3, 10)


# -- index choice and refinement --------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_assign_equals_brute_force(dim: int) -> None:
    vectors, codebook = torch.randn(40_000, dim) * 2, torch.randn(20, dim) * 2  # more than one chunk
    bits, rows = torch.rand(3, 20) * 8, torch.randint(0, 3, (len(vectors),))
    chosen = assign(vectors, codebook, bits, rows, 0.2)
    cost = (vectors[:, None].double() - codebook.double()).square().sum(2) + 0.2 * bits.double()[rows]
    excess = cost.gather(1, chosen[:, None])[:, 0] - cost.min(1).values
    assert excess.max() < 1e-4  # float32 may swap what is equal to its last digits
    assert (chosen == cost.argmin(1)).float().mean() > 0.999
    assert len(assign(vectors[:0], codebook, bits, rows[:0], 0.2)) == 0


def test_distances_are_squared_distances_with_gradients() -> None:
    vectors, codebook = torch.randn(5, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    out = distances(vectors, codebook)
    assert torch.allclose(out, torch.cdist(vectors, codebook).square(), atol=1e-5)
    out.sum().backward()
    assert codebook.grad is not None
    assert torch.allclose(codebook.grad, 2 * (5 * codebook - vectors.sum(0)).detach(), atol=1e-4)


@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("rate_weight", [0.0, 0.13, 0.5])
def test_no_round_of_refinement_raises_the_cost(dim: int, rate_weight: float) -> None:
    """Cost D + lambda R, the prior's few virtual counts included in R as `refine` does."""
    vectors, rows = torch.randn(4000, dim), torch.randint(0, 2, (4000,))
    vectors = vectors * torch.tensor([0.6, 1.2])[rows][:, None]
    start, prior = lattice(dim, 24), torch.full((2, 24), 1 / 24)
    strength, costs = 2.0 * 24**0.5, []
    for rounds in range(6):
        codebook, counts = lloyd(vectors, rows, start, prior, prior, rate_weight=rate_weight, rounds=rounds)
        bits = -torch.log2(counts / counts.sum(1, keepdim=True))
        index = assign(vectors, codebook, bits, rows, rate_weight)
        distortion = (vectors - codebook[index]).double().square().sum()
        rate = bits[rows, index].double().sum() + strength * (prior * bits).double().sum()
        costs.append(float(distortion + rate_weight * rate))
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(costs)), costs
    assert costs[-1] < 0.995 * costs[0]


def test_refinement_leaves_unused_codewords_where_they_are() -> None:
    vectors = 0.1 * torch.randn(500, 2)
    start = torch.cat([lattice(2, 7), torch.tensor([[50.0, 50.0]])])
    prior = torch.full((1, 8), 1 / 8)
    codebook, counts = lloyd(vectors, torch.zeros(500).long(), start, prior, prior, rate_weight=0.1)
    assert torch.equal(codebook[7], start[7])
    assert counts[0, 7] == pytest.approx(2 * 8**0.5 / 8)
    assert counts.sum() == pytest.approx(500 + 2 * 8**0.5)


# -- codebooks --------------------------------------------------------------------------------------


def test_fit_from_latents_lowers_the_distortion_and_keeps_a_zero() -> None:
    r = torch.randn(8000) * 0.4 + 0.3
    books, classes = make_books(ONE_CLASS), torch.zeros(8000).long()
    lattice_error = (quantise(books, r, classes, hard=True).hard - r).square().mean()
    books.fit(r, classes, rate_weight=0.0, rounds=0, start="data")
    assert books.codebooks[0][0].abs().max() == 0
    data_error = (quantise(books, r, classes, hard=True).hard - r).square().mean()
    books.fit(r, classes, rate_weight=0.0, rounds=5)
    refined_error = (quantise(books, r, classes, hard=True, rate_weight=0.0).hard - r).square().mean()
    assert refined_error < data_error < lattice_error
    assert torch.allclose(books.histogram(0).sum(1), torch.ones(1))


def test_fit_from_fewer_vectors_than_codewords() -> None:
    books = make_books(ONE_CLASS)
    books.fit(torch.randn(12), torch.zeros(12).long(), rate_weight=0.1, start="data")
    assert torch.isfinite(books.codebooks[0]).all()


def test_fit_keeps_scalar_levels_sorted_with_their_histograms() -> None:
    config = QuantiserConfig(classes=1, skip=0, bands=(BandConfig(0, 0, 1, 9),))
    books = make_books(config)
    with torch.no_grad():
        books.codebooks[0].copy_(books.codebooks[0].flip(0))
    r = torch.randn(2000) - 2
    books.fit(r, torch.zeros(2000).long(), rate_weight=0.0, rounds=0)
    levels = books.codebooks[0].detach()[:, 0]
    assert torch.equal(levels, levels.sort().values)
    assert levels[books.histogram(0)[0].argmax()] == -2


def test_unused_codewords_are_reseeded_near_recent_vectors() -> None:
    books = make_books()
    r, classes = residuals(20_000)
    for _ in range(3):
        quantise(books, r, classes)
    counts = books.get_buffer("counts0")
    scalars = books.codebooks[2].detach().clone()
    counts[:, [5, 9]] = 0
    books.get_buffer("counts2")[:, 3] = 0
    assert books.reseed(torch.Generator().manual_seed(1)) == 2
    last = books.get_buffer("last0")
    assert torch.cdist(books.codebooks[0][[5, 9]], last).min(1).values.max() < 0.1
    assert counts[:, [5, 9]].min() > 0
    assert torch.equal(books.codebooks[2], scalars)  # levels of scalars keep their order and their places
    assert books.reseed(torch.Generator().manual_seed(1)) == 0


def test_codewords_that_only_soft_assignments_touch_are_reseeded() -> None:
    books = make_books(ONE_CLASS)
    counts = books.get_buffer("counts0")
    counts.fill_(10_000.0)
    counts[:, 4:14] = 0.3  # what far codewords gather from thousands of soft assignments
    assert books.reseed(torch.Generator().manual_seed(1)) == 8  # at most eight at a time
    assert books.reseed(torch.Generator().manual_seed(1)) == 2
    assert books.reseed(torch.Generator().manual_seed(1)) == 0


def test_usage_tells_a_spread_histogram_from_a_narrow_one() -> None:
    books = make_books(ONE_CLASS)
    counts = books.get_buffer("counts0")
    counts.fill_(1.0)
    assert books.usage() == pytest.approx((1.0, 1.0))
    counts.zero_()[0, 0] = 1
    assert books.usage() == pytest.approx((1 / 32, 1 / 32))


def test_histograms_learn_the_counts_only_in_training() -> None:
    books, r, classes = make_books(ONE_CLASS), torch.zeros(4000), torch.zeros(4000).long()
    before = books.histogram(0).clone()
    books.eval()
    quantise(books, r, classes)
    assert torch.equal(books.histogram(0), before)
    books.train()
    for _ in range(20):
        quantise(books, r, classes, sigma=40.0)
    assert books.histogram(0)[0, 0] > 0.95


@pytest.mark.parametrize("surrogate", ["soft", "straight-through", "noise", "convex"])
def test_surrogates_pass_gradients_to_residuals(surrogate: str) -> None:
    books = make_books()
    r, classes = residuals(3000)
    r.requires_grad_()
    out = quantise(books, r, classes, surrogate=surrogate)
    coded = classes >= CONFIG.skip
    assert not out.value[~coded].any() and not out.hard[~coded].any()
    if surrogate == "straight-through":
        assert torch.allclose(out.value, out.hard, atol=1e-4)
    elif surrogate == "noise":
        error, radius = (out.value - r)[coded].detach(), (out.hard - r)[coded].detach()
        assert error.norm() == pytest.approx(float(radius.norm()), rel=1e-4)
    else:
        assert not torch.equal(out.value, out.hard)
    (out.value.square().sum() + out.bits + out.codebook_loss).backward()
    assert r.grad is not None
    assert torch.isfinite(r.grad).all()
    assert (r.grad[coded] != 0).float().mean() > 0.9
    assert all(codebook.grad is not None and codebook.grad.any() for codebook in books.codebooks)


@pytest.mark.parametrize("surrogate", ["soft", "convex"])
def test_soft_becomes_hard_as_sigma_rises(surrogate: str) -> None:
    books = make_books().eval()
    r, classes = residuals(4000)
    gaps, rates = [], []
    for sigma in (1.0, 8.0, 64.0, 4000.0):
        out = quantise(books, r, classes, sigma=sigma, surrogate=surrogate)
        gaps.append(float((out.value - out.hard).detach().square().mean()))
        rates.append(abs(float((out.bits - out.hard_weighted).detach())))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-3
    assert rates[-1] < 0.01 * rates[0]


def test_hard_phase_gives_gradients_to_codewords_alone() -> None:
    books = make_books()
    r, classes = residuals(3000)
    r.requires_grad_()
    out = quantise(books, r, classes, hard=True)
    assert torch.equal(out.value.detach(), out.hard)
    assert not out.bits.requires_grad
    out.value.square().sum().backward()
    assert r.grad is None or not r.grad.any()
    assert all(codebook.grad is not None for codebook in books.codebooks)


def test_hard_bits_are_those_of_the_histograms() -> None:
    books = make_books().eval()
    r, classes = residuals(2000)
    out = quantise(books, r, classes, hard=True)
    expected, symbol_count = 0.0, 0
    for band, index, rows in books.vectors(classes):
        vectors = torch.cat([r, torch.zeros(1)])[index]
        bits = -torch.log2(books.histogram(band))[rows]
        cost = (vectors[:, None] - books.codebooks[band].detach()).square().sum(2) + 0.13 * bits
        expected += float(bits.gather(1, cost.argmin(1, keepdim=True)).sum())
        symbol_count += len(index)
    assert out.symbols == symbol_count
    assert float(out.hard_bits) == pytest.approx(expected, rel=1e-3)
    assert float(out.hard_weighted) == pytest.approx(0.01 * float(out.hard_bits), rel=1e-4)


def test_nothing_coded_is_no_rate() -> None:
    out = quantise(make_books(), torch.randn(50), torch.zeros(50).long())
    assert out.symbols == 0 and float(out.bits) == 0 and not out.value.any()


# -- grouping ---------------------------------------------------------------------------------------


def uniform_tables(*shape: int) -> np.ndarray:
    return np.broadcast_to(integer_table(np.ones(shape[-1])), shape)


def codec_tables(config: QuantiserConfig, *, hyper: bool) -> SymbolTables:
    """Return the codec's tables for the same bands, with made-up contents."""
    tensors = {
        "latent.channels": np.array([6], np.int32),
        "class.count": np.array([config.classes], np.int32),
        "class.bands": np.array([band.first for band in config.bands], np.int32),
    }
    for i, band in enumerate(config.bands):
        tensors[f"codebook.{i}"] = np.zeros((band.codewords, band.dim), np.float16)
        tensors[f"histogram.{i}"] = uniform_tables(band.last - band.first + 1, band.codewords)
    if hyper:
        tensors["hyper.bank"] = uniform_tables(1, 2, 3)
        tensors["class_map.weight"] = np.zeros((96, 2), np.int8)
        tensors["class_map.shift"] = np.zeros(6, np.uint8)
        tensors["class_map.bias"] = np.zeros((17, 6), np.int32)
    return SymbolTables(tensors)


@given(seed=st.integers(0, 10**6), height=st.integers(1, 9), width=st.integers(1, 9), high=st.integers(1, 64))
@settings(deadline=None, max_examples=60)
def test_training_groups_elements_as_the_codec_does(seed: int, height: int, width: int, high: int) -> None:
    classes = np.random.default_rng(seed).integers(0, high, (6, height, width)).astype(np.uint8)
    tables, books = codec_tables(CONFIG, hyper=True), make_books()
    first = first_half(6, height, width)
    for order, half in zip(tables.orders(classes), (first, ~first), strict=True):
        flat = torch.from_numpy(classes).long()
        places = torch.nonzero(half.flatten())[:, 0]
        check_groups(books, order, flat[half], places)


def test_one_class_per_picture_keeps_the_scan() -> None:
    config = QuantiserConfig(classes=4, skip=0, bands=(BandConfig(0, 3, 4, 16),))
    classes = np.full((6, 3, 3), 2, np.uint8)
    (order,) = codec_tables(config, hyper=False).orders(classes)
    assert np.array_equal(order.elements, np.arange(54))
    check_groups(make_books(config), order, torch.from_numpy(classes).long().flatten(), torch.arange(54))


def check_groups(books: ClassCodebooks, order: Order, chosen: Tensor, places: Tensor) -> None:
    """Compare elements, their order, and the class of every vector."""
    elements, classes = [], []
    for band, index, rows in books.vectors(chosen):
        flat = index.flatten()
        elements += places[flat[flat < len(chosen)]].tolist()
        classes += (rows + books.config.bands[band].first).tolist()
    assert elements == order.elements.tolist()
    assert classes == [k for k, number in order.numbers for _ in range(number)]


# -- densities --------------------------------------------------------------------------------------


def test_smooth_density_sums_to_one_over_integer_offsets() -> None:
    density = SmoothDensity(64)
    with torch.no_grad():
        density.weight.normal_()
        density.wide.normal_(0, 0.3)
    coordinate = torch.linspace(-3, 66, 40)
    offsets = torch.arange(-3000, 3001).float()
    for shift in (0.0, 0.37):
        p = torch.exp2(-density((offsets + shift).expand(40, -1), coordinate[:, None].expand(-1, 6001)))
        assert torch.allclose(p.sum(1), torch.ones(40), atol=2e-3)


def test_smooth_density_is_cheapest_at_the_class_of_the_spread() -> None:
    density = SmoothDensity(64)
    for spread in (0.5, 3.0, 20.0):
        r = torch.randn(20_000) * spread
        own = float(class_coordinate(np.array([spread]))[0])
        costs = {k: float(density(r, torch.full_like(r, own + k)).detach().mean()) for k in (-12, 0, 12)}
        assert costs[0] < min(costs[-12], costs[12])


def test_bounded_lets_only_gradients_back_inside() -> None:
    x = torch.tensor([-1.0, -1.0, 0.5, 2.0, 2.0], requires_grad=True)
    out = bounded(x, 0.0, 1.0)
    out.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert out.tolist() == [0, 0, 0.5, 1, 1]
    # descent on a positive gradient lowers x: from below that leads away, from above back
    assert x.grad is not None
    assert x.grad.tolist() == [0, -1, 1, 1, 0]


def test_hyper_histograms_interpolate_between_integers() -> None:
    histograms = HyperHistograms(2, 3, 4)
    with torch.no_grad():
        histograms.logits.normal_()
    p = torch.softmax(histograms.logits.detach(), -1)
    z = torch.arange(-4.0, 4.0).view(1, 1, 1, 8).expand(2, 3, 1, 8)
    beta = torch.tensor([0, 255])
    bits = histograms(z, beta)
    assert torch.allclose(torch.exp2(-bits)[:, :, 0], p[:, :, :8], atol=1e-5)
    middle = torch.exp2(-histograms(z + 0.5, beta))[:, :, 0]
    assert torch.allclose(middle[..., :7], (p[..., :7] + p[..., 1:8]) / 2, atol=1e-4)
    assert torch.isfinite(histograms(z * 100, beta)).all()
