"""The alpha channel: its lossless coding, and the colours that it hides.

``FORMAT.md`` describes every byte of the coding. It is made for masks as they are: few values, large even areas, soft
edges. Samples that take few values become indices of 1, 2 or 4 bits; differences to a neighbour are then DEFLATEd.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from PIL import Image

from shcodec.pictures.picture import Pixels
from shcodec.support.deflate import deflated, inflated
from shcodec.support.errors import CorruptFileError

OPAQUE: Final = 255
MOST_LISTED: Final = 16  # values that are listed, so that samples are indices into the list
LEFT, UP = 1, 2  # bits of the filter: differences along rows, along columns
TRIAL_LEVEL: Final = 4  # of DEFLATE: orders the filters as level 9 does, in a tenth of the time

_WHAT: Final = "chunk ALPH"


def pack(alpha: Pixels) -> bytes:
    """Return the content of chunk ALPH, with that of the four filters that is best in a quick trial.

    Args:
        alpha: (H, W) uint8, 0 transparent, 255 opaque, not opaque everywhere.
    """
    values = [value for value, count in enumerate(Image.fromarray(alpha).histogram()) if count]
    if len(values) == 1:
        return bytes([1, values[0]])
    listed = values if len(values) <= MOST_LISTED else []
    depth = _depth(len(listed))
    samples = alpha
    if listed:
        index = np.zeros(256, np.uint8)
        index[listed] = np.arange(len(listed))
        samples = index[alpha]
    best = min(range(4), key=lambda filter_: len(deflated(_packed(_filtered(samples, filter_), depth), TRIAL_LEVEL)))
    return bytes([len(listed), *listed, best]) + deflated(_packed(_filtered(samples, best), depth))


def unpack(data: bytes, width: int, height: int) -> Pixels:
    """Return the alpha channel (height, width) uint8 of a chunk ALPH.

    Nothing is allocated that the length of `data` does not account for: a chunk that is too short for the picture is
    found out before the channel is made.

    Raises:
        CorruptFileError: the chunk is not valid for a picture of this size.
    """
    count = data[0] if data else MOST_LISTED + 1
    listed = data[1 : 1 + count]
    if count > MOST_LISTED or len(listed) < count or any(a >= b for a, b in pairwise(listed)):
        raise CorruptFileError(f"{_WHAT} does not begin with a list of values")
    rest = data[1 + count :]
    if count == 1:
        if rest or listed[0] == OPAQUE:
            raise CorruptFileError(f"{_WHAT} is not written in its shortest form")
        return np.broadcast_to(np.uint8(listed[0]), (height, width))
    if not rest or rest[0] > 3:
        raise CorruptFileError(f"{_WHAT} has no valid filter")
    depth = _depth(count)
    size = height * -(-width * depth // 8)
    stream = inflated(rest[1:], size, _WHAT)
    if len(stream) < size:
        raise CorruptFileError(f"{_WHAT} ends before the picture does")
    samples = _unfiltered(_unpacked(stream, width, height, depth), rest[0], depth)
    if not count:
        return samples
    if int(samples.max()) >= count:
        raise CorruptFileError(f"{_WHAT} holds an index beyond its list of values")
    return np.frombuffer(listed, np.uint8)[samples]


def _depth(count: int) -> int:
    """Return the bits of a sample: of an index into a list of `count` values, or 8 where there is no list."""
    if not count:
        return 8
    return 1 if count == 2 else 2 if count <= 4 else 4


def _filtered(samples: Pixels, filter_: int) -> Pixels:
    """Return differences modulo 256, of which `_packed` keeps the low bits; before the first sample lies 0."""
    out = samples
    if filter_ & LEFT:
        out = np.diff(out, axis=1, prepend=np.uint8(0))
    if filter_ & UP:
        out = np.diff(out, axis=0, prepend=np.uint8(0))
    return out


def _unfiltered(differences: Pixels, filter_: int, depth: int) -> Pixels:
    out = differences
    if filter_ & UP:
        out = np.cumsum(out, axis=0, dtype=np.uint8)
    if filter_ & LEFT:
        out = np.cumsum(out, axis=1, dtype=np.uint8)
    return out & np.uint8((1 << depth) - 1)


def _packed(samples: Pixels, depth: int) -> bytes:
    """Pack the low `depth` bits of every sample, the first in a byte's highest; rows are filled up with zero bits."""
    if depth == 8:
        return samples.tobytes()
    each = 8 // depth
    low = np.pad(samples & np.uint8((1 << depth) - 1), ((0, 0), (0, -samples.shape[1] % each)))
    groups: Pixels = np.bitwise_or.reduce(low.reshape(len(low), -1, each) << _shifts(depth), axis=2)
    return groups.tobytes()


def _unpacked(stream: bytes, width: int, height: int, depth: int) -> Pixels:
    """Undo `_packed`; raises CorruptFileError where a row is filled up with anything but zero bits."""
    rows = np.frombuffer(stream, np.uint8).reshape(height, -1)
    if depth == 8:
        return rows
    samples = ((rows[..., None] >> _shifts(depth)) & np.uint8((1 << depth) - 1)).reshape(height, -1)
    if samples[:, width:].any():
        raise CorruptFileError(f"{_WHAT} has set bits after the end of a row")
    return samples[:, :width]


def _shifts(depth: int) -> Pixels:
    return np.arange(8 - depth, -1, -depth, dtype=np.uint8)
