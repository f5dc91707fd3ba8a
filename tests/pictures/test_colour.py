"""Profiles are what they do: compared by effect, never by name; and grey ones fit the file that they are written to."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from conftest import make_photo
from made_up_files import jpeg
from made_up_metadata import XMP, exif_block, grey_profile, srgb
from PIL import ExifTags, Image, ImageCms

from shcodec.pictures.colour import (
    CICP_CURVES,
    CICP_PRIMARIES,
    SRGB_CURVE,
    SRGB_PRIMARIES,
    Curve,
    Meaning,
    Primaries,
    made_profile,
    of_cicp,
    profile_space,
    shows_srgb,
    to_srgb,
)
from shcodec.pictures.metadata import Metadata
from shcodec.pictures.reading import read_picture
from shcodec.pictures.writing import FORMATS, write_picture

LINEAR = made_profile(SRGB_PRIMARIES, Curve(1.0))
P3 = made_profile(CICP_PRIMARIES[12], SRGB_CURVE)


def named_srgb(icc: bytes) -> bytes:
    """Return the profile with another name: one that says sRGB."""
    name = "made of a picture's description".encode("utf-16-be")
    assert name in icc
    return icc.replace(name, "GIMP built-in sRGB, or is it it".encode("utf-16-be"))


@pytest.mark.parametrize("icc", [LINEAR, P3, made_profile(SRGB_PRIMARIES, Curve(1.8))])
@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".jp2"])
def test_a_name_says_nothing(icc: bytes, suffix: str) -> None:
    icc = named_srgb(icc)
    photo = make_photo(24, 32)
    expected = np.asarray(
        ImageCms.profileToProfile(
            Image.fromarray(photo), ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
        )
    )
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG", icc_profile=icc)
    stripped = read_picture(file, strip=True)
    assert np.array_equal(stripped.rgb, expected)
    assert stripped.notes == ("colour profile converted to sRGB",)
    image = Image.fromarray(photo)
    image.info["icc_profile"] = icc
    out = io.BytesIO()
    assert write_picture(image, out, FORMATS[suffix]) == ("colour profile converted to sRGB",)
    assert np.array_equal(np.asarray(Image.open(out)), expected)


def test_linear_light_becomes_srgb() -> None:
    image = Image.new("RGB", (2, 2), (55, 55, 188))
    assert to_srgb(image, named_srgb(LINEAR))[0].getpixel((0, 0)) == (128, 128, 223)


@pytest.mark.parametrize("points", [256, 1024, 4096])
def test_srgb_by_any_name_changes_nothing(points: int) -> None:
    """As others make it: version 2, its curve a table, its name anything."""
    curve = np.round(65_535 * SRGB_CURVE.light(np.arange(points) / (points - 1))).astype(">u2").tobytes()
    other = made_profile(SRGB_PRIMARIES, SRGB_CURVE)
    start = other.index(b"para")
    table = b"curv" + struct.pack(">2I", 0, points) + curve
    icc = bytearray(other + table)
    for tag in (b"rTRC", b"gTRC", b"bTRC"):
        at = icc.index(tag)
        icc[at + 4 : at + 12] = struct.pack(">2I", len(other), len(table))
    icc[:4] = struct.pack(">I", len(icc))
    icc[start : start + 4] = b"none"
    photo = Image.fromarray(make_photo(24, 32))
    converted, note = to_srgb(photo, bytes(icc))
    assert (converted.tobytes(), note) == (photo.tobytes(), "")


def test_greys_by_effect() -> None:
    assert not shows_srgb(grey_profile())
    assert shows_srgb(srgb())
    assert not shows_srgb(b"no profile")
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    linear, note = to_srgb(ramp, grey_profile())
    assert (linear.mode, note) == ("L", "colour profile converted to sRGB")
    assert np.asarray(linear)[0, 55] > 55


@pytest.mark.parametrize("mode", ["L", "LA"])
@pytest.mark.parametrize("suffix", list(FORMATS))
def test_what_is_written_of_a_grey_picture_can_be_read_with_its_profile(suffix: str, mode: str) -> None:
    """Either the profile goes along and fits, or its colours are converted: the same grey in the end."""
    grey = Image.fromarray(make_photo(24, 32)).convert("L")
    expected = np.asarray(to_srgb(grey, grey_profile())[0]).astype(int)
    image = grey.convert(mode)
    image.info["icc_profile"] = grey_profile()
    file = io.BytesIO()
    write_picture(image, file, FORMATS[suffix])
    picture = read_picture(file, strip=True)
    assert "dropped" not in "".join(read_picture(file).notes).replace("alpha dropped (all opaque)", "")
    assert np.abs(picture.rgb[..., 0] - expected).mean() < 3
    assert (picture.rgb == picture.rgb[..., :1]).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif"])
def test_a_profile_that_does_not_fit_is_not_written(suffix: str) -> None:
    """As files of other encoders may have it."""
    grey = Image.new("L", (16, 16), 55)
    for image, icc, expected in ((grey, LINEAR, 128), (grey.convert("RGB"), grey_profile(), 55), (grey, b"junk", 55)):
        image.info["icc_profile"] = icc
        file = io.BytesIO()
        (note,) = write_picture(image, file, FORMATS[suffix])
        assert note in ("colour profile converted to sRGB", "unusable colour profile ignored")
        picture = read_picture(file)
        assert picture.metadata.icc == b""
        assert abs(int(picture.rgb[8, 8, 0]) - expected) <= 1


def test_avif_of_one_channel_is_grey() -> None:
    grey = Image.fromarray(make_photo(24, 32)).convert("L")
    file = io.BytesIO()
    grey.save(file, "AVIF", subsampling="4:0:0", icc_profile=grey_profile())
    picture = read_picture(file)
    assert (picture.grey, picture.metadata.icc, picture.notes) == (True, grey_profile(), ())


def nclx(data: bytes, primaries: int, transfer: int) -> bytes:
    """Return an AVIF file with other code points."""
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_avif_says_its_colours_by_number() -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (188, 55, 55)).save(file, "AVIF", quality=100, subsampling="4:4:4")
    data = file.getvalue()
    plain = read_picture(io.BytesIO(data))
    assert (plain.metadata.icc, plain.notes) == (b"", ())
    wide = read_picture(io.BytesIO(nclx(data, 12, 13)))
    assert wide.metadata.icc == P3
    assert np.array_equal(wide.rgb, plain.rgb)
    linear = read_picture(io.BytesIO(nclx(data, 1, 8)))
    assert np.abs(linear.rgb[5, 5].astype(int) - [223, 128, 128]).max() <= 2
    pq = read_picture(io.BytesIO(nclx(data, 9, 16)))
    assert pq.notes == ("CICP: transfer curve PQ not converted: colours will look wrong",)
    assert read_picture(io.BytesIO(nclx(data, 2, 2))).notes == ()


def test_jpeg_2000_has_a_profile_of_its_own() -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (188, 55, 55)).save(file, "JPEG2000")
    data = file.getvalue()
    at = data.index(b"colr") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    colr = struct.pack(">I", 11 + len(LINEAR)) + b"colr\2\0\0" + LINEAR
    head = data.index(b"jp2h") - 4
    longer = int.from_bytes(data[head : head + 4], "big") + len(colr) - size
    data = data[:head] + struct.pack(">I", longer) + data[head + 4 : at] + colr + data[at + size :]
    assert read_picture(io.BytesIO(data)).metadata.icc == LINEAR
    assert read_picture(io.BytesIO(data), strip=True).rgb[5, 5].tolist() == [223, 128, 128]


def test_jpeg_2000_has_metadata_in_boxes_of_their_own() -> None:
    file = io.BytesIO()
    Image.fromarray(make_photo(16, 24)).save(file, "JPEG2000")
    data = file.getvalue()
    at = data.index(b"jp2c") - 4
    xmp = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP
    boxes = b"".join(
        struct.pack(">I", 8 + len(box)) + b"uuid" + box for box in (xmp, b"JpgTiffExif->JP2" + exif_block())
    )
    changed = io.BytesIO(data[:at] + boxes + data[at:])
    assert read_picture(changed).metadata == Metadata(exif=exif_block(), xmp=XMP)
    assert read_picture(changed, strip=True).rgb.shape == (24, 16, 3)


def test_photoshop_files_have_metadata_among_their_resources() -> None:
    photo = make_photo(16, 24)
    resources = b""
    for number, data in ((1058, exif_block()), (1060, XMP), (1039, P3)):
        resources += struct.pack(">4sHHI", b"8BIM", number, 0, len(data)) + data + bytes(len(data) % 2)
    file = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 16, 24, 8, 3) + bytes(4)
    file += struct.pack(">I", len(resources)) + resources + bytes(4) + bytes(2) + photo.transpose(2, 0, 1).tobytes()
    picture = read_picture(io.BytesIO(file))
    assert np.array_equal(picture.rgb, photo)
    assert picture.metadata == Metadata(P3, exif_block(), XMP)


def test_a_jpeg_whose_profile_lacks_a_part_says_so() -> None:
    part = b"\xff\xe2" + struct.pack(">H", 2 + 14 + 4) + b"ICC_PROFILE\0\1\2" + b"part"
    picture = read_picture(jpeg(Image.fromarray(make_photo(24, 32)), part))
    assert picture.notes == ("colour profile with missing parts dropped",)


def test_curves_there_and_back() -> None:
    samples = np.linspace(0, 1, 101)
    for curve in CICP_CURVES.values():
        assert np.allclose(curve.samples(curve.light(samples)), samples, atol=1e-3)
    assert Meaning().table(255).tolist() == list(range(256))
    assert (of_cicp(2, 2)[0], of_cicp(200, 13)[0]) == (Meaning(), None)


def test_primaries_that_span_nothing() -> None:
    point = (0.3, 0.3)
    with pytest.raises(ValueError, match="span no colours"):
        made_profile(Primaries(point, point, point, point), SRGB_CURVE)


def test_cameras_mark_their_other_colours_in_exif() -> None:
    """As R03, without a profile: Adobe RGB."""
    exif = Image.Exif()
    exif[ExifTags.Base.ExifOffset] = {ExifTags.Base.ColorSpace: 65_535, 40_965: {1: "R03"}}
    exif_of_srgb = Image.Exif()
    exif_of_srgb[ExifTags.Base.ExifOffset] = {ExifTags.Base.ColorSpace: 1, 40_965: {1: "R98"}}
    image = Image.new("RGB", (16, 16), (60, 180, 60))
    marked = jpeg(image, exif=exif, subsampling=0)
    assert read_picture(jpeg(image, exif=exif_of_srgb)).metadata.icc == b""
    assert profile_space(read_picture(marked).metadata.icc) == b"RGB "
    green = read_picture(marked, strip=True).rgb[8, 8]
    assert green[0] < 5  # beyond what sRGB has
    assert green[1] > 178


def test_tiff_has_primaries_among_its_tags() -> None:
    photo = make_photo(12, 16)
    file = io.BytesIO()
    for primaries, icc in ((CICP_PRIMARIES[12], P3), (SRGB_PRIMARIES, b"")):
        x = [float(value) for point in primaries for value in point]
        Image.fromarray(photo).save(file, "TIFF", tiffinfo={318: tuple(x[:2]), 319: tuple(x[2:])})
        assert read_picture(file).metadata.icc == icc
        file.seek(0)
        file.truncate()


def test_bmp_of_version_5_has_a_profile() -> None:
    photo = make_photo(12, 16)
    pixels = photo[::-1, :, ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, 16, 12, 1, 24, 0, len(pixels), 0, 0, 0, 0) + bytes(16)
    header += b"DEBM" + bytes(48) + struct.pack("<4I", 0, 124 + len(pixels), len(P3), 0)
    data = b"BM" + struct.pack("<IHHI", 138 + len(pixels) + len(P3), 0, 0, 138) + header + pixels + P3
    picture = read_picture(io.BytesIO(data))
    assert np.array_equal(picture.rgb, photo)
    assert picture.metadata.icc == P3
