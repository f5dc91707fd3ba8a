"""Tensors of few different values, such as masks: a codebook of these values codes them exactly, in few bits.

A trellis takes its step from the spread of the elements, so that the two values of a mask would cost more than one bit
and not even come out exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from shcodec.netpack.packing.codebooks import Assigned
from shcodec.netpack.packing.directory import MAX_CODEBOOKS
from shcodec.netpack.packing.tensors import Tensor, from_floats, to_floats

_FEW: Final = 256
_FEW_OF: Final = 16  # elements for each different value, at least
_SAMPLE: Final = 1 << 12
_WORD_BITS: Final = 48  # a codeword's own bits, and those of its frequency


def few_valued(tensors: Sequence[Tensor], rate: float) -> list[Assigned]:
    """Return codebooks for those tensors that they code exactly in no more bits than they may take.

    Args:
        tensors: Float tensors.
        rate: Bits that an element may take.
    """
    found: list[Assigned] = []
    for tensor in tensors[:MAX_CODEBOOKS]:
        if len(found) == MAX_CODEBOOKS:
            break
        book = _book(tensor, rate)
        if book is not None:
            found.append(book)
    return found


def _book(tensor: Tensor, rate: float) -> Assigned | None:
    values = to_floats(tensor)
    most = min(_FEW, values.size // _FEW_OF, int(rate * values.size / _WORD_BITS))
    if np.unique(values[:: max(values.size // _SAMPLE, 1)]).size > most:  # a sample tells it sooner
        return None
    # Bits tell 0 from -0.
    words, index, counts = np.unique(values.view(np.uint32), return_inverse=True, return_counts=True)
    values = words.view(np.float32)
    if not 2 <= words.size <= most or not np.isfinite(values).all():
        return None
    share = counts / counts.sum()
    bits = float(-(counts * np.log2(share)).sum()) + _WORD_BITS * words.size
    if bits > rate * index.size or from_floats(values[index], tensor.dtype) != bytes(tensor.data):
        return None
    return Assigned(values[:, None], {tensor.name: index.reshape(-1).astype(np.int32)}, {tensor.name: 1.0})
