"""PNG: what chunks say counts at the file's own depth and in the specification's order, and costs no picture."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from made_up_files import SIGNATURE, chunk, iccp, long_profile, png
from made_up_metadata import XMP, exif_block, grey_profile, srgb
from PIL import Image

from shcodec.codec import decoding, encoding
from shcodec.model.networks import Model
from shcodec.pictures.colour import CICP_PRIMARIES, SRGB_CURVE, Curve, made_profile, shows_srgb
from shcodec.pictures.reading import read_picture
from shcodec.pictures.writing import write_picture
from shcodec.support.errors import PictureError
from shcodec.support.limits import MAX_METADATA_SIZE as LIMIT

GREY = np.full((6, 8), 55)
COLOUR = np.stack([np.full((6, 8), 188), GREY, GREY], axis=-1)
P3 = made_profile(CICP_PRIMARIES[12], SRGB_CURVE)


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(100_000 * gamma)))


def chrm(number: int) -> bytes:
    points = [round(100_000 * value) for point in CICP_PRIMARIES[number] for value in point]
    return chunk(b"cHRM", struct.pack(">8I", *points))


def cicp(*codes: int) -> bytes:
    return chunk(b"cICP", bytes(codes))


def text(tag: bytes, data: bytes) -> bytes:
    return chunk(tag, data)


SRGB = chunk(b"sRGB", b"\0")
ZIPPED_XMP = text(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP + b" " * 1_400_000))


# Transparent colours


@pytest.mark.parametrize(("depth", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_a_transparent_colour_is_compared_at_the_files_depth(depth: int, channels: int) -> None:
    largest = (1 << depth) - 1
    values = sorted({0, 1, largest // 3, largest // 3 + 1, largest - 1, largest})
    samples = np.repeat(np.array(values)[None, :, None], channels, axis=2)
    for key in values:
        picture = read_picture(png(samples, depth, chunk(b"tRNS", struct.pack(f">{channels}H", *[key] * channels))))
        assert picture.alpha is not None
        assert picture.alpha.tolist() == [[0 if value == key else 255 for value in values]]
        shown = [int(value * 255 / largest + 0.5) for value in values if value != key]
        assert picture.rgb[0, picture.alpha[0] > 0, 0].tolist() == shown
        assert picture.grey == (channels == 1)


def test_only_one_channel_differs() -> None:
    samples = np.array([[[100, 100, 100], [100, 100, 101], [100, 356, 100], [25_600, 25_600, 25_600]]])
    picture = read_picture(png(samples, 16, chunk(b"tRNS", struct.pack(">3H", 100, 100, 100))))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255, 255, 255]]


def test_high_bits_of_a_key_do_not_count() -> None:
    picture = read_picture(png(np.array([[15, 3]]), 4, chunk(b"tRNS", struct.pack(">H", 0xABCF))))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255]]


def test_a_key_that_is_too_short_or_out_of_place_is_none() -> None:
    for file in (png(COLOUR, 8, chunk(b"tRNS", b"\0\0")), png(np.full((2, 2, 4), 255), 8, chunk(b"tRNS", bytes(6)))):
        assert read_picture(file).alpha is None


@pytest.mark.parametrize(("channels", "mode"), [(2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_16_bits_are_rounded(channels: int, mode: str) -> None:
    samples = np.random.default_rng(2).integers(0, 65_536, (5, 7, channels))
    picture = read_picture(png(samples, 16))
    expected = np.floor(samples * 255 / 65_535 + 0.5)
    lights = expected[..., :1] if channels == 2 else expected[..., :3]
    visible = expected[..., -1] > 0 if channels != 3 else np.ones((5, 7), bool)
    assert np.array_equal(picture.rgb[visible], np.broadcast_to(lights, (5, 7, 3))[visible])
    assert (picture.grey, picture.notes) == (channels == 2, ("16 bits reduced to 8",))
    if channels != 3:
        assert picture.alpha is not None
        assert np.array_equal(picture.alpha, expected[..., -1])


def test_an_image_that_is_still_open_is_read_like_its_file(tmp_path: Path) -> None:
    samples = np.array([[[100, 100, 100], [25_600, 25_600, 25_600]]])
    path = tmp_path / "deep.png"
    path.write_bytes(png(samples, 16, chunk(b"tRNS", struct.pack(">3H", 100, 100, 100))).getvalue())
    with Image.open(path) as image:
        image.info["xmp"] = XMP
        picture = read_picture(image)
        assert picture.alpha is not None
        assert picture.alpha.tolist() == [[0, 255]]
        assert picture.metadata.xmp == XMP
        image.load()
        assert image.size == (2, 1)


@pytest.mark.parametrize(("depth", "key"), [(2, 1), (2, 3), (4, 1), (4, 15), (4, 5), (8, 15), (8, 17)])
def test_an_image_that_is_loaded_has_its_key_in_the_files_terms(depth: int, key: int) -> None:
    samples = np.array([[0, key, 3, 2, key]])
    image = Image.open(png(samples, depth, chunk(b"tRNS", struct.pack(">H", key))))
    image.load()
    alpha = read_picture(image).alpha
    assert alpha is not None
    assert alpha.tolist() == [[0 if value == key else 255 for value in samples[0]]]


# Colours


def test_gamma_becomes_srgb() -> None:
    picture = read_picture(png(COLOUR, 8, gama(1.0)))
    assert picture.rgb[0, 0].tolist() == [223, 128, 128]
    assert picture.notes == ("gAMA converted to sRGB's curve",)
    assert picture.metadata.icc == b""
    grey = read_picture(png(np.stack([GREY, np.full((6, 8), 9)], axis=-1), 8, gama(1.0)))
    assert (grey.rgb[0, 0, 0], grey.grey) == (128, True)
    assert grey.alpha is not None
    assert grey.alpha[0, 0] == 9  # which is no light
    indexed = read_picture(png(np.zeros((2, 2)), 8, gama(1.0), kind=3, palette=bytes([188, 55, 55])))
    assert indexed.rgb[0, 0].tolist() == [223, 128, 128]
    bit = read_picture(png(np.eye(4), 1, gama(1.0)))
    assert bit.rgb[0, :2, 0].tolist() == [255, 0]


def test_deep_shadows_in_linear_light_are_not_lost() -> None:
    """They would all be 0 if 16 bits became 8 first."""
    samples = np.array([[3, 20, 60, 120]])
    expected = [round(255 * 12.92 * value / 65_535) for value in samples[0]]
    assert read_picture(png(samples, 16, gama(1.0))).rgb[0, :, 0].tolist() == expected


@pytest.mark.parametrize("gamma", [0.45455, 0.45, 1 / 2.2, 0.46])
def test_the_usual_gamma_is_that_of_srgb(gamma: float) -> None:
    picture = read_picture(png(COLOUR, 8, gama(gamma), chrm(1)))
    assert picture.rgb[0, 0].tolist() == [188, 55, 55]
    assert (picture.metadata.icc, picture.notes) == (b"", ())


@pytest.mark.parametrize("gamma", [1 / 1.8, 1 / 2.6, 0.5])
def test_other_gammas_are_followed(gamma: float) -> None:
    light = (55 / 255) ** (1 / gamma)
    expected = 255 * float(SRGB_CURVE.samples(np.array(light)))
    assert abs(int(read_picture(png(GREY, 8, gama(gamma))).rgb[0, 0, 0]) - expected) <= 0.5


def test_primaries_become_a_profile() -> None:
    for chunks in ([chrm(12)], [gama(0.45455), chrm(12)], [cicp(12, 13, 0, 1)]):
        picture = read_picture(png(COLOUR, 8, *chunks))
        assert picture.rgb[0, 0].tolist() == [188, 55, 55]
        assert picture.metadata.icc == P3
        assert picture.notes == ()
        stripped = read_picture(png(COLOUR, 8, *chunks), strip=True)
        assert np.abs(stripped.rgb[0, 0].astype(int) - [205, 37, 48]).max() <= 1
    both = read_picture(png(COLOUR, 8, gama(1.0), chrm(12)))
    assert (both.rgb[0, 0].tolist(), both.metadata.icc) == ([223, 128, 128], P3)


def test_the_order_of_the_specification() -> None:
    """cICP before iCCP before sRGB before gAMA and cHRM."""
    everything = [gama(1.0), chrm(9), SRGB, iccp(srgb(swapped=True)), cicp(12, 13, 0, 1)]
    results = []
    while everything:
        picture = read_picture(png(COLOUR, 8, *everything))
        results.append((picture.rgb[0, 0, 1], picture.metadata.icc))
        everything.pop()
    wide = made_profile(CICP_PRIMARIES[9], SRGB_CURVE)
    assert results == [(55, P3), (55, srgb(swapped=True)), (55, b""), (128, wide), (128, b"")]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (99, "number 99")])
def test_what_8_bits_cannot_show_is_told(transfer: int, name: str) -> None:
    picture = read_picture(png(COLOUR, 8, cicp(9, transfer, 0, 1)))
    assert picture.rgb[0, 0].tolist() == [188, 55, 55]
    assert picture.notes == (f"cICP: transfer curve {name} not converted: colours will look wrong",)
    known = read_picture(png(COLOUR, 8, cicp(9, transfer, 0, 1), iccp(srgb(swapped=True))))
    assert (known.metadata.icc, known.notes) == (srgb(swapped=True), ())


def test_curves_of_cicp() -> None:
    linear = read_picture(png(COLOUR, 8, cicp(1, 8, 0, 1)))
    assert (linear.rgb[0, 0].tolist(), linear.metadata.icc) == ([223, 128, 128], b"")
    grey = read_picture(png(GREY, 8, cicp(12, 8, 0, 1)))
    assert (grey.rgb[0, 0, 0], grey.metadata.icc) == (128, b"")
    assert read_picture(png(COLOUR, 8, cicp(1, 13, 0, 1))).notes == ()


@pytest.mark.parametrize("depth", [8, 16])
def test_a_narrow_range_is_widened(depth: int) -> None:
    samples = np.array([[16, 235, 126, 0, 255]]) * (1 if depth == 8 else 256)
    picture = read_picture(png(samples, depth, cicp(1, 13, 0, 0)))
    assert picture.rgb[0, :, 0].tolist() == [0, 255, 128, 0, 255]
    assert "cICP: narrow range widened" in picture.notes


@pytest.mark.parametrize("bad", [chunk(b"gAMA", bytes(4)), chunk(b"cHRM", bytes(32)), chunk(b"cICP", b"\1"), gama(900)])
def test_senseless_colours_change_nothing(bad: bytes) -> None:
    picture = read_picture(png(COLOUR, 8, bad))
    assert picture.rgb[0, 0].tolist() == [188, 55, 55]
    assert picture.metadata.icc == b""


def test_a_profile_of_the_other_kind_is_dropped() -> None:
    assert read_picture(png(GREY, 8, iccp(grey_profile()))).metadata.icc == grey_profile()
    assert read_picture(png(COLOUR, 8, iccp(grey_profile()))).metadata.icc == b""
    followed = read_picture(png(GREY, 8, iccp(made_profile(CICP_PRIMARIES[1], Curve(1.0)))))
    assert (followed.rgb[0, 0, 0], followed.grey, followed.metadata.icc) == (128, True, b"")


# Chunks that are long, bad or unknown


def test_long_chunks_cost_nothing(model: Model, tiny_model: str) -> None:
    long_text = text(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2_000_000))
    picture = read_picture(png(COLOUR, 8, long_text, ZIPPED_XMP, iccp(long_profile(1_500_000))))
    assert picture.rgb[0, 0].tolist() == [188, 55, 55]
    assert picture.metadata.xmp == XMP + b" " * 1_400_000
    assert len(picture.metadata.icc) == 1_500_000
    assert picture.notes == ("1 text dropped",)
    decoded = decoding.decode(encoding.encode(picture, model=model))
    file = io.BytesIO()
    assert write_picture(decoded, file, "PNG") == ()
    assert read_picture(file).metadata == picture.metadata


@pytest.mark.parametrize("tag", ["iCCP", "iTXt"])
def test_only_what_is_beyond_the_limit_is_dropped(tag: str) -> None:
    packed = zlib.compress(bytes(LIMIT + 1))
    data = b"x\0\0" + packed if tag == "iCCP" else b"XML:com.adobe.xmp\0\1\0\0\0" + packed
    picture = read_picture(png(COLOUR, 8, chunk(tag.encode(), data), chunk(b"eXIf", exif_block())))
    assert picture.metadata.exif == exif_block()
    assert (picture.metadata.icc, picture.metadata.xmp) == (b"", b"")
    assert picture.notes == ("metadata of more than 16 MiB dropped",)


GOOD = {
    "iCCP": iccp(srgb()),
    "eXIf": chunk(b"eXIf", exif_block()),
    "iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "tEXt": chunk(b"tEXt", b"Title\0x"),
    "tIME": chunk(b"tIME", bytes(7)),
}


@pytest.mark.parametrize("bad", GOOD)
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_bad_checksum_beside_the_samples_costs_only_its_chunk(bad: str, place: str) -> None:
    broken = GOOD[bad][:-1] + bytes([GOOD[bad][-1] ^ 1])
    others = [data for name, data in GOOD.items() if name not in (bad, "tEXt")]
    file = png(COLOUR, 8, *others, broken) if place == "before" else png(COLOUR, 8, *others, after=broken)
    picture = read_picture(file)
    assert picture.rgb[0, 0].tolist() == [188, 55, 55]
    expected = {"iCCP": srgb(), "eXIf": exif_block(), "iTXt": XMP}
    found = {"iCCP": picture.metadata.icc, "eXIf": picture.metadata.exif, "iTXt": picture.metadata.xmp}
    assert found == {**expected, **({bad: b""} if bad in expected else {})}
    assert picture.notes == (() if bad == "tIME" else (f"damaged {bad} dropped",))


def test_damaged_profiles_and_packets() -> None:
    good = chunk(b"eXIf", exif_block())
    for bad, note in (
        (chunk(b"iCCP", b"name\0\0" + b"no zlib"), "unusable colour profile dropped"),
        (chunk(b"iCCP", b"name\0\1" + zlib.compress(srgb())), "unusable colour profile dropped"),
        (chunk(b"iCCP", b"name\0\0" + zlib.compress(srgb())[:-9]), "unusable colour profile dropped"),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + b"no zlib"), "unusable XMP dropped"),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + "grün".encode("latin-1")), "XMP that is not UTF-8 dropped"),
    ):
        picture = read_picture(png(COLOUR, 8, bad, good))
        assert (picture.metadata.exif, picture.notes) == (exif_block(), (note,))
        assert picture.metadata.icc == picture.metadata.xmp == b""


def test_metadata_of_older_programs() -> None:
    """EXIF and XMP as hexadecimal texts."""

    def raw(name: str, data: bytes) -> bytes:
        lines = "\n".join(data.hex()[at : at + 72] for at in range(0, 2 * len(data), 72))
        content = f"\n{name}\n{len(data):8}\n{lines}\n".encode()
        return chunk(b"zTXt", f"Raw profile type {name}\0\0".encode() + zlib.compress(content))

    app1 = raw("APP1", b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    picture = read_picture(png(COLOUR, 8, raw("exif", b"Exif\0\0" + exif_block()), app1))
    assert (picture.metadata.exif, picture.metadata.xmp, picture.notes) == (exif_block(), XMP, ())


def test_critical_chunks_that_nobody_knows() -> None:
    with pytest.raises(PictureError, match="critical chunk CgBI"):
        read_picture(png(COLOUR, 8, chunk(b"CgBI", bytes(4))))
    with pytest.raises(PictureError, match="damaged"):
        read_picture(io.BytesIO(SIGNATURE + chunk(b"IHDR", bytes(13), well=False)))


def test_frames_of_an_animation() -> None:
    control = chunk(b"acTL", struct.pack(">2I", 3, 0))
    frame = chunk(b"fcTL", struct.pack(">5I2H2B", 0, 8, 6, 0, 0, 1, 1, 0, 0))
    assert read_picture(png(COLOUR, 8, control, frame)).notes == ("first frame of 3",)
    assert read_picture(png(COLOUR, 8, control, after=frame)).notes == ("first frame of 4",)


def test_a_file_that_ends_behind_its_samples_is_a_picture() -> None:
    data = png(COLOUR, 8, GOOD["eXIf"], after=GOOD["iTXt"]).getvalue()
    picture = read_picture(io.BytesIO(data[:-30]))
    assert (picture.rgb[0, 0].tolist(), picture.metadata.exif) == ([188, 55, 55], exif_block())


def test_profiles_made_here_are_followed() -> None:
    for number, primaries in CICP_PRIMARIES.items():
        assert shows_srgb(made_profile(primaries, SRGB_CURVE)) == (number == 1)
