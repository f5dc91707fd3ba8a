"""Writes tests/golden/net: a small .shcn file with all codings, and the hash of what it decodes to.

A file that exists is never written again: files of version 1 must decode for ever, whatever later packers make.

PYTHONPATH=tests python tests/golden/make_net.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from made_up_weights import make_tensors

from shcodec.netpack.api import unpack_safetensors
from shcodec.netpack.codebooks import Assigned
from shcodec.netpack.packer import pack_tensors
from shcodec.netpack.plan import PackConfig
from shcodec.netpack.targets import Target
from shcodec.netpack.tensors import from_array

FOLDER = Path(__file__).resolve().parent / "net"


def main() -> None:
    """Write both files, unless they are there."""
    if (FOLDER / "weights.shcn").exists():
        return
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
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "weights.shcn").write_bytes(data)
    digest = hashlib.sha256(unpack_safetensors(data)).hexdigest()
    (FOLDER / "weights.sha256").write_text(f"{digest}\n", encoding="ascii")


if __name__ == "__main__":
    main()
