"""TIFF: however samples lie, the picture is right or refused in one line; never a wrong picture."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from conftest import make_photo
from made_up_files import Order, tiff
from made_up_metadata import XMP
from PIL import ExifTags, Image, ImageCms

from shcodec.pictures.picture import psnr
from shcodec.pictures.reading import read_picture
from shcodec.support.errors import PictureError

GREY_WHITE, GREY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
PHOTO = make_photo(13, 18)
RGBA = np.dstack([PHOTO, np.where(PHOTO[..., :1] > 120, 255, 90)]).astype(np.uint8)
LAYOUTS: list[dict[str, Any]] = [
    {"order": order, "packed": packed, "predicted": predicted}
    for order in "<>"
    for packed, predicted in ((False, False), (True, False), (True, True))
]
ORDERS: tuple[Order, ...] = ("<", ">")


def wide(samples: np.ndarray, bits: int) -> np.ndarray:
    """8-bit samples as those of 8 or 16 bits."""
    return samples if bits == 8 else samples.astype(np.uint16) * 257


def one_line(file: io.BytesIO) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
class TestEveryLayout:
    def test_colours(self, layout: dict[str, Any], planes: bool, bits: int) -> None:
        picture = read_picture(tiff(wide(PHOTO, bits), RGB, planes=planes, **layout))
        assert np.array_equal(picture.rgb, PHOTO)
        assert picture.notes == (("16 bits reduced to 8",) if bits == 16 else ())

    def test_alpha(self, layout: dict[str, Any], planes: bool, bits: int) -> None:
        for extra in (2, None):  # unassociated, or not said
            tags = {} if extra is None else {338: (3, (extra,))}
            picture = read_picture(tiff(wide(RGBA, bits), RGB, planes=planes, tags=tags, **layout))
            assert picture.alpha is not None
            assert np.array_equal(picture.alpha, RGBA[..., 3])
            assert np.array_equal(picture.rgb, PHOTO)

    def test_what_is_no_alpha(self, layout: dict[str, Any], planes: bool, bits: int) -> None:
        picture = read_picture(tiff(wide(RGBA, bits), RGB, planes=planes, tags={338: (3, (0,))}, **layout))
        assert picture.alpha is None
        assert np.array_equal(picture.rgb, PHOTO)

    def test_colours_times_alpha(self, layout: dict[str, Any], planes: bool, bits: int) -> None:
        alpha = RGBA[..., 3:].astype(float)
        times = np.dstack([PHOTO * (alpha / 255), alpha]).round().astype(np.uint8)
        picture = read_picture(tiff(wide(times, bits), RGB, planes=planes, tags={338: (3, (1,))}, **layout))
        assert picture.alpha is not None
        assert np.array_equal(picture.alpha, RGBA[..., 3])
        assert np.abs(picture.rgb.astype(int) - PHOTO).max() <= 2

    def test_ink(self, layout: dict[str, Any], planes: bool, bits: int) -> None:
        inks = np.asarray(Image.fromarray(PHOTO).convert("CMYK"))
        picture = read_picture(tiff(wide(inks, bits), CMYK, planes=planes, **layout))
        assert np.array_equal(picture.rgb, np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")))
        assert picture.notes[-1] == "CMYK converted to RGB"

    def test_0_is_white(self, layout: dict[str, Any], planes: bool, bits: int) -> None:
        channels = PHOTO[..., :2] if planes else PHOTO[..., :1]
        tags = {338: (3, (2,))} if planes else {}
        picture = read_picture(tiff(wide(channels, bits), GREY_WHITE, planes=planes, tags=tags, **layout))
        assert picture.grey
        visible = np.ones(PHOTO.shape[:2], bool) if picture.alpha is None else picture.alpha > 0
        assert np.array_equal(picture.rgb[visible, 0], 255 - PHOTO[visible, 0])


@pytest.mark.parametrize("planes", [False, True])
def test_lab(planes: bool) -> None:
    lab = ImageCms.profileToProfile(
        Image.fromarray(PHOTO), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    picture = read_picture(tiff(np.asarray(lab), LAB, planes=planes))
    assert psnr(picture.rgb, PHOTO) > 40
    assert picture.notes == ("Lab converted to sRGB",)


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_luma_and_chroma(planes: bool, packed: bool) -> None:
    samples = np.asarray(Image.fromarray(PHOTO).convert("YCbCr"))
    file = tiff(samples, YCBCR, planes=planes, packed=packed, tags={530: (3, (1, 1))})
    assert np.abs(read_picture(file).rgb.astype(int) - PHOTO).max() <= 3


def test_chroma_of_half_size_without_compression() -> None:
    """Four samples of luma, then one of each chroma, as the default of the tag says."""
    colours = np.array([[200, 40, 60], [30, 180, 90]], np.uint8)
    y, cb, cr = np.asarray(Image.fromarray(colours[None]).convert("YCbCr"))[0].T
    blocks = np.array([[y[i]] * 4 + [cb[i], cr[i]] for i in (0, 1)] * 3, np.uint8).reshape(6, 1, 6)
    sizes = {256: (4, (4,)), 257: (4, (6,)), 278: (4, (6,)), 258: (3, (8, 8, 8)), 277: (3, (3,))}
    file = tiff(blocks.reshape(3, 2, 6), YCBCR, strip=3, tags=sizes)
    rgb = read_picture(file).rgb
    assert rgb.shape == (6, 4, 3)
    assert np.abs(rgb[:, :2].astype(int) - colours[0]).max() <= 3
    assert np.abs(rgb[:, 2:].astype(int) - colours[1]).max() <= 3


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("photometric", [GREY_WHITE, GREY])
def test_samples_without_a_range_are_refused(dtype: type, photometric: int) -> None:
    kind = 3 if np.dtype(dtype).kind == "f" else 2
    file = tiff(PHOTO[..., :1].astype(dtype), photometric, tags={339: (3, (kind,))})
    assert "have no defined range" in one_line(file)


def test_32_bits() -> None:
    for photometric in (GREY_WHITE, GREY):
        assert one_line(tiff(PHOTO[..., :1].astype(np.uint32) << 24, photometric))
    for order, packed in itertools.product(ORDERS, (False, True)):
        samples = PHOTO[..., :1].astype(np.int32) * 257  # might be of 8, 16 or 32 bits: nothing says so
        file = tiff(samples, GREY, order=order, packed=packed, tags={339: (3, (2,))})
        assert one_line(file).startswith("32-bit integer samples have no defined range")


@pytest.mark.parametrize("photometric", [GREY_WHITE, GREY])
def test_12_bits(photometric: int) -> None:
    values = np.array([[0, 1, 2047, 2048, 4095, 300]])
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    tags = {256: (4, (6,)), 258: (3, (12,)), 277: (3, (1,))}
    picture = read_picture(tiff(packed.astype(np.uint8).reshape(1, 9, 1), photometric, tags=tags))
    expected = np.floor(values * 255 / 4095 + 0.5)[0]
    assert picture.rgb[0, :, 0].tolist() == [255 - x if photometric == GREY_WHITE else x for x in expected]


def test_what_is_not_said_is_guessed_as_libtiff_does() -> None:
    assert np.array_equal(read_picture(tiff(PHOTO, RGB, tags={262: None})).rgb, PHOTO)
    assert np.array_equal(read_picture(tiff(PHOTO[..., :1], GREY, tags={262: None})).rgb[..., 0], PHOTO[..., 0])


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_palettes_of_8_bits_in_a_map_of_16(factor: int) -> None:
    colours = np.random.default_rng(3).integers(0, 256, (3, 256))
    indices = PHOTO[..., :1]
    tags = {320: (3, tuple(int(x) * factor for x in colours.reshape(-1)))}
    assert np.array_equal(read_picture(tiff(indices, PALETTE, tags=tags)).rgb, colours.T[indices[..., 0]])


def test_other_inks_and_layouts_are_refused() -> None:
    assert "inks" in one_line(tiff(RGBA, CMYK, tags={332: (3, (2,))}))
    message = one_line(tiff(wide(PHOTO[..., :2], 16), GREY, tags={338: (3, (2,))}))
    assert message == (
        "a TIFF layout that Pillow cannot read: photometric interpretation 1, 16+16 bits; convert it first"
    )
    assert "in planes" in one_line(tiff(PHOTO.astype(np.uint32), RGB, planes=True))


def test_a_cameras_raw_file_is_not_its_thumbnail() -> None:
    small = tiff(PHOTO, RGB, tags={254: (4, (1,)), 330: (4, (8,))})
    assert "raw file" in one_line(small)


def test_the_picture_and_not_its_small_version() -> None:
    """Two directories in one file: the first says that it is a reduced version of another."""
    file = io.BytesIO()
    thumbnail, picture = Image.fromarray(PHOTO[::4, ::4]), Image.fromarray(PHOTO)
    thumbnail.save(file, "TIFF", save_all=True, append_images=[picture], tiffinfo={254: 1})
    data = bytearray(file.getvalue())
    second = data.rindex(b"\xfe\x00\x04\x00\x01\x00\x00\x00\x01\x00\x00\x00")
    data[second + 8] = 0  # Pillow writes the tag into both
    read = read_picture(io.BytesIO(bytes(data)))
    assert np.array_equal(read.rgb, PHOTO)
    assert read.notes == ("page 2 of 2; those before it are small versions",)


@pytest.mark.parametrize("order", ORDERS)
def test_metadata_and_orientation_survive_another_way_of_reading(order: Order) -> None:
    tags = {274: (3, (6,)), 282: (4, (300,)), 283: (4, (300,))}
    for file in (
        tiff(wide(PHOTO, 16), RGB, order=order, planes=True, tags=tags),
        tiff(wide(PHOTO[..., :1], 16), GREY_WHITE, order=order, tags=tags),
    ):
        picture = read_picture(file)
        assert picture.rgb.shape == (18, 13, 3)
        exif = Image.Exif()
        exif.load(picture.metadata.exif)
        assert (exif[ExifTags.Base.XResolution], exif.get(ExifTags.Base.Orientation)) == (300, None)


def test_an_image_that_is_still_open_is_read_like_its_file() -> None:
    for file in (tiff(wide(PHOTO, 16), RGB, planes=True), tiff(PHOTO, RGB)):
        with Image.open(file) as image:
            image.info["xmp"] = XMP
            image.getexif()[ExifTags.Base.Artist] = "somebody"
            picture = read_picture(image)
            assert np.array_equal(picture.rgb, PHOTO)
            assert picture.metadata.xmp == XMP
    assert b"somebody" in picture.metadata.exif


def test_a_big_tiff_keeps_its_description() -> None:
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "TIFF", big_tiff=True, tiffinfo={270: "a made-up picture"})
    assert file.getvalue()[:4] == b"II+\0"
    picture = read_picture(file)
    exif = Image.Exif()
    exif.load(picture.metadata.exif)
    assert exif[ExifTags.Base.ImageDescription] == "a made-up picture"
    assert (picture.notes, np.array_equal(picture.rgb, PHOTO)) == ((), True)


def test_planes_that_do_not_add_up() -> None:
    data = tiff(wide(PHOTO, 16), RGB, planes=True, tags={277: (3, (2,)), 258: (3, (16, 16))})
    assert one_line(data)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_tags_never_escape_as_other_errors(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for file in (
        tiff(wide(PHOTO, 16), RGB, planes=True, packed=True),
        tiff(wide(PHOTO[..., :1], 16), GREY_WHITE),
        tiff(np.asarray(Image.fromarray(PHOTO).convert("YCbCr")), YCBCR),
    ):
        for _ in range(40):
            data = bytearray(file.getvalue())
            for place in generator.integers(len(data) - 240, len(data), generator.integers(1, 4)):
                data[place] = generator.integers(256)
            try:
                read_picture(io.BytesIO(bytes(data)), max_pixels=1 << 20)
            except Exception as error:
                assert type(error).__name__ in ("PictureError", "LimitError"), error
