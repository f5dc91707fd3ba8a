"""Tensors to ``.shcn`` bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shcodec import entropy
from shcodec.deflate import deflated
from shcodec.errors import LimitError, UsageError
from shcodec.netpack import planes, trellis
from shcodec.netpack.codebooks import Assigned, encode_assigned
from shcodec.netpack.file import join
from shcodec.netpack.histograms import Histogram
from shcodec.netpack.layout import Codebook, Directory, Entry, Machine
from shcodec.netpack.plan import PackConfig, Plan, make_plan
from shcodec.netpack.quantiser import Found, Groups, Quantiser, bits_of, codewords, make_groups, make_sections
from shcodec.netpack.report import PackReport, TensorReport
from shcodec.netpack.targets import CLOSE_DB, FILL, Target, Trial, meet
from shcodec.netpack.tensors import Tensor
from shcodec.reports import Report, unheard

Floats = npt.NDArray[np.float32]

_DB_PER_BIT: Final = 6.02
DEFAULT: Final = Target(bits=4.0)


@dataclass(frozen=True)
class Coded:
    """Quantised tensors at some step; without indices where there are none to quantise."""

    data: bytes
    step: float = 0.0
    found: Sequence[Found] = ()
    histograms: Sequence[Histogram] = ()


def pack_tensors(
    tensors: Sequence[Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    target: Target = DEFAULT,
    config: PackConfig | None = None,
    assigned: Sequence[Assigned] = (),
    report: Report = unheard,
) -> tuple[bytes, PackReport]:
    """Pack tensors.

    Args:
        tensors: The tensors, no name twice.
        metadata: Texts to keep with them.
        target: How small or how good the result is to be.
        config: How.
        assigned: Codebooks with the tensors that consist of their codewords already; these are coded without loss.
        report: Is told of the attempts.

    Raises:
        UsageError: If a name occurs twice.
        LimitError: If the tensors cannot be made as small as that, or something exceeds what the format allows.
    """
    config = config or PackConfig()
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise UsageError("a tensor's name occurs twice")
    plan = make_plan(tensors, config, frozenset(name for book in assigned for name in book.indices))
    packer = Packer(plan, metadata or {}, assigned, config)
    if not plan.x.size:
        data = packer.file(None, [])
        return data, packer.summary(Coded(data), "")
    trial = packer.search(target, report)
    return trial.result.data, packer.summary(trial.result, packer.missed(trial, target))


class Packer:
    """Writes files of a plan at any step.

    Args:
        plan: The tensors.
        metadata: Texts to keep with them.
        assigned: Codebooks of tensors that are made of codewords.
        config: How.
    """

    def __init__(
        self, plan: Plan, metadata: Mapping[str, str], assigned: Sequence[Assigned], config: PackConfig
    ) -> None:
        self.plan, self.metadata, self.config = plan, dict(metadata), config
        replaced: dict[str, Entry] = {}
        codebooks: list[Codebook] = []
        self.indexed: Groups = []
        self.index_bits: dict[str, float] = {}
        for number, book in enumerate(assigned):
            described, codebook, groups = encode_assigned(number, book, plan.entries)
            replaced.update(described)
            codebooks.append(codebook)
            self.indexed += groups
            for name in described:
                own, groups = groups[: len(codebook.deficits)], groups[len(codebook.deficits) :]
                self.index_bits[name] = sum(float(table.bits[symbols].sum()) for symbols, table in own)
        self.codebooks = tuple(codebooks)
        self.entries = tuple(replaced.get(entry.name, entry) for entry in plan.entries)
        kept = [entry.dtype for entry in self.entries if entry.coding is None]
        self.plain = planes.shuffled(list(zip(kept, plan.plain, strict=True)))
        self._learned: dict[float, tuple[list[Histogram], float, float]] = {}
        if plan.x.size:
            sections = make_sections(plan.x, plan.tables, len(plan.runs.lengths))
            self.quantiser = Quantiser.of(sections, config.memory, config.threads)

    @functools.cached_property
    def plain_size(self) -> int:
        """Bytes that the file's lossless part takes."""
        return len(deflated(self.plain))

    def file(self, machine: Machine | None, groups: Groups) -> bytes:
        """Return a file."""
        directory = Directory(self.entries, self.metadata, machine, self.codebooks)
        return join(directory, self.plain, entropy.encode([*groups, *self.indexed]))

    def at(self, step: float) -> Coded:
        """Quantise all elements with a step, which a float32 holds."""
        histograms, _, _ = self.learn(step)
        found, histograms = self.quantiser.apply(step, histograms)
        groups: Groups = []
        for section, indices in zip(self.quantiser.sections, found, strict=True):
            groups += make_groups(section, indices, histograms)
        machine = Machine(step, self.config.memory, self.plan.runs, tuple(histograms))
        return Coded(self.file(machine, groups), step, found, histograms)

    def learn(self, step: float) -> tuple[list[Histogram], float, float]:
        """See `Quantiser.learn`; what is found for a step is kept."""
        if step not in self._learned:
            self._learned[step] = self.quantiser.learn(step)
        return self._learned[step]

    def search(self, target: Target, report: Report) -> Trial[Coded]:
        """Find the step that meets a target.

        Raises:
            LimitError: If there is none as coarse as that.
        """
        attempts = 0
        energy = sum(self.plan.energy)

        def attempt(step: float) -> Trial[Coded]:
            nonlocal attempts
            attempts += 1
            report("packing", attempts, attempts + 1)
            coded = self.at(step)
            cost = ratio_db(energy, sum(self.errors(coded))) if target.sqnr else float(len(coded.data))
            return Trial(step, cost, coded)

        def guess(step: float) -> float:
            _, bits, error = self.learn(step)
            return ratio_db(energy, error) if target.sqnr else bits / 8 + self.plain_size

        limit = target.sqnr or self.limit(target)
        x = self.plan.x
        octaves = target.sqnr / _DB_PER_BIT if target.sqnr else 8 * limit / x.size
        found = meet(
            guess,
            attempt,
            limit=limit,
            slack=CLOSE_DB if target.sqnr else (1 - FILL) * limit,
            exceeding=bool(target.sqnr),
            ends=(self.quantiser.finest, float(self.quantiser.peaks.max())),
            start=2.0 ** (1 - min(octaves, 16.0)) * float(np.std(x, dtype=np.float64)),
            slope=-_DB_PER_BIT if target.sqnr else -x.size / 8,
        )
        if not target.sqnr and found.cost > limit:
            raise LimitError(f"the tensors take {int(found.cost)} bytes at least, more than the {int(limit)} wanted")
        return found

    def limit(self, target: Target) -> float:
        """Bytes that the file may take."""
        if target.size is not None:
            return float(target.size)
        return (target.bits or 0.0) * self.coded / 8 + self.plain_size

    @property
    def coded(self) -> int:
        """Elements of the tensors that are not kept as they are."""
        return sum(entry.size for entry in self.entries if entry.coding is not None)

    def missed(self, trial: Trial[Coded], target: Target) -> str:
        """How a trial misses its target; "" if it does not."""
        if target.sqnr is not None:
            off = trial.cost - target.sqnr
            return f"{trial.cost:.2f} dB instead of {target.sqnr:.2f}" if abs(off) > 2 * CLOSE_DB else ""
        limit = self.limit(target)
        return f"{trial.cost / limit:.1%} of the size used" if trial.cost < FILL * limit else ""

    def errors(self, coded: Coded) -> list[float]:
        """Squared error of each quantised tensor."""

        def squares(x: Floats, found: Found, span: slice, histogram: Histogram) -> Floats:
            value = codewords(found.k[span], found.odd[span], histogram) * np.float32(coded.step)
            return np.square(x[span] - value)

        return [e * w**2 for e, w in zip(self._by_tensor(coded, squares), self.plan.weight, strict=True)]

    def bits(self, coded: Coded) -> list[float]:
        """Bits of the symbols of each quantised tensor."""

        def bits(x: Floats, found: Found, span: slice, histogram: Histogram) -> Floats:
            return bits_of(found.k[span], found.odd[span], histogram).astype(np.float32)

        return self._by_tensor(coded, bits)

    def _by_tensor(self, coded: Coded, measure: Callable[[Floats, Found, slice, Histogram], Floats]) -> list[float]:
        """Sums of something that is measured of elements sorted by histogram, by quantised tensor."""
        every = []
        for section, found in zip(self.quantiser.sections, coded.found, strict=True):
            own = np.empty(section.x.size, dtype=np.float32)
            for first, last, number in trellis.segments(section.ends, 0, own.size):
                span = slice(first, last)
                own[section.order[span]] = measure(section.x, found, span, coded.histograms[number])
            every.append(own)
        sizes = [entry.size for entry, _ in self.plan.walked()]
        parts = np.split(np.concatenate(every), np.cumsum(sizes)[:-1])
        return [float(part.sum(dtype=np.float64)) for part in parts]

    def summary(self, coded: Coded, missed: str) -> PackReport:
        """Tell what became of the tensors."""
        total = len(coded.data)
        walked = [entry.name for entry, _ in self.plan.walked()]
        bits = dict(zip(walked, self.bits(coded), strict=True)) if walked else {}
        errors = dict(zip(walked, self.errors(coded), strict=True)) if walked else {}
        energy = dict(zip(walked, self.plan.energy, strict=True))
        kept = sum(entry.nbytes for entry in self.entries if entry.coding is None)
        lines = []
        for entry in self.entries:
            if entry.name in bits:
                coding, cost = "trellis", bits[entry.name]
                sqnr: float | None = ratio_db(energy[entry.name], errors[entry.name])
            elif entry.coding is None:
                coding, cost, sqnr = "kept", 8 * self.plain_size * entry.nbytes / max(kept, 1), None
            else:
                coding, cost, sqnr = "codebook", self.index_bits[entry.name], math.inf
            lines.append(
                TensorReport(
                    entry.name, entry.dtype, entry.shape, coding, cost / max(entry.size, 1), sqnr, cost / 8 / total
                )
            )
        return PackReport(
            total=total,
            weights=sum(entry.size for entry in self.entries),
            quantised=self.coded,
            bits=8 * (total - self.plain_size) / self.coded if self.coded else None,
            sqnr=ratio_db(sum(energy.values()), sum(errors.values())) if walked else None,
            missed=missed,
            tensors=tuple(lines),
        )


def ratio_db(energy: float, error: float) -> float:
    """Return 10 log10(energy / error); infinite without error."""
    return 10 * math.log10(energy / error) if error > 0 else math.inf
