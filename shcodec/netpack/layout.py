"""What an ``.shcn`` file says of its tensors, apart from their elements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shcodec.entropy import Table
from shcodec.netpack.histograms import Histogram, frequencies, powers
from shcodec.netpack.spread import CLASSES, Spread
from shcodec.netpack.tensors import SIZES


@dataclass(frozen=True)
class Trellis:
    """The coding of a tensor whose elements are multiples of a step.

    Attributes:
        octaves: Eighths of an octave, in 16 bits, by which the tensor's step is larger than the file's.
        centre: What is subtracted from its elements; a float32.
        spread: How its elements are sorted into classes.
    """

    octaves: int
    centre: float
    spread: Spread


@dataclass(frozen=True)
class Indexed:
    """The coding of a tensor whose elements are codewords.

    Attributes:
        codebook: Number of its codebook.
        scale: What the codewords are multiplied by; a float32.
        spread: How its vectors are sorted into classes, each by its first element.
    """

    codebook: int
    scale: float
    spread: Spread


@dataclass(frozen=True)
class Entry:
    """A tensor. `coding` is None where its bytes are kept as they are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: Trellis | Indexed | None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the unpacked tensor."""
        return self.size * SIZES[self.dtype]


@dataclass(frozen=True)
class Runs:
    """Which histogram codes a class: each takes a run of neighbouring classes.

    Attributes:
        lengths: Numbers of classes, each at least 1, with the sum `CLASSES`.
    """

    lengths: tuple[int, ...]

    def lookup(self) -> npt.NDArray[np.uint8]:
        """Return the number of the histogram by class, shape ``(CLASSES,)``."""
        return np.repeat(np.arange(len(self.lengths), dtype=np.uint8), self.lengths)


ONE_RUN = Runs((CLASSES,))


@dataclass(frozen=True)
class Machine:
    """What all tensors of the coding `Trellis` share.

    Attributes:
        step: The step, a positive float32.
        memory: Binary logarithm of the number of states, 0..7.
        runs: Which histogram codes which classes.
        histograms: One for each run.
    """

    step: float
    memory: int
    runs: Runs
    histograms: tuple[Histogram, ...]


@dataclass(frozen=True)
class Codebook:
    """Codewords, and how often each is used.

    Attributes:
        words: float32 of shape ``(L, d)``, 2 <= L <= 4096, d = 1, 2, 4 or 8.
        runs: Which histogram codes which classes.
        deficits: How many eighths of an octave each codeword is rarer than the most frequent one of its histogram,
            uint8 of shape ``(runs, L)``; the least of each row is 0.
    """

    words: npt.NDArray[np.float32]
    runs: Runs
    deficits: npt.NDArray[np.uint8]

    def tables(self) -> tuple[Table, ...]:
        """The tables of all histograms."""
        return tuple(Table(frequencies(powers(-8 * row.astype(np.int64)))) for row in self.deficits)


@dataclass(frozen=True)
class Directory:
    """All tensors of a file in their order, and what their codings share.

    Attributes:
        entries: The tensors, no name twice.
        metadata: Texts by text, as a safetensors file has them.
        machine: What the coding `Trellis` needs; None where no tensor has it.
        codebooks: Those of the coding `Indexed`, each used by at least one tensor.
    """

    entries: tuple[Entry, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    machine: Machine | None = None
    codebooks: tuple[Codebook, ...] = ()

    @property
    def elements(self) -> int:
        """Elements of all tensors."""
        return sum(entry.size for entry in self.entries)

    @property
    def coded(self) -> int:
        """Elements of the tensors that are not kept as they are."""
        return sum(entry.size for entry in self.entries if entry.coding is not None)

    def walked(self) -> list[tuple[Entry, Trellis]]:
        """The tensors of the coding `Trellis`."""
        return [(entry, entry.coding) for entry in self.entries if isinstance(entry.coding, Trellis)]

    def indexed(self, codebook: int) -> list[tuple[Entry, Indexed]]:
        """The tensors of a codebook."""
        return [
            (entry, entry.coding)
            for entry in self.entries
            if isinstance(entry.coding, Indexed) and entry.coding.codebook == codebook
        ]
