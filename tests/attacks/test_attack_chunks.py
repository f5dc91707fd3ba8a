"""Hostile chunks: metadata that inflates without end, alpha that claims more than it holds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import forge
import pytest
from forge import chunk, put_together, taken_apart, with_chunks
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_bytes import deflated

from shcodec import container
from shcodec.codec import decoding, inspection
from shcodec.container import Chunk, alpha
from shcodec.container.extras import unpack_metadata
from shcodec.support.errors import CorruptFileError, LimitError, ShcError
from shcodec.support.limits import MAX_METADATA_SIZE

pytestmark = pytest.mark.usefixtures("tiny_model")

TAGS = (b"iccp", b"exif", b"xmlp")
BOMB = deflated(bytes(MAX_METADATA_SIZE + 1))  # 16 KB


def peak(call: Callable[[], object]) -> float:
    """Megabytes that a call takes at most, numpy's among them."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def small() -> forge.Parts:
    return taken_apart((forge.GOLDEN_FILES / "scene-16x17-2.shc").read_bytes())


@pytest.mark.parametrize("tag", TAGS)
def test_metadata_stops_inflating(tag: bytes) -> None:
    assert len(BOMB) < 17_000

    def read() -> None:
        with pytest.raises(CorruptFileError, match="holds more than 16777216 bytes"):
            unpack_metadata([Chunk(tag, BOMB)])

    assert peak(read) < 50
    assert peak(lambda: unpack_metadata([Chunk(tag, deflated(bytes(MAX_METADATA_SIZE)))])) < 50


def test_alpha_stops_inflating() -> None:
    for height, width in ((16, 17), (2048, 2048)):
        for listed, depth in ((b"\0", 8), (b"\2\0\xff", 1), (bytes([16, *range(16)]), 4)):
            size = height * -(-width * depth // 8)
            for fill in (size + 1, size - 1, 64 << 20):
                data = listed + b"\3" + deflated(bytes(fill))

                def read(data: bytes = data, width: int = width, height: int = height) -> None:
                    with pytest.raises(CorruptFileError):
                        alpha.unpack(data, width, height)

                assert peak(read) < 10 + 3 * size / 1e6


def test_alpha_of_a_giant_takes_no_memory_that_its_bytes_do_not_account_for() -> None:
    for data in (b"", b"\0", b"\0\0", b"\2\0\xff\0\3\0", b"\2\0\xff\3" + deflated(bytes(1 << 20))):

        def read(data: bytes = data) -> None:
            with pytest.raises(CorruptFileError):
                alpha.unpack(data, 16_384, 10_922)

        assert peak(read) < 10


def test_chunks_beyond_their_limits() -> None:
    parts = small()
    full = bytes(container.MAX_CHUNK_SIZE)
    over = put_together(with_chunks(parts, chunk(b"noTe", full + b"x")))
    with pytest.raises(LimitError):
        decoding.decode(over)
    five = [chunk(b"not" + bytes([65 + i]), full) for i in range(4)]
    with pytest.raises(LimitError):
        decoding.decode(put_together(with_chunks(parts, *five, chunk(b"more", b"x"))))


def test_a_chunk_that_cannot_be_read_is_no_picture_without_it() -> None:
    parts = small()
    for tag in (*TAGS, container.ALPHA):
        for data in (b"", b"\0", b"\3\0x", b"\xff" * 9, deflated(b""), deflated(b"x")[:-1]):
            file = put_together(with_chunks(parts, chunk(tag, data)))
            with pytest.raises(CorruptFileError, match=tag.decode()):
                decoding.decode(file)
            with pytest.raises(CorruptFileError, match=tag.decode()):
                inspection.verify(file)


@given(st.sampled_from([*TAGS, b"ALPH"]), st.one_of(st.binary(max_size=60), st.binary(max_size=200).map(deflated)))
@settings(max_examples=150, deadline=None)
def test_any_content(tag: bytes, data: bytes) -> None:
    for content in (data, b"\0\3" + data, b"\2\0\xff\1" + data):
        try:
            if tag == b"ALPH":
                assert alpha.unpack(content, 17, 16).shape == (16, 17)
            else:
                unpack_metadata([Chunk(tag, content)])
        except ShcError as error:
            assert "\n" not in str(error)


def test_damaged_chunks_are_found_before_any_network_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a kilobyte could cost the decoding of a large picture, and then be rejected."""

    def decoded(*arguments: object) -> None:
        raise AssertionError("symbols were read")

    monkeypatch.setattr(decoding, "decode_latent", decoded)
    for tag in (*TAGS, container.ALPHA):
        file = put_together(with_chunks(small(), chunk(tag, b"\3\0x")))
        for read in (decoding.decode, decoding.decode_picture, inspection.verify):
            with pytest.raises(CorruptFileError, match=tag.decode()):
                read(file)
