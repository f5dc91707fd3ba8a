"""The scripts in benchmarks/ as modules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from conftest import ROOT


def script(name: str) -> ModuleType:
    """Import a script from benchmarks/, whose folder is on the path as when it is run."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.append(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(
        f"benchmarks_{name.replace('/', '_')}", ROOT / "benchmarks" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def importable(*folders: Path) -> Iterator[None]:
    """Make the scripts of folders importable as they import each other, and forget them afterwards."""
    before = sys.path[:]
    sys.path[:0] = map(str, folders)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "").parent in folders:
                del sys.modules[name]
