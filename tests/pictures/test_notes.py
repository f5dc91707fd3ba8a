"""What a file has and .shc has not is told, once; what is kept is not dropped along with it."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import Shc, make_photo
from made_up_files import chunk, jpeg, long_profile, png, saved, segment, tiff
from made_up_metadata import XMP, exif_block, srgb
from PIL import ExifTags, Image, ImageOps

from shcodec.codec import decoding, encoding
from shcodec.model.networks import Model
from shcodec.pictures.metadata import Metadata
from shcodec.pictures.reading import read_picture
from shcodec.pictures.writing import FORMATS, write_picture
from shcodec.support.errors import LimitError, PictureError
from shcodec.support.limits import MAX_METADATA_SIZE as LIMIT
from shcodec.support.limits import MAX_PIXELS

FILES = Path(__file__).parent / "files"
PHOTO = Image.fromarray(make_photo(40, 56))
EXIF = segment(0xE1, b"Exif\0\0" + exif_block())
PROFILE = segment(0xE2, b"ICC_PROFILE\0\1\1" + srgb())
PACKET = b"http://ns.adobe.com/xap/1.0/\0"


def resource(number: int, data: bytes) -> bytes:
    """Return an APP13 segment with one of Photoshop's resources."""
    padded = data + bytes(len(data) % 2)
    return segment(0xED, b"Photoshop 3.0\0" + struct.pack(">4sHHI", b"8BIM", number, 0, len(data)) + padded)


# What has no place in .shc


@pytest.mark.parametrize(
    ("file", "note"),
    [
        (jpeg(PHOTO, segment(0xFE, b"a comment")), "comment dropped"),
        (jpeg(PHOTO, resource(0x0404, b"\x1c\x02\x78\0\2ab")), "IPTC dropped"),
        (jpeg(PHOTO, resource(0x03ED, bytes(16))), ""),
        (jpeg(PHOTO, segment(0xFE, b"x"), resource(0x0404, b"\x1c\x02\x78\0\2ab")), "comment, IPTC dropped"),
        (jpeg(PHOTO, segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40))), "extended XMP dropped"),
        (jpeg(PHOTO, segment(0xEB, b"JP\0\1" + bytes(30))), "content credentials dropped"),
        (png(make_photo(4, 6), 8, chunk(b"tEXt", b"Title\0x"), chunk(b"tEXt", b"Author\0y")), "2 texts dropped"),
        (saved(PHOTO, "GIF", comment=b"x"), "comment dropped"),
        (tiff(make_photo(4, 6), 2, tags={33723: (4, (1, 2, 3))}), "IPTC dropped"),
    ],
    ids=["comment", "IPTC", "Photoshop", "both", "extended", "credentials", "texts", "GIF", "TIFF"],
)
def test_one_note(file: io.BytesIO, note: str) -> None:
    notes = [text for text in read_picture(file).notes if "palette" not in text]
    assert notes == ([note] if note else [])
    assert not [text for text in read_picture(file, strip=True).notes if "palette" not in text]


def test_the_commands_say_it_on_stderr(
    shc: Shc, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(png(make_photo(12, 16), 8, chunk(b"tEXt", b"Title\0x", well=False)).getvalue())
    Path("b.jpg").write_bytes(jpeg(PHOTO, segment(0xFE, b"x"), icc_profile=long_profile(1_500_000)).getvalue())
    outcome = shc("encode", "-m", tiny_model, "a.png", "b.jpg")
    assert outcome.code == 0
    *notes, totals = outcome.err.splitlines()
    assert notes == ["shc: note: a.png: damaged tEXt dropped", "shc: note: b.jpg: comment dropped"]
    assert totals.startswith("shc: 2 files, ")
    assert shc("decode", "b.shc", "c.png").err == ""
    assert shc("encode", "-m", tiny_model, "c.png").err == ""  # a profile longer than Pillow reads
    assert len(decoding.decode("c.shc").info["icc_profile"]) == 1_500_000


@pytest.mark.parametrize(
    ("file", "bits"),
    [
        (io.BytesIO(b"P6 2 1 65535\n" + struct.pack(">6H", *[65_535] * 6)), 16),
        (io.BytesIO(b"P6 2 1\n# words\n1023\n" + struct.pack(">6H", *[1023] * 6)), 10),
        (io.BytesIO(b"P5 2 1 4095\n" + struct.pack(">2H", 4095, 4095)), 12),
        (io.BytesIO(b"P3 1 1 511 511 511 511\n"), 9),
        (saved(Image.fromarray(np.full((16, 16), 65_535, np.uint16)), "JPEG2000"), 16),
        (saved(Image.fromarray(np.full((16, 16), 65_535, np.uint16)), "JPEG2000", no_jp2=True), 16),
    ],
    ids=["PPM", "PPM 10", "PGM", "plain", "JP2", "J2K"],
)
def test_more_bits_than_8_are_told(file: io.BytesIO, bits: int) -> None:
    picture = read_picture(file)
    assert picture.notes == (f"{bits} bits reduced to 8",)
    assert (picture.rgb >= 254).all()


@pytest.mark.parametrize(
    ("name", "bits", "grey"), [("10_bits.avif", 10, False), ("12_bits_grey.avif", 12, True), ("12_bits.jp2", 12, False)]
)
def test_files_of_other_programs_with_more_bits(name: str, bits: int, grey: bool) -> None:
    picture = read_picture(FILES / name)
    assert (picture.notes, picture.grey) == ((f"{bits} bits reduced to 8",), grey)
    expected = make_photo(24, 32)
    assert np.abs(picture.rgb.astype(int) - (expected[..., :1] if grey else expected)).mean() < 3


def test_the_bits_of_avif_and_jpeg_2000_are_read_from_their_headers() -> None:
    """Pillow writes neither with more than 8 bits and three channels; the headers are changed."""
    avif = bytearray(saved(PHOTO, "AVIF").getvalue())
    at = avif.index(b"av1C") + 6
    for flags, bits in ((0x40, 10), (0x60, 12)):
        avif[at] = avif[at] & 0x9F | flags
        with pytest.raises(PictureError):
            read_picture(io.BytesIO(bytes(avif)))  # whose samples do not agree
        from shcodec.pictures.formats.file_facts import read_facts

        assert read_facts(io.BytesIO(bytes(avif)), "AVIF").bits == bits
    jp2 = saved(PHOTO, "JPEG2000").getvalue()
    at = jp2.index(b"ihdr") + 14
    changed = jp2[:at] + bytes([11]) + jp2[at + 1 :]
    assert read_picture(io.BytesIO(changed)).notes == ("12 bits reduced to 8",)


# Bad pieces among good ones


def test_xmp_that_is_not_utf_8_costs_nothing_else(model: Model, tiny_model: str) -> None:
    file = jpeg(PHOTO, EXIF, segment(0xE1, PACKET + "<x>grün</x>".encode("latin-1")), PROFILE)
    picture = read_picture(file)
    assert picture.metadata == Metadata(srgb(), exif_block(), b"")
    assert picture.notes == ("XMP that is not UTF-8 dropped",)
    wide = read_picture(jpeg(PHOTO, segment(0xE1, PACKET + XMP.decode().encode("utf-16"))))
    assert (wide.metadata.xmp, wide.notes) == (XMP, ())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif"])
def test_a_file_that_has_such_xmp_is_decoded_with_all_else(suffix: str) -> None:
    image = PHOTO.copy()
    image.info.update(Metadata(srgb(swapped=True), exif_block(), "grün".encode("latin-1")).pillow_info)
    file = io.BytesIO()
    notes = write_picture(image, file, FORMATS[suffix])
    assert set(notes) <= {f"XMP dropped ({FORMATS[suffix]} cannot hold it)"}
    back = Image.open(file)
    back.load()
    assert back.info["icc_profile"] == srgb(swapped=True)
    assert back.getexif()[ExifTags.Base.ImageDescription] == "a made-up picture"
    assert ImageOps.exif_transpose(back).size == (40, 56)
    assert np.abs(np.asarray(ImageOps.exif_transpose(back)).astype(int) - np.rot90(make_photo(40, 56), -1)).mean() < 9


def test_orientation_in_xmp_alone_invents_no_exif(model: Model, tiny_model: str) -> None:
    turned = XMP.replace(b'dc:source="', b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" dc:source="')
    picture = read_picture(jpeg(PHOTO, segment(0xE1, PACKET + turned)))
    assert picture.metadata == Metadata(xmp=turned)
    decoded = decoding.decode(encoding.encode(picture, model=model))
    assert decoded.info == {"xmp": turned}
    assert read_picture(jpeg(PHOTO, segment(0xE1, PACKET + turned)), strip=True).rgb.shape == (56, 40, 3)
    told = PHOTO.copy()
    told.getexif()[ExifTags.Base.Orientation] = 6  # by the program that calls
    assert read_picture(told).metadata.exif


@pytest.mark.parametrize(
    "bad",
    [
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4"),
        segment(0xE0, b"JFIF\0\1"),
        segment(0xE2, b"ICC_PROFILE\0"),
    ],
    ids=["Photoshop", "JFIF", "profile"],
)
def test_a_jpeg_segment_that_pillow_stumbles_over(bad: bytes) -> None:
    good = jpeg(PHOTO, EXIF, segment(0xE1, PACKET + XMP))
    picture = read_picture(jpeg(PHOTO, EXIF, bad, segment(0xE1, PACKET + XMP)))
    assert np.array_equal(picture.rgb, read_picture(good).rgb)
    assert picture.metadata == Metadata(exif=exif_block(), xmp=XMP)
    assert picture.notes == ("damaged metadata dropped",)


def test_a_jpeg_of_12_bits_is_refused_by_name() -> None:
    data = bytearray(jpeg(PHOTO).getvalue())
    data[data.index(b"\xff\xc0\x00\x11") + 4] = 12
    with pytest.raises(PictureError, match=r"^a JPEG of 12 bits a sample, which Pillow cannot read; convert it first$"):
        read_picture(io.BytesIO(bytes(data)))


# Alpha that nobody meant


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_a_bmp_whose_alpha_is_0_everywhere_is_opaque(alpha: int) -> None:
    photo = make_photo(12, 16)
    pixels = np.dstack([photo[::-1, :, ::-1], np.full((12, 16), alpha, np.uint8)]).tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, 16, 12, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    data = b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels
    picture = read_picture(io.BytesIO(data))
    assert np.array_equal(picture.rgb, photo)
    assert (picture.alpha is None) == (alpha != 128)
    tga = read_picture(saved(Image.fromarray(np.dstack([photo, np.full((12, 16), alpha, np.uint8)])), "TGA"))
    assert np.array_equal(tga.rgb, photo)
    assert (tga.alpha is None) == (alpha != 128)


# Many pixels


def test_pillows_limit_gives_way_when_more_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 500)
    file = saved(PHOTO, "PNG")
    with pytest.raises(LimitError, match="too many pixels"):
        read_picture(file)
    assert read_picture(file, max_pixels=MAX_PIXELS + 1).rgb.shape == (40, 56, 3)
    assert PIL.Image.MAX_IMAGE_PIXELS == 500


def test_every_command_has_the_limit(
    shc: Shc, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PHOTO.save("a.png")
    assert shc("encode", "-m", tiny_model, "a.png", "--max-pixels", 2240).code == 0
    for command in (
        ("encode", "-m", tiny_model, "-f", "a.png"),
        ("decode", "-f", "a.shc", "b.png"),
        ("verify", "a.shc"),
        ("compare", "a.png", "a.shc"),
    ):
        assert shc(*command, "--max-pixels", 2240).code == 0
        outcome = shc(*command, "--max-pixels", 2239)
        assert (outcome.code, outcome.err.count("\n")) == (1, 1)
        assert "2239" in outcome.err.replace(",", "")
    with pytest.raises(LimitError):
        encoding.encode("a.png", model=tiny_model, max_pixels=2239)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 500)  # a picture that Pillow alone would refuse
    assert shc("encode", "-m", tiny_model, "-f", "a.png").code == 1
    assert shc("encode", "-m", tiny_model, "-f", "a.png", "--max-pixels", 10**9).code == 0
    assert shc("compare", "a.png", "a.shc", "--max-pixels", 10**9).code == 0


# Kinds that are as they should be, and stay so


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_ink_in_jpeg(subsampling: int) -> None:
    inks = PHOTO.convert("CMYK")
    picture = read_picture(saved(inks, "JPEG", quality=95, subsampling=subsampling))
    assert np.abs(picture.rgb.astype(int) - np.asarray(inks.convert("RGB"))).mean() < 5


@pytest.mark.parametrize("format", ["AVIF", "WEBP", "MPO", "GIF", "TIFF"])
def test_the_first_frame(format: str) -> None:
    other = PHOTO.transpose(Image.Transpose.ROTATE_180)
    picture = read_picture(saved(PHOTO, format, save_all=True, append_images=[other]))
    assert picture.notes[0] == "first frame of 2"
    assert np.abs(picture.rgb.astype(int) - make_photo(40, 56)).mean() < 12


def test_bytes_behind_the_end_of_a_jpeg() -> None:
    file = jpeg(PHOTO, progressive=True)
    assert np.array_equal(read_picture(io.BytesIO(file.getvalue() + b"\xff\xd8" * 500)).rgb, read_picture(file).rgb)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2, 5000)])
def test_extreme_sides(model: Model, tiny_model: str, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (90, 120, 40))
    picture = read_picture(saved(image, "PNG"))
    assert (picture.rgb == (90, 120, 40)).all()
    assert decoding.decode(encoding.encode(picture, 20, model=model)).size == size


def test_metadata_close_to_the_limit_that_nothing_makes_smaller(model: Model) -> None:
    exif = b"II*\0\x08\0\0\0\0\0\0\0\0\0" + np.random.default_rng(1).bytes(LIMIT - 14)
    image = Image.new("RGB", (8, 8))
    image.info["exif"] = exif
    picture = read_picture(image)
    assert (picture.metadata.exif, picture.notes) == (b"", ("metadata of more than 16 MiB dropped",))
    image.info["exif"] = exif[: LIMIT - (LIMIT >> 10)]
    assert len(encoding.encode(image, model=model)) > LIMIT * 0.99


@pytest.mark.parametrize("tag", [270, 282, 700, 33723, 34665, 34675])
def test_a_tiff_tag_that_leads_out_of_the_file(tag: int) -> None:
    photo = make_photo(6, 8)
    data = tiff(photo, 2, tags={tag: (4, (1,)), 305: (2, tuple(b"a program\0"))}).getvalue()
    at = data.rindex(struct.pack("<HHI", tag, 4, 1))
    for kind in (1, 2, 4, 5, 7):
        bad = data[:at] + struct.pack("<HHII", tag, kind, 500, 10**7) + data[at + 12 :]
        picture = read_picture(io.BytesIO(bad))
        assert np.array_equal(picture.rgb, photo)
        assert picture.notes == ("damaged metadata dropped",)
        exif = Image.Exif()
        exif.load(picture.metadata.exif)
        assert dict(exif) == {ExifTags.Base.Software: "a program"}


@pytest.mark.parametrize("tag", [b"XMP ", b"EXIF"])
def test_a_webp_chunk_that_leads_out_of_the_file(tag: bytes) -> None:
    options: dict[str, Any] = {"xmp": XMP} if tag == b"XMP " else {"exif": b"Exif\0\0" + exif_block()}
    data = saved(PHOTO, "WEBP", lossless=True, icc_profile=srgb(), **options).getvalue()
    at = data.index(tag) + 4
    picture = read_picture(io.BytesIO(data[:at] + struct.pack("<I", 1 << 20) + data[at + 4 :]))
    assert np.array_equal(picture.rgb, make_photo(40, 56))
    assert (picture.metadata, picture.notes) == (Metadata(icc=srgb()), ("damaged metadata dropped",))


def test_avif_with_exif_that_is_none() -> None:
    data = saved(PHOTO, "AVIF", exif=exif_block(1), xmp=XMP, icc_profile=srgb()).getvalue()
    at = data.index(exif_block(1)[:8])
    picture = read_picture(io.BytesIO(data[:at] + b"\xff" * 8 + data[at + 8 :]))
    assert np.array_equal(picture.rgb, read_picture(io.BytesIO(data)).rgb)
    assert (picture.metadata, picture.notes) == (Metadata(icc=srgb(), xmp=XMP), ("damaged metadata dropped",))


def test_a_damaged_table_of_pictures_in_a_jpeg() -> None:
    for table in (
        b"MPF\0" + b"\xff" * 40,
        b"MPF\0MM\0*\0\0\0\x08\0\1\xb0\1\0\4\0\0\0\1\0\0\0\0",
        b"MPF\0II*\0\x08\0\0\0",
    ):
        picture = read_picture(jpeg(PHOTO, EXIF, segment(0xE2, table)))
        assert np.array_equal(picture.rgb, read_picture(jpeg(PHOTO)).rgb)
        assert picture.metadata.exif == exif_block()
