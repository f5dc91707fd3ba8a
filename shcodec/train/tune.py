"""The weight of the rate in the encoder's choice of indices, tuned on validation pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import tomli_w

from shcodec.codec import decoding, encoding
from shcodec.codec.improvement import price_between
from shcodec.container import byte_to_beta
from shcodec.model.card import CARD, ENCODER, read_card
from shcodec.model.networks import Model
from shcodec.model.tensors import read_tensors, write_tensors
from shcodec.pictures.picture import Pixels
from shcodec.symbols.knots import KNOTS, SPACING
from shcodec.train.data import load_pictures

BETA_BYTES = (32, 80, 128, 176, 224)  # rates at which the weight is tuned; linear between them
WEIGHTS = (0.04, 0.06, 0.08, 0.11, 0.15, 0.2)
PROBE_WEIGHT = 0.08  # with which the price of a bit is measured


def tune_rate_weight(model_dir: Path, pictures: Path) -> list[float]:
    """Pick lambda per rate by the least D + price * R over validation pictures; writes it into the model.

    The price of a bit is what it buys along the model's own curve. That is beta for a model trained to the end, and
    more before: with beta itself, lambda would be chosen to move along the curve instead of lowering it. The decoder
    and the model's id do not change: lambda belongs to the encoder alone.

    Args:
        model_dir: folder of an exported model.
        pictures: folder with validation pictures, which must not be test pictures.

    Returns:
        The weight at each of `BETA_BYTES`.
    """
    loaded, _ = load_pictures(pictures, least=1)
    model = Model(model_dir)
    best = []
    for beta_byte in BETA_BYTES:
        finer, coarser = (_measure(model, loaded, beta_byte + way, PROBE_WEIGHT) for way in (-8, 8))
        price = price_between(finer, coarser, byte_to_beta(beta_byte))
        found = {weight: _measure(model, loaded, beta_byte, weight) for weight in WEIGHTS}
        costs = {weight: error + price * rate for weight, (rate, error) in found.items()}
        best.append(min(costs, key=costs.__getitem__))
    tensors = read_tensors(model_dir / ENCODER)
    knots = np.minimum(SPACING * np.arange(KNOTS), 255)
    tensors["rate_weight"] = np.interp(knots, BETA_BYTES, best).astype(np.float32)
    write_tensors(model_dir / ENCODER, tensors)
    card = read_card(model_dir)
    card["sha256"][ENCODER] = hashlib.sha256((model_dir / ENCODER).read_bytes()).hexdigest()
    card["rate_weight"] = {"tuned_on": f"{len(loaded)} validation pictures", "beta_bytes": BETA_BYTES, "values": best}
    (model_dir / CARD).write_text(tomli_w.dumps(card), encoding="utf-8")
    return best


def _measure(model: Model, pictures: list[Pixels], beta_byte: int, weight: float) -> tuple[float, float]:
    """Return bits per pixel of real files and the mean squared error of what they show, summed over the pictures."""
    rate = distortion = 0.0
    for rgb in pictures:
        data = encoding.encode_array(rgb, byte_to_beta(beta_byte), model=model, rate_weight=weight)
        decoded = decoding.decode_array(data, model=model)
        distortion += float(np.square(rgb.astype(np.float64) - decoded).mean())
        rate += 8 * len(data) / (rgb.shape[0] * rgb.shape[1])
    return rate, distortion
