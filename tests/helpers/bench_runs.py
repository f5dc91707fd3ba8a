"""What tests of the benchmark share: a small Kodak, and the rows of a run."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_photo
from PIL import Image

from shcodec.bench import datasets


def small_kodak(root: Path, monkeypatch: pytest.MonkeyPatch, **sides: tuple[int, int]) -> Path:
    """Make a data root whose Kodak is a few generated pictures of these names and sides, and believed to be whole."""
    folder = root / "kodak"
    folder.mkdir(parents=True)
    for name, (height, width) in sides.items():
        Image.fromarray(make_photo(height, width)).save(folder / f"{name}.png")
    monkeypatch.setattr(datasets, "BENCHMARKS", {"kodak": replace(datasets.BENCHMARKS["kodak"], count=len(sides))})
    monkeypatch.setattr(datasets, "load_pins", lambda name: {})
    return root


def rows(out: Path) -> list[dict[str, str]]:
    """Return the rows of a run's results.csv."""
    with (out / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
