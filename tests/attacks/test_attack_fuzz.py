"""Structure-aware fuzzing: valid files with lies in them, by the hundred. `make attacks` goes on by the million."""

from __future__ import annotations

import zlib
from pathlib import Path
from random import Random

import forge
import pytest
from forge import mutated, read_or_reject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_model import make_tensors

from shcodec import container
from shcodec.codec import decoding, inspection
from shcodec.support.errors import ShcError
from shcodec.symbols import stream
from shcodec.symbols.grid import Grid
from shcodec.symbols.tables import SymbolTables

pytestmark = pytest.mark.usefixtures("tiny_model")

SEEDS = sorted(path for path in forge.GOLDEN_FILES.glob("*.shc") if path.stat().st_size < 1200)
seeds = st.sampled_from(SEEDS).map(Path.read_bytes)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(seeds, st.randoms(use_true_random=False))
@quick
def test_files_with_lies_in_them(data: bytes, random: Random) -> None:
    """A picture or one line of text; and the readers agree on what a container is."""
    lying = mutated(data, random)
    reason = read_or_reject(lying, lambda file: decoding.decode(file, max_pixels=1 << 14))
    if not reason:
        inspection.verify(lying)
        assert inspection.info(lying).total == len(lying)
        assert container.pack(container.unpack(lying)) == lying


@given(seeds, st.data())
@quick
def test_parts_of_files_that_are_lost_on_the_way(data: bytes, draw: st.DataObject) -> None:
    """Whatever is cut out of a file or repeated in it: the checksum, or the lengths, tell."""
    start = draw.draw(st.integers(0, len(data)))
    stop = draw.draw(st.integers(start, len(data)))
    changed = draw.draw(st.sampled_from([data[:start] + data[stop:], data[:stop] + data[start:]]))
    if changed != data:
        assert read_or_reject(changed, inspection.verify)


@given(seeds, st.binary(max_size=40), st.integers(0, 60))
@quick
def test_salvage_of_what_is_damaged(data: bytes, noise: bytes, start: int) -> None:
    """`--keep-going` accepts damage, and still nothing but a picture or one line comes of it."""
    changed = data[: -1 - start] + noise
    read_or_reject(changed, lambda file: decoding.decode_picture(file, keep_going=True, max_pixels=1 << 16))
    tampered = changed[:-4] + zlib.crc32(changed[:-4]).to_bytes(4, "little")
    read_or_reject(tampered, lambda file: decoding.decode_picture(file, keep_going=True, max_pixels=1 << 16))


@given(st.integers(0, 9), st.booleans(), st.binary(max_size=120), st.integers(0, 255), st.integers(1, 40))
@quick
def test_any_stream_of_a_made_up_model(seed: int, hyper: bool, payload: bytes, beta_byte: int, side: int) -> None:
    """Any bytes give symbols of the right shape, which are written as the same bytes again, or are rejected."""
    tables = SymbolTables(make_tensors(seed, hyper=hyper))
    grid = Grid.of(16 * side, 9 * side)
    try:
        z, orders, indices = stream.read(tables, payload.rstrip(b"\0"), beta_byte, grid)
    except ShcError:
        return
    for order, found in zip(orders, indices, strict=True):
        assert [n for _, n in order.numbers] == [len(index) for index in found]
    if z is None:  # with z, the writer may know a cheaper row of the bank
        assert stream.write(tables, z, list(zip(orders, indices, strict=True))) == payload.rstrip(b"\0")
