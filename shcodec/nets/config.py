"""Sizes of the networks and of the quantiser: everything that fixes a model's architecture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from shcodec.support.errors import UsageError

MAX_CLASSES = 64  # classes of spread, from 0.12 to 64 steps


@dataclass(frozen=True)
class AnalysisConfig:
    """Widths and depths of the analysis transform g_a."""

    width8: int = 96  # channels at 1/8 of the picture's size
    blocks8: int = 2  # residual blocks of two 3x3 convolutions there
    width16: int = 192  # channels at 1/16
    blocks16: int = 2


@dataclass(frozen=True)
class SynthesisConfig:
    """Widths and depths of the synthesis transform g_s, the decoder's main cost."""

    width16: int = 160
    blocks16: int = 2  # residual 3x3 convolutions
    width8: int = 64
    blocks8: int = 3
    width4: int = 48
    expand4: int = 96  # hidden width of the pointwise renderer at 1/4


@dataclass(frozen=True)
class HyperConfig:
    """Widths of the hyper path; ``channels = 0`` means that the model has none."""

    channels: int = 96  # channels of z
    limit: int = 31  # z is an integer in -limit..limit
    width: int = 128  # at 1/32
    features: int = 96  # at 1/16, what means and steps are predicted from
    refine: int = 128  # hidden width of the second pass
    refine_dense: bool = False  # its spatial layer: dense 3x3 instead of depthwise 5x5
    rows: int = 8  # rows in the bank of z histograms


@dataclass(frozen=True)
class BandConfig:
    """Neighbouring classes that share one codebook."""

    first: int  # first class of the band
    last: int  # last class, included
    dim: int  # length d of a vector
    codewords: int  # size L of the codebook


@dataclass(frozen=True)
class QuantiserConfig:
    """Classes of elements and the codebooks that serve them."""

    classes: int = 64
    skip: int = 7  # classes below are not coded: their residual is 0
    kept: int = 0  # lowest channels that are always coded, whatever their class: brightness and colour of plains
    bands: tuple[BandConfig, ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """One model; without hyper path (`hyper.channels` 0) it quantises as Agustsson et al. 2017: one class a picture."""

    name: str
    latent: int = 192  # channels of y, at 1/16
    shortcut: bool = False  # a linear path beside g_a and g_s, which starts as the principal components of blocks
    lapped: bool = False  # the linear path filters the 16 samples around every border between blocks
    modulation: str = "stage"  # scales and biases that follow beta: after every "stage" or after every "block"
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    hyper: HyperConfig = field(default_factory=HyperConfig)
    quantiser: QuantiserConfig = field(default_factory=QuantiserConfig)

    @property
    def has_hyper(self) -> bool:
        """Whether classes, means and steps come from a hyper latent."""
        return self.hyper.channels > 0

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ModelConfig:
        """Build the configuration from a TOML table.

        Raises:
            UsageError: a key or a value is not valid, or the bands do not tile the coded classes.
        """
        try:
            tables = dict(values)
            quantiser = dict(tables.pop("quantiser", {}))
            bands = tuple(BandConfig(*row) for row in quantiser.pop("bands", ()))
            config = ModelConfig(
                analysis=AnalysisConfig(**tables.pop("analysis", {})),
                synthesis=SynthesisConfig(**tables.pop("synthesis", {})),
                hyper=HyperConfig(**tables.pop("hyper", {})),
                quantiser=QuantiserConfig(bands=bands, **quantiser),
                **tables,
            )
        except (TypeError, ValueError) as error:
            raise UsageError(f"the [model] table is not valid: {error}") from None
        config.check()
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a TOML table; `from_dict` takes it back."""
        table = asdict(self)
        table["quantiser"]["bands"] = [list(band.values()) for band in table["quantiser"]["bands"]]
        return table

    def check(self) -> None:
        """Check all values, and that the bands tile the coded classes, colder bands with longer vectors.

        Raises:
            UsageError: something does not fit.
        """
        for table in (self, self.analysis, self.synthesis, self.hyper, self.quantiser, *self.quantiser.bands):
            check_values(table)
        tables = (self.analysis, self.synthesis, self.hyper) if self.has_hyper else (self.analysis, self.synthesis)
        if min(self.latent, *(width for table in tables for width in _widths(table))) < 1:
            raise UsageError("the networks need at least one channel at every stage")
        if self.shortcut and self.latent > 768:
            raise UsageError(
                f"latent = {self.latent}: with a shortcut at most 768, the values of a block of 16x16 pixels"
            )
        if self.lapped and not self.shortcut:
            raise UsageError("lapped needs a shortcut: it filters the linear path")
        if self.modulation not in ("stage", "block"):
            raise UsageError(f"modulation = '{self.modulation}' is not one of stage, block")
        bodies = (self.analysis.blocks8, self.analysis.blocks16, self.synthesis.blocks16, self.synthesis.blocks8)
        if self.modulation == "block" and not min(bodies):
            raise UsageError("modulation = 'block' needs a block in every body")
        if self.has_hyper and not 1 <= self.hyper.limit <= 127:
            raise UsageError(f"hyper.limit = {self.hyper.limit} is not in 1..127: z is coded as int8")
        if not 1 <= self.quantiser.classes <= MAX_CLASSES:
            raise UsageError(f"quantiser.classes = {self.quantiser.classes} is not in 1..{MAX_CLASSES}")
        if self.quantiser.kept > (self.latent if self.has_hyper else 0):
            raise UsageError("quantiser.kept is the number of channels that are always coded; there are not that many")
        if self.quantiser.skip and not self.has_hyper:
            raise UsageError("quantiser.skip needs a hyper path: without one a class is a rate, and all are coded")
        self._check_bands()

    def _check_bands(self) -> None:
        expected = self.quantiser.skip
        last_dim = max((band.dim for band in self.quantiser.bands), default=0)
        for band in self.quantiser.bands:
            if band.first != expected or band.last < band.first or band.dim > last_dim or band.codewords < 2:
                raise UsageError(f"quantiser band {band} does not continue the bands before it")
            if band.dim not in (1, 2, 4):
                raise UsageError(f"quantiser band {band}: vectors have 1, 2 or 4 elements")
            expected, last_dim = band.last + 1, band.dim
        if expected != self.quantiser.classes or not self.quantiser.bands:
            raise UsageError(f"the quantiser's bands end at class {expected - 1} of {self.quantiser.classes}")


def check_values(table: Any) -> None:
    """Check that every plain value of a configuration dataclass has the declared type and is not negative.

    Raises:
        UsageError: names the first value that is not.
    """
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
    wanted = {"int": "an integer of at least 0", "float": "a number of at least 0", "str": "a text"}
    for entry in fields(table):
        kind, value = str(entry.type), getattr(table, entry.name)
        if kind not in kinds:
            continue  # a table of its own
        fits = isinstance(value, kinds[kind]) and (kind == "bool") == isinstance(value, bool)
        if not fits or (kind in ("int", "float") and not value >= 0):
            raise UsageError(f"{entry.name} = {value!r} is not {wanted.get(kind, 'true or false')}")


def _widths(table: Any) -> list[int]:
    """Return all sizes of a table that cannot be 0: a stage may have no blocks, but not no channels."""
    return [
        getattr(table, entry.name)
        for entry in fields(table)
        if entry.type == "int" and not entry.name.startswith("blocks")
    ]
