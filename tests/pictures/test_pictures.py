"""Every kind of picture has a defined conversion, and says what was changed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import open_picture
from made_up_files import saved
from made_up_metadata import grey_profile, srgb
from PIL import Image

import shcodec
from shcodec.pictures.metadata import Metadata
from shcodec.pictures.picture import psnr
from shcodec.pictures.reading import read_picture
from shcodec.pictures.writing import FORMATS, format_for, write_picture
from shcodec.support.errors import LimitError, PictureError, UsageError
from shcodec.support.limits import MAGIC


def rgb_png(width: int, height: int, depth: int, rows: bytes, *more: tuple[bytes, bytes]) -> io.BytesIO:
    """Return a PNG of any header, also such as Pillow reads but does not write."""

    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    extra = b"".join(chunk(tag, data) for tag, data in more)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + parts)


class NotSeekable(io.BytesIO):
    """A pipe, as far as Pillow can tell."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("seek")


# Conversions


def test_rgb_is_left_as_it_is(photo: np.ndarray) -> None:
    picture = read_picture(saved(Image.fromarray(photo)))
    assert np.array_equal(picture.rgb, photo)
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.flags.c_contiguous
    assert (picture.grey, picture.alpha, picture.metadata, picture.notes) == (False, None, Metadata(), ())


def test_paths_images_and_pipes_give_the_same(photo: np.ndarray, photo_path: Path) -> None:
    data = photo_path.read_bytes()
    for picture in (
        read_picture(photo_path),
        read_picture(str(photo_path)),
        read_picture(io.BytesIO(data)),
        read_picture(NotSeekable(data)),
        read_picture(open_picture(photo_path)),
    ):
        assert np.array_equal(picture.rgb, photo)


def test_an_image_is_not_changed_or_closed(photo: np.ndarray) -> None:
    image = Image.fromarray(photo).convert("RGBA")
    read_picture(image)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (*photo[0, 0], 255)


@pytest.mark.parametrize(
    ("mode", "grey", "notes"),
    [
        ("L", True, ()),
        ("1", True, ("1-bit coded as grey",)),
        ("P", False, ("palette coded as RGB",)),
        ("LA", True, ("alpha dropped (all opaque)",)),
        ("RGBA", False, ("alpha dropped (all opaque)",)),
    ],
)
def test_other_modes_look_the_same(photo: np.ndarray, mode: str, grey: bool, notes: tuple[str, ...]) -> None:
    image = Image.fromarray(photo).convert(mode)
    picture = read_picture(saved(image))
    assert np.array_equal(picture.rgb, np.array(image.convert("RGB")))
    assert (picture.grey, picture.alpha, picture.notes) == (grey, None, notes)


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "RGBX", "YCbCr", "HSV"])
def test_modes_that_only_images_in_memory_have(photo: np.ndarray, mode: str) -> None:
    image = Image.fromarray(photo)
    if mode in ("La", "PA"):
        image = image.convert("LA" if mode == "La" else "P")
    picture = read_picture(image.convert(mode))
    assert picture.grey == (mode == "La")
    assert psnr(picture.rgb, np.array(image.convert("RGB"))) > 35


def test_equal_channels_stay_rgb(photo: np.ndarray) -> None:
    assert not read_picture(Image.fromarray(photo).convert("L").convert("RGB")).grey


def test_a_palette_of_greys_is_grey(photo: np.ndarray) -> None:
    image = Image.fromarray(photo).convert("L").quantize(16)
    picture = read_picture(saved(image))
    assert (picture.grey, picture.notes) == (True, ("palette coded as grey",))
    assert np.array_equal(picture.rgb, np.array(image.convert("RGB")))
    with_profile = read_picture(saved(image, icc_profile=srgb()))
    assert not with_profile.grey
    assert with_profile.metadata.icc == srgb()


def test_a_palette_with_alpha(photo: np.ndarray) -> None:
    image = Image.fromarray(photo).convert("RGBA")
    image.putalpha(Image.fromarray(np.where(photo[..., 0] > 120, 255, 40).astype(np.uint8)))
    indexed = image.quantize(12, method=Image.Quantize.FASTOCTREE)
    for picture in (read_picture(indexed), read_picture(saved(indexed))):
        assert picture.alpha is not None
        assert np.array_equal(picture.alpha, np.array(indexed.convert("RGBA"))[..., 3])
        assert np.array_equal(picture.rgb, np.array(indexed.convert("RGBA"))[..., :3])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_kept_and_hidden_colours_are_not(photo: np.ndarray, mode: str) -> None:
    image = Image.fromarray(photo).convert(mode)
    alpha = np.tile(np.arange(83, dtype=np.uint8) * 3, (61, 1))
    alpha[:5] = 0
    image.putalpha(Image.fromarray(alpha))
    colours = np.array(image.convert("RGB"))
    picture = read_picture(saved(image))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, alpha)
    assert np.array_equal(picture.rgb[alpha > 0], colours[alpha > 0])
    assert not np.array_equal(picture.rgb[:5], colours[:5])
    assert (picture.grey, picture.notes) == (mode == "LA", ())


def test_a_transparent_palette_entry_is_alpha_too() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([200, 10, 10, 10, 200, 10])
    image.putpixel((0, 0), 1)
    picture = read_picture(saved(image, transparency=0))
    assert (picture.rgb == (10, 200, 10)).all()  # the only colour that can be seen
    assert picture.alpha is not None
    assert picture.alpha.sum() == picture.alpha[0, 0] == 255
    assert picture.notes == ("palette coded as RGB",)
    several = read_picture(saved(image, transparency=bytes([7, 200]))).alpha
    assert several is not None
    assert (several[0, 0], several[3, 3]) == (200, 7)


@pytest.mark.parametrize(
    ("image", "key"),
    [
        (Image.fromarray(np.array([[3, 7, 7, 9]], np.uint8)), 7),
        (Image.fromarray(np.array([[3, 7, 7, 9]], np.uint16)), 7),
        (Image.fromarray(np.array([[[3, 1, 2], [7, 8, 9], [7, 8, 9], [7, 8, 8]]], np.uint8)), (7, 8, 9)),
    ],
    ids=["L", "I;16", "RGB"],
)
def test_a_transparent_colour_is_alpha_too(image: Image.Image, key: int | tuple[int, ...]) -> None:
    alpha = read_picture(saved(image, transparency=key)).alpha
    assert alpha is not None
    assert alpha.tolist() == [[255, 0, 0, 255]]


def test_a_transparent_colour_of_16_bits() -> None:
    samples = struct.pack(">6H", 257, 514, 771, 0x1234, 0x2345, 0x3456)
    key = struct.pack(">3H", 0x1234, 0x2345, 0x3456)
    picture = read_picture(rgb_png(2, 1, 16, b"\0" + samples, (b"tRNS", key)))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255, 0]]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format: str) -> None:
    samples = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    picture = read_picture(saved(Image.fromarray(samples), format))
    assert picture.rgb[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert (picture.grey, picture.notes) == (True, ("16 bits reduced to 8",))


def test_16_bit_pgm_is_scaled() -> None:
    file = io.BytesIO(b"P5 2 1 65535\n" + struct.pack(">HH", 65535, 257))
    assert read_picture(file).rgb[0, :, 0].tolist() == [255, 1]


def test_16_bit_rgb_is_noted() -> None:
    picture = read_picture(rgb_png(1, 1, 16, b"\0" + struct.pack(">HHH", 0, 257, 65535)))
    assert picture.rgb[0, 0].tolist() == [0, 1, 255]
    assert picture.notes == ("16 bits reduced to 8",)


def test_samples_without_a_defined_range_are_refused() -> None:
    with pytest.raises(PictureError, match="floating-point"):
        read_picture(saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))
    with pytest.raises(PictureError, match="32-bit"):
        read_picture(saved(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"))


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    picture = read_picture(saved(image, "TIFF"))
    assert picture.rgb[4, 4].tolist() == [255, 0, 0]
    assert picture.notes == ("CMYK converted to RGB",)


def test_a_profile_of_cmyk_does_not_outlive_the_conversion() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    picture = read_picture(saved(image, "TIFF", icc_profile=srgb().replace(b"RGB ", b"CMYK", 1)))
    assert picture.metadata.icc == b""
    assert picture.notes == ("CMYK converted to RGB", "unusable colour profile ignored")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_on_strip(photo: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    kept = read_picture(saved(Image.fromarray(photo), exif=exif))
    assert np.array_equal(kept.rgb, photo)
    assert (kept.metadata.exif, kept.notes) == (exif.tobytes()[6:], ())
    picture = read_picture(saved(Image.fromarray(photo), exif=exif), strip=True)
    assert picture.metadata == Metadata()
    sideways = orientation >= 5
    assert picture.rgb.shape == ((83, 61, 3) if sideways else (61, 83, 3))
    assert picture.notes == (() if orientation == 1 else ("EXIF orientation applied",))
    if orientation == 6:
        assert np.array_equal(picture.rgb, np.rot90(photo, -1))


def test_animations_give_their_first_frame(photo: np.ndarray) -> None:
    first, second = Image.fromarray(photo), Image.new("RGB", (83, 61), "red")
    picture = read_picture(saved(first, save_all=True, append_images=[second]))
    assert np.array_equal(picture.rgb, photo)
    assert picture.notes == ("first frame of 2",)


def test_srgb_profile_changes_nothing(photo: np.ndarray) -> None:
    for strip in (False, True):
        picture = read_picture(saved(Image.fromarray(photo), icc_profile=srgb()), strip=strip)
        assert np.array_equal(picture.rgb, photo)
        assert picture.metadata.icc == (b"" if strip else srgb())
        assert picture.notes == ()


def test_other_profiles_are_kept_or_followed(photo: np.ndarray) -> None:
    file = saved(Image.fromarray(photo), icc_profile=srgb(swapped=True))
    kept = read_picture(file)
    assert np.array_equal(kept.rgb, photo)
    assert (kept.metadata.icc, kept.notes) == (srgb(swapped=True), ())
    picture = read_picture(file, strip=True)
    assert picture.metadata == Metadata()
    assert picture.notes == ("colour profile converted to sRGB",)
    assert np.abs(picture.rgb.astype(int) - photo[..., [1, 0, 2]]).max() <= 2


def test_a_broken_profile_is_ignored_with_a_note(photo: np.ndarray) -> None:
    for strip, note in ((False, "unusable colour profile dropped"), (True, "unusable colour profile ignored")):
        picture = read_picture(saved(Image.fromarray(photo), icc_profile=b"not a profile"), strip=strip)
        assert np.array_equal(picture.rgb, photo)
        assert (picture.metadata.icc, picture.notes) == (b"", (note,))


def test_profiles_of_grey_pictures(photo: np.ndarray) -> None:
    image = Image.fromarray(photo).convert("L")
    picture = read_picture(saved(image, icc_profile=grey_profile()))
    assert (picture.grey, picture.metadata.icc, picture.notes) == (True, grey_profile(), ())
    stripped = read_picture(saved(image, icc_profile=grey_profile()), strip=True)
    assert (stripped.grey, stripped.notes) == (True, ("colour profile converted to sRGB",))
    assert stripped.rgb.mean() > picture.rgb.mean() + 20  # linear light is darker in its numbers
    assert (stripped.rgb == stripped.rgb[..., :1]).all()
    for wrong in (image.convert("RGB"), image):
        icc = srgb() if wrong.mode == "L" else grey_profile()
        assert read_picture(saved(wrong, icc_profile=icc)).notes == (
            "colour profile of another kind of picture dropped",
        )


# Bad input


def test_what_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("not a picture")
    with pytest.raises(PictureError, match=r"text\.png: not a picture that Pillow can read"):
        read_picture(path)
    with pytest.raises(PictureError, match="No such file"):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(PictureError, match="directory"):
        read_picture(tmp_path)


def test_a_compressed_file_is_told_from_a_picture(tmp_path: Path) -> None:
    (tmp_path / "photo.shc").write_bytes(MAGIC + b"\x10 and so on")
    shcodec.register_pillow()
    with pytest.raises(PictureError, match=r"photo\.shc: an \.shc file already; decode it first$"):
        read_picture(tmp_path / "photo.shc")
    with pytest.raises(PictureError, match="already"):
        read_picture(NotSeekable(MAGIC))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM"])
def test_truncated_pictures_are_one_line_errors(photo: np.ndarray, format: str) -> None:
    data = saved(Image.fromarray(photo), format).getvalue()
    for length in {1, 8, 20, len(data) // 4, len(data) // 2}:
        with pytest.raises(PictureError) as caught:
            read_picture(io.BytesIO(data[:length]))
        assert "\n" not in str(caught.value)


def test_limits_come_before_samples() -> None:
    with pytest.raises(LimitError, match="too many pixels"):
        read_picture(rgb_png(60_000, 60_000, 8, b""))
    with pytest.raises(LimitError, match="5,063 pixels; the limit is 5,000"):
        read_picture(Image.new("RGB", (83, 61)), max_pixels=5000)
    with pytest.raises(LimitError, match="side"):
        read_picture(Image.new("RGB", (65_536, 1)))
    with pytest.raises(PictureError, match="no pixels"):
        read_picture(Image.new("RGB", (0, 4)))


# Out


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_every_format_can_be_written(photo: np.ndarray, suffix: str) -> None:
    file = io.BytesIO()
    assert write_picture(Image.fromarray(photo), file, format_for(f"a{suffix}")) == ()
    file.seek(0)
    back = read_picture(file).rgb
    if suffix in {".jpg", ".jpeg", ".avif"}:
        assert psnr(photo, back) > 35
    else:
        assert np.array_equal(back, photo)


def test_format_follows_the_suffix() -> None:
    assert format_for(Path("x/Y.PNG")) == "PNG"
    with pytest.raises(UsageError, match=r"unknown picture suffix '\.xyz'"):
        format_for("a.xyz")
    with pytest.raises(UsageError, match="no picture suffix"):
        format_for("picture")


def test_what_cannot_be_written() -> None:
    with pytest.raises(PictureError, match="JPEG"):
        write_picture(Image.new("RGB", (65_501, 1)), io.BytesIO(), "JPEG")
    with pytest.raises(PictureError, match="expected"):
        write_picture(Image.new("CMYK", (4, 4)), io.BytesIO())
    with pytest.raises(PictureError, match="Pillow cannot write XYZ here"):
        write_picture(Image.new("RGB", (4, 4)), io.BytesIO(), "XYZ")


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
@pytest.mark.parametrize("suffix", list(FORMATS))
def test_alpha_and_grey_are_written_where_the_format_has_them(photo: np.ndarray, suffix: str, mode: str) -> None:
    image = Image.fromarray(photo).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(np.tile(np.arange(83, dtype=np.uint8) * 3, (61, 1))))
    file = io.BytesIO()
    notes = write_picture(image, file, format_for(f"a{suffix}"))
    back = Image.open(file)
    if "A" in mode and suffix in {".jpg", ".jpeg", ".bmp", ".ppm"}:
        assert notes == ("alpha dropped (laid on white)",)
        white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        assert psnr(np.array(back.convert("RGB")), np.array(white.convert("RGB"))) > 40
        return
    assert notes == ()
    visible = np.array(image.convert("RGBA"))
    visible[visible[..., 3] == 0] = 0
    shown = np.array(back.convert("RGBA"))
    shown[shown[..., 3] == 0] = 0
    if suffix in {".jpg", ".jpeg", ".avif"}:
        assert psnr(visible, shown) > 30
    else:
        assert np.array_equal(visible, shown)
    if suffix not in {".webp", ".avif"}:
        assert back.mode == mode


def test_psnr() -> None:
    black = np.zeros((5, 7, 3), np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + np.uint8(255)) == 0.0
    assert psnr(black, black + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)
