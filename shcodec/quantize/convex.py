"""Soft convex quantisation (Gautam et al. 2023, arXiv 2310.03004): the best convex combination of codewords.

VQ replaces a vector z by its nearest codeword. SCQ replaces it by C p, where p is a point of the simplex:

    minimise |z - C p|^2 + lambda |p - p~|^2  over  p >= 0, sum p = 1

with p~ the one-hot assignment of VQ. `exact` solves that programme; `relaxed` is the paper's scalable form, the
unconstrained solution projected on the simplex. Both are differentiable in vectors and codebook. Here vectors and
codewords are rows: P is (n, K), the codebook (K, d), and what is quantised P @ codebook.

P is no index but K real numbers, so that this alone is not a quantiser: `benchmarks/quantisers` makes it one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from shcodec.quantize.lattice import distances

INTERIOR_STEPS = 60  # at most; about twenty are needed
COMPLEMENTARITY = 1e-10  # where the interior point method ends, relative to 1 + |z|^2
SMALLEST = 1e-8  # stands for lambda = 0 on the face of the solution, relative to the mean squared length of codewords


class _Projection(torch.autograd.Function):
    """Rows to their nearest points of the simplex; the gradient is projected on the face they land on."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Project values (..., K)."""
        values = values - values.amax(-1, keepdim=True)  # changes nothing but the rounding of the sums
        falling = values.sort(-1, descending=True).values
        excess = falling.cumsum(-1) - 1
        number = torch.arange(1, values.shape[-1] + 1, device=values.device, dtype=values.dtype)
        support = (falling * number > excess).sum(-1, keepdim=True).clamp(min=1)
        points = (values - excess.gather(-1, support - 1) / support).clamp(min=0)
        ctx.save_for_backward(points > 0)
        return points

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Return the gradient of the values."""
        (support,) = ctx.saved_tensors
        return _on_face(grad, support)


def project_simplex(values: Tensor) -> Tensor:
    """Project every row on the simplex, by Euclidean distance (Held, Wolfe and Crowder 1974), by sorting.

    Args:
        values: (..., K).

    Returns:
        (..., K), rows that are not negative and sum to 1; differentiable. O(K log K) a row.
    """
    return _Projection.apply(values)  # type: ignore[no-any-return,no-untyped-call]


def one_hot(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return P~, the assignment of VQ, (n, K): of vectors (n, d) to a codebook (K, d), without gradient."""
    with torch.no_grad():
        return F.one_hot(distances(vectors, codebook).argmin(1), len(codebook)).to(vectors.dtype)


def combine(weights: Tensor, codebook: Tensor) -> Tensor:
    """Combine codewords (K, d), or (n, K, d) of each vector's own, by weights (n, K) into (n, d)."""
    return weights @ codebook if codebook.dim() == 2 else (weights[:, None] @ codebook)[:, 0]


def relaxed(vectors: Tensor, codebook: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Return the scalable form: (C'C + lambda I)^-1 (C'z + lambda p~), projected on the simplex.

    The K x K system is never built: by the push-through identity its solution is
    p~ + C'(C C' + lambda I)^-1 (z - C p~), with a matrix of d x d. For n vectors it costs
    O(K d^2 + d^3 + n K (d + log K)), all of it in matrix products but for the sort.

    Args:
        vectors: (n, d).
        codebook: (K, d), or (n, K, d) for codewords of each vector's own.
        target: (n, K), p~.
        ridge: lambda > 0; the larger, the nearer to p~.

    Returns:
        P, (n, K).

    Raises:
        ValueError: lambda is not above 0.
    """
    if not ridge > 0:
        raise ValueError(f"lambda = {ridge}: the scalable form needs it above 0")
    missing = vectors - combine(target, codebook)
    gram = codebook.mT @ codebook + ridge * torch.eye(codebook.shape[-1], dtype=codebook.dtype, device=codebook.device)
    # not checked for singularity, which lambda excludes and an accelerator would have to wait for
    if codebook.dim() == 2:
        step = torch.linalg.solve_ex(gram, missing.mT).result.mT
    else:
        step = torch.linalg.solve_ex(gram, missing[:, :, None]).result[:, :, 0]
    return project_simplex(target + _correlate(step, codebook))


def nearby_hull(vectors: Tensor, words: Tensor, best: Tensor, ridge: float) -> Tensor:
    """Return `relaxed` over a few candidates of each vector, with the winner as the origin.

    A convex combination does not depend on the origin, but the scalable form does; with the winner at 0 it bends
    p~ by differences between neighbours, not by the place in the codebook.

    Args:
        vectors: (n, d).
        words: (n, m, d) candidates.
        best: (n,) which of them is p~.
        ridge: lambda > 0.

    Returns:
        (n, d), which goes to the winner as lambda rises.
    """
    winner = words.gather(1, best[:, None, None].expand(-1, 1, words.shape[2]))
    target = F.one_hot(best, words.shape[1]).to(vectors.dtype)
    weights = relaxed(vectors - winner[:, 0], words - winner, target, ridge)
    return combine(weights, words)


def exact(vectors: Tensor, codebook: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Return the convex programme, solved to convergence; gradients by implicit differentiation on the active face.

    An interior point method in float64 finds the face, a linear system on that face the solution. A step costs
    O(n (K d^2 + d^3)), as the K x K system is inverted through a d x d one, and about twenty are needed. For lambda = 0
    p is not unique (with K > d + 1 codewords), but C p is, and its gradient is that of the nearest point of the hull.

    Args:
        vectors: (n, d).
        codebook: (K, d), or (n, K, d) for codewords of each vector's own.
        target: (n, K), p~.
        ridge: lambda >= 0.

    Returns:
        P, (n, K), in the type of the vectors.

    Raises:
        ValueError: lambda is negative.
    """
    if not ridge >= 0:
        raise ValueError(f"lambda = {ridge} is negative")
    points: Tensor = _Exact.apply(vectors, codebook, target, ridge)  # type: ignore[no-untyped-call]
    return points


@dataclass(frozen=True)
class Gap:
    """Means over vectors of what `relaxed` loses against `exact`.

    Attributes:
        relaxed: |z - C p|^2 + lambda |p - p~|^2 of the scalable form.
        exact: the same, at its minimum.
        relaxed_error: |z - C p|^2 of the scalable form.
        exact_error: |z - C p|^2 at the minimum.
    """

    relaxed: float
    exact: float
    relaxed_error: float
    exact_error: float


@torch.no_grad()
def gap(vectors: Tensor, codebook: Tensor, ridge: float) -> Gap:
    """Compare both forms on vectors (n, d) with a codebook (K, d)."""
    vectors, codebook = vectors.double(), codebook.double()
    target = one_hot(vectors, codebook)
    figures = []
    for points in (relaxed(vectors, codebook, target, ridge), exact(vectors, codebook, target, ridge)):
        error = (vectors - combine(points, codebook)).square().sum(1)
        figures.append((float((error + ridge * (points - target).square().sum(1)).mean()), float(error.mean())))
    return Gap(figures[0][0], figures[1][0], figures[0][1], figures[1][1])


class _Exact(torch.autograd.Function):
    """The minimiser; see `exact`."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, codebook: Tensor, target: Tensor, ridge: float) -> Tensor:
        """Return P (n, K) of vectors (n, d), a codebook (K, d) or (n, K, d), and a target (n, K)."""
        z, words, goal = vectors.double(), codebook.double(), target.double()
        scale = float(words.square().sum(-1).mean()) + 1e-30
        points, slack = _Programme(z, words, goal, ridge).solve()
        if ridge == 0:
            ridge, goal = SMALLEST * scale, points
        points = _polish(_Programme(z, words, goal, ridge), points, points * scale > slack)
        ctx.save_for_backward(words, z - combine(points, words), points)
        ctx.ridge, ctx.types = ridge, (vectors.dtype, codebook.dtype, target.dtype)
        return points.to(vectors.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Differentiate (C'C + lambda I) p + mu 1 = C'z + lambda p~ and sum p = 1 on the face of the solution."""
        codebook, missing, points = ctx.saved_tensors
        support, kinds = points > 0, ctx.types
        w, inner = _solve_on_face(codebook, support, ctx.ridge, grad.double())
        if codebook.dim() == 2:
            of_codebook = w.mT @ missing - points.mT @ inner
        else:
            of_codebook = w[:, :, None] * missing[:, None] - points[:, :, None] * inner[:, None]
        return inner.to(kinds[0]), of_codebook.to(kinds[1]), (ctx.ridge * w).to(kinds[2]), None


@dataclass(frozen=True)
class _Programme:
    """Convex programmes of n vectors, in float64."""

    vectors: Tensor  # (n, d)
    codebook: Tensor  # (K, d) or (n, K, d)
    target: Tensor  # (n, K)
    ridge: float

    def rows(self, index: Tensor) -> _Programme:
        """Return the programmes of some of the vectors."""
        words = self.codebook if self.codebook.dim() == 2 else self.codebook[index]
        return _Programme(self.vectors[index], words, self.target[index], self.ridge)

    def slope(self, points: Tensor) -> Tensor:
        """Return half the gradient of the objective, (n, K)."""
        missing = combine(points, self.codebook) - self.vectors
        return _correlate(missing, self.codebook) + self.ridge * (points - self.target)

    def solve(self) -> tuple[Tensor, Tensor]:
        """Run Mehrotra's interior point method, feasible from the start; what has converged leaves the batch.

        Returns:
            P (n, K) and the multipliers of P >= 0, (n, K).
        """
        points = torch.full_like(self.target, 1 / self.target.shape[1])
        slope = self.slope(points)
        slack = slope - slope.amin(1, keepdim=True) + slope.std(1, keepdim=True) + 1e-12
        tolerance = COMPLEMENTARITY * (1 + self.vectors.square().sum(1))
        left = torch.arange(len(points), device=points.device)
        for _ in range(INTERIOR_STEPS):
            left = left[(points[left] * slack[left]).sum(1) > tolerance[left]]
            if not len(left):
                break
            points[left], slack[left] = self.rows(left).improve(points[left], slack[left])
        return points, slack

    def improve(self, points: Tensor, slack: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step, predictor and corrector, from P and multipliers (n, K), all above 0, to the next ones."""
        system = _System.of(self.codebook, self.ridge + slack / points)
        product = points * slack
        mean = product.mean(1, keepdim=True)
        toward = system.direction(points, slack, -product)
        length = _longest(points, slack, *toward)
        ahead = ((points + length * toward[0]) * (slack + length * toward[1])).mean(1, keepdim=True)
        aim = mean * (ahead / mean) ** 3
        toward = system.direction(points, slack, aim - product - length**2 * toward[0] * toward[1])
        length = (0.995 * _longest(points, slack, *toward)).clamp(max=1)
        return points + length * toward[0], slack + length * toward[1]


@dataclass(frozen=True)
class _System:
    """C'C + diag(w) of every vector, inverted through a d x d matrix."""

    codebook: Tensor  # (K, d) or (n, K, d)
    inverse: Tensor  # (n, K) 1 / w
    inner: Tensor  # (n, d, d) Cholesky factor of I + C diag(1 / w) C'
    of_ones: Tensor  # (n, K) the solution for a right side of ones

    @staticmethod
    def of(codebook: Tensor, diagonal: Tensor) -> _System:
        """Factor the system for a diagonal w (n, K) above 0."""
        inverse = 1 / diagonal
        inner = _outer(inverse, codebook)
        inner.diagonal(dim1=1, dim2=2).add_(1)
        system = _System(codebook, inverse, torch.linalg.cholesky_ex(inner).L, inverse)
        return _System(codebook, inverse, system.inner, system.solve(torch.ones_like(inverse)))

    def solve(self, right: Tensor) -> Tensor:
        """Return the solutions (n, K) for right sides (n, K)."""
        scaled = self.inverse * right
        inner = torch.cholesky_solve(combine(scaled, self.codebook)[:, :, None], self.inner)[:, :, 0]
        return scaled - self.inverse * _correlate(inner, self.codebook)

    def direction(self, points: Tensor, slack: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step of P and multipliers that change their products by `change`, to first order; sum P stays."""
        free = self.solve(change / points)
        step = free - self.of_ones * (free.sum(1, keepdim=True) / self.of_ones.sum(1, keepdim=True))
        return step, (change - slack * step) / points


def _longest(points: Tensor, slack: Tensor, of_points: Tensor, of_slack: Tensor) -> Tensor:
    """Return the steps (n, 1) that keep everything above 0, at most 1."""
    fall = torch.maximum((-of_points / points).amax(1), (-of_slack / slack).amax(1))
    return (1 / fall.clamp(min=1e-300)).clamp(max=1)[:, None]


def _polish(problem: _Programme, points: Tensor, support: Tensor) -> Tensor:
    """Solve the programme on the face that the interior point method found, corners with p < 0 taken away.

    Args:
        problem: lambda > 0.
        points: (n, K), kept (cut at 0) where no face will do.
        support: (n, K) corners of the face.
    """
    best = F.one_hot(points.argmax(1), points.shape[1]).bool()
    for _ in range(4):
        support = support | best
        start = points * support
        start = start / start.sum(1, keepdim=True)
        found = start - _solve_on_face(problem.codebook, support, problem.ridge, problem.slope(start))[0]
        if not (found < 0).any():
            break
        support = support & (found > 0)
    return torch.where((found < 0).any(1, keepdim=True), start, found)


def _solve_on_face(codebook: Tensor, support: Tensor, ridge: float, right: Tensor) -> tuple[Tensor, Tensor]:
    """Solve (C'C + lambda I) w + mu 1 = right, sum w = 0, on the corners of a face: w (n, K), and C w (n, d)."""
    right = _on_face(right, support)
    inner = torch.linalg.solve(_hessian(codebook, support, ridge), combine(right, codebook) / ridge)
    return _on_face((right - _correlate(inner, codebook)) / ridge, support), inner


def _outer(weights: Tensor, codebook: Tensor) -> Tensor:
    """Return C diag(w) C' of every vector, (n, d, d), for weights (n, K)."""
    if codebook.dim() == 3:
        return (codebook * weights[:, :, None]).mT @ codebook
    size, dim = codebook.shape
    products = (codebook[:, :, None] * codebook[:, None]).view(size, dim * dim)
    return (weights @ products).view(-1, dim, dim)


def _hessian(codebook: Tensor, support: Tensor, ridge: float) -> Tensor:
    """Return I + C Pi C' / lambda, with Pi the projection on the directions of a face, (n, d, d)."""
    mask = support.to(codebook.dtype)
    number = mask.sum(1)
    centre = combine(mask / number[:, None], codebook)
    spread = _outer(mask, codebook) - number[:, None, None] * centre[:, :, None] * centre[:, None]
    return torch.eye(centre.shape[1], dtype=spread.dtype, device=spread.device) + spread / ridge


def _correlate(y: Tensor, codebook: Tensor) -> Tensor:
    """Return C'y, (n, K), for y (n, d) and a codebook (K, d) or (n, K, d)."""
    return y @ codebook.mT if codebook.dim() == 2 else (codebook @ y[:, :, None])[:, :, 0]


def _on_face(values: Tensor, support: Tensor) -> Tensor:
    """Project rows on the directions of the face with these corners: sum 0, and 0 elsewhere."""
    kept = values * support
    return (kept - kept.sum(-1, keepdim=True) / support.sum(-1, keepdim=True)) * support
