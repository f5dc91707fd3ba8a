"""The container: round trips, and every way in which a file may be wrong."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_bytes import sealed

import shcodec
from shcodec import container
from shcodec.container import Chunk, Container, beta_to_byte, byte_to_beta, pack, part_sizes, unpack, unpack_header
from shcodec.support.bytestream import varint
from shcodec.support.errors import CorruptFileError, LimitError, ShcError, UsageError

PLAIN = Container(model_id=b"\x01\x02\x03\x04", width=768, height=512, beta_byte=108, payload=b"symbols")
WITH_CHUNKS = replace(PLAIN, grey=True, chunks=(Chunk(b"exIf", b"meta"), Chunk(b"noTe", b"")))

tags = st.text("abcdefghijklmnopqrstuvwxyzABC", min_size=4, max_size=4).map(
    lambda text: (text[0].lower() + text[1:]).encode()
)
containers = st.builds(
    Container,
    model_id=st.binary(min_size=4, max_size=4),
    width=st.integers(1, 13_000),
    height=st.integers(1, 13_000),
    beta_byte=st.integers(0, 255),
    payload=st.binary(max_size=300),
    grey=st.booleans(),
    chunks=st.lists(st.builds(Chunk, tags, st.binary(max_size=200)), max_size=5, unique_by=lambda c: c.tag).map(tuple),
)


def crafted(
    flags: int = 0x10, width: bytes = b"\x01", height: bytes = b"\x01", chunks: bytes = b"", payload: bytes = b"\x00"
) -> bytes:
    """Return a file put together by hand, its parts as they are given and its checksum right."""
    return sealed(container.MAGIC + bytes([flags]) + b"\x01\x02\x03\x04" + width + height + b"\x6c" + chunks + payload)


def with_chunks(chunks: bytes) -> bytes:
    return crafted(flags=0x11, chunks=chunks)


@given(containers)
def test_round_trip(original: Container) -> None:
    data = pack(original)
    assert unpack(data) == original
    assert unpack_header(data[: container.MAX_HEADER_SIZE]) == replace(original, payload=b"", chunks=())
    sizes = part_sizes(data)
    assert list(sizes) == ["header", "chunks", "payload", "checksum"]
    assert sum(sizes.values()) == len(data)
    assert sizes["payload"] == len(original.payload)
    assert (sizes["chunks"] > 0) == bool(original.chunks)


def test_known_bytes() -> None:
    """The bytes of the example in FORMAT.md, so that neither can change alone."""
    expected = bytes.fromhex("89 53 48 43 0a 10 01 02 03 04 80 06 80 04 6c 07") + b"symbols" + bytes.fromhex("25623c6b")
    assert pack(PLAIN) == expected
    text = (Path(shcodec.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
    assert expected.hex(" ") in text


def test_the_reader_of_the_format_document() -> None:
    text = (Path(shcodec.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def read_file" in b)
    scope: dict[str, Any] = {}
    exec(block, scope)
    read_file: Callable[[bytes], dict[str, Any]] = scope["read_file"]
    for original in (PLAIN, WITH_CHUNKS):
        fields = read_file(pack(original))
        assert fields.pop("chunks") == {chunk.tag: chunk.data for chunk in original.chunks}
        assert fields == {name: getattr(original, name) for name in fields}
        assert len(fields) == 6
    for data in (b"", pack(PLAIN)[:-1], pack(PLAIN) + b"x", with_chunks(b"\x00"), crafted(width=b"\x81\x00")):
        with pytest.raises(ValueError):
            read_file(data)


@pytest.mark.parametrize(
    ("width", "height", "payload"), [(1, 1, 0), (768, 512, 11_000), (16_384, 10_922, 1 << 21), (65_535, 2_730, 1 << 21)]
)
def test_overhead_is_at_most_24_bytes(width: int, height: int, payload: int) -> None:
    data = pack(replace(PLAIN, width=width, height=height, payload=bytes(payload)))
    assert width * height <= container.MAX_PIXELS
    assert len(data) - payload <= 24


@pytest.mark.parametrize("original", [PLAIN, WITH_CHUNKS])
def test_truncated_at_every_byte(original: Container) -> None:
    data = pack(original)
    for length in range(len(data)):
        with pytest.raises(CorruptFileError, match=r"truncated|empty"):
            unpack(data[:length])
        with pytest.raises(CorruptFileError, match=r"truncated|empty"):
            part_sizes(data[:length])


@pytest.mark.parametrize("original", [PLAIN, WITH_CHUNKS])
def test_every_flipped_bit_is_noticed(original: Container) -> None:
    data = pack(original)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFileError):
            unpack(bytes(flipped))


@given(st.binary(max_size=200))
def test_any_bytes_raise_only_our_errors(tail: bytes) -> None:
    for data in (tail, sealed(container.MAGIC + tail), sealed(container.MAGIC + b"\x11" + tail)):
        for read in (unpack, unpack_header, part_sizes):
            try:
                read(data)
            except ShcError as error:
                assert "\n" not in str(error)


@given(st.binary(max_size=60))
def test_what_is_accepted_is_canonical(tail: bytes) -> None:
    """A file that can be read at all is the only way to write what it holds."""
    data = sealed(container.MAGIC + b"\x11\x01\x02\x03\x04\x05\x05" + tail)
    try:
        content = unpack(data)
    except ShcError:
        return
    assert pack(content) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an .shc file: it is empty"),
        (b"\x89PNG\r\n\x1a\n", "not an .shc file"),
        (container.MAGIC.replace(b"\n", b"\r\n") + bytes(30), "not an .shc file"),
        (b"\x89SH", "truncated"),
        (crafted(flags=0x20), "format version 2 is not known"),
        (crafted(flags=0x00), "format version 0 is not known"),
        (crafted(flags=0x14), "reserved flags are set"),
        (crafted(flags=0x18), "reserved flags are set"),
        (crafted(width=b"\x00"), "a picture of 0x1 has no pixels"),
        (crafted(height=b"\x00"), "a picture of 1x0 has no pixels"),
        (crafted(width=b"\x81\x00"), "the width is not written in its shortest form"),
        (crafted(height=b"\x80\x80\x00"), "the height is not written in its shortest form"),
        (crafted(width=b"\x81\x80\x80\x00"), "the width is written in more than the allowed bytes (3)"),
        (crafted(payload=b"\x80\x00"), "the payload's length is not written in its shortest form"),
        (crafted(payload=b"\x80" * 5 + b"\x01"), "the payload's length is written in more than the allowed bytes (5)"),
        (crafted(payload=b"\xff\xff\xff\xff\x7f"), "truncated: the file ends within the payload"),
        (crafted(payload=b"\x01ab"), "unexpected bytes after the end (1)"),
        (pack(PLAIN) + b"\x00", "unexpected bytes after the end (1)"),
        (pack(PLAIN)[:-1] + b"\x00", "checksum does not match"),
    ],
)
def test_bad_files(data: bytes, message: str) -> None:
    with pytest.raises(CorruptFileError, match=re.escape(message)):
        unpack(data)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (b"\x00", "the number of chunks must be from 1 to 64, not 0"),
        (b"\x41", "the number of chunks must be from 1 to 64, not 65"),
        (b"\xff\x01", "the number of chunks is written in more than the allowed bytes (1)"),
        (b"\x01a1cd\x00", "chunk tag b'a1cd' is not four letters"),
        (b"\x01\xe4bcd\x00", "is not four letters"),
        (b"\x01abcd\x80\x00", "the length of chunk abcd is not written in its shortest form"),
        (b"\x01abcd\xff\xff\xff\x7f", "truncated: the file ends within chunk abcd"),
        (b"\x01abcd\xff\xff\xff\xff\x01", "the length of chunk abcd is written in more than the allowed bytes (4)"),
        (b"\x02abcd\x00abcd\x01x", "chunk abcd occurs twice"),
        (b"\x02abcd\x00TILE\x01x", "the file needs chunk TILE, which is not known here"),
    ],
)
def test_bad_chunks(chunks: bytes, message: str) -> None:
    with pytest.raises(CorruptFileError, match=re.escape(message)):
        unpack(with_chunks(chunks))


def test_unknown_ancillary_chunks_are_kept_in_order() -> None:
    content = unpack(with_chunks(b"\x02zzzz\x01xabcd\x00"))
    assert content.chunks == (Chunk(b"zzzz", b"x"), Chunk(b"abcd", b""))
    assert not any(chunk.critical for chunk in content.chunks)


def test_known_critical_chunks_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shcodec.container.file.KNOWN_CRITICAL", frozenset({b"TILE"}))
    assert unpack(with_chunks(b"\x01TILE\x00")).chunks == (Chunk(b"TILE", b""),)


def test_a_long_payload_for_few_pixels_is_rejected() -> None:
    limit = 16 + 8 * 64 * 64
    assert len(unpack(pack(replace(PLAIN, width=64, height=1, payload=bytes(limit)))).payload) == limit
    with pytest.raises(LimitError, match="too long for a picture of 64x1"):
        pack(replace(PLAIN, width=64, height=1, payload=bytes(limit + 1)))
    with pytest.raises(CorruptFileError, match="too long for a picture of 1x1"):
        unpack(crafted(payload=varint(limit + 1) + bytes(limit + 1)))


def test_pixel_limit() -> None:
    data = pack(replace(PLAIN, width=65_535, height=65_535))
    for read in (unpack, unpack_header):
        with pytest.raises(LimitError, match="4294836225 pixels, more than the limit of 178956970"):
            read(data)
        assert read(data, max_pixels=1 << 32).width == 65_535
    assert sum(part_sizes(data).values()) == len(data)
    assert unpack(pack(PLAIN), max_pixels=768 * 512) == PLAIN
    with pytest.raises(LimitError):
        unpack(pack(PLAIN), max_pixels=768 * 512 - 1)


@pytest.mark.parametrize("side", [b"\x80\x80\x04", b"\xff\xff\x7f"])
def test_side_limit(side: bytes) -> None:
    for data in (crafted(width=side), crafted(height=side)):
        for read in (unpack, unpack_header):
            with pytest.raises(LimitError, match="a side has at most 65535 pixels"):
                read(data)


def test_chunk_limits() -> None:
    full = bytes(container.MAX_CHUNK_SIZE)
    with pytest.raises(LimitError, match="chunk abcd has 16777217 bytes"):
        pack(replace(PLAIN, chunks=(Chunk(b"abcd", full + b"x"),)))
    with pytest.raises(LimitError, match="chunk abcd has 16777217 bytes"):
        unpack(with_chunks(b"\x01abcd" + varint(len(full) + 1) + full + b"x"))
    five = tuple(Chunk(tag, full) for tag in (b"aaaa", b"bbbb", b"cccc", b"dddd"))
    with pytest.raises(LimitError, match="67108865 bytes in all"):
        pack(replace(PLAIN, chunks=(*five, Chunk(b"eeee", b"x"))))
    many = tuple(Chunk(b"a" + bytes([97 + i // 26, 97 + i % 26, 97]), b"") for i in range(65))
    assert unpack(pack(replace(PLAIN, chunks=many[:64]))).chunks == many[:64]
    with pytest.raises(LimitError, match="at most 64 chunks"):
        pack(replace(PLAIN, chunks=many))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (replace(PLAIN, model_id=b"123"), UsageError),
        (replace(PLAIN, width=0), UsageError),
        (replace(PLAIN, height=-1), UsageError),
        (replace(PLAIN, width=65_536), LimitError),
        (replace(PLAIN, beta_byte=256), UsageError),
        (replace(PLAIN, chunks=(Chunk(b"abc", b""),)), UsageError),
        (replace(PLAIN, chunks=(Chunk(b"ab c", b""),)), UsageError),
        (replace(PLAIN, chunks=(Chunk(b"abcd", b""), Chunk(b"abcd", b"x"))), UsageError),
    ],
)
def test_pack_refuses_wrong_fields(wrong: Container, error: type[ShcError]) -> None:
    with pytest.raises(error):
        pack(wrong)


def test_a_header_needs_no_more_than_its_bytes() -> None:
    data = pack(replace(PLAIN, width=65_535, height=65_535))
    prefix = data[: container.MAX_HEADER_SIZE]
    assert unpack_header(prefix, max_pixels=1 << 32).height == 65_535
    for length in range(len(prefix)):
        with pytest.raises(CorruptFileError, match=r"truncated|empty"):
            unpack_header(prefix[:length])


def test_beta_steps() -> None:
    betas = [byte_to_beta(b) for b in range(256)]
    assert betas[0] == 2.0
    assert betas[255] == 4096.0
    assert all(low < high for low, high in itertools.pairwise(betas))
    assert [beta_to_byte(beta) for beta in betas] == list(range(256))


@given(st.floats(2.0, 4096.0))
def test_the_nearest_beta_is_chosen(beta: float) -> None:
    error = abs(math.log2(byte_to_beta(beta_to_byte(beta)) / beta))
    assert error <= 11 / 255 / 2 + 1e-9


@pytest.mark.parametrize("beta", [1.999, 4096.1, 0.0, -5.0, math.nan, math.inf])
def test_beta_out_of_range(beta: float) -> None:
    with pytest.raises(UsageError, match="beta must be from 2 to 4096"):
        beta_to_byte(beta)


@pytest.mark.parametrize("b", [-1, 256])
def test_beta_byte_out_of_range(b: int) -> None:
    with pytest.raises(UsageError):
        byte_to_beta(b)
