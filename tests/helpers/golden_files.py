"""The golden files: what the manifest says of them, and their symbols as other processes read them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import make_golden
import numpy as np
from conftest import GOLDEN, ROOT, open_picture

MANIFEST: dict[str, dict[str, Any]] = json.loads(make_golden.MANIFEST.read_text(encoding="utf-8"))
# How the symbols of the golden files are read in a process of their own, whatever that process may import.
SYMBOLS_IN_A_PROCESS = """
import json, sys
for name in {blocked!r}:
    sys.modules[name] = None
import make_golden
print(json.dumps({{path.stem: make_golden.describe(path.read_bytes()) for path in make_golden.FILES.glob("*.shc")}}))
"""


def read(name: str) -> bytes:
    return (make_golden.FILES / f"{name}.shc").read_bytes()


def pinned(name: str) -> dict[str, Any]:
    """Return what the manifest says of a file, as `make_golden.describe` returns it."""
    return {key: value for key, value in MANIFEST[name].items() if key not in ("width", "height", "beta", "mode")}


def assert_pixels_as_stored(name: str, pixels: np.ndarray) -> None:
    """Floats may differ between machines, by 1 of 255 at most."""
    image = open_picture(make_golden.FILES / f"{name}.png")
    stored = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == stored.shape
    assert np.abs(pixels.astype(int) - stored).max() <= 1


def symbols_in_a_process(
    blocked: tuple[str, ...] = (), interpreter: str = sys.executable, **variables: str
) -> dict[str, Any]:
    """Return the golden files' symbols, read by a process with these modules blocked and these variables set."""
    path = os.pathsep.join([str(GOLDEN), str(ROOT)])
    environment = {**os.environ, **variables, "SHC_MODELS": str(GOLDEN), "PYTHONPATH": path}
    done = subprocess.run(
        [interpreter, "-c", SYMBOLS_IN_A_PROCESS.format(blocked=blocked)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told
