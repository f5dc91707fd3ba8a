"""Soft convex quantisation: projection, both solvers, their gradients, and the hull of near candidates."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")

from torch import Tensor  # noqa: E402

from shcodec.quantize.convex import combine, exact, gap, nearby_hull, one_hot, project_simplex, relaxed  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(5)


def problem(count: int, size: int, dim: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors, a codebook and the assignment of VQ, in float64."""
    vectors = scale * torch.randn(count, dim, dtype=torch.float64)
    codebook = torch.randn(size, dim, dtype=torch.float64)
    return vectors, codebook, one_hot(vectors, codebook)


def objective(vectors: Tensor, codebook: Tensor, target: Tensor, ridge: float, points: Tensor) -> Tensor:
    error = (vectors - combine(points, codebook)).square().sum(1)
    return error + ridge * (points - target).square().sum(1)


def by_nnls(vector: Tensor, codebook: Tensor, target: Tensor, ridge: float) -> np.ndarray:
    """Return an independent solution: Lawson and Hanson's active set, the sum held at 1 by a heavy row."""
    optimize = pytest.importorskip("scipy.optimize", reason="needs the extra 'bench'")
    size, heavy = len(codebook), 1e5
    rows = np.concatenate([codebook.numpy().T, math.sqrt(ridge) * np.eye(size), np.full((1, size), heavy)])
    right = np.concatenate([vector.numpy(), math.sqrt(ridge) * target.numpy(), [heavy]])
    found: np.ndarray = optimize.nnls(rows, right, maxiter=10_000)[0]
    return found


# -- projection -------------------------------------------------------------------------------------


def test_projection_lands_on_the_simplex_at_the_nearest_point() -> None:
    values = 2 * torch.randn(200, 9, dtype=torch.float64)
    points = project_simplex(values)
    assert points.min() >= 0
    assert torch.allclose(points.sum(1), torch.ones(200, dtype=torch.float64), atol=1e-12)
    # optimal: no corner of the simplex lies in the direction of what was cut off
    residual = values - points
    assert (residual.amax(1) - (residual * points).sum(1)).max() < 1e-12
    assert torch.allclose(project_simplex(points), points, atol=1e-12)
    assert torch.allclose(project_simplex(values + 1e3), points, atol=1e-9)


def test_gradient_of_the_projection() -> None:
    values = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(project_simplex, (values,))


# -- the scalable form ------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "dim"), [(24, 4), (5, 8)])
def test_relaxed_is_the_projected_solution_of_the_full_system(size: int, dim: int) -> None:
    vectors, codebook, target = problem(50, size, dim)
    ridge = 0.1
    system = codebook @ codebook.T + ridge * torch.eye(size, dtype=torch.float64)  # K x K, as the paper has it
    solution = torch.linalg.solve(system, (vectors @ codebook.T + ridge * target).T).T
    assert torch.allclose(relaxed(vectors, codebook, target, ridge), project_simplex(solution), atol=1e-10)
    own = codebook.expand(len(vectors), -1, -1)
    assert torch.allclose(relaxed(vectors, own, target, ridge), project_simplex(solution), atol=1e-10)


def test_gradient_of_the_scalable_form() -> None:
    vectors, codebook, target = problem(5, 8, 3)

    def output(v: Tensor, c: Tensor) -> Tensor:
        return combine(relaxed(v, c, target, 0.5), c)

    assert torch.autograd.gradcheck(output, (vectors.requires_grad_(), codebook.requires_grad_()))


def test_relaxed_in_float32_agrees_with_float64() -> None:
    vectors, codebook, target = problem(300, 64, 8)
    wide = combine(relaxed(vectors, codebook, target, 0.1), codebook)
    narrow = combine(relaxed(vectors.float(), codebook.float(), target.float(), 0.1), codebook.float())
    assert torch.allclose(narrow.double(), wide, atol=1e-4)


def test_relaxed_needs_a_ridge() -> None:
    with pytest.raises(ValueError, match="above 0"):
        relaxed(*problem(2, 4, 2), 0.0)


# -- the exact form ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 3.0])
@pytest.mark.parametrize(("size", "dim"), [(6, 8), (20, 3), (40, 8)])
def test_exact_agrees_with_an_independent_solver(size: int, dim: int, ridge: float) -> None:
    vectors, codebook, target = problem(12, size, dim, scale=1.5)
    points = exact(vectors, codebook, target, ridge)
    expected = np.stack([by_nnls(v, codebook, t, ridge) for v, t in zip(vectors, target, strict=True)])
    assert np.abs(points.numpy() - expected).max() < 1e-6
    ours = objective(vectors, codebook, target, ridge, points)
    theirs = objective(vectors, codebook, target, ridge, torch.from_numpy(expected / expected.sum(1, keepdims=True)))
    assert (ours - theirs).max() < 1e-9


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 0.1, 10.0])
def test_exact_meets_the_conditions_of_optimality(ridge: float) -> None:
    vectors, codebook, target = problem(400, 128, 16)
    points = exact(vectors, codebook, target, ridge)
    assert points.min() >= 0 and (points.sum(1) - 1).abs().max() < 1e-9
    slope = (combine(points, codebook) - vectors) @ codebook.T + ridge * (points - target)
    assert ((slope * points).sum(1) - slope.amin(1)).max() < 1e-7  # Frank and Wolfe's gap


@pytest.mark.parametrize(("size", "dim"), [(30, 4), (128, 16), (6, 12)])
def test_points_of_the_hull_are_reached_without_error(size: int, dim: int) -> None:
    _, codebook, _ = problem(1, size, dim)
    inside = project_simplex(torch.randn(60, size, dtype=torch.float64)) @ codebook
    points = exact(inside, codebook, one_hot(inside, codebook), 0.0)
    assert (combine(points, codebook) - inside).abs().max() < 1e-6


def test_outside_the_hull_the_nearest_point_of_the_hull_is_taken() -> None:
    vectors, codebook, target = problem(20, 12, 4, scale=3.0)
    points = exact(vectors, codebook, target, 0.0)
    expected = np.stack([by_nnls(v, codebook, t, 0.0) for v, t in zip(vectors, target, strict=True)])
    assert np.abs(combine(points, codebook).numpy() - expected @ codebook.numpy()).max() < 1e-6


def test_exact_with_codewords_of_each_vectors_own() -> None:
    vectors, codebook, target = problem(30, 10, 3)
    own = codebook.expand(len(vectors), -1, -1).clone()
    for ridge in (0.0, 0.2):
        shared = combine(exact(vectors, codebook, target, ridge), codebook)
        assert torch.allclose(combine(exact(vectors, own, target, ridge), own), shared, atol=1e-7)


@pytest.mark.parametrize("own", [False, True])
def test_gradient_of_the_exact_form(own: bool) -> None:
    vectors, codebook, target = problem(2, 5, 2)
    if own:
        codebook = codebook + 0.1 * torch.randn(2, 5, 2, dtype=torch.float64)
    target = 0.9 * target + 0.1 / 5

    def output(v: Tensor, c: Tensor, t: Tensor) -> Tensor:
        return exact(v, c, t, 0.3)

    inputs = tuple(t.detach().requires_grad_() for t in (vectors, codebook, target))
    assert torch.autograd.gradcheck(output, inputs, atol=1e-6)


def test_gradient_without_ridge_is_that_of_the_nearest_point_of_the_hull() -> None:
    vectors, codebook, target = problem(4, 6, 2, scale=2.0)

    def output(v: Tensor, c: Tensor) -> Tensor:
        return combine(exact(v, c, target, 0.0), c)

    assert torch.autograd.gradcheck(output, (vectors.requires_grad_(), codebook.requires_grad_()), eps=1e-4, atol=1e-3)


def test_exact_refuses_a_negative_ridge() -> None:
    with pytest.raises(ValueError, match="negative"):
        exact(*problem(2, 4, 2), -1.0)


# -- both -------------------------------------------------------------------------------------------


def test_the_gap_is_never_negative_and_closes_as_lambda_rises() -> None:
    vectors, codebook, _ = problem(200, 32, 4)
    gaps = [gap(vectors, codebook, ridge) for ridge in (0.1, 10.0, 1e4)]
    assert all(g.relaxed >= g.exact * (1 - 1e-6) for g in gaps)
    assert gaps[0].relaxed > 1.1 * gaps[0].exact
    assert gaps[2].relaxed == pytest.approx(gaps[2].exact, rel=1e-2)


def test_with_many_codewords_the_scalable_form_is_far_from_exact() -> None:
    """Its correction of the nearest codeword is spread over all K, and the projection takes most of that away."""
    vectors, codebook, target = problem(200, 128, 8, scale=0.5)
    between = gap(vectors, codebook, 0.1)
    nearest = float((combine(target, codebook) - vectors).square().sum(1).mean())
    assert between.exact_error < 0.05 * nearest
    assert 0.7 * nearest < between.relaxed_error < nearest


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("solver", [relaxed, exact])
def test_both_forms_on_an_accelerator(solver: object) -> None:
    vectors, codebook, target = problem(300, 40, 8)
    assert callable(solver)
    outputs = []
    for device in ("cpu", "cuda"):
        leaf = vectors.to(device).requires_grad_()
        points = solver(leaf, codebook.to(device), target.to(device), 0.1)
        combine(points, codebook.to(device)).square().sum().backward()
        assert leaf.grad is not None
        outputs += [points.detach().cpu(), leaf.grad.cpu()]
    assert torch.allclose(outputs[0], outputs[2], atol=1e-7) and torch.allclose(outputs[1], outputs[3], atol=1e-5)


@pytest.mark.parametrize("solver", [relaxed, exact])
def test_the_order_of_codewords_changes_nothing(solver: object) -> None:
    vectors, codebook, target = problem(100, 20, 4)
    order = torch.randperm(20)
    assert callable(solver)
    points, permuted = (
        solver(vectors, c, t, 0.1) for c, t in ((codebook, target), (codebook[order], target[:, order]))
    )
    assert torch.allclose(points[:, order], permuted, atol=1e-9)


def test_annealing_ends_in_the_winner() -> None:
    vectors = torch.randn(500, 4)
    words = vectors[:, None] + torch.randn(500, 16, 4)
    best = (words - vectors[:, None]).square().sum(2).argmin(1)
    winner = words[torch.arange(500), best]
    away = [
        float((nearby_hull(vectors, words, best, ridge) - winner).norm(dim=1).mean()) for ridge in (1, 30, 1e3, 1e6)
    ]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-4 < 0.1 < away[0]
    near = (nearby_hull(vectors, words, best, 1.0) - vectors).square().sum(1).mean()
    assert near < (winner - vectors).square().sum(1).mean()  # a combination does better than the winner alone
