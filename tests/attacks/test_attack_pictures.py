"""Hostile input pictures: `shc encode` takes what Pillow reads, and names the rest in one line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import Shc, make_photo
from forge import damaged
from made_up_files import chunk, png_of
from PIL import EpsImagePlugin, Image

from shcodec.pictures.reading import read_picture
from shcodec.support.errors import LimitError, PictureError

FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {}, "JPEG": {}, "WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_deflate"}, "GIF": {}, "BMP": {},
    "PPM": {}, "JPEG2000": {}, "AVIF": {}, "ICO": {}, "TGA": {},
}  # fmt: skip


def picture_file(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(make_photo(24, 32)).save(file, format=kind, **FORMATS[kind])
    return file.getvalue()


def read_or_refuse(data: bytes) -> bool:
    """Whether bytes are refused; anything but a picture or our errors is a defect."""
    try:
        read_picture(io.BytesIO(data), max_pixels=1 << 20)
    except (PictureError, LimitError) as error:
        assert "\n" not in str(error)
        return True
    return False


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_pictures(kind: str) -> None:
    data = picture_file(kind)
    for length in {*range(0, 64), *range(64, len(data), max(1, len(data) // 40))}:
        read_or_refuse(data[:length])
    assert read_or_refuse(data[: len(data) // 2])


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_pictures(kind: str) -> None:
    data = picture_file(kind)
    random = Random(kind)
    for _ in range(60):
        broken = data
        for _ in range(random.randint(1, 4)):
            broken = damaged(broken, random)
        read_or_refuse(broken)


@pytest.mark.parametrize("sides", [(65_535, 65_535), (1 << 31, 1), (30_000, 30_000), (65_536, 1), (0, 5)])
def test_sizes_that_are_a_lie(sides: tuple[int, int]) -> None:
    with pytest.raises((PictureError, LimitError)):
        read_picture(io.BytesIO(png_of(*sides, chunk(b"IDAT", zlib.compress(b"")))))


def test_metadata_that_inflates() -> None:
    bomb = zlib.compress(bytes(80 << 20), 9)
    pixels = chunk(b"IDAT", zlib.compress(bytes(4 * 13)))
    for tag, start in ((b"iCCP", b"x\0\0"), (b"zTXt", b"x\0\0"), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0")):
        read_or_refuse(png_of(4, 4, chunk(tag, start + bomb), pixels))


def test_pixels_that_inflate() -> None:
    assert read_or_refuse(png_of(4, 4)) is True
    read_or_refuse(png_of(4, 4, chunk(b"IDAT", zlib.compress(bytes(30 << 20), 9))))


def test_a_directory_that_leads_into_itself() -> None:
    """A TIFF file whose sub-directory is itself."""
    entries = [(256, 4, 1, 4), (257, 4, 1, 4), (34_665, 4, 1, 8), (273, 4, 1, 8), (279, 4, 1, 10)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 8)
    read_or_refuse(data)


def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, shc: Shc, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bomb.png").write_bytes(png_of(65_535, 65_535, chunk(b"IDAT", b"")))
    Path("cut.jpg").write_bytes(picture_file("JPEG")[:300])
    outcome = shc("encode", "-m", tiny_model, "bomb.png", "cut.jpg")
    assert outcome.code == 1
    *errors, totals = outcome.err.splitlines()
    assert [error.startswith("shc: error: ") for error in errors] == [True, True]
    assert totals.startswith("shc: 0 files, 2 failed, ")
    assert {path.name for path in tmp_path.iterdir()} == {"bomb.png", "cut.jpg"}


def test_no_other_program_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS file is a program; Pillow would have Ghostscript run it, whatever the file's name is."""

    def interpret(*arguments: object, **named: object) -> None:
        raise AssertionError("Ghostscript was asked for")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", interpret)
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(any) run\nshowpage\n%%EOF\n"
    with pytest.raises(PictureError, match="another program"):
        read_picture(io.BytesIO(program))
