"""shcodec: a learned image codec, soft-to-hard vector quantisation in a file format.

    data = shcodec.encode("photo.png", beta=50)
    image = shcodec.decode(data)

After `shcodec.register_pillow()` Pillow itself opens and saves .shc files. What is wrong is a `ShcError`, what a caller
should know besides a `ShcWarning`.

`encode`, `decode` and `info` are imported on first use, so that `import shcodec` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shcodec.support.errors import ShcError, ShcWarning

if TYPE_CHECKING:
    from shcodec.codec.decoding import decode
    from shcodec.codec.encoding import encode
    from shcodec.codec.inspection import info

__all__ = ["ShcError", "ShcWarning", "__version__", "decode", "encode", "info", "register_pillow"]

__version__ = "0.1.0"

_HOMES = {"decode": "decoding", "encode": "encoding", "info": "inspection"}


def register_pillow() -> None:
    """Make .shc one of the formats that Pillow opens and saves; see `shcodec.pillow_plugin`."""
    importlib.import_module("shcodec.pillow_plugin")


def __getattr__(name: str) -> Any:
    """Import the three functions of the interface when they are first asked for (PEP 562)."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"shcodec.codec.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazily imported names as well."""
    return sorted(set(globals()) | _HOMES.keys())
