"""Codebooks refined by Lloyd rounds against codebooks annealed from soft to hard, on made-up weights and scalars.

    python benchmarks/netpack/codebooks.py --json benchmarks/netpack/codebooks.json

Both minimise squared error + lambda * bits from the same start, the multiples of a step; the annealing ends with the
same hard rounds. What counts is the distance from the Gaussian rate-distortion bound, 6.02 dB a bit.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RATE_WEIGHT = 0.15  # squared steps a bit
ROUNDS = 30
HARD_ROUNDS = 5  # after the annealing
STEPS = (0.25, 0.7, 1.4)  # in standard deviations


@dataclass(frozen=True)
class Row:
    """One codebook: bits per weight, signal over error in dB, and this less 6.02 dB a bit."""

    source: str
    step: float
    method: str
    bits: float
    sqnr: float
    gap: float


def lloyd(x: Floats, words: Floats, p: Floats, rounds: int) -> tuple[Floats, Floats]:
    """Refine codewords and histogram by entropy-constrained rounds."""
    for _ in range(rounds):
        index = np.argmin(cost(x, words, p), axis=1)
        counts = np.bincount(index, minlength=words.size)
        sums = np.bincount(index, weights=x, minlength=words.size)
        words, p = np.where(counts > 0, sums / np.maximum(counts, 1), words), smoothed(counts.astype(np.float64))
    return words, p


def annealed(x: Floats, words: Floats, p: Floats, rounds: int) -> tuple[Floats, Floats]:
    """Refine them with soft assignments softmax(-sigma * cost), sigma rising exponentially, then by hard rounds."""
    for sigma in np.geomspace(0.5, 200.0, rounds - HARD_ROUNDS):
        logits = -sigma * cost(x, words, p)
        phi = np.exp(logits - logits.max(axis=1, keepdims=True))
        phi /= phi.sum(axis=1, keepdims=True)
        counts = phi.sum(axis=0)
        words, p = np.where(counts > 1e-6, (phi.T @ x) / np.maximum(counts, 1e-9), words), smoothed(counts)
    return lloyd(x, words, p, HARD_ROUNDS)


def cost(x: Floats, words: Floats, p: Floats) -> Floats:
    """Return (n, L) squared errors + lambda * bits, in squared steps."""
    found: Floats = np.square(x[:, None] - words) - RATE_WEIGHT * np.log2(p)
    return found


def smoothed(counts: Floats) -> Floats:
    """Return probabilities, none of them 0."""
    found: Floats = (counts + 0.01) / (counts + 0.01).sum()
    return found


def measure(source: str, x: Floats, step: float) -> list[Row]:
    """Refine in both ways and measure the hard codebooks."""
    scaled = x / step
    reach = int(np.abs(scaled).max()) + 1
    start = np.arange(-reach, reach + 1).astype(np.float64)
    p = smoothed(x.size * np.exp(-np.abs(start) / max(float(np.abs(scaled).mean()), 0.3)))
    rows = []
    for method, refine in (("Lloyd", lloyd), ("annealed", annealed)):
        words, found = refine(scaled, start, p, ROUNDS)
        index = np.argmin(cost(scaled, words, found), axis=1)
        share = np.bincount(index, minlength=words.size) / x.size
        bits = -float((share[share > 0] * np.log2(share[share > 0])).sum())
        sqnr = 10 * float(np.log10(np.square(scaled).mean() / np.square(scaled - words[index]).mean()))
        rows.append(Row(source, step, method, bits, sqnr, sqnr - 6.0206 * bits))
    return rows


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=int, default=20000)
    parser.add_argument("--json", type=Path, help="where to store the results")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    sources = {"Gaussian": rng.normal(size=args.weights), "Laplacian": rng.laplace(size=args.weights) / np.sqrt(2)}
    rows = [row for name, x in sources.items() for step in STEPS for row in measure(name, x, step)]
    for row in rows:
        print(f"{row.source} {row.step:g} {row.method}: {row.bits:.3f} bits, {row.sqnr:.2f} dB, gap {row.gap:.2f} dB")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
