"""Values that follow the rate step (the beta byte, 0..255): told at 17 knots, linear between them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

KNOTS: Final = 17
SPACING: Final = 16
"""Rate steps between two knots."""

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


def interpolate(knots: Floats, beta_byte: int) -> Floats:
    """Return float values at a rate step: (17, ...) -> (...)."""
    knot, fraction = beta_byte // SPACING, (beta_byte % SPACING) / SPACING
    value: Floats = knots[knot] * np.float32(1 - fraction) + knots[knot + 1] * np.float32(fraction)
    return value


def interpolate_integers(knots: Integers, beta_byte: int) -> Integers:
    """Return integer values at a rate step, rounded down: (17, ...) -> (...)."""
    knot, part = divmod(beta_byte, SPACING)
    value: Integers = (knots[knot] * (SPACING - part) + knots[knot + 1] * part) // SPACING
    return value


def weights() -> Floats:
    """Return the weights of the knots at every rate step: (256, 17), each row sums to 1."""
    return np.stack([interpolate(np.eye(KNOTS, dtype=np.float32), beta_byte) for beta_byte in range(256)])
