"""Residuals of a trained model, dumped once: what the quantiser's ablations are fitted to and measured on.

Every picture goes through the codec itself (`shcodec.codec.analysis`); what is kept is what the quantiser saw:
r = (y - mean) / step of every latent element in both passes, its step and its class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.codec.analysis import Analysis, Coded, analyse, distortion, encode_latent, own_rate_weight
from shcodec.container import beta_to_byte, part_sizes
from shcodec.model.networks import Model
from shcodec.pictures.picture import Pixels
from shcodec.symbols.bands import Floats
from shcodec.symbols.grid import first_half
from shcodec.symbols.stream import row_bits

BETAS = (5.0, 20.0, 80.0, 300.0, 1200.0)
LOWEST = 7
"""Colder classes are coded by no trial; of them only the energy is kept."""
SLOPE_WEIGHTS = (0.0, 0.15)
"""Rate weights between which the change of the pixels' error is compared with that of the latent's."""


def quantised(analysis: Analysis, coded: Coded) -> tuple[Floats, Floats, Floats]:
    """Return the residuals in steps, the steps, and the errors of the chosen codewords, (M, h, w) each.

    Args:
        analysis: of a picture of one tile, by a model with hyper path.
        coded: its file.
    """
    latent = coded.latent
    (first_mean, step), (second_mean, _) = (latent.means(number, latent.coded) for number in (0, 1))
    mean = np.where(first_half(*step.shape), first_mean, second_mean)
    residual = (analysis.y - mean) / step
    return residual, step, step * (residual - latent.residuals)


@dataclass(frozen=True)
class Residuals:
    """Elements of one set of pictures at several rates, n in all; within a class in the order in which they are coded.

    Attributes:
        value: (n,) float32 residuals in steps.
        step: (n,) float32 steps.
        classes: (n,) uint8, `LOWEST` or more.
        rate: (n,) uint8 index into `BETAS`.
        picture: (n,) uint16.
        pixels: (rates,) pixels in all pictures of a rate.
        other_bits: (rates,) bits of hyper indices and containers.
        cold_error: (rates,) squared steps times squared residuals of the classes below `LOWEST`.
        slope: (rates,) what one unit of squared latent error adds to the squared error of the samples, as measured.
        floor: (rates,) squared error of the samples that is not the quantiser's, by the same measurement.
    """

    value: Floats
    step: Floats
    classes: npt.NDArray[np.uint8]
    rate: npt.NDArray[np.uint8]
    picture: npt.NDArray[np.uint16]
    pixels: npt.NDArray[np.float64]
    other_bits: npt.NDArray[np.float64]
    cold_error: npt.NDArray[np.float64]
    slope: npt.NDArray[np.float64]
    floor: npt.NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write everything to an .npz file."""
        with path.open("wb") as stream:
            np.savez(stream, **{entry.name: getattr(self, entry.name) for entry in fields(self)})

    @staticmethod
    def load(path: Path) -> Residuals:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return Residuals(**arrays)


def record(model: Model, pictures: Sequence[tuple[Pixels, Sequence[int]]]) -> Residuals:
    """Encode pictures and keep their residuals; slope and floor stay empty.

    Args:
        model: the model.
        pictures: pixels (H, W, 3), and indices into `BETAS` of the rates at which each is wanted.
    """
    tables = model.tables
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    pixels, other, cold = np.zeros((3, len(BETAS)))
    for number, (rgb, rates) in enumerate(pictures):
        for rate in rates:
            byte = beta_to_byte(BETAS[rate])
            analysis = analyse(model, rgb, byte)
            coded = encode_latent(analysis, byte, own_rate_weight(model, byte))
            residual, step, _ = quantised(analysis, coded)
            z, data = coded.latent.z, coded.data
            assert tables.hyper is not None and z is not None
            classes = tables.classes_of(z, byte, analysis.grid)
            pixels[rate] += rgb.shape[0] * rgb.shape[1]
            other[rate] += float(row_bits(tables.hyper, z).min()) + 8 * (len(data) - part_sizes(data)["payload"])
            below = classes < LOWEST
            cold[rate] += float(np.square(step * residual, dtype=np.float64)[below].sum())
            first = first_half(*classes.shape)
            for half in (first, ~first):
                kept = np.flatnonzero(half & ~below)
                count = len(kept)
                parts.append(
                    (
                        residual.ravel()[kept], step.ravel()[kept], classes.ravel()[kept],
                        np.full(count, rate, np.uint8), np.full(count, number, np.uint16),
                    )
                )  # fmt: skip
    value, steps, ks, rate_index, picture = (np.concatenate(part) for part in zip(*parts, strict=True))
    empty = np.zeros(0)
    return Residuals(value, steps, ks, rate_index, picture, pixels, other, cold, empty, empty)


def measure_slope(model: Model, pictures: Sequence[Pixels]) -> tuple[npt.NDArray[np.float64], ...]:
    """Compare errors of the latent with errors of decoded samples.

    Each picture is coded at two rate weights; the slope is the change of the samples' mean squared error over the
    change of the latent's squared error per sample, and the floor what is left of the former at the default weight.

    Returns:
        Slope (rates,), in squared grey levels per squared unit of the latent; floor (rates,), in squared grey levels.
    """
    slopes, floors = [], []
    for beta in BETAS:
        byte, rows = beta_to_byte(beta), []
        for rgb in pictures:
            analysis = analyse(model, rgb, byte)
            for weight in (*SLOPE_WEIGHTS, own_rate_weight(model, byte)):
                coded = encode_latent(analysis, byte, weight)
                error = float(np.square(quantised(analysis, coded)[2], dtype=np.float64).sum()) / rgb.size
                rows.append((error, distortion(analysis, coded)))
        latent, samples = np.array(rows).reshape(len(pictures), -1, 2).mean(0).T
        slope = (samples[1] - samples[0]) / (latent[1] - latent[0])
        slopes.append(slope)
        floors.append(samples[2] - slope * latent[2])
    return np.array(slopes), np.array(floors)


def key(model: Model, *settings: object) -> str:
    """Return the name of a dump: it changes with the model's weights, encoder included, and with the settings."""
    digest = hashlib.sha256(repr((model.card.get("sha256"), model.id, BETAS, LOWEST, settings)).encode())
    return digest.hexdigest()[:12]
