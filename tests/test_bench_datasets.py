"""Finding pictures: sets by name, folders, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import make_photo
from PIL import Image

from shcodec.bench.datasets import BENCHMARKS, DATA_VARIABLE, find_dataset
from shcodec.errors import PictureError, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with three pictures of Kodak's names, one of them in two lossless formats."""
    folder = tmp_path / "data" / "kodak"
    folder.mkdir(parents=True)
    for name in ("kodim02.png", "kodim01.webp", "kodim03.png", "kodim03.webp"):
        Image.fromarray(make_photo(16, 24)).save(folder / name, lossless=True)
    (folder / "notes.txt").write_text("not a picture")
    return tmp_path / "data"


def test_a_set_by_name(root: Path) -> None:
    found = find_dataset("kodak", root)
    assert [picture.name for picture in found.pictures] == ["kodim01", "kodim02", "kodim03"]
    assert found.pictures[2].path.suffix == ".webp"
    assert (found.title, found.total, found.is_benchmark) == ("Kodak", 24, True)


def test_the_environment_names_the_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(root))
    assert len(find_dataset("kodak").pictures) == 3


def test_first_pictures_only(root: Path) -> None:
    found = find_dataset("kodak", root).first(2)
    assert [picture.name for picture in found.pictures] == ["kodim01", "kodim02"]
    assert found.total == 24


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_set_that_is_not_here(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(UsageError, match=f"put the {BENCHMARKS[name].count} files .* into {tmp_path / name}"):
        find_dataset(name, tmp_path)
    with pytest.raises(UsageError, match=DATA_VARIABLE) as caught:
        find_dataset(name)
    assert "\n" not in str(caught.value)


def test_any_folder_with_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.jpg", "deep/a.png"):
        Image.fromarray(make_photo(8, 8)).save(tmp_path / name)
    found = find_dataset(str(tmp_path))
    assert [picture.name for picture in found.pictures] == ["a.jpg", "b.png", "deep/a.png"]
    assert (found.name, found.total, found.is_benchmark) == (tmp_path.name, 3, False)


def test_neither_set_nor_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no dataset 'kodac': give one of kodak, b100, urban100, or a folder"):
        find_dataset("kodac")
    with pytest.raises(PictureError, match="no pictures in"):
        find_dataset(str(tmp_path))


def test_real_kodak(shc_data: Path) -> None:
    found = find_dataset("kodak", shc_data)
    assert [picture.name for picture in found.pictures] == [f"kodim{number:02}" for number in range(1, 25)]
