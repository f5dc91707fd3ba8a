"""The card of a model: what it says, and the checksums by which it vouches for the other files."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shcodec.support.errors import ModelError

CARD, DECODER, ENCODER, TRAINING = "model.toml", "decoder.safetensors", "encoder.safetensors", "training.safetensors"
QUICK = "quick.safetensors"
"""Weights of a second, quicker synthesis network, of models that have one. No file depends on it."""


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card (model.toml) of a model folder.

    Raises:
        ModelError: it is missing or not TOML.
    """
    path = folder / CARD
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{path}: missing model file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: {error}") from None


def pins(folder: Path, card: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of every file of a model, by the file's name, as its card tells them.

    Raises:
        ModelError: the card's table [sha256] is missing, or names anything but files of this folder.
    """
    table = card.get("sha256")
    if not isinstance(table, dict) or not all(isinstance(digest, str) for digest in table.values()):
        raise ModelError(f"{folder / CARD}: the card has no table [sha256]")
    strange = [name for name in table if Path(name).name != name or name in ("", "..")]
    if strange:
        raise ModelError(f"{folder / CARD}: {strange[0]!r} is not the name of a file in the model's folder")
    return table


def read_pinned(folder: Path, card: Mapping[str, Any], name: str) -> bytes:
    """Return a file of a model, if it is the one that the card tells.

    Raises:
        ModelError: it is missing, or its SHA-256 is not in the card.
    """
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError:
        raise ModelError(f"{path}: missing model file") from None
    if pins(folder, card).get(name) != hashlib.sha256(data).hexdigest():
        raise ModelError(f"{path}: does not match the SHA-256 in the card")
    return data
