"""Raw tables of a made-up model, and random symbols for it: the symbol path needs no trained network."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.symbols.ans import integer_table
from shcodec.symbols.bands import Indices
from shcodec.symbols.classes import Order
from shcodec.symbols.grid import Grid
from shcodec.symbols.knots import KNOTS
from shcodec.symbols.tables import SymbolTables

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
        tensors["hyper.bank"] = np.stack([[histogram(2 * limit + 1) for _ in range(channels)] for _ in range(rows)])
        tensors["class_map.weight"] = rng.integers(-127, 128, (16 * latent, channels)).astype(np.int8)
        tensors["class_map.shift"] = rng.integers(4, 8, latent).astype(np.uint8)
        tensors["class_map.bias"] = rng.integers(-200, 900, (KNOTS, latent)).astype(np.int32)
        if seed % 2:  # optional: half of the models have none
            tensors["class_map.floor"] = np.arange(latent).astype(np.uint8) * 3 % CLASSES
    return tensors


def draw_symbols(tables: SymbolTables, grid: Grid, beta_byte: int, seed: int) -> Picture:
    """Random symbols of a picture: z, the orders that follow from it, and indices."""
    rng = np.random.default_rng(seed)
    z = None
    if tables.hyper is not None:
        shape = (tables.hyper.channels, grid.hyper_height, grid.hyper_width)
        z = rng.integers(-tables.hyper.limit, tables.hyper.limit + 1, shape).astype(np.int8)
    orders = tables.orders(tables.classes_of(z, beta_byte, grid))
    indices = [
        [rng.integers(0, len(tables.bands[tables.band_of[k]].codebook), n).astype(np.int32) for k, n in order.numbers]
        for order in orders
    ]
    return z, orders, indices
