"""The page that shows a run: what is in it, and that it works in a real browser."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from bench_browser import Page, chromium, find_chromium
from conftest import make_photo
from PIL import Image

pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")

from shcodec import bench
from shcodec.bench import Options
from shcodec.bench.codecs import OTHER_CODECS, Codec
from shcodec.bench.crops import busiest_window, choose_pictures, choose_target, encode_to_size
from shcodec.bench.datasets import PictureFile
from shcodec.bench.report import Report
from shcodec.pictures.picture import Pixels

CODECS = ("jpeg420", "jpeg444", "webp")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """Return a run over two pictures, with a name that HTML would stumble over and a picture that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(make_photo(280, 320)).save(folder / "large.png")
    Image.fromarray(make_photo(180, 190)).save(folder / "<b>&amp;.png")
    (folder / "broken.png").write_bytes(b"none")
    out = tmp_path_factory.mktemp("out")
    return bench.run(str(folder), out, Options(codecs=CODECS, crops=5, command="shc bench <x>")), out / "report.html"


@pytest.fixture(scope="module")
def page(made: tuple[Report, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Yield the page, opened in a browser."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on the PATH")
    with chromium(program, tmp_path_factory.mktemp("profile")) as opened:
        opened.open(made[1])
        yield opened


class Sources(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.extend(value or "" for name, value in attributes if name in ("src", "href", "srcset", "data"))


def codec(name: str) -> Codec:
    return next(codec for codec in OTHER_CODECS if codec.name == name)


# The file


def test_nothing_lies_outside_the_file(made: tuple[Report, Path]) -> None:
    text = made[1].read_text(encoding="utf-8")
    sources = Sources()
    sources.feed(text)
    assert sources.found
    assert all(source.startswith("data:") for source in sources.found)
    assert "@import" not in text
    assert not re.search(r"url\(", text)


def test_names_are_escaped(made: tuple[Report, Path]) -> None:
    text = made[1].read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;amp;.png" in text
    assert "<b>&amp;.png" not in text
    assert "shc bench &lt;x&gt;" in text


def test_what_failed_is_shown(made: tuple[Report, Path]) -> None:
    assert "failed: broken.png: " in made[1].read_text(encoding="utf-8")


def test_crops_are_those_of_the_codec(made: tuple[Report, Path]) -> None:
    text = made[1].read_text(encoding="utf-8")
    found = re.search(r'alt="crop by the original"[^>]*src="data:image/webp;base64,([^"]+)"', text)
    assert found is not None
    crop = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB"))
    photo = make_photo(180, 190)  # "<" sorts before "l"
    np.testing.assert_array_equal(crop, photo)


# In a browser


def test_the_console_is_quiet(page: Page) -> None:
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


def test_tables_are_visible(page: Page) -> None:
    sizes = page.evaluate("[...document.querySelectorAll('table')].map(t => [t.offsetWidth, t.offsetHeight])")
    assert len(sizes) >= 5
    assert all(width > 100 and height > 40 for width, height in sizes)
    text = page.evaluate("document.body.innerText")
    assert "BD-rate against jpeg420" in text
    assert "Bits per pixel at equal PSNR" in text


def test_plots_are_visible(page: Page) -> None:
    plots = page.evaluate(
        "[...document.querySelectorAll('.plot img')].map(i => [i.alt, i.complete, i.naturalWidth, i.offsetHeight])"
    )
    assert [plot[0].partition(":")[0] for plot in plots] == ["Rate and PSNR", "Rate and MS-SSIM", "Speed and BD-rate"]
    assert all(complete and width > 100 and height > 100 for _, complete, width, height in plots)


SHOWN = """[...document.querySelectorAll('.viewer')].map(viewer =>
    [...viewer.querySelectorAll('.coded figure')]
        .filter(figure => figure.offsetHeight)
        .map(figure => figure.innerText.split(':')[0].trim()))"""


def test_the_crop_switcher(page: Page) -> None:
    assert page.evaluate(SHOWN) == [["jpeg420"], ["jpeg420"]]
    second = ".viewer:nth-of-type(2)"
    page.click(f"{second} input[value=webp]")
    assert page.evaluate(SHOWN) == [["jpeg420"], ["webp"]]
    assert page.evaluate(f"document.querySelector('{second} .coded figure:not([hidden]) img').naturalWidth") == 256
    # The keyboard moves among the choices too.
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="ArrowLeft", code="ArrowLeft", windowsVirtualKeyCode=37)
    assert page.evaluate(SHOWN) == [["jpeg420"], ["jpeg444"]]


def test_holding_shows_the_original(page: Page) -> None:
    viewer = ".viewer:nth-of-type(1)"
    coded = f"{viewer} .coded figure:not([hidden]) img"
    same = f"document.querySelector('{coded}').src === document.querySelector('{viewer} .original img').src"
    assert page.evaluate(same) is False
    page.press(coded)
    assert page.evaluate(same) is True
    page.release(coded)
    assert page.evaluate(same) is False


# The crops


def test_pictures_are_spread_over_the_set() -> None:
    pictures = [PictureFile(str(number), Path(str(number))) for number in range(24)]
    assert [picture.name for picture in choose_pictures(pictures, 3)] == ["4", "12", "20"]
    assert [picture.name for picture in choose_pictures(pictures[:2], 3)] == ["0", "1"]
    assert choose_pictures(pictures, 0) == []
    assert choose_pictures([], 3) == []


def test_the_target_is_one_that_all_reach() -> None:
    assert choose_target([[100, 4000], [50, 9000]], pixels=32_000) == 1000
    assert choose_target([[100, 4000], [1500, 9000]], pixels=32_000) == 1500
    assert choose_target([[100, 400], [50, 9000]], pixels=32_000) == 400
    assert choose_target([[100, 400], [500, 9000]], pixels=32_000) == 1000


@pytest.mark.parametrize(("name", "tolerance"), [("jpeg420", 0.05), ("j2k", 0.02), ("webp", 0.05)])
def test_a_size_is_met(name: str, tolerance: float) -> None:
    photo = make_photo(240, 320)
    known = {setting: len(codec(name).encode(photo, setting)) for setting in codec(name).settings}
    target = int(np.sqrt(min(known.values()) * max(known.values())))
    assert len(encode_to_size(codec(name), photo, target, known)) == pytest.approx(target, rel=tolerance)


def test_a_size_out_of_reach_gives_the_nearest() -> None:
    photo = make_photo(64, 64)
    known = {setting: len(codec("jpeg420").encode(photo, setting)) for setting in (5.0, 50.0)}
    assert len(encode_to_size(codec("jpeg420"), photo, 10, known)) == known[5.0]
    assert len(encode_to_size(codec("jpeg420"), photo, 10**6, known)) == known[50.0]


def test_the_window_has_the_detail() -> None:
    rgb: Pixels = np.full((600, 700, 3), 128, np.uint8)
    rgb[330:560, 400:640] = np.random.default_rng(1).integers(0, 255, (230, 240, 3), dtype=np.uint8)
    rows, columns = busiest_window(rgb)
    assert rows.start <= 330 and rows.stop >= 560
    assert columns.start <= 400 and columns.stop >= 640
    assert (rows.stop - rows.start, columns.stop - columns.start) == (256, 256)
    assert busiest_window(rgb[:40, :300]) == (slice(0, 40), slice(0, 256))
