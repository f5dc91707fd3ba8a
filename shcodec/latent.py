"""The decoded latent, pass by pass: what encoder and decoder must do alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from shcodec.runtime import GUARDED, Model
from shcodec.symbols import Floats, Grid, Indices, Order, first_half, nearest_coded

Hyper = npt.NDArray[np.int8] | None
"""Hyper indices (C_z, hz, wz), or None for a model without hyper path."""

Choose = Callable[[Order, Floats, Floats], list[Indices]]
"""(order, means, steps) -> indices of a pass; means and steps (M, h, w) of the coded positions."""


def decoded_latent(
    model: Model, z: Hyper, beta_byte: int, grid: Grid, orders: Sequence[Order], choose: Choose
) -> Floats:
    """The decoded latent (M, 4 hz, 4 wz); the encoder chooses the indices on the way.

    Args:
        model: the model.
        z: hyper indices.
        beta_byte: rate step.
        grid: sizes.
        orders: elements of every pass.
        choose: where the indices of each pass come from.
    """
    tables = model.tables
    shape = (tables.latent, 4 * grid.hyper_height, 4 * grid.hyper_width)
    coded = (slice(None), slice(grid.height), slice(grid.width))
    mean, step, *features = model.describe(z, beta_byte, shape)
    size = tables.latent * grid.height * grid.width
    y_hat = mean.copy()
    for number, order in enumerate(orders):
        if number == 1:
            seen = extended(y_hat, grid)
            y_hat += model.refine(seen, features[0], beta_byte) * ~first_half(*shape)
            guard(y_hat, seen, step)
        indices = choose(order, y_hat[coded], step[coded])
        values = tables.values(order, indices, size).reshape(tables.latent, grid.height, grid.width)
        y_hat[coded] += step[coded] * values
    return y_hat


def extended(y_hat: Floats, grid: Grid) -> Floats:
    """Fills the positions beyond the coded ones with the nearest coded column and row of the same parity.

    Same parity, so that a position of the first pass takes one that is decoded. Without this, the networks would
    see bare means there, and predict the last column and row from them.
    """
    if y_hat.shape[1:] == (grid.height, grid.width):
        return y_hat
    rows, columns = nearest_coded(y_hat.shape[1], grid.height), nearest_coded(y_hat.shape[2], grid.width)
    return np.ascontiguousarray(y_hat[:, rows[:, None], columns])


def guard(y_hat: Floats, seen: Floats, step: Floats) -> None:
    """Keeps second-pass means of the lowest frequencies between their four decoded neighbours, in place.

    Brightness is continuous, and a network that has seen few white skies may predict a mean that no codeword
    of the element's class can mend. One step of slack; the first half is left as it is.

    Args:
        y_hat: (M, h, w) decoded first half, means of the second.
        seen: the same with positions beyond the picture filled.
        step: (M, h, w).
    """
    count, height, width = GUARDED, *y_hat.shape[1:]
    around = np.pad(seen[:count], ((0, 0), (1, 1), (1, 1)), mode="reflect" if min(height, width) > 1 else "edge")
    sides = (around[:, :-2, 1:-1], around[:, 2:, 1:-1], around[:, 1:-1, :-2], around[:, 1:-1, 2:])
    low, high = np.minimum.reduce(sides) - step[:count], np.maximum.reduce(sides) + step[:count]
    means = ~first_half(*y_hat.shape)[:count]
    y_hat[:count] = np.where(means, np.clip(y_hat[:count], low, high), y_hat[:count])
