"""Profiles, EXIF and XMP come back as they were, from every format and into every format."""

from __future__ import annotations

import io
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, Shc, make_photo
from made_up_bytes import deflated
from made_up_metadata import XMP, exif_block, grey_profile, srgb
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from shcodec import container
from shcodec.codec import decoding, encoding, inspection
from shcodec.codec.effort import effort_of
from shcodec.codec.goals import SizeGoal
from shcodec.codec.rate_control import search
from shcodec.container import Chunk
from shcodec.container.extras import metadata_names, pack_extras, unpack_metadata
from shcodec.model.networks import Model
from shcodec.pictures.metadata import Metadata
from shcodec.pictures.picture import Picture
from shcodec.pictures.reading import read_picture
from shcodec.pictures.writing import FORMATS, write_picture
from shcodec.support.errors import CorruptFileError, ShcWarning
from shcodec.support.limits import MAX_METADATA_SIZE as LIMIT
from shcodec.support.progress import unheard

ALL = Metadata(srgb(), exif_block(), XMP)
HOLDING = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF")


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHC_MODELS", str(GOLDEN))


def picture(extras: Metadata = ALL, **fields: Any) -> Picture:
    return Picture(make_photo(40, 56), metadata=extras, **fields)


def saved(image: Image.Image, format: str, extras: Metadata = ALL) -> io.BytesIO:
    """Return a picture file with metadata, as Pillow writes it."""
    options: dict[str, Any] = {"icc_profile": extras.icc, "exif": extras.exif and b"Exif\0\0" + extras.exif}
    if format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", extras.xmp.decode())
    elif format == "TIFF":
        exif = Image.Exif()
        exif.load(extras.exif)
        exif[700] = extras.xmp
        options["exif"] = exif
    else:
        options["xmp"] = extras.xmp
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def described_alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two images tell the same, whatever bytes say so."""

    def told(image: Image.Image) -> tuple[object, ...]:
        exif = image.getexif()
        base = [exif.get(tag) for tag in (ExifTags.Base.ImageDescription, ExifTags.Base.Orientation)]
        return *base, exif.get_ifd(ExifTags.IFD.Exif), image.info.get("icc_profile"), image.info.get("xmp")

    return told(one) == told(other)


# Chunks


def test_chunks_hold_what_they_are_given() -> None:
    chunks = pack_extras(picture())
    assert [chunk.tag for chunk in chunks] == [b"iccp", b"exif", b"xmlp"]
    assert unpack_metadata(chunks) == ALL
    assert unpack_metadata(chunks[::-1]) == ALL
    assert unpack_metadata(chunks[1:2]) == Metadata(exif=ALL.exif)
    assert metadata_names(chunks[1:]) == ("EXIF", "XMP")
    assert pack_extras(picture(Metadata())) == ()


def test_a_plain_inflater_reads_them() -> None:
    """As FORMAT.md says: bare DEFLATE."""
    for chunk, data in zip(pack_extras(picture()), (ALL.icc, ALL.exif, ALL.xmp), strict=True):
        inflater = zlib.decompressobj(-15)
        assert inflater.decompress(chunk.data) == data
        assert inflater.eof


@pytest.mark.parametrize("tag", [b"iccp", b"exif", b"xmlp"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not end where it should"),
        (b"\xff\xff", "is damaged"),
        (deflated(b"abc") + b"\0", "does not end where it should"),
        (deflated(b"abc" * 50)[:-2], "does not end where it should"),
        (zlib.compress(b"abc"), "is damaged"),
        (deflated(b""), "is empty"),
    ],
    ids=["nothing", "noise", "more", "less", "zlib", "empty"],
)
def test_damaged_chunks(tag: bytes, data: bytes, message: str) -> None:
    with pytest.raises(CorruptFileError, match=f"^chunk {tag.decode()} {message}$"):
        unpack_metadata((Chunk(tag, data),))


# Files


def test_a_file_keeps_everything(model: Model) -> None:
    alpha = np.tile(np.arange(56, dtype=np.uint8), (40, 1))
    data = encoding.encode(picture(alpha=alpha), model=model)
    image = decoding.decode(data)
    assert image.mode == "RGBA"
    assert image.info == {"icc_profile": ALL.icc, "exif": b"Exif\0\0" + ALL.exif, "xmp": ALL.xmp}
    assert np.array_equal(np.array(image.getchannel("A")), alpha)
    told = inspection.info(data)
    assert (told.mode, told.metadata) == ("RGBA", ("ICC", "EXIF", "XMP"))
    assert told.chunks == ["ALPH", "iccp", "exif", "xmlp"]
    inspection.verify(data)
    plain = encoding.encode(picture(Metadata()), model=model)
    assert len(data) - len(plain) == told.sizes["chunks"]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_every_mode_comes_back(model: Model, mode: str) -> None:
    image = Image.fromarray(make_photo(40, 56)).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(np.tile(np.arange(56, dtype=np.uint8), (40, 1))))
    data = encoding.encode(image, 3, model=model)
    decoded = decoding.decode(data)
    assert (decoded.mode, decoded.size, inspection.info(data).mode) == (mode, image.size, mode)
    if "A" in mode:
        assert decoded.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    if mode.startswith("L"):
        again = decoding.decode_array(data)
        assert np.array_equal(np.array(decoded.getchannel(0)), np.array(Image.fromarray(again).convert("L")))


def test_a_grey_file_is_smaller_than_one_in_colour(model: Model) -> None:
    image = Image.fromarray(make_photo(128, 160))
    assert len(encoding.encode(image.convert("L"), model=model)) < len(encoding.encode(image, model=model))


def test_damaged_metadata_make_a_damaged_file(model: Model) -> None:
    file = container.unpack(encoding.encode(picture(Metadata()), model=model))
    for chunk in (Chunk(b"exif", b""), Chunk(b"ALPH", b"\x01\xff")):
        data = container.pack(replace(file, chunks=(chunk,)))
        for read in (decoding.decode, inspection.verify):
            with pytest.raises(CorruptFileError, match=f"chunk {chunk.tag.decode()}"):
                read(data)


@pytest.mark.parametrize("share", [0.75, 1.0, 1.5])
def test_a_wanted_size_is_that_of_the_whole_file(model: Model, share: float) -> None:
    rgb = make_photo(200, 150)
    chunk = Chunk(b"exif", np.random.default_rng(1).bytes(300))
    symbols = len(encoding.encode_array(rgb, 40, model=model))
    wanted = int(share * symbols) + 311
    goal = SizeGoal(wanted, 200 * 150, (chunk,))
    found = search(model, rgb, goal, effort_of(None), unheard, strict=True, chunks=(chunk,))
    assert 0.97 * wanted <= len(found.coded.data) <= wanted
    assert container.unpack(found.coded.data).chunks == (chunk,)


# From and into other formats


@pytest.mark.parametrize("format", HOLDING)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_what_pillow_shows_is_what_comes_back(model: Model, format: str, mode: str) -> None:
    if (format, mode) == ("JPEG", "RGBA"):
        pytest.skip("JPEG has no alpha")
    image = Image.fromarray(make_photo(40, 56)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.tile(np.arange(56, dtype=np.uint8), (40, 1))))
    file = saved(image, format, replace(ALL, icc=grey_profile() if mode == "L" and format != "WEBP" else srgb()))
    decoded = decoding.decode(encoding.encode(file, 2, model=model))
    original = Image.open(file)
    original.load()
    assert (decoded.mode, decoded.size) == (original.mode, original.size)
    assert described_alike(decoded, original)
    assert ImageOps.exif_transpose(decoded).size == ImageOps.exif_transpose(original).size == (40, 56)
    shown = np.array(original.convert("RGBA"))
    visible = shown[..., 3] > 0
    assert np.array_equal(read_picture(file).rgb[visible], shown[visible][:, :3])


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA"])
@pytest.mark.parametrize("suffix", list(FORMATS))
def test_every_format_takes_what_it_can_hold(suffix: str, mode: str) -> None:
    format = FORMATS[suffix]
    image = Image.fromarray(make_photo(40, 56)).convert(mode)
    extras = replace(ALL, icc=grey_profile() if mode in ("L", "LA") else srgb(swapped=True))
    image.info.update(extras.pillow_info)
    info = dict(image.info)
    file = io.BytesIO()
    notes = write_picture(image, file, format)
    assert (image.info, image.mode) == (info, mode)
    back = Image.open(file)
    back.load()
    assert ImageOps.exif_transpose(back).size == (40, 56)
    if format not in HOLDING:
        assert "EXIF orientation applied" in notes
        assert f"EXIF and XMP dropped ({format} cannot hold them)" in notes
        assert "colour profile converted to sRGB" in notes
        assert not back.info.keys() & extras.pillow_info.keys()
    elif format == "WEBP" and mode in ("L", "LA"):
        assert notes == ("colour profile converted to sRGB",)
        assert back.info["xmp"] == XMP
    else:
        assert set(notes) <= {"alpha dropped (laid on white)"}
        expected = ImageOps.exif_transpose(image) if format == "TIFF" else image  # Pillow turns TIFF when it is read
        assert described_alike(back, expected)


def test_colours_are_converted_where_the_profile_is_lost() -> None:
    image = Image.fromarray(make_photo(40, 56))
    image.info["icc_profile"] = srgb(swapped=True)
    file = io.BytesIO()
    assert write_picture(image, file, "BMP") == ("colour profile converted to sRGB",)
    difference = np.array(Image.open(file)).astype(int) - make_photo(40, 56)[..., [1, 0, 2]]
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize(("orientation", "turned"), [(1, False), (8, True)])
def test_long_metadata_do_not_fit_jpeg(orientation: int, turned: bool) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    image = Image.fromarray(make_photo(40, 56))
    image.info.update({"exif": exif.tobytes(), "icc_profile": srgb()})
    file = io.BytesIO()
    notes = write_picture(image, file, "JPEG")
    assert notes == (("EXIF orientation applied",) if turned else ()) + ("EXIF dropped (JPEG cannot hold it)",)
    back = Image.open(file)
    assert (back.size, back.info["icc_profile"]) == ((40, 56) if turned else (56, 40), srgb())


@pytest.mark.parametrize("format", sorted(set(FORMATS.values())))
@pytest.mark.parametrize("seed", range(6))
def test_broken_metadata_never_cost_the_picture(format: str, seed: int) -> None:
    """On the way in and out: whatever the bytes, the picture is written and can be read again."""
    generator = np.random.default_rng(seed)
    parts = []
    for data in (srgb(), exif_block(), XMP):
        damaged = bytearray(data)
        for position in generator.integers(len(damaged), size=[1, 5, 40][seed % 3]):
            damaged[position] = generator.integers(256)
        parts.append(bytes(damaged[: generator.integers(1, len(damaged) + 1) if seed >= 3 else None]))
    image = Image.fromarray(make_photo(40, 56))
    image.info.update({"icc_profile": parts[0], "exif": parts[1], "xmp": parts[2]})
    for strip in (False, True):
        seen = read_picture(image, strip=strip)
        assert seen.rgb.size == 40 * 56 * 3
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_picture(image, file, format)
        assert sorted(read_picture(file).rgb.shape) == [3, 40, 56]


def test_orientation_that_only_xmp_tells(model: Model) -> None:
    xmp = XMP.replace(b'dc:source="', b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" dc:source="')
    file = saved(Image.fromarray(make_photo(40, 56)), "JPEG", Metadata(xmp=xmp))
    decoded = decoding.decode(encoding.encode(file, model=model))
    assert decoded.size == (56, 40)
    assert ImageOps.exif_transpose(decoded).size == (40, 56)
    assert read_picture(file, strip=True).rgb.shape == (56, 40, 3)


def test_tiff_tags_about_the_file_stay_behind() -> None:
    file = saved(Image.fromarray(make_photo(40, 56)), "TIFF")
    exif = Image.Exif()
    exif.load(read_picture(file).metadata.exif)
    assert set(exif) == {ExifTags.Base.ImageDescription, ExifTags.Base.ExifOffset}  # Pillow has turned the samples
    exif[ExifTags.Base.ImageWidth] = 7
    image = Image.fromarray(make_photo(40, 56))
    image.info["exif"] = exif.tobytes()
    out = io.BytesIO()
    assert write_picture(image, out, "TIFF") == ()
    assert np.array_equal(np.array(Image.open(out)), make_photo(40, 56))


def test_what_is_too_long_is_left_out() -> None:
    image = Image.fromarray(make_photo(8, 8))
    image.info.update(xmp=bytes(LIMIT + 1), icc_profile=srgb())
    seen = read_picture(image)
    assert seen.metadata == Metadata(icc=srgb())
    assert seen.notes == ("metadata of more than 16 MiB dropped",)


def test_the_commands_carry_everything(shc: Shc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(make_photo(40, 56)).convert("LA")
    image.putalpha(Image.fromarray(np.tile(np.arange(56, dtype=np.uint8), (40, 1))))
    Path("a.png").write_bytes(saved(image, "PNG", replace(ALL, icc=grey_profile())).getvalue())
    assert shc("encode", "--model", "model", "a.png").err == ""
    assert shc("decode", "a.shc", "b.png").err == ""
    with Image.open("a.png") as original, Image.open("b.png") as decoded:
        assert described_alike(original, decoded)
        assert decoded.mode == "LA"
        assert decoded.getchannel("A").tobytes() == original.getchannel("A").tobytes()
    outcome = shc("decode", "a.shc", "c.jpg")
    assert (outcome.code, outcome.err) == (0, "shc: note: a.shc: alpha dropped (laid on white)\n")
    assert "EXIF orientation applied" in shc("decode", "a.shc", "c.bmp").err
    assert "EXIF orientation applied" in shc("encode", "--model", "model", "--strip", "a.png", "d.shc").err
    assert inspection.info(Path("d.shc").read_bytes()).chunks == ["ALPH"]
    again = shc("encode", "--model", "model", "a.shc", "e.shc")
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert "already" in again.err


def test_strip_leaves_nothing(model: Model) -> None:
    file = saved(Image.fromarray(make_photo(40, 56)), "PNG", replace(ALL, icc=srgb(swapped=True)))
    with pytest.warns(ShcWarning, match="orientation applied"), pytest.warns(ShcWarning, match="converted to sRGB"):
        data = encoding.encode(file, model=model, strip=True)
    assert inspection.info(data).chunks == []
    decoded = decoding.decode(data)
    assert (decoded.size, decoded.info) == ((40, 56), {})
    turned = np.rot90(make_photo(40, 56)[..., [1, 0, 2]], -1).astype(int)
    assert np.abs(read_picture(file, strip=True).rgb - turned).max() <= 2


def test_a_grey_kodak_picture_is_smaller_than_in_colour(shc_data: Path) -> None:
    colour = Image.open(shc_data / "kodak" / "kodim05.webp").convert("RGB").crop((0, 0, 384, 256))
    for beta in (20, 200):
        assert len(encoding.encode(colour.convert("L"), beta)) < len(encoding.encode(colour, beta))
