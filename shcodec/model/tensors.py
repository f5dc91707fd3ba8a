"""The tensors of a model: safetensors files, and the id that follows from the decoder's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shcodec.support.errors import ModelError

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

    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)
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
