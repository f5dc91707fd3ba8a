"""What callers from Python may hand over, and how they are told what was done with it."""

from __future__ import annotations

import io
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import Shc, make_photo, open_picture
from PIL import Image
from safetensors.numpy import save_file

import shcodec
from shcodec import ShcWarning, netpack
from shcodec.codec import decoding, inspection
from shcodec.pictures.picture import Picture
from shcodec.pictures.reading import read_picture
from shcodec.support.errors import PictureError, UsageError
from shcodec.support.quiet import Quiet

pytestmark = pytest.mark.usefixtures("tiny_model")

FORMS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "str": str,
    "path": lambda path: path,
    "bytes in memory": lambda path: io.BytesIO(path.read_bytes()),
}


@pytest.fixture(params=[*FORMS, "file"])
def give(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], Any]]:
    """Each form in which a caller may hand over a file."""
    with ExitStack() as stack:
        yield FORMS.get(request.param, lambda path: stack.enter_context(path.open("rb")))


def encode(image: Any, **options: Any) -> bytes:
    return shcodec.encode(image, model="model", **options)


@pytest.fixture
def coded(tmp_path: Path, photo_path: Path) -> Path:
    path = tmp_path / "photo.shc"
    path.write_bytes(encode(photo_path))
    return path


# Files


def test_every_function_takes_every_form_of_a_file(
    coded: Path, photo_path: Path, photo: np.ndarray, give: Callable[[Path], Any]
) -> None:
    assert encode(give(photo_path)) == coded.read_bytes()
    assert np.array_equal(read_picture(give(photo_path)).rgb, photo)
    expected = decoding.decode_array(coded.read_bytes())
    assert np.array_equal(np.asarray(shcodec.decode(give(coded))), expected)
    assert np.array_equal(decoding.decode_array(give(coded)), expected)
    assert np.array_equal(decoding.decode_picture(give(coded)).samples, expected)
    assert shcodec.info(give(coded)) == shcodec.info(coded.read_bytes())
    inspection.verify(give(coded))


def test_weights_come_in_every_form(tmp_path: Path, give: Callable[[Path], Any]) -> None:
    weights, packed = tmp_path / "w.safetensors", tmp_path / "w.shcn"
    save_file({"w": np.linspace(-1, 1, 4096, dtype=np.float32).reshape(64, 64)}, weights)
    packed.write_bytes(netpack.pack(weights))
    assert netpack.pack(give(weights)) == packed.read_bytes()
    assert np.array_equal(netpack.unpack(give(packed))["w"], netpack.unpack(packed.read_bytes())["w"])
    assert netpack.unpack_safetensors(give(packed)) == netpack.unpack_safetensors(packed)
    assert netpack.info(give(packed)) == netpack.info(packed)


@pytest.mark.parametrize(
    "source", [None, 17, io.StringIO("text"), [1, 2], object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_file(source: Any) -> None:
    for function in (shcodec.decode, shcodec.info, inspection.verify):
        with pytest.raises(UsageError, match=f"not {type(source).__name__}$"):
            function(source)
    with pytest.raises((UsageError, PictureError)):
        encode(source)


# Arrays


def test_arrays_of_one_to_four_channels(photo: np.ndarray) -> None:
    grey, alpha = photo[..., 0], np.tile(np.arange(83, dtype=np.uint8), (61, 1))
    by_channels = {
        "L": grey,
        "LA": np.dstack([grey, alpha]),
        "RGB": photo,
        "RGBA": np.dstack([photo, alpha]),
    }
    for mode, samples in by_channels.items():
        data = encode(samples)
        assert data == encode(Image.fromarray(samples)), mode
        assert (shcodec.info(data).mode, shcodec.decode(data).mode) == (mode, mode)
    assert encode(grey[..., None]) == encode(grey)
    assert encode(np.asfortranarray(photo)[::-1, ::-1]) == encode(photo[::-1, ::-1].copy())


@pytest.mark.parametrize(
    "samples",
    [
        *(np.ones((8, 8, 3), kind) for kind in ("i4", "u2", "i1", "f4", "f8", "?", "c8")),
        *(np.ones((8, 8), kind) for kind in ("i4", "u2", "f4", "?")),
        *(
            np.ones(shape, np.uint8)
            for shape in ((), (8,), (8, 8, 5), (8, 8, 0), (2, 8, 8, 3), (0, 8), (8, 0, 3), (0, 8, 4))
        ),
    ],
    ids=lambda samples: f"{samples.dtype} {samples.shape}",
)
def test_arrays_that_are_no_picture(samples: npt.NDArray[Any]) -> None:
    with pytest.raises(PictureError, match="uint8"):
        encode(samples)


@pytest.mark.parametrize("value", [0, 200, 255, 40_000, 70_000, -1])
def test_integers_of_32_bits_have_no_range(tmp_path: Path, value: int) -> None:
    """Whether or not they happen to lie within 8 or 16 bits."""
    image = Image.fromarray(np.full((8, 8), value, np.int32))
    image.save(tmp_path / "a.tif")
    for source in (image, tmp_path / "a.tif"):
        with pytest.raises(PictureError, match="32-bit"):
            encode(source)


def test_a_16_bit_picture_in_32_bits_is_still_one(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + np.array([65535, 257], ">u2").tobytes())
    (tmp_path / "b.pgm").write_bytes(b"P5 2 1 1000\n" + np.array([1000, 500], ">u2").tobytes())
    for name, expected in (("a", [255, 1]), ("b", [255, 128])):
        with Image.open(tmp_path / f"{name}.pgm") as image:
            assert read_picture(image).rgb[0, :, 0].tolist() == expected
            image.load()
            assert read_picture(image).rgb[0, :, 0].tolist() == expected


# Warnings


def told_by(work: Callable[[], Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        work()
    return told


def test_notes_reach_callers(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "opaque.png"
    Image.fromarray(photo).convert("RGBA").save(path)
    told = told_by(lambda: encode(path))
    assert [(entry.category, str(entry.message)) for entry in told] == [
        (ShcWarning, f"{path}: alpha dropped (all opaque)")
    ]
    assert told[0].filename == __file__  # the line that called, not one of ours
    assert [str(entry.message) for entry in told_by(lambda: encode(path.read_bytes()))] == [
        "alpha dropped (all opaque)"
    ]
    assert not told_by(lambda: encode(photo))


def test_missed_targets_reach_callers(photo: np.ndarray) -> None:
    [told] = told_by(lambda: encode(photo, size=10))
    assert told.category is ShcWarning
    assert str(told.message).startswith("wanted 10 bytes, reached ")
    assert not told_by(lambda: encode(photo, beta=200))


def test_what_the_caller_has_read_is_not_told_again(photo_path: Path) -> None:
    picture = read_picture(photo_path)
    assert not told_by(lambda: encode(Picture(picture.rgb, notes=("known",))))


def test_the_command_line_tells_once(shc: Shc, tmp_path: Path, tiny_model: str, photo: np.ndarray) -> None:
    path = tmp_path / "opaque.png"
    Image.fromarray(photo).convert("RGBA").save(path)
    for arguments in ((), ("--size", "10")):
        told = told_by(lambda: shc("encode", "-f", "-m", tiny_model, path, *arguments))  # noqa: B023
        assert not told


def test_other_threads_that_read_do_not_swallow_warnings(photo: np.ndarray) -> None:
    inside, done = threading.Event(), threading.Event()

    def read() -> None:
        with Quiet():
            inside.set()
            done.wait(20)
            warnings.warn("of Pillow's", UserWarning, stacklevel=1)
            warnings.warn("of numpy's", RuntimeWarning, stacklevel=1)

    def both() -> None:
        thread = threading.Thread(target=read)
        thread.start()
        inside.wait(20)
        encode(photo, size=10)
        done.set()
        thread.join()

    assert [entry.category for entry in told_by(both)] == [ShcWarning]


# What was written


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
def test_the_size_that_is_told_is_that_of_the_picture_written(
    shc: Shc, tmp_path: Path, tiny_model: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(make_photo(40, 60)).save("a.jpg", exif=exif)
    assert shc("encode", "-m", tiny_model, "a.jpg").code == 0
    for suffix in ("png", "bmp", "ppm", "jp2", "webp"):
        told = json.loads(shc("decode", "--json", "a.shc", f"back.{suffix}").out)
        assert (told["width"], told["height"]) == open_picture(f"back.{suffix}").size, suffix
        assert told["output_bytes"] == Path(f"back.{suffix}").stat().st_size
    line = shc("decode", "a.shc", "more.bmp").out
    assert (" 40x60 " if orientation > 4 else " 60x40 ") in line
