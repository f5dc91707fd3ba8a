"""Soft-to-hard quantisation of neural networks: a network's weights in a small file.

    data = netpack.pack("weights.safetensors", bits=4)
    arrays = netpack.unpack(data)

`pack`, `unpack` and `info` need no torch. `compress`, which trains a torch module for its compression, does.
Everything is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shcodec.netpack.api import info, pack, pack_report, unpack, unpack_safetensors
    from shcodec.netpack.packing.plan import PackConfig
    from shcodec.netpack.training.annealing import Annealing
    from shcodec.netpack.training.compress import CompressConfig, Compressed, compress
    from shcodec.netpack.training.soft_codebook import WordConfig

__all__ = [
    "Annealing",
    "CompressConfig",
    "Compressed",
    "PackConfig",
    "WordConfig",
    "compress",
    "info",
    "pack",
    "pack_report",
    "unpack",
    "unpack_safetensors",
]

_HOMES = {
    "Annealing": "training.annealing",
    "CompressConfig": "training.compress",
    "Compressed": "training.compress",
    "PackConfig": "packing.plan",
    "WordConfig": "training.soft_codebook",
    "compress": "training.compress",
}


def __getattr__(name: str) -> Any:
    """Import the interface when it is first asked for (PEP 562)."""
    if name in __all__:
        return getattr(importlib.import_module(f"shcodec.netpack.{_HOMES.get(name, 'api')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
