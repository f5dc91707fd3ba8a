"""`shc compare`: figures, crops and what cannot be compared."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from bench_browser import chromium, find_chromium
from conftest import Shc, make_photo
from PIL import Image

from shcodec import codec
from shcodec.cli import sheet
from shcodec.pictures import psnr, read_picture

similar = pytest.mark.skipif(importlib.util.find_spec("pytorch_msssim") is None, reason="needs the extra 'bench'")


@pytest.fixture
def folder(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an original and two coded versions of it."""
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(make_photo(180, 300))
    image.save("photo.png")
    image.save("photo.jpg", quality=50)
    Path("photo.shc").write_bytes(codec.encode("photo.png", 50, model=tiny_model))
    return tmp_path


def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))


def test_figures(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    without_extra(monkeypatch)
    outcome = shc("compare", "photo.png", "photo.shc", "photo.jpg")
    assert outcome.code == 0
    assert outcome.err == "shc: note: no MS-SSIM: it needs the extra 'bench': pip install 'shcodec[bench]'\n"
    header, *rows = outcome.out.splitlines()
    assert re.split(r"  +", header) == ["file", "bytes", "bpp", "PSNR dB", "MS-SSIM dB"]
    original = np.array(Image.open("photo.png"))
    for row, name, decoded in zip(
        rows,
        ("photo.shc", "photo.jpg"),
        (codec.decode_array(Path("photo.shc").read_bytes()), np.array(Image.open("photo.jpg"))),
        strict=True,
    ):
        size = Path(name).stat().st_size
        assert row.split() == [
            name,
            f"{size:,}",
            f"{8 * size / original[..., 0].size:.3f}",
            f"{psnr(original, decoded):.2f}",
        ]


@similar
def test_similarity(folder: Path, shc: Shc) -> None:
    from shcodec.bench import metrics

    told = json.loads(shc("compare", "--json", "photo.png", "photo.jpg").out)
    pair = (read_picture(name).rgb for name in ("photo.png", "photo.jpg"))
    similarity = metrics.ms_ssim(*pair)
    assert similarity is not None
    assert told["ms_ssim_db"] == pytest.approx(metrics.to_db(similarity))
    Image.fromarray(make_photo(50, 60)).save("small.png")
    told = json.loads(shc("compare", "--json", "small.png", "small.png").out)
    assert told["ms_ssim_db"] is None
    assert told["psnr"] is None  # infinite


def test_samples_are_compared_as_they_are_stored(folder: Path, shc: Shc, tiny_model: str) -> None:
    exif = Image.Exif()
    exif[274] = 6  # shown turned by 90 degrees
    Image.open("photo.png").save("turned.png", exif=exif)
    assert shc("encode", "-m", tiny_model, "turned.png").code == 0
    turned, plain = (
        json.loads(shc("compare", "--json", *names).out)
        for names in (("turned.png", "turned.shc"), ("photo.png", "photo.shc"))
    )
    assert turned["psnr"] == plain["psnr"]


def test_what_cannot_be_compared(folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch) -> None:
    without_extra(monkeypatch)
    Image.fromarray(make_photo(180, 299)).save("other.png")
    Path("bad.shc").write_bytes(Path("photo.shc").read_bytes()[:-1])
    outcome = shc("compare", "photo.png", "other.png", "bad.shc", "absent.shc", "photo.jpg")
    assert outcome.code == 1
    first, second, third, _ = outcome.err.splitlines()
    assert first == "shc: error: other.png: 299x180 pixels, but the original has 300x180"
    assert second.startswith("shc: error: bad.shc: ")
    assert third == "shc: error: absent.shc: No such file or directory"
    assert outcome.out.splitlines()[-1].startswith("photo.jpg ")
    outcome = shc("compare", "bad.shc", "photo.shc")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("shc: error: bad.shc: ")


@pytest.mark.parametrize(
    ("out", "code", "words"),
    [
        ("crops.gif", 2, "neither .png nor .html"),
        ("photo.png", 2, "is an input"),
        ("there.html", 1, "exists already"),
        ("absent/crops.png", 1, "No such file"),
    ],
)
def test_outputs_that_are_refused(
    folder: Path, shc: Shc, monkeypatch: pytest.MonkeyPatch, out: str, code: int, words: str
) -> None:
    without_extra(monkeypatch)
    Path("there.html").write_text("precious")
    outcome = shc("compare", "photo.png", "photo.jpg", "--out", out)
    assert outcome.code == code
    assert words in outcome.err
    assert Path("there.html").read_text() == "precious"
    assert shc("compare", "photo.png", "photo.jpg", "-f", "--out", "there.html").code == 0
    assert Path("there.html").read_text().startswith("<!DOCTYPE html>")


# Crops


def test_windows_lie_where_the_error_is() -> None:
    original = np.zeros((600, 900, 3), np.uint8)
    near, far = original.copy(), original.copy()
    near[580:600, 880:900] = 5
    far[100:110, 100:110] = 200
    windows = sheet.worst_windows(original, [near, far])
    assert len(windows) == sheet.CROPS
    for sample in (near, far):
        assert max(int(window.of(sample).max()) for window in windows[:2]) == sample.max()
    for window in windows:
        assert window.of(original).shape == (256, 256, 3)
        assert not any(window.overlaps(other) for other in windows if other != window)


@pytest.mark.parametrize("sides", [(1, 1), (5, 700), (256, 256), (257, 300)])
def test_windows_of_any_size(sides: tuple[int, int]) -> None:
    original = make_photo(*sides)
    for window in sheet.worst_windows(original, [original]):
        assert window.of(original).shape == (min(256, sides[0]), min(256, sides[1]), 3)


def test_a_contact_sheet(folder: Path, shc: Shc) -> None:
    Path("a long name that does not fit above its crops, of which the end tells most.png").symlink_to("photo.png")
    name = next(path.name for path in Path().glob("a long*"))
    outcome = shc("compare", "photo.png", "photo.jpg", "photo.shc", name, "--out", "crops.png")
    assert outcome.code == 0
    crops = np.array(Image.open("crops.png"))
    assert crops.shape[1] == 8 + 4 * 264
    top = crops.shape[0] - 188
    decoded = codec.decode_array(Path("photo.shc").read_bytes())
    window = sheet.worst_windows(
        read_picture("photo.png").rgb, [read_picture("photo.jpg").rgb, decoded, read_picture("photo.png").rgb]
    )[0]
    assert np.array_equal(crops[top : top + 180, 8 + 528 : 8 + 528 + 256], window.of(decoded))


def test_a_page(folder: Path, shc: Shc) -> None:
    Path("<b>&.jpg").symlink_to("photo.jpg")
    assert shc("compare", "photo.png", "photo.shc", "<b>&.jpg", "--out", "crops.html").code == 0
    text = Path("crops.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;.jpg" in text
    assert "<b>" not in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)


def test_the_page_switches(folder: Path, shc: Shc) -> None:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on the PATH")
    assert shc("compare", "photo.png", "photo.shc", "photo.jpg", "--out", "crops.html").code == 0
    with chromium(program, folder / "profile") as page:
        page.open(folder / "crops.html")
        shown = "[...document.querySelectorAll('.others figure')].map(figure => !figure.hidden)"
        assert page.evaluate(shown) == [True, False]
        page.click("label:nth-of-type(2)")
        assert page.evaluate(shown) == [False, True]
        crop = ".others figure:nth-of-type(2) img"
        coded = page.evaluate(f"document.querySelector('{crop}').src")
        page.press(crop)
        held = page.evaluate(f"document.querySelector('{crop}').src")
        assert held == page.evaluate("document.querySelector('.original img').src") != coded
        page.release(crop)
        assert page.evaluate(f"document.querySelector('{crop}').src") == coded
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith(("data:", "file:"))] == []
