"""Writes tests/golden/net: a small .shcn file with all codings for each version, and the hashes of what they decode to.

A file that exists is never written again: files of every version must decode for ever, whatever later packers make.
Today's packer would write both of them in version 2.

PYTHONPATH=tests/helpers python tests/golden/make_net.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from made_up_weights import make_tensors

from shcodec.netpack.api import unpack_safetensors
from shcodec.netpack.packing.codebooks import Assigned
from shcodec.netpack.packing.packer import pack_tensors
from shcodec.netpack.packing.plan import PackConfig
from shcodec.netpack.packing.targets import Target
from shcodec.netpack.packing.tensors import Tensor, from_array

FOLDER = Path(__file__).resolve().parent / "net"


def first() -> bytes:
    """Return the file of version 1."""
    rng = np.random.default_rng(3)
    words = rng.normal(size=(9, 2)).astype(np.float32)
    index = np.minimum(rng.geometric(0.3, 170), 8).astype(np.int32)
    hard = (words[index].reshape(-1)[:339] * np.float32(0.5)).reshape(3, 113)
    data, _ = pack_tensors(
        [*make_tensors(), from_array("hard", hard)],
        {"format": "pt"},
        target=Target(bits=2.5),
        config=PackConfig(states=8, weighting="relative"),
        assigned=[Assigned(words, {"hard": index}, {"hard": 0.5})],
    )
    return data


def second() -> bytes:
    """Return the file of version 2: rows and a column with steps of their own, exact elements, and foreign dtypes."""
    rng = np.random.default_rng(4)
    outliers = rng.normal(size=(50, 40)).astype(np.float32)
    outliers[[7, 30]] *= 1e5
    outliers[:, 11] *= 1e3
    outliers[3, 4], outliers[20, 0], outliers[49, 39] = np.nan, -np.inf, 3e38
    tensors = [
        *make_tensors(),
        from_array("outliers", outliers),
        from_array("mask", np.where(np.tri(20), 0, -1e4).astype(np.float16)),
        from_array("complex", np.exp(1j * np.arange(20)).astype(np.complex64)),
        Tensor("four bits", "F4", (3, 8), rng.bytes(12)),
        Tensor("unknown", "F99", (7,), rng.bytes(28)),
    ]
    return pack_tensors(tensors, {"format": "pt"}, target=Target(bits=3), config=PackConfig(states=8))[0]


def main() -> None:
    """Write what is not there."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in (("weights", first), ("weights2", second)):
        if not (FOLDER / f"{name}.shcn").exists():
            data = make()
            (FOLDER / f"{name}.shcn").write_bytes(data)
            digest = hashlib.sha256(unpack_safetensors(data)).hexdigest()
            (FOLDER / f"{name}.sha256").write_text(f"{digest}\n", encoding="ascii")


if __name__ == "__main__":
    main()
