"""The ANS coder of ``FORMAT.md`` in plain Python, for machines where constriction has no wheel.

It offers what `ans` uses of ``constriction.stream.stack.AnsCoder``, and its words are the same, bit by bit.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

_PRECISION = 24
_WORD = 32


class Categorical:
    """Frequencies with sum 2^24, and the number where each symbol's interval starts."""

    def __init__(self, frequencies: npt.NDArray[np.uint32]) -> None:
        self.frequencies: list[int] = frequencies.tolist()
        self.starts = list(accumulate(self.frequencies[:-1], initial=0))


class AnsCoder:
    """A stack of symbols: a 64-bit state over a stack of 32-bit words.

    Args:
        compressed: Words of `get_compressed` to decode; empty or absent for a new stack. The last must not be 0.
    """

    def __init__(self, compressed: npt.NDArray[np.uint32] | None = None) -> None:
        self._bulk: list[int] = [] if compressed is None else compressed.tolist()
        self._state = 0
        for _ in range(min(2, len(self._bulk))):
            self._state = self._state << _WORD | self._bulk.pop()

    def encode_reverse(self, symbols: npt.NDArray[np.int32], model: Categorical) -> None:
        """Push ``symbols`` from the last to the first, so that they are popped from the first to the last."""
        state, bulk = self._state, self._bulk
        for symbol in reversed(symbols.tolist()):
            frequency = model.frequencies[symbol]
            if state >> (2 * _WORD - _PRECISION) >= frequency:
                bulk.append(state & 0xFFFFFFFF)
                state >>= _WORD
            quotient, remainder = divmod(state, frequency)
            state = (quotient << _PRECISION) + model.starts[symbol] + remainder
        self._state = state

    def decode(self, model: Categorical, n: int) -> npt.NDArray[np.int32]:
        """Pop ``n`` symbols."""
        state, bulk = self._state, self._bulk
        frequencies, starts = model.frequencies, model.starts
        symbols = np.empty(n, dtype=np.int32)
        for i in range(n):
            point = state & 0xFFFFFF
            symbol = bisect_right(starts, point) - 1
            symbols[i] = symbol
            state = frequencies[symbol] * (state >> _PRECISION) + point - starts[symbol]
            if state < 1 << _WORD and bulk:
                state = state << _WORD | bulk.pop()
        self._state = state
        return symbols

    def is_empty(self) -> bool:
        """Whether nothing is left but the initial state."""
        return self._state == 0 and not self._bulk

    def get_compressed(self) -> npt.NDArray[Any]:
        """Return the words, uint32, the state's own last and without its leading zeros."""
        words = list(self._bulk)
        state = self._state
        while state:
            words.append(state & 0xFFFFFFFF)
            state >>= _WORD
        return np.array(words, dtype=np.uint32)
