"""Symbols to bytes and back: one ANS stream per picture, with integer tables.

Every table is an array of uint32 frequencies, each at least 1, with the exact sum 2^24. No float decides a symbol, so a
stream decodes alike on every machine. constriction does the work; `ans_python` writes and reads the very same
words, only more slowly, where constriction cannot be imported. ``FORMAT.md`` specifies the stream without either.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shcodec.support.errors import CorruptFileError, LimitError, ModelError

PRECISION: Final = 24
"""Bits of a frequency: the entries of every table add up to 2^24."""
TOTAL: Final = 1 << PRECISION
MAX_ALPHABET: Final = 1 << 16
MAX_SYMBOLS: Final = 1 << 28
"""Symbols that one call may decode. constriction aborts the process if it cannot allocate, hence a limit beforehand."""


class Table:
    """A histogram over the symbols 0..K-1 that both sides share.

    Args:
        frequencies: uint32 array of shape ``(K,)``, 2 <= K <= 65536, every entry >= 1, sum exactly 2^24.

    Raises:
        ModelError: If ``frequencies`` is anything else.
    """

    def __init__(self, frequencies: npt.NDArray[np.uint32]) -> None:
        if frequencies.ndim != 1 or frequencies.dtype != np.uint32:
            raise ModelError(f"a table must be a vector of uint32, not {frequencies.dtype} of rank {frequencies.ndim}")
        if not 2 <= frequencies.size <= MAX_ALPHABET:
            raise ModelError(f"a table must have from 2 to {MAX_ALPHABET} entries, not {frequencies.size}")
        if frequencies.min() < 1:
            raise ModelError("a table has a frequency of 0")
        total = int(frequencies.sum(dtype=np.uint64))
        if total != TOTAL:
            raise ModelError(f"the frequencies of a table add up to {total}, not to 2^{PRECISION}")
        self.frequencies: npt.NDArray[np.uint32] = frequencies.copy()
        self.frequencies.flags.writeable = False

    def __len__(self) -> int:
        """Return the size of the alphabet, K."""
        return int(self.frequencies.size)

    @functools.cached_property
    def bits(self) -> npt.NDArray[np.float64]:
        """Cost of each symbol in bits, shape ``(K,)``: 24 - log2(frequency)."""
        bits: npt.NDArray[np.float64] = PRECISION - np.log2(self.frequencies.astype(np.float64))
        bits.flags.writeable = False
        return bits

    @functools.cached_property
    def _model(self) -> Any:
        return _backend()[1](self.frequencies)


def encode(groups: Sequence[tuple[npt.NDArray[np.integer[Any]], Table]]) -> bytes:
    """Write one stream.

    Args:
        groups: Pairs of symbols, an integer vector of any length with values in ``0..len(table)-1``, and their table,
            in the order in which they will be decoded.

    Returns:
        The stream: little-endian 32-bit words without the zero bytes at the end. It may be empty.

    Raises:
        ValueError: If symbols are not an integer vector or lie outside the table's alphabet.
    """
    coder = _backend()[0]()
    # ANS is a stack: what is to come out first goes in last.
    for symbols, table in reversed(groups):
        if symbols.ndim != 1 or not np.issubdtype(symbols.dtype, np.integer):
            raise ValueError(f"symbols must be a vector of integers, not {symbols.dtype} of rank {symbols.ndim}")
        if symbols.size == 0:
            continue
        low, high = int(symbols.min()), int(symbols.max())
        if low < 0 or high >= len(table):
            raise ValueError(f"symbols from {low} to {high} are outside the alphabet of {len(table)}")
        coder.encode_reverse(np.ascontiguousarray(symbols, dtype=np.int32), table._model)
    words: npt.NDArray[np.uint32] = coder.get_compressed()
    return words.astype("<u4").tobytes().rstrip(b"\0")


class Decoder:
    """Reads one stream, group by group, in the order in which `encode` was given the groups.

    Reading more symbols than were written raises nothing by itself (ANS has no end mark), so the counts must come from
    elsewhere and `finish` must be called after the last group.

    Args:
        data: The whole stream.

    Raises:
        CorruptFileError: If the stream ends in a zero byte, which `encode` would have trimmed.
    """

    def __init__(self, data: bytes) -> None:
        if data.endswith(b"\0"):
            raise CorruptFileError("the symbol stream ends in a zero byte")
        padded = data + bytes(-len(data) % 4)
        self._coder = _backend()[0](np.frombuffer(padded, "<u4").astype(np.uint32))

    def decode(self, table: Table, n: int) -> npt.NDArray[np.int32]:
        """Return the next ``n`` symbols, shape ``(n,)``, values in ``0..len(table)-1``.

        Raises:
            ValueError: If ``n`` is negative.
            LimitError: If ``n`` exceeds `MAX_SYMBOLS`.
        """
        if n < 0:
            raise ValueError(f"cannot decode {n} symbols")
        if n > MAX_SYMBOLS:
            raise LimitError(f"{n} symbols of one table are more than the limit of {MAX_SYMBOLS}")
        if n == 0:
            return np.empty(0, dtype=np.int32)
        symbols: npt.NDArray[np.int32] = self._coder.decode(table._model, int(n))
        return symbols

    def finish(self) -> None:
        """Check that the stream was used up exactly.

        Raises:
            CorruptFileError: If anything is left; the symbols are then wrong, too.
        """
        if not self._coder.is_empty():
            raise CorruptFileError("the symbol stream does not end where its symbols do: the file is damaged")


def integer_table(counts: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Turn counts into the frequencies of a `Table`; used when a model is exported, never when it is loaded.

    Each entry gets 1, and the rest of 2^24 is shared out in proportion to the counts by the method of the largest
    remainder, the lower index first among equals. Counts that are all 0 give the uniform table.

    Args:
        counts: Finite numbers >= 0, shape ``(K,)``, 2 <= K <= 65536.

    Returns:
        uint32 array of shape ``(K,)``: every entry >= 1, sum exactly 2^24.

    Raises:
        ValueError: If ``counts`` is anything else.
    """
    weights = np.asarray(counts, dtype=np.float64)
    if weights.ndim != 1 or not 2 <= weights.size <= MAX_ALPHABET:
        raise ValueError(f"counts must be a vector of 2 to {MAX_ALPHABET} numbers, not of shape {weights.shape}")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError("counts must be finite and not negative")
    peak = weights.max()
    # Scaling by the peak keeps the sum of huge counts finite; fsum keeps it independent of the machine's vector width.
    weights = weights / peak if peak > 0 else np.ones_like(weights)
    rest = TOTAL - weights.size
    shares = weights * (rest / math.fsum(weights))
    whole = np.floor(shares)
    order = np.argsort(whole - shares, kind="stable")
    frequencies = 1 + whole.astype(np.int64)
    frequencies[order[: TOTAL - int(frequencies.sum())]] += 1
    return frequencies.astype(np.uint32)


@functools.cache
def _backend() -> tuple[Callable[..., Any], Callable[[npt.NDArray[np.uint32]], Any]]:
    """Return the class of the coder and the function that turns frequencies into its model."""
    try:
        constriction = importlib.import_module("constriction")
    except ImportError:
        from shcodec.symbols import ans_python

        return ans_python.AnsCoder, ans_python.Categorical

    categorical = constriction.stream.model.Categorical

    def model(frequencies: npt.NDArray[np.uint32]) -> Any:
        # constriction adds 1 to every entry and scales the others to the sum 2^24 - K, which f - 1 already has: the
        # scale is exactly 1.0 and the table exactly f. Without `perfect=False` it would print a warning to stdout.
        return categorical((frequencies - 1).astype(np.float64), perfect=False)

    return constriction.stream.stack.AnsCoder, model
