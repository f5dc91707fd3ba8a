"""Finding pictures: sets by name, folders, the cache and its download, and what is said where there are none."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Shc, make_photo
from PIL import Image

pytest.importorskip("pooch", reason="needs the extra 'bench'")
pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")

from shcodec.bench import checksums, datasets, download, measuring
from shcodec.bench.checksums import Pin, load_pins, pictures_by_name, pins_csv
from shcodec.bench.datasets import BENCHMARKS, DATA_VARIABLE, Benchmark, PictureFile, find_dataset
from shcodec.pictures.reading import read_picture
from shcodec.support.errors import PictureError, ShcError, UsageError

NAMES = ("one", "two", "three")


def picture(name: str) -> np.ndarray:
    """Return the picture of a made-up set."""
    return make_photo(24 + len(name), 40)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache, and no other place where pictures could be."""
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setattr(datasets, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the folder behind a public home on this machine, of the set `small`, which is pinned."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(picture(name)).save(folder / f"{name}_SRF_4_HR.png")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *arguments: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    url = f"http://127.0.0.1:{server.server_port}/{{image}}_SRF_4_HR.png"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(datasets, "BENCHMARKS", {"small": Benchmark("Small", 3, "example.org/small", url)})
    pins = {name: Pin.of(picture(name)) for name in NAMES}
    monkeypatch.setattr(datasets, "load_pins", lambda name: pins if name == "small" else {})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield folder
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a data root with three pictures of Kodak's names, one of them in two lossless formats."""
    folder = tmp_path / "data" / "kodak"
    folder.mkdir(parents=True)
    for name in ("kodim02.png", "kodim01.webp", "kodim03.PNG", "kodim03.webp", "contact-sheet.png"):
        Image.fromarray(make_photo(16, 24)).save(folder / name, lossless=True)
    (folder / "notes.txt").write_text("not a picture")
    return tmp_path / "data"


# In a data root


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


def test_names_as_in_the_public_home(tmp_path: Path) -> None:
    for name in ("img_002_SRF_4_HR.png", "img_001.webp", "img_003.jpg"):
        Image.fromarray(make_photo(8, 8)).save(tmp_path / name)
    (tmp_path / "._img_003.jpg").touch()
    assert list(pictures_by_name(tmp_path)) == ["img_001", "img_002", "img_003"]


# Any folder


def test_any_folder_with_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.jpg", "deep/a.png"):
        Image.fromarray(make_photo(8, 8)).save(tmp_path / name)
    found = find_dataset(str(tmp_path))
    assert [picture.name for picture in found.pictures] == ["a.jpg", "b.png", "deep/a.png"]
    assert (found.name, found.total, found.is_benchmark) == (tmp_path.name, 3, False)


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    """As for `shc encode`: a Mac leaves "._b.png" beside b.png on foreign disks, and that is none."""
    (tmp_path / ".thumbnails").mkdir()
    for name in ("b.png", "._b.png", ".thumbnails/c.png"):
        (tmp_path / name).touch()
    assert [picture.name for picture in find_dataset(str(tmp_path)).pictures] == ["b.png"]


def test_neither_set_nor_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no dataset 'kodac': give one of kodak, b100, urban100, or a folder"):
        find_dataset("kodac")
    with pytest.raises(PictureError, match="no pictures in"):
        find_dataset(str(tmp_path))


# Pins


@pytest.mark.parametrize(("name", "count"), [("kodak", 24), ("b100", 100), ("urban100", 100)])
def test_every_picture_is_pinned(name: str, count: int) -> None:
    pins = load_pins(name)
    assert len(pins) == BENCHMARKS[name].count == count
    assert len({pin.sha256 for pin in pins.values()}) == count
    assert all(len(pin.sha256) == 64 and min(pin.width, pin.height) > 300 for pin in pins.values())


def test_a_hash_by_hand() -> None:
    rgb = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)  # printf '\1\2\3\4\5\6' | sha256sum
    assert Pin.of(rgb) == Pin(2, 1, "7192385c3c0605de55bb9476ce1d90748190ecb32a8eed7f5207b30cf6a1fe89")


def test_any_lossless_copy_and_no_other(tmp_path: Path) -> None:
    photo = make_photo(48, 64)
    paths = {name: tmp_path / name for name in ("a.webp", "b.png", "c.jpg", "d.png", "e.png")}
    Image.fromarray(photo).save(paths["a.webp"], lossless=True)
    Image.fromarray(photo).save(paths["b.png"])
    Image.fromarray(photo).save(paths["c.jpg"], quality=95)
    Image.fromarray(photo[::-1]).save(paths["d.png"])
    Image.fromarray(photo[:, :32]).save(paths["e.png"])
    pictures = [PictureFile(name, path, Pin.of(photo)) for name, path in paths.items()]
    good, wrong = measuring.check_pictures(pictures)
    assert [picture.name for picture in good] == ["a.webp", "b.png"]
    assert [failure.image for failure in wrong] == ["c.jpg", "d.png", "e.png"]
    assert "not a lossless copy" in wrong[0].error
    assert wrong[2].error.endswith("32x48 pixels, and not 64x48")


def test_the_command_that_makes_pins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(make_photo(8, 9)).save(tmp_path / "img_001_SRF_4_HR.png")
    checksums.main([str(tmp_path)])
    assert capsys.readouterr().out == pins_csv({"img_001": tmp_path / "img_001_SRF_4_HR.png"})
    with pytest.raises(SystemExit, match="usage"):
        checksums.main([])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_real_pictures_match_their_pins(name: str, shc_data: Path) -> None:
    if not (shc_data / name).is_dir():
        pytest.skip(f"no {name} in SHC_DATA")
    found = find_dataset(name, shc_data)
    assert [picture.name for picture in found.pictures] == sorted(load_pins(name))
    for picture in found.pictures:
        assert picture.pin is not None
        picture.pin.check(read_picture(picture.path).rgb)


# Downloading


def test_downloaded_once(cache: Path, home: Path) -> None:
    notes: list[str] = []
    found = find_dataset("small", notify=notes.append)
    assert notes == [f"downloading the 3 pictures of small from example.org/small into {cache / 'small'}"]
    assert [picture.name for picture in found.pictures] == sorted(NAMES)
    for picture_file in found.pictures:
        np.testing.assert_array_equal(read_picture(picture_file.path).rgb, picture(picture_file.name))
    for path in home.iterdir():
        path.unlink()
    assert find_dataset("small", notify=notes.append) == found
    assert len(notes) == 1


def test_an_interrupted_download_goes_on(cache: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "two_SRF_4_HR.png").rename(home / "away")
    monkeypatch.setattr(download, "_RETRIES", 0)
    with pytest.raises(ShcError, match="the server says 404"):
        find_dataset("small")
    assert sorted(path.name for path in (cache / "small").iterdir()) == ["one.png"]
    (home / "away").rename(home / "two_SRF_4_HR.png")
    (home / "one_SRF_4_HR.png").unlink()
    assert len(find_dataset("small").pictures) == 3


@pytest.mark.parametrize("wrong", [b"<html>please log in</html>", None])
def test_a_wrong_picture_is_not_kept(cache: Path, home: Path, wrong: bytes | None) -> None:
    path = home / "two_SRF_4_HR.png"
    if wrong is None:
        Image.fromarray(picture("three")).save(path)
    else:
        path.write_bytes(wrong)
    with pytest.raises(ShcError, match=r"two_SRF_4_HR\.png: .*(not the picture of the set|not a picture)"):
        find_dataset("small")
    assert not (cache / "small" / "two.png").exists()


def test_what_the_cache_lacks_is_told_in_one_line(
    cache: Path, home: Path, shc: Shc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens at this port of this machine: as good as no network.
    offline = Benchmark("Small", 3, "example.org/small", "http://127.0.0.1:9/{image}.png")
    monkeypatch.setattr(datasets, "BENCHMARKS", {"small": offline})
    monkeypatch.setattr(download, "_RETRIES", 0)
    done = shc("bench", "--dataset", "small", "--codecs", "jpeg420", "--out", tmp_path / "out")
    assert done.code == 1
    note, error = done.err.splitlines()
    assert note.startswith("shc: note: downloading the 3 pictures")
    assert error == (
        "shc: error: the small pictures are not here and cannot be downloaded (http://127.0.0.1:9/one.png: no "
        f"connection): put the 3 files from example.org/small into {cache / 'small'}, or into DIR/small and name DIR "
        "with --data-root or SHC_DATA"
    )


def test_files_put_into_the_cache_by_hand(cache: Path, home: Path) -> None:
    (cache / "small").mkdir(parents=True)
    for name in NAMES:
        Image.fromarray(picture(name)).save(cache / "small" / f"{name}.webp", lossless=True)
    found = find_dataset("small", notify=lambda text: pytest.fail(text))
    assert [picture.path.suffix for picture in found.pictures] == [".webp"] * 3


def test_the_data_root_goes_before_the_cache(cache: Path, home: Path, tmp_path: Path) -> None:
    find_dataset("small")
    (tmp_path / "data" / "small").mkdir(parents=True)
    Image.fromarray(picture("two")).save(tmp_path / "data" / "small" / "two.png")
    found = find_dataset("small", tmp_path / "data")
    assert [picture.path for picture in found.pictures] == [tmp_path / "data" / "small" / "two.png"]
    assert found.total == 3


def test_out_is_tried_before_a_download(cache: Path, home: Path, shc: Shc, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    done = shc("bench", "--dataset", "small", "--codecs", "jpeg420", "--out", tmp_path / "out")
    assert done.code == 2
    assert not (cache / "small").exists()


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.cache_folder().parts[-2:] == ("shcodec", "pictures")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_public_homes(name: str) -> None:
    url = BENCHMARKS[name].url
    assert url.startswith("https://")
    assert url.count("{image}") == 1
    assert Path(url).suffix in (".png", ".jpg")
