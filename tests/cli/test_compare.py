"""`shc compare`: figures, crops and what cannot be compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from bench_browser import chromium, find_chromium
from conftest import Shc, make_photo
from PIL import Image

from shcodec.cli import sheet
from shcodec.codec import decoding, encoding
from shcodec.pictures.picture import psnr
from shcodec.pictures.reading import read_picture
from shcodec.pictures.similarity import ms_ssim_db


@pytest.fixture
def folder(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with an original and two coded versions of it."""
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(make_photo(180, 300))
    image.save("photo.png")
    image.save("photo.jpg", quality=50)
    Path("photo.shc").write_bytes(encoding.encode("photo.png", 50, model=tiny_model))
    return tmp_path


def test_figures(folder: Path, shc: Shc) -> None:
    outcome = shc("compare", "photo.png", "photo.shc", "photo.jpg")
    assert outcome.code == 0
    assert outcome.err == ""
    header, *rows = outcome.out.splitlines()
    assert re.split(r"  +", header) == ["file", "bytes", "bpp", "PSNR dB", "MS-SSIM dB"]
    original = np.array(Image.open("photo.png"))
    for row, name, decoded in zip(
        rows,
        ("photo.shc", "photo.jpg"),
        (decoding.decode_array(Path("photo.shc").read_bytes()), np.array(Image.open("photo.jpg"))),
        strict=True,
    ):
        size = Path(name).stat().st_size
        assert row.split() == [
            name,
            f"{size:,}",
            f"{8 * size / original[..., 0].size:.3f}",
            f"{psnr(original, decoded):.2f}",
            f"{ms_ssim_db(original, decoded):.2f}",
        ]


@pytest.mark.parametrize("sides", [(161, 161), (162, 203), (205, 330)])
def test_similarity_is_that_of_the_library(sides: tuple[int, int]) -> None:
    pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")
    from shcodec.bench import metrics

    original = make_photo(*sides)
    noise = np.random.default_rng(1).integers(-9, 10, original.shape)
    noisy = np.clip(original.astype(int) + noise, 0, 255).astype(np.uint8)
    for other in (noisy, np.roll(original, 3, 1), 255 - original, original // 2):
        similarity = metrics.ms_ssim(original, other)
        assert similarity is not None
        assert ms_ssim_db(original, other) == pytest.approx(metrics.to_db(similarity), abs=0.001)


def test_similarity_of_known_pictures() -> None:
    # Without any structure the luminance of the coarsest scale is left, with exponent 0.1333.
    flat = [np.full((176, 200, 3), level, np.uint8) for level in (100, 120)]
    a, b, c = 100.0, 120.0, 2.55**2
    luminance = (2 * a * b + c) / (a * a + b * b + c)
    decibels = ms_ssim_db(*flat)
    assert decibels is not None
    assert 1 - 10 ** (-decibels / 10) == pytest.approx(luminance**0.1333, abs=2e-4)  # float32
    assert ms_ssim_db(flat[0], flat[0]) == float("inf")
    assert ms_ssim_db(flat[0][:160], flat[1][:160]) is None


def test_what_has_no_figure(folder: Path, shc: Shc) -> None:
    Image.fromarray(make_photo(50, 60)).save("small.png")
    told = json.loads(shc("compare", "--json", "small.png", "small.png").out)
    assert told["ms_ssim_db"] is None
    assert told["psnr"] is None  # infinite


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["photo.png", "photo.shc"])
def test_pipes_are_read_once(folder: Path, shc: Shc, name: str) -> None:
    """As those of `shc compare photo.png <(command)`."""
    expected = shc("compare", name, "photo.jpg", "photo.png")
    assert expected.code == 0
    for pipe in ("first", "second"):
        os.mkfifo(pipe)
    threads = [
        threading.Thread(target=Path(pipe).write_bytes, args=(Path(file).read_bytes(),), daemon=True)
        for pipe, file in (("first", name), ("second", "photo.png"))
    ]
    for thread in threads:
        thread.start()
    piped = shc("compare", "first", "photo.jpg", "second")
    assert piped.code == 0, piped.err
    assert piped.out.replace("second   ", "photo.png") == expected.out


def test_comparing_never_imports_torch(folder: Path) -> None:
    code = (
        "import sys; from shcodec.cli import main; assert main(['compare', 'photo.png', 'photo.shc']) == 0;"
        "print({'torch', 'pytorch_msssim', 'matplotlib', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "set()"


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


def test_what_cannot_be_compared(folder: Path, shc: Shc) -> None:
    Image.fromarray(make_photo(180, 299)).save("other.png")
    Path("bad.shc").write_bytes(Path("photo.shc").read_bytes()[:-1])
    outcome = shc("compare", "photo.png", "other.png", "bad.shc", "absent.shc", "photo.jpg")
    assert outcome.code == 1
    assert shc("compare", "photo.png", "80", "photo.jpg").code == 2
    first, second, third = outcome.err.splitlines()
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
def test_outputs_that_are_refused(folder: Path, shc: Shc, out: str, code: int, words: str) -> None:
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
    decoded = decoding.decode_array(Path("photo.shc").read_bytes())
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
