"""An independent ANS coder, written from ``FORMAT.md`` and for clarity alone.

It imports nothing, least of all from shcodec, so that what it says about a stream is a second opinion. Symbols are
looked up by linear search and numbers are Python's own, of any size.
"""

from __future__ import annotations

Group = tuple[list[int], list[int]]
"""Symbols and the frequencies (sum 2^24) that code them."""


def to_words(stream: bytes) -> list[int]:
    """Return the 32-bit words of a stream of which the zero bytes at the end were trimmed."""
    assert not stream.endswith(b"\0"), "not canonical"
    padded = stream + bytes(-len(stream) % 4)
    return [int.from_bytes(padded[i : i + 4], "little") for i in range(0, len(padded), 4)]


def to_stream(words: list[int]) -> bytes:
    """Return the bytes of a stream, without zero bytes at the end."""
    return b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0")


class Decoder:
    """Pops symbols off a stream."""

    def __init__(self, stream: bytes) -> None:
        self.words = to_words(stream)
        self.state = 0
        self.refill()
        self.refill()

    def refill(self) -> None:
        """Take one more word where the state is short of 32 bits."""
        if self.state < 2**32 and self.words:
            self.state = self.state * 2**32 + self.words.pop()

    def decode(self, frequencies: list[int], n: int) -> list[int]:
        """Return the next ``n`` symbols."""
        assert sum(frequencies) == 2**24
        symbols = []
        for _ in range(n):
            offset = self.state % 2**24
            symbol = 0
            while offset >= frequencies[symbol]:
                offset -= frequencies[symbol]
                symbol += 1
            self.state = frequencies[symbol] * (self.state // 2**24) + offset
            self.refill()
            symbols.append(symbol)
        return symbols

    def at_end(self) -> bool:
        """Whether the stream was used up exactly."""
        return self.state == 0 and not self.words


def encode(groups: list[Group]) -> bytes:
    """Return the stream from which `Decoder` pops the groups in their order."""
    words: list[int] = []
    state = 0
    for symbols, frequencies in reversed(groups):
        for symbol in reversed(symbols):
            frequency, start = frequencies[symbol], sum(frequencies[:symbol])
            if state >= frequency * 2**40:
                words.append(state % 2**32)
                state //= 2**32
            state = state // frequency * 2**24 + start + state % frequency
    while state:
        words.append(state % 2**32)
        state //= 2**32
    return to_stream(words)
