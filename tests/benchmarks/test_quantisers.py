"""Quantisers with one interface: values, gradients, symbols, and streams that decode to what was written."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT
from scripts import importable

torch = pytest.importorskip("torch", reason="needs the extra 'train'")

from torch import Tensor  # noqa: E402

from shcodec.quantize.convex import combine, exact, one_hot  # noqa: E402

with importable(ROOT / "benchmarks" / "quantisers"):
    from baselines import MovingAverage, Residual, SoftToHard, StraightThrough, VectorQuantiser
    from sparse import Convex, from_symbols, sparsify, to_symbols
    from streams import ChainLayout, SparseLayout, StreamTables

SIZE, DIM = 24, 4


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(7)


def every_quantiser() -> dict[str, VectorQuantiser]:
    return {
        "soft": SoftToHard(SIZE, DIM),
        "straight-through": StraightThrough(SIZE, DIM),
        "ema": MovingAverage(SIZE, DIM),
        "residual": Residual(SIZE, DIM, levels=3),
        "convex": Convex(SIZE, DIM),
        "convex, coded": Convex(SIZE, DIM, support=3, units=8),
        "convex-exact": Convex(SIZE, DIM, converged=True),
        "convex-exact, coded": Convex(SIZE, DIM, converged=True, support=3, units=8),
    }


@pytest.fixture(params=list(every_quantiser()))
def quantiser(request: pytest.FixtureRequest) -> VectorQuantiser:
    made = every_quantiser()[request.param]
    made.start(torch.randn(500, DIM))
    return made


# -- interface --------------------------------------------------------------------------------------


def test_values_and_gradients(quantiser: VectorQuantiser) -> None:
    vectors = torch.randn(300, DIM, requires_grad=True)
    for progress in (0.0, 1.0):
        out = quantiser(vectors, progress)
        assert out.value.shape == vectors.shape
        assert torch.allclose(out.usage.sum(1), torch.ones(len(out.usage)), atol=1e-4)
        vectors.grad = None
        (out.value.square().sum() + out.loss).backward()
        assert torch.isfinite(vectors.grad).all() and vectors.grad.any()
    learned = [p for p in quantiser.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.any() for p in learned)


def test_a_stream_decodes_to_the_symbols_it_was_made_of(quantiser: VectorQuantiser) -> None:
    symbols = quantiser.symbols(torch.randn(400, DIM)).numpy()
    assert symbols.shape[1] == quantiser.layout.columns
    tables = StreamTables.fit(quantiser.layout, quantiser.symbols(torch.randn(900, DIM)).numpy())
    data = tables.encode(symbols)
    assert np.array_equal(tables.decode(data, len(symbols)), symbols)
    assert 0 < len(data) < 400 * symbols.shape[1]
    assert tables.decode(tables.encode(symbols[:0]), 0).shape == (0, symbols.shape[1])


def test_what_is_coded_is_near_what_was_to_be_coded(quantiser: VectorQuantiser) -> None:
    vectors = 0.5 * torch.randn(300, DIM)
    coded = quantiser.values(quantiser.symbols(vectors))
    nearest = (vectors[:, None] - quantiser_words(quantiser)).square().sum(2).amin(1).mean()
    assert (coded - vectors).square().sum(1).mean() < 1.2 * nearest


def quantiser_words(quantiser: VectorQuantiser) -> Tensor:
    words = quantiser._books()[0].codebook if isinstance(quantiser, Residual) else quantiser.codebook
    return words.detach()


def test_soft_assignments_end_hard() -> None:
    soft = SoftToHard(SIZE, DIM, sigma=(0.5, 1e5))
    vectors = torch.randn(400, DIM)
    soft.start(vectors)
    away = [(soft(vectors, p).value - soft.values(soft.symbols(vectors))).norm(dim=1).mean() for p in (0.0, 0.5, 1.0)]
    assert away[0] > away[1] > away[2]
    assert away[2] < 1e-2


def test_dead_codewords_of_moving_averages_come_back() -> None:
    book = MovingAverage(SIZE, DIM)
    book.start(torch.randn(100, DIM))
    with torch.no_grad():
        book.codebook[:12] += 100
        book.sums.copy_(book.codebook)
    for _ in range(400):
        book(torch.randn(200, DIM))
    assert book.codebook.abs().max() < 10
    assert (book.eval()(torch.randn(5000, DIM)).usage > 0).all()


def test_moving_averages_reach_the_means_of_their_vectors() -> None:
    book = MovingAverage(2, 1, decay=0.9)
    with torch.no_grad():
        book.start(torch.tensor([[-1.0], [1.0]]))
        book.sums.copy_(torch.tensor([[-1.0], [1.0]]))
        book.codebook.copy_(book.sums)
    vectors = torch.tensor([[-3.0], [-2.0], [5.0], [6.0]])
    for _ in range(200):
        book(vectors)
    assert book.codebook[:, 0].tolist() == pytest.approx([-2.5, 5.5], abs=1e-3)


def test_every_level_of_a_residual_quantiser_lowers_the_error() -> None:
    vectors = torch.randn(3000, DIM)
    book = Residual(SIZE, DIM, levels=3)
    book.start(vectors)
    for _ in range(30):
        book(vectors)
    symbols = book.eval().symbols(vectors)
    errors = []
    for level in range(1, 4):
        parts = [b.values(symbols[:, [i]]) for i, b in enumerate(book._books()[:level])]
        errors.append(float((vectors - torch.stack(parts).sum(0)).square().mean()))
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]
    assert torch.allclose(book(vectors).value, book.values(symbols), atol=1e-5)


# -- sparse points of the simplex -------------------------------------------------------------------


@pytest.mark.parametrize(("support", "units"), [(1, 1), (1, 8), (2, 4), (4, 16), (24, 24), (32, 32)])
def test_sparse_points_survive_their_symbols(support: int, units: int) -> None:
    vectors, codebook = torch.randn(300, DIM), torch.randn(SIZE, DIM)
    points = sparsify(
        exact(vectors, codebook, one_hot(vectors, codebook), 0.1), vectors, codebook, support=support, units=units
    )
    assert torch.allclose(points.sum(1), torch.ones(300))
    assert ((points > 0).sum(1) <= support).all()
    assert torch.equal(points * units, (points * units).round())
    layout = SparseLayout(SIZE, support, units)
    symbols = to_symbols(points, layout)
    assert torch.equal(from_symbols(symbols, layout), points)
    tables = StreamTables.fit(layout, symbols.numpy())
    assert np.array_equal(tables.decode(tables.encode(symbols.numpy()), 300), symbols.numpy())


def test_more_corners_and_units_lower_the_error() -> None:
    vectors, codebook = 0.7 * torch.randn(1000, DIM), torch.randn(SIZE, DIM)
    points = exact(vectors, codebook, one_hot(vectors, codebook), 0.01)
    errors = []
    for support, units in ((1, 1), (2, 4), (3, 8), (5, 32)):
        coded = sparsify(points, vectors, codebook, support=support, units=units)
        errors.append(float((combine(coded, codebook) - vectors).square().mean()))
    assert errors == sorted(errors, reverse=True)
    whole = float((combine(points, codebook) - vectors).square().mean())
    assert errors[-1] < 1.3 * whole + 1e-3


# -- streams ----------------------------------------------------------------------------------------


def test_the_order_of_corners_costs_nothing() -> None:
    """Uniform pairs out of K take log2 of the number of pairs, not of ordered pairs."""
    rng = np.random.default_rng(1)
    pairs = np.sort(np.stack([rng.permutation(16)[:2] for _ in range(20_000)]), 1)
    symbols = np.concatenate([np.ones((len(pairs), 1), np.int64), pairs, np.zeros((len(pairs), 1), np.int64)], 1)
    tables = StreamTables.fit(SparseLayout(16, 2, 2), symbols)
    bits = 8 * len(tables.encode(symbols)) / len(pairs)
    assert bits == pytest.approx(np.log2(16 * 15 / 2), rel=0.01)


def test_a_context_pays_where_levels_depend_on_each_other() -> None:
    rng = np.random.default_rng(2)
    first = rng.integers(0, 16, 20_000)
    symbols = np.stack([first, (first + rng.integers(0, 2, len(first))) % 16], 1)
    data = StreamTables.fit(ChainLayout(16, 2), symbols).encode(symbols)
    assert 8 * len(data) / len(first) == pytest.approx(5, rel=0.01)
