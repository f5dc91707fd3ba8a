"""Every kind of picture has a defined conversion, and says what was changed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from shcodec.errors import LimitError, PictureError, UsageError
from shcodec.pictures import FORMATS, format_for, psnr, read_picture, write_picture


def saved(image: Image.Image, format: str = "PNG", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def rgb_png(width: int, height: int, depth: int, rows: bytes) -> io.BytesIO:
    """A PNG of any header, also such as Pillow reads but does not write."""

    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
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
    assert picture.notes == ()


def test_paths_images_and_pipes_give_the_same(photo: np.ndarray, photo_path: Path) -> None:
    data = photo_path.read_bytes()
    for picture in (
        read_picture(photo_path),
        read_picture(str(photo_path)),
        read_picture(io.BytesIO(data)),
        read_picture(NotSeekable(data)),
        read_picture(Image.open(photo_path)),
    ):
        assert np.array_equal(picture.rgb, photo)


def test_an_image_is_not_changed_or_closed(photo: np.ndarray) -> None:
    image = Image.fromarray(photo).convert("RGBA")
    read_picture(image)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (*photo[0, 0], 255)


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("L", "grey coded as RGB"),
        ("1", "1-bit coded as RGB"),
        ("P", "palette coded as RGB"),
        ("LA", "alpha dropped (all opaque)"),
        ("RGBA", "alpha dropped (all opaque)"),
    ],
)
def test_other_modes_look_the_same_and_are_noted(photo: np.ndarray, mode: str, note: str) -> None:
    image = Image.fromarray(photo).convert(mode)
    picture = read_picture(saved(image))
    assert np.array_equal(picture.rgb, np.array(image.convert("RGB")))
    assert picture.notes == (note,)


def test_transparent_parts_are_laid_on_white(photo: np.ndarray) -> None:
    image = Image.fromarray(photo)
    alpha = np.full(photo.shape[:2], 255, np.uint8)
    alpha[:5] = 0
    image.putalpha(Image.fromarray(alpha))
    picture = read_picture(saved(image))
    assert (picture.rgb[:5] == 255).all()
    assert np.array_equal(picture.rgb[5:], photo[5:])
    assert picture.notes == ("alpha dropped (laid on white)",)


def test_a_transparent_palette_entry_is_alpha_too() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([200, 10, 10, 10, 200, 10])
    image.putpixel((0, 0), 1)
    picture = read_picture(saved(image, transparency=0))
    assert tuple(picture.rgb[0, 0]) == (10, 200, 10)
    assert tuple(picture.rgb[3, 3]) == (255, 255, 255)
    assert picture.notes == ("alpha dropped (laid on white)",)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format: str) -> None:
    samples = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    picture = read_picture(saved(Image.fromarray(samples), format))
    assert picture.rgb[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert picture.notes == ("16 bits reduced to 8", "grey coded as RGB")


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(photo: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(saved(Image.fromarray(photo), exif=exif))
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
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = read_picture(saved(Image.fromarray(photo), icc_profile=profile))
    assert np.array_equal(picture.rgb, photo)
    assert picture.notes == ()


def test_other_profiles_are_followed(photo: np.ndarray) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    swapped = bytes(profile).replace(b"rXYZ", b"tmpX").replace(b"gXYZ", b"rXYZ").replace(b"tmpX", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "SWAP".encode("utf-16-be")).replace(b"sRGB ", b"SWAP ")
    picture = read_picture(saved(Image.fromarray(photo), icc_profile=swapped))
    assert picture.notes == ("colour profile converted to sRGB",)
    assert np.abs(picture.rgb.astype(int) - photo[..., [1, 0, 2]]).max() <= 2


def test_a_broken_profile_is_ignored_with_a_note(photo: np.ndarray) -> None:
    picture = read_picture(saved(Image.fromarray(photo), icc_profile=b"not a profile"))
    assert np.array_equal(picture.rgb, photo)
    assert picture.notes == ("unusable colour profile ignored",)


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


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM"])
def test_truncated_pictures_are_one_line_errors(photo: np.ndarray, format: str) -> None:
    data = saved(Image.fromarray(photo), format).getvalue()
    for length in {1, 8, 20, len(data) // 4, len(data) // 2}:
        with pytest.raises(PictureError) as caught:
            read_picture(io.BytesIO(data[:length]))
        assert "\n" not in str(caught.value)


def test_flipped_bytes_never_escape_as_other_errors(photo: np.ndarray) -> None:
    generator = np.random.default_rng(3)
    for format in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"):
        data = saved(Image.fromarray(photo), format).getvalue()
        for _ in range(40):
            damaged = bytearray(data)
            damaged[generator.integers(min(len(data), 300))] ^= 1 << generator.integers(8)
            try:
                read_picture(io.BytesIO(bytes(damaged)))
            except (PictureError, LimitError) as error:
                assert "\n" not in str(error)


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
    write_picture(photo, file, format_for(f"a{suffix}"))
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
        write_picture(np.zeros((1, 65_501, 3), np.uint8), io.BytesIO(), "JPEG")
    with pytest.raises(PictureError, match="expected"):
        write_picture(np.zeros((4, 4, 2), np.uint8), io.BytesIO())


def test_psnr() -> None:
    black = np.zeros((5, 7, 3), np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + np.uint8(255)) == 0.0
    assert psnr(black, black + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)
