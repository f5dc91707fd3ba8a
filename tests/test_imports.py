"""The modules import each other in one direction only. The rooms' contracts are in pyproject.toml, for `make lint`."""

from __future__ import annotations

import graphlib

import pytest

grimp = pytest.importorskip("grimp", reason="needs the extra 'dev'")


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("shcodec", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # a CycleError names the circle
