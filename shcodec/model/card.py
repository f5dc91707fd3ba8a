"""The files of a model: its card, its tensors, their checksums, and the id that follows from them."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.support.errors import ModelError

CARD, DECODER, ENCODER, TRAINING = "model.toml", "decoder.safetensors", "encoder.safetensors", "training.safetensors"

Tensors = dict[str, npt.NDArray[Any]]


def model_id(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return the first 4 bytes of the SHA-256 over a decoder's tensors: name, type, shape, bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        shape = ",".join(map(str, array.shape))
        digest.update(f"{name}\0{array.dtype.str[1:]}\0{shape}\0".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()[:4]


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write a safetensors file that everybody may read."""
    from safetensors.numpy import save_file

    save_file(tensors, path)
    path.chmod(0o644)  # the library leaves it to the owner alone


def read_tensors(path: Path) -> Tensors:
    """Return all tensors of a safetensors file.

    Raises:
        ModelError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: missing model file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable model file ({error})") from None


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
