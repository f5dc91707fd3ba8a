"""Sizes of the networks and of the quantiser: everything that fixes a model's architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shcodec.errors import UsageError


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
    bands: tuple[BandConfig, ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """One model: `hyper.channels > 0` gives the flagship family, otherwise the seed method's."""

    name: str
    latent: int = 192  # channels of y, at 1/16
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
        """Builds the configuration from a TOML table.

        Raises:
            UsageError: a key is unknown, or the bands do not tile the coded classes.
        """
        try:
            quantiser = dict(values.get("quantiser", {}))
            bands = tuple(BandConfig(*row) for row in quantiser.pop("bands", ()))
            config = ModelConfig(
                name=values["name"],
                latent=values.get("latent", 192),
                analysis=AnalysisConfig(**values.get("analysis", {})),
                synthesis=SynthesisConfig(**values.get("synthesis", {})),
                hyper=HyperConfig(**values.get("hyper", {})),
                quantiser=QuantiserConfig(bands=bands, **quantiser),
            )
        except (KeyError, TypeError) as error:
            raise UsageError(f"the [model] table is not valid: {error}") from None
        config.check()
        return config

    def check(self) -> None:
        """Checks that the bands cover the coded classes in order, colder bands with longer vectors.

        Raises:
            UsageError: they do not.
        """
        expected = self.quantiser.skip
        last_dim = max((band.dim for band in self.quantiser.bands), default=0)
        for band in self.quantiser.bands:
            if band.first != expected or band.last < band.first or band.dim > last_dim or band.codewords < 2:
                raise UsageError(f"quantiser band {band} does not continue the bands before it")
            expected, last_dim = band.last + 1, band.dim
        if expected != self.quantiser.classes:
            raise UsageError(f"the quantiser's bands end at class {expected - 1} of {self.quantiser.classes}")
