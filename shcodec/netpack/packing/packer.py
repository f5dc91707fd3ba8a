"""Packing: tensors to the bytes of an ``.shcn`` file that meets a target."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from shcodec.netpack.packing import byte_planes
from shcodec.netpack.packing.codebooks import Assigned, encode_assigned
from shcodec.netpack.packing.distortion import Distortion, measure_distortions, ratio_db, symbol_bits
from shcodec.netpack.packing.few_values import few_valued
from shcodec.netpack.packing.file import join
from shcodec.netpack.packing.histograms import Histogram
from shcodec.netpack.packing.layout import Codebook, Directory, Entry, Machine, Trellis
from shcodec.netpack.packing.plan import PackConfig, Plan, is_eligible, make_plan
from shcodec.netpack.packing.quantiser import Found, Groups, Quantiser, make_groups, make_sections
from shcodec.netpack.packing.report import PackReport, TensorReport, notes_of, worst_of
from shcodec.netpack.packing.targets import CLOSE_DB, FILL, Target, Trial, meet
from shcodec.netpack.packing.tensors import METADATA, Tensor
from shcodec.support.deflate import deflated
from shcodec.support.errors import LimitError, UsageError
from shcodec.support.progress import Report, unheard
from shcodec.symbols import ans

_DB_PER_BIT: Final = 6.02
_LOSSLESS: Final = 8.0  # bits an element: with more of them the tensors may fit as they are
_FINEST_DB: Final = 150.0  # the precision of float32
_WORSE_DB: Final = 3.0  # by which tensors with a step of their own may be worse than all tensors together
_FINEST: Final = -24.0  # octaves of the deviation: the precision of float32
DEFAULT: Final = Target(bits=4.0)


@dataclass(frozen=True)
class Coded:
    """Quantised tensors at some step; without indices where there are none to quantise."""

    data: bytes
    found: Sequence[Found] = ()
    histograms: Sequence[Histogram] = ()
    distortions: Sequence[Distortion] = ()

    @property
    def sqnr(self) -> float:
        """Energy of all quantised tensors over that of their error in dB."""
        return ratio_db(sum(own.energy for own in self.distortions), sum(own.error for own in self.distortions))


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
        UsageError: If a name occurs twice, or is the one that safetensors files keep for their metadata.
        LimitError: If the tensors cannot be made as small as that, or something exceeds what the format allows.
    """
    config = config or PackConfig()
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise UsageError("a tensor's name occurs twice")
    if METADATA in names:
        raise UsageError(
            f"a tensor must not be named {METADATA!r}: safetensors files keep that name for their metadata"
        )
    rate = _rate(tensors, target, config)
    books = [] if assigned else few_valued([t for t in tensors if is_eligible(t, config)], rate)
    with_books = [*assigned, *books]

    def packer(books: Sequence[Assigned], *, whole: bool = False) -> Packer:
        coded = frozenset(name for book in books for name in book.indices)
        return Packer(make_plan(tensors, config, coded, whole=whole), metadata or {}, books, config)

    lossy = packer(with_books)
    whole = None
    if rate >= _LOSSLESS and lossy.plan.x.size:
        data, told = packer(with_books, whole=True).pack(DEFAULT, report)
        whole = data, replace(told, notes=(*told.notes, "nothing is quantised: all tensors fit as they are"))
        if target.sqnr >= _FINEST_DB if target.sqnr else len(data) <= lossy.limit(target):
            return whole
    try:
        found = lossy.pack(target, report)
    except LimitError:
        if not books:
            raise
        found = packer(assigned).pack(target, report)
    return whole if whole and len(whole[0]) <= len(found[0]) else found


def _rate(tensors: Sequence[Tensor], target: Target, config: PackConfig) -> float:
    """Return about how many bits a target has for an element."""
    if target.sqnr:
        return target.sqnr / _DB_PER_BIT
    if target.bits:
        return target.bits
    return 8 * (target.size or 0) / max(sum(t.size for t in tensors if is_eligible(t, config)), 1)


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
        kept = [entry.group for entry in self.entries if entry.coding is None]
        self.plain = byte_planes.shuffled(list(zip(kept, plan.plain, strict=True)))
        self._learned: dict[float, tuple[list[Histogram], float, float]] = {}
        if plan.x.size:
            sections = make_sections(plan.x, plan.tables, len(plan.runs.lengths))
            self.quantiser = Quantiser.of(sections, config.memory, config.threads)

    @functools.cached_property
    def plain_size(self) -> int:
        """Bytes that the file's lossless part takes."""
        return len(deflated(self.plain))

    def pack(self, target: Target, report: Report) -> tuple[bytes, PackReport]:
        """Return the file that meets a target, and what became of every tensor.

        Raises:
            LimitError: If there is none as small as that.
        """
        if not self.plan.x.size:
            data = self.file(self.entries, None, [], [])
            if target.size is not None and len(data) > target.size:
                raise self.too_large(len(data), target)
            return data, self.summary(Coded(data), "")
        trial = self.search(target, report)
        return trial.result.data, self.summary(trial.result, self.missed(trial, target))

    def file(
        self, entries: Sequence[Entry], machine: Machine | None, groups: Groups, distortions: Sequence[Distortion]
    ) -> bytes:
        """Return a file."""
        told = tuple(distortion.told for distortion in distortions)
        directory = Directory(tuple(entries), self.metadata, machine, self.codebooks, told)
        return join(directory, self.plain, ans.encode([*groups, *self.indexed]))

    def at(self, step: float) -> Coded:
        """Quantise all elements with a step, which a float32 holds."""
        histograms, _, _ = self.learn(step)
        found, histograms = self.quantiser.apply(step, histograms)
        groups: Groups = []
        for section, indices in zip(self.quantiser.sections, found, strict=True):
            groups += make_groups(section, indices, histograms)
        machine = Machine(step, self.config.memory, self.plan.runs, tuple(histograms))
        distortions = measure_distortions(self.plan, self.quantiser, step, found, histograms)
        exact = iter(distortion.exact for distortion in distortions)
        entries = [
            replace(entry, coding=replace(entry.coding, exact=next(exact)))
            if isinstance(entry.coding, Trellis)
            else entry
            for entry in self.entries
        ]
        return Coded(self.file(entries, machine, groups, distortions), found, histograms, distortions)

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
        energy, mean_square = sum(self.plan.energy), self.plan.mean_square()

        def attempt(step: float) -> Trial[Coded]:
            nonlocal attempts
            attempts += 1
            report("packing", attempts, attempts + 1)
            try:
                coded = self.at(step)
            except LimitError as error:
                raise LimitError(f"{error}: ask for more bits, or for a larger size") from error
            return Trial(step, self.quality(coded) if target.sqnr else float(len(coded.data)), coded)

        def guess(step: float) -> float:
            _, bits, error = self.learn(step)
            return ratio_db(energy, error * mean_square) if target.sqnr else bits / 8 + self.plain_size

        limit = target.sqnr or self.limit(target)
        number = self.plan.x.size
        octaves = target.sqnr / _DB_PER_BIT if target.sqnr else 8 * limit / number
        deviation = self.plan.deviation()
        found = meet(
            guess,
            attempt,
            limit=limit,
            slack=CLOSE_DB if target.sqnr else (1 - FILL) * max(limit - self.plain_size, 0.0),
            exceeding=bool(target.sqnr),
            ends=(2.0**_FINEST * deviation, max(float(self.quantiser.peaks.max()), deviation)),
            start=2.0 ** (1 - min(octaves, 16.0)) * deviation,
            slope=-_DB_PER_BIT if target.sqnr else -number / 8,
        )
        if not target.sqnr and found.cost > limit:
            raise self.too_large(int(found.cost), target)
        return found

    def quality(self, coded: Coded) -> float:
        """Return the ratio of energies in dB that a target limits.

        It is that of all quantised tensors. But where some are of another order of magnitude, their energy must not
        hide that nothing is left of the others, so of tensors that share a step it is not much more than their own.
        """
        found = coded.sqnr
        if self.config.weighting != "mse":
            return found
        sums: dict[int, tuple[float, float]] = {}
        for (_, coding), distortion in zip(self.plan.walked(), coded.distortions, strict=True):
            energy, error = sums.get(coding.octaves, (0.0, 0.0))
            sums[coding.octaves] = energy + distortion.energy, error + distortion.error
        return min(found, *(ratio_db(energy, error) + _WORSE_DB for energy, error in sums.values()))

    def too_large(self, least: int, target: Target) -> LimitError:
        """Return the error that says what can be done about a file that is larger than it may be."""
        limit = int(self.limit(target))
        plain = self.plain_size
        remedy = f"ask for {least} bytes or more" if target.size is not None else "ask for more bits"
        if plain > limit // 2:
            remedy += ", or for fewer fine bits (--fine-bits), which tensors that are not quantised keep"
        return LimitError(
            f"the tensors take {least} bytes at least ({plain} of them are not quantised), "
            f"more than the {limit} wanted: {remedy}"
        )

    def limit(self, target: Target) -> float:
        """Return the bytes that the file may take."""
        if target.size is not None:
            return float(target.size)
        return (target.bits or 0.0) * self.coded / 8 + self.plain_size

    @property
    def coded(self) -> int:
        """Elements of the tensors that are not kept as they are."""
        return sum(entry.size for entry in self.entries if entry.coding is not None)

    def missed(self, trial: Trial[Coded], target: Target) -> str:
        """Return how a trial misses its target; "" if it does not."""
        if target.sqnr is not None:
            off = trial.cost - target.sqnr
            return f"{trial.cost:.2f} dB instead of {target.sqnr:.2f}" if abs(off) > 2 * CLOSE_DB else ""
        used = (trial.cost - self.plain_size) / (self.limit(target) - self.plain_size)
        return f"{used:.1%} of the size used" if used < FILL else ""

    def summary(self, coded: Coded, missed: str) -> PackReport:
        """Tell what became of the tensors."""
        total = len(coded.data)
        walked = [entry.name for entry, _ in self.plan.walked()]
        bits = dict(self.index_bits)
        if walked:
            bits |= zip(walked, symbol_bits(self.plan, self.quantiser, coded.found, coded.histograms), strict=True)
        distortions = dict(zip(walked, coded.distortions, strict=True))
        kept = sum(entry.nbytes for entry in self.entries if entry.coding is None)
        lines = []
        for entry in self.entries:
            distortion = distortions.get(entry.name)
            cost = bits.get(entry.name, 8 * self.plain_size * entry.nbytes / max(kept, 1))
            lines.append(
                TensorReport(
                    name=entry.name,
                    dtype=entry.dtype,
                    shape=entry.shape,
                    coding="trellis" if distortion else "codebook" if entry.name in bits else "kept",
                    bits=cost / max(entry.size, 1),
                    sqnr=distortion.sqnr if distortion else math.inf if entry.name in bits else None,
                    zeroed=distortion.zeroed if distortion else 0.0,
                    exact=distortion.exact.positions.size if distortion else 0,
                    share=cost / 8 / total,
                )
            )
        return PackReport(
            total=total,
            weights=sum(entry.size for entry in self.entries),
            quantised=self.coded,
            bits=8 * (total - self.plain_size) / self.coded if self.coded else None,
            sqnr=coded.sqnr if walked else None,
            missed=missed,
            worst=worst_of(lines),
            notes=notes_of(lines, self.plan.spoiled, self.config.fine_bits),
            tensors=tuple(lines),
        )
