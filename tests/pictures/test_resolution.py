"""Resolution is kept through .shc and every format that has one; thumbnails do not outlive a crop."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import Shc, make_photo
from made_up_files import jpeg, segment
from made_up_metadata import XMP, exif_block
from PIL import ExifTags, Image

from shcodec.codec import decoding, encoding
from shcodec.model.networks import Model
from shcodec.pictures.exif import resolution_of, tells_resolution_alone, with_resolution, without_thumbnail
from shcodec.pictures.metadata import Metadata
from shcodec.pictures.picture import Picture
from shcodec.pictures.reading import read_picture
from shcodec.pictures.writing import write_picture

PHOTO = Image.fromarray(make_photo(40, 56))
WITH_DPI = {"JPEG": "x.jpg", "PNG": "x.png", "TIFF": "x.tif", "BMP": "x.bmp"}


def thumbnail(shade: int = 90) -> bytes:
    file = io.BytesIO()
    Image.new("L", (16, 12), shade).save(file, "JPEG")
    return file.getvalue()


def with_thumbnail(order: str = "<", *, first: bool = False) -> bytes:
    """Return an EXIF block with a description, and a thumbnail behind its directories or between them."""
    small = thumbnail()
    words = b"a picture\0"
    base = 8 + 2 + 12 + 4
    places = {"words": base, "small": base + len(words)}
    second = base + len(words) + len(small) if first else base + len(words)
    if not first:
        places["small"] = second + 2 + 2 * 12 + 4
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    one = struct.pack(order + "HHHII", 1, 270, 2, len(words), places["words"]) + struct.pack(order + "I", second)
    two = struct.pack(order + "H", 2)
    two += struct.pack(order + "HHII", 513, 4, 1, places["small"]) + struct.pack(order + "HHII", 514, 4, 1, len(small))
    two += struct.pack(order + "I", 0)
    return head + one + words + (small + two if first else two + small)


# Resolution


@pytest.mark.parametrize("format", WITH_DPI)
@pytest.mark.parametrize("dpi", [(300, 300), (100, 100), (300, 150), (118.11, 118.11)])
def test_it_comes_back(model: Model, tiny_model: str, format: str, dpi: tuple[float, float]) -> None:
    file = io.BytesIO()
    PHOTO.save(file, format, dpi=dpi)
    decoded = decoding.decode(encoding.encode(file, model=model))
    told = Image.open(file).info["dpi"]
    assert decoded.info["dpi"] == pytest.approx(told, abs=0.013)
    for other in WITH_DPI:
        out = io.BytesIO()
        assert write_picture(decoded, out, other) == ()
        assert Image.open(out).info["dpi"] == pytest.approx(told, abs=0.5 if other == "JPEG" else 0.03)
        assert "exif" not in Image.open(out).info
    for other in ("WEBP", "AVIF"):
        out = io.BytesIO()
        assert write_picture(decoded, out, other) == ()
        exif = Image.open(out).getexif()
        assert float(exif[ExifTags.Base.XResolution]) == pytest.approx(told[0], abs=0.013)
    for other in ("JPEG2000", "PPM"):
        assert write_picture(decoded, io.BytesIO(), other) == (f"resolution dropped ({other} cannot hold it)",)


def test_plain_pictures_do_not_grow() -> None:
    cases = [(format, None) for format in ("JPEG", "PNG", "TIFF", "BMP", "PCX", "GIF", "WEBP", "PPM")]
    for format, dpi in (*cases, ("JPEG", 72), ("PNG", 72), ("BMP", 72), ("BMP", 96)):
        file = io.BytesIO()
        PHOTO.save(file, format, **({"dpi": (dpi, dpi)} if dpi else {}))
        if (format, dpi) == ("BMP", 72):
            assert resolution_of(read_picture(file).metadata.exif) == (72, 72)  # said on purpose
        else:
            assert read_picture(file).metadata == Metadata()
    for format in ("JPEG", "PNG"):
        file = io.BytesIO()
        PHOTO.save(file, format, dpi=(96, 96))
        assert resolution_of(read_picture(file).metadata.exif) == (96, 96)
    file = io.BytesIO()
    PHOTO.save(file, "JPEG", dpi=(300, 300))
    assert read_picture(file, strip=True).metadata == Metadata()


@pytest.mark.parametrize("order", ["<", ">"])
def test_it_joins_the_exif_that_is_there(order: str) -> None:
    block = with_thumbnail(order)
    joined = with_resolution(block, (300, 200))
    assert resolution_of(joined) == (300, 200)
    assert joined[8 : len(block)] == block[8:]  # nothing has moved
    exif = Image.Exif()
    exif.load(joined)
    assert exif[ExifTags.Base.ImageDescription] == "a picture"
    picture = read_picture(jpeg(PHOTO, segment(0xE1, b"Exif\0\0" + exif_block()), dpi=(300, 300)))
    assert resolution_of(picture.metadata.exif) == (300, 300)
    assert not tells_resolution_alone(picture.metadata.exif)


def test_exif_that_tells_it_stays_as_it_is() -> None:
    block = with_resolution(exif_block(), (240, 240))
    assert with_resolution(block, (300, 300)) == block
    assert read_picture(jpeg(PHOTO, segment(0xE1, b"Exif\0\0" + block), dpi=(300, 300))).metadata.exif == block


@pytest.mark.parametrize("dpi", [None, (0, 0), (float("nan"), 1), ("x", 2), 300, (1e9, 1e9), (-300, 300), ()])
def test_senseless_resolutions_are_none(dpi: object) -> None:
    assert with_resolution(b"", dpi) == b""
    assert with_resolution(b"no block", dpi) == b"no block"


def test_a_turned_picture_has_its_resolution_turned() -> None:
    image = PHOTO.copy()
    image.info["exif"] = b"Exif\0\0" + with_resolution(exif_block(6), (300, 150))
    for format, dpi, size in (("BMP", (150, 300), (40, 56)), ("JPEG", (300, 150), (56, 40))):
        file = io.BytesIO()
        write_picture(image, file, format)
        back = Image.open(file)
        assert (back.info["dpi"], back.size) == (pytest.approx(dpi, abs=0.03), size)


def test_centimetres() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = 100.0
    exif[ExifTags.Base.ResolutionUnit] = 3
    assert resolution_of(exif.tobytes()[6:]) == (254, 254)


# Thumbnails


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("first", [False, True])
def test_a_thumbnail_goes_and_the_rest_stays(order: str, first: bool) -> None:
    block = with_thumbnail(order, first=first)
    assert thumbnail() in block
    bare = without_thumbnail(block)
    assert not any(thumbnail()[at : at + 8] in bare for at in range(2, 150))
    assert len(bare) < len(block)
    exif = Image.Exif()
    exif.load(bare)
    assert dict(exif) == {ExifTags.Base.ImageDescription: "a picture"}
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert without_thumbnail(bare) == bare


def test_blocks_without_one_stay_as_they_are() -> None:
    for block in (b"", b"no block", exif_block()):
        assert without_thumbnail(block) == block


def test_a_crop_tells_its_own_size() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ExifOffset] = {ExifTags.Base.ExifImageWidth: 4000, ExifTags.Base.ExifImageHeight: 70_000}
    cropped = Metadata(exif=exif.tobytes()[6:]).of_a_crop(40, 30)
    again = Image.Exif()
    again.load(cropped.exif)
    sides = again.get_ifd(ExifTags.IFD.Exif)
    assert (sides[ExifTags.Base.ExifImageWidth], sides[ExifTags.Base.ExifImageHeight]) == (40, 30)
    assert len(cropped.exif) == len(exif.tobytes()) - 6


@pytest.mark.parametrize("seed", range(3))
def test_damaged_blocks(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(200):
        block = bytearray(with_thumbnail("<>"[seed % 2], first=seed == 1))
        for place in generator.integers(len(block), size=3):
            block[place] = generator.integers(256)
        data = bytes(block[: generator.integers(len(block))])
        assert len(Metadata(exif=data).of_a_crop(4, 3).exif) <= len(data)
        resolution_of(with_resolution(data, (300, 300)))


def test_a_crop_has_none(shc: Shc, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = b"<xmp:Thumbnails><rdf:Alt>" + b"A" * 99 + b"</rdf:Alt></xmp:Thumbnails>"
    told = Metadata(exif=with_thumbnail(), xmp=XMP.replace(b"</rdf:RDF>", small + b"</rdf:RDF>"))
    Path("a.shc").write_bytes(encoding.encode(Picture(make_photo(40, 56), metadata=told), model=tiny_model))
    assert shc("decode", "a.shc", "whole.jpg", "--region", "0,0,56,40").code == 0
    assert shc("decode", "a.shc", "part.jpg", "--region", "0,0,40,40").code == 0
    assert thumbnail() in Path("whole.jpg").read_bytes()
    part = Path("part.jpg").read_bytes()
    assert thumbnail()[20:60] not in part
    assert b"Thumbnails" not in part
    assert b"a picture" in part
    assert XMP in part
