"""The Pillow plugin: .shc is one more format, which behaves as Pillow's users expect."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, make_photo, open_picture
from made_up_metadata import XMP, exif_block, srgb
from PIL import Image, ImageOps, UnidentifiedImageError

import shcodec
from shcodec import container, pillow_plugin
from shcodec.codec import decoding, encoding
from shcodec.container import Chunk
from shcodec.pictures.metadata import Metadata
from shcodec.pictures.picture import Picture
from shcodec.support import atomic


@pytest.fixture(autouse=True)
def _plugin(tiny_model: str) -> None:
    shcodec.register_pillow()


@pytest.fixture(scope="module")
def data() -> bytes:
    """Return a file with alpha and metadata."""
    alpha = np.tile(np.arange(56, dtype=np.uint8), (40, 1))
    picture = Picture(make_photo(40, 56), alpha=alpha, metadata=Metadata(srgb(), exif_block(), XMP))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHC_MODELS", str(GOLDEN))
        return encoding.encode(picture, model="model")


@pytest.fixture
def path(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "photo.shc"
    path.write_bytes(data)
    return path


def run_python(code: str, *arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# Opening


def test_open_shows_what_decode_shows(path: Path, data: bytes) -> None:
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("SHC", "RGBA", (56, 40))
        assert image.get_format_mimetype() == "image/x-shc"
        expected = decoding.decode(data)
        assert image.info == expected.info
        assert np.array_equal(np.asarray(image), np.asarray(expected))
        assert ImageOps.exif_transpose(image).size == (40, 56)
        assert image.tell() == 0
        with pytest.raises(EOFError):
            image.seek(1)


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA"])
def test_every_mode(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(make_photo(20, 30)).convert(mode)
    if "A" in mode:
        image.putalpha(77)
    image.save(tmp_path / "a.shc", model="model")
    back = Image.open(tmp_path / "a.shc")
    assert (back.mode, back.size) == (mode, (30, 20))
    back.load()
    assert (back.mode, back.size) == (mode, (30, 20))
    back.putpixel((0, 0), back.getpixel((1, 1)) or 0)


def test_file_objects(data: bytes) -> None:
    stream = io.BytesIO(data)
    image = Image.open(stream)
    image.load()
    assert not stream.closed
    assert Image.open(io.BytesIO(data), formats=["SHC"]).copy().size == (56, 40)


def test_files_are_closed_after_loading(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        image = Image.open(path)
        image.load()
        assert image.fp is None
        del image


def test_copies_and_pickles(path: Path, data: bytes) -> None:
    expected = decoding.decode(data).tobytes()
    assert pickle.loads(pickle.dumps(Image.open(path))).tobytes() == expected
    assert copy.copy(Image.open(path)).tobytes() == expected
    assert Image.open(path).copy().tobytes() == expected


def test_opening_reads_the_header_alone(path: Path) -> None:
    code = (
        "import sys, time, PIL.Image, shcodec; shcodec.register_pillow(); PIL.Image.preinit()\n"
        "PIL.Image.open(sys.argv[1]).close(); start = time.perf_counter()\n"
        "image = PIL.Image.open(sys.argv[1]); took = time.perf_counter() - start\n"
        "assert image.mode == 'RGBA' and len(image.info) == 3\n"
        "assert not {'numpy', 'onnxruntime', 'shcodec.codec.decoding', 'constriction'} & sys.modules.keys()\n"
        "print(took)"
    )
    assert min(float(run_python(code, path)) for _ in range(2)) < 0.005


def test_large_chunks_are_read_whole(tmp_path: Path, data: bytes) -> None:
    file = container.unpack(data)
    noise = Chunk(b"noTe", np.random.default_rng(0).bytes(100_000))
    (tmp_path / "a.shc").write_bytes(container.pack(replace(file, chunks=(noise, *file.chunks))))
    image = Image.open(tmp_path / "a.shc")
    assert image.mode == "RGBA"
    image.load()


def test_the_payload_is_not_read_by_open(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.shc").write_bytes(data[:-20])
    start = time.perf_counter()
    with Image.open(tmp_path / "a.shc") as image:
        assert time.perf_counter() - start < 1
        assert image.size == (56, 40)
        with pytest.raises(OSError, match="truncated"):
            image.load()


# Registering


@pytest.mark.parametrize("how", ["import shcodec.pillow_plugin", "import shcodec; shcodec.register_pillow()"])
def test_both_ways_to_register(path: Path, how: str) -> None:
    assert run_python(f"import sys, PIL.Image; {how}; print(PIL.Image.open(sys.argv[1]).format)", path) == "SHC\n"


def test_nothing_is_registered_by_itself(path: Path) -> None:
    code = (
        "import PIL.Image, shcodec.codec.decoding, shcodec.pictures.reading; "
        "PIL.Image.init(); print('SHC' in PIL.Image.OPEN)"
    )
    assert run_python(code) == "False\n"


def test_registering_twice_changes_nothing() -> None:
    before = list(Image.ID)
    shcodec.register_pillow()
    pillow_plugin.register()
    assert before == Image.ID
    assert Image.ID.count("SHC") == 1


# Bad files


def test_damaged_files(data: bytes) -> None:
    for length in range(len(data)):
        try:
            image = Image.open(io.BytesIO(data[:length]))
        except UnidentifiedImageError:
            continue
        with pytest.raises(OSError, match=r"truncated|damaged"):
            image.load()
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        try:
            image = Image.open(io.BytesIO(damaged))
        except (UnidentifiedImageError, Image.DecompressionBombError):
            continue
        with pytest.raises(OSError, match=r"\w"):
            image.load()


def test_a_model_that_is_not_here(data: bytes) -> None:
    foreign = container.pack(replace(container.unpack(data), model_id=b"none"))
    image = Image.open(io.BytesIO(foreign))
    assert image.size == (56, 40)
    with pytest.raises(OSError, match="model"):
        image.load()
    with pytest.raises(OSError, match="model"):
        Image.open(io.BytesIO(foreign)).verify()


def test_verify(data: bytes) -> None:
    Image.open(io.BytesIO(data)).verify()
    with pytest.raises(OSError, match="checksum"):
        Image.open(io.BytesIO(data[:-1] + b"x")).verify()


def test_pillows_own_limit(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data)).load()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))


def test_a_file_that_changes_under_the_image(path: Path, data: bytes) -> None:
    with Image.open(path) as image:
        path.write_bytes(container.pack(replace(container.unpack(data), chunks=())))
        with pytest.raises(OSError, match="changed"):
            image.load()


# Saving


def test_save_passes_its_options_on(tmp_path: Path) -> None:
    image = Image.fromarray(make_photo(90, 120))
    image.save(tmp_path / "a.shc", beta=10, model="model")
    image.save(tmp_path / "b.shc", beta=400, model="model", effort=0)
    image.save(tmp_path / "c.shc", size=520, model="model")
    a, b, c = ((tmp_path / f"{name}.shc").read_bytes() for name in "abc")
    assert len(a) > len(b)
    assert 500 < len(c) <= 520
    assert a == shcodec.encode(image, 10, model="model")
    stream = io.BytesIO()
    image.save(stream, "SHC", beta=10, model="model")
    assert stream.getvalue() == a


def test_save_keeps_metadata_or_takes_others(tmp_path: Path, path: Path) -> None:
    image = Image.open(path)
    image.save(tmp_path / "same.shc", model="model")
    assert open_picture(tmp_path / "same.shc").info == image.info
    exif = Image.Exif()
    exif[0x010E] = "another"
    image.save(tmp_path / "other.shc", model="model", exif=exif, xmp=b"", icc_profile=None)
    assert open_picture(tmp_path / "other.shc").info == {"exif": exif.tobytes()}
    assert len(image.info) == 3
    with pytest.warns(shcodec.ShcWarning, match="orientation applied"):
        image.save(tmp_path / "bare.shc", model="model", strip=True)
    bare = open_picture(tmp_path / "bare.shc")
    assert (bare.info, bare.size) == ({}, (40, 56))


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    image = Image.fromarray(make_photo(8, 8))
    with pytest.raises(ValueError, match="beta"):
        image.save(tmp_path / "a.shc", beta=1, model="model")
    with pytest.raises(OSError, match="no model named"):
        image.save(tmp_path / "a.shc", model="nonesuch")
    with pytest.raises(OSError, match="floating-point"):
        Image.new("F", (8, 8)).save(tmp_path / "a.shc", model="model")
    assert not (tmp_path / "a.shc").exists()


def test_quality_as_in_other_formats(tmp_path: Path) -> None:
    image = Image.fromarray(make_photo(90, 120))
    for quality in (30, 75, 95):
        image.save(tmp_path / f"{quality}.shc", quality=quality, model="model")
        assert (tmp_path / f"{quality}.shc").read_bytes() == shcodec.encode(image, quality=quality, model="model")
    image.save(tmp_path / "none.shc", quality=None, beta=None, model="model")
    assert (tmp_path / "none.shc").read_bytes() == (tmp_path / "75.shc").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 80, "beta": 50},
        {"quality": 80, "size": 500},
        {"quality": 101},
        {"quality": "web_high"},
        {"effort": "much"},
        {"append": True},
    ],
    ids=str,
)
def test_contradictory_and_wrong_options_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "a.shc"
    if options.get("append"):
        path.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"exclude|from 0 to 100|number|appended"):
        Image.fromarray(make_photo(8, 8)).save(path, model="model", **options)  # type: ignore[arg-type]
    assert not path.exists() or path.read_bytes() == b"old"


def test_options_of_other_formats_are_told(tmp_path: Path) -> None:
    image = Image.fromarray(make_photo(8, 8))
    with pytest.warns(shcodec.ShcWarning, match=r"no option 'optimize', 'subsampling': left aside") as told:
        image.save(tmp_path / "a.shc", model="model", optimize=True, subsampling=0, progressive=None)
    assert told[0].filename == __file__
    assert (tmp_path / "a.shc").read_bytes() == shcodec.encode(image, model="model")
    with pytest.warns(shcodec.ShcWarning, match="append_images"):
        image.save(tmp_path / "b.shc", model="model", save_all=True, append_images=[image])
    assert (tmp_path / "b.shc").read_bytes() == (tmp_path / "a.shc").read_bytes()


def test_notes_and_missed_targets_are_told(tmp_path: Path) -> None:
    image = Image.fromarray(make_photo(40, 50))
    with pytest.warns(shcodec.ShcWarning, match="wanted 10 bytes") as told:
        image.save(tmp_path / "a.shc", model="model", size=10)
    assert told[0].filename == __file__
    with pytest.warns(shcodec.ShcWarning, match="all opaque"):
        image.convert("RGBA").save(tmp_path / "a.shc", model="model")


def test_an_old_file_stays_whole_where_the_file_is_replaced(tmp_path: Path) -> None:
    """As the module's docstring says; by its name alone, Pillow empties the file before it asks the plugin."""
    path = tmp_path / "a.shc"
    image = Image.fromarray(make_photo(8, 8))
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="no model named"), atomic.replacing(path) as file:
        image.save(file, "SHC", model="nonesuch")
    assert path.read_bytes() == b"old"
    with atomic.replacing(path) as file:
        image.save(file, "SHC", model="model")
    assert path.read_bytes() == shcodec.encode(image, model="model")


# Threads


def test_many_threads(tmp_path: Path, path: Path, data: bytes) -> None:
    expected = decoding.decode(data).tobytes()
    shared = Image.open(path)

    def work(number: int) -> bool:
        own = Image.open(path)
        if number % 3 == 0:
            own.save(tmp_path / f"{number}.shc", model="model", beta=50)
        return own.tobytes() == shared.tobytes() == expected

    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(24)))
    assert warnings.filters == filters
