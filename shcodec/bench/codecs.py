"""The codecs that are compared: each turns a picture into the bytes of a whole file, and back.

A codec is a small frozen object that can be sent to a worker process. It holds no state: libraries are imported where
they are used, so that one that is not installed is noticed by `Codec.version` and nowhere else.
"""

from __future__ import annotations

import io
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import PIL
from PIL import Image, features

from shcodec.bench.external_codecs import BpgCodec, HeicCodec, JpegXlCodec
from shcodec.codec.quality import beta_of
from shcodec.pictures.picture import Pixels
from shcodec.support.errors import ShcError, UsageError

DEFAULT_BETAS = (5.0, 15.0, 50.0, 150.0, 500.0, 1500.0)
"""Settings of `shc`: the price of a bit, from high rate to low."""

SHC_PREFIX = "shc-"
"""What the name of a shipped model is preceded by in results."""

QUICK_SUFFIX = "-quick"


class Codec(Protocol):
    """What the benchmark asks of a codec."""

    @property
    def name(self) -> str:
        """Short name, the same in every table and file."""

    @property
    def settings(self) -> tuple[float, ...]:
        """Points of the rate-distortion curve, in the unit that `describe` names."""

    def describe(self) -> str:
        """Say in one line what is run, with all settings that matter."""

    def version(self) -> str:
        """Name the implementation; raise a ShcError if it is not installed."""

    def encode(self, rgb: Pixels, setting: float) -> bytes:
        """Encode a (H, W, 3) uint8 RGB picture to a whole file; a codec of whole settings rounds others."""

    def decode(self, data: bytes) -> Pixels:
        """Decode a whole file to (H, W, 3) uint8 RGB."""

    def __hash__(self) -> int:
        """Make codecs fit as keys of caches."""


@dataclass(frozen=True)
class ShcCodec:
    """One model of this project, with the default effort of the encoder or another.

    Attributes:
        model: its name.
        settings: points of the curve, as betas or as qualities.
        effort: of the encoder; None is the default.
        by_quality: whether they are qualities.
        quick: whether the model's quick synthesis network decodes.
    """

    model: str
    settings: tuple[float, ...] = DEFAULT_BETAS
    effort: int | None = None
    by_quality: bool = False
    quick: bool = False

    @property
    def name(self) -> str:
        """`shc-` and the name of the model, then `-quick` if so, or `-e` and the effort where it is not the default."""
        return (
            SHC_PREFIX
            + self.model
            + (QUICK_SUFFIX if self.quick else "" if self.effort is None else f"-e{self.effort}")
        )

    def describe(self) -> str:
        """Say which model is run."""
        told = ", quick" if self.quick else "" if self.effort is None else f", effort {self.effort}"
        return f"shc, model {self.model}{told}, setting = {'quality' if self.by_quality else 'beta'}"

    def version(self) -> str:
        """Return the versions of package and model, without loading a network."""
        from shcodec import __version__
        from shcodec.model import zoo

        # The id covers the decoder alone; another encoder would make other files of the same id.
        card = zoo.card(self.model)
        encoder = card.get("sha256", {}).get("encoder.safetensors", "unknown")
        return f"shcodec {__version__}, model id {card.get('id', 'unknown')}, encoder {encoder[:8]}"

    def encode(self, rgb: Pixels, setting: float) -> bytes:
        """Encode at the beta or the quality `setting`."""
        from shcodec.codec import encoding

        beta = beta_of(setting) if self.by_quality else setting
        return encoding.encode_array(rgb, beta, model=self.model, effort=self.effort)

    def decode(self, data: bytes) -> Pixels:
        """Decode an .shc file."""
        from shcodec.codec import decoding

        return decoding.decode_array(data, quick=self.quick)


@dataclass(frozen=True)
class PillowCodec:
    """A codec that Pillow, or a plugin of it, brings along.

    Attributes:
        name: short name.
        settings: points of the curve.
        description: what `describe` says.
        image_format: Pillow's name of the format.
        feature: Pillow's name of the library behind it, for the version.
        options: turns a setting into the keyword arguments of `Image.save`.
        by_quality: whether settings are qualities from 0 to 100.
    """

    name: str
    settings: tuple[float, ...]
    description: str
    image_format: str
    feature: str
    options: Callable[[float], dict[str, Any]]
    by_quality: bool = True

    def describe(self) -> str:
        """Say what is run."""
        return self.description

    def version(self) -> str:
        """Return the versions of Pillow and of the library behind the format."""
        if not features.check(self.feature):
            raise ShcError(f"this Pillow was built without {self.feature}")
        library = "libjpeg_turbo" if self.feature == "jpg" and features.check("libjpeg_turbo") else self.feature
        return f"Pillow {PIL.__version__}, {library} {features.version(library)}"

    def encode(self, rgb: Pixels, setting: float) -> bytes:
        """Save the picture at one setting."""
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, format=self.image_format, **self.options(setting))
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """Open the file again."""
        with Image.open(io.BytesIO(data), formats=[self.image_format]) as image:
            return np.asarray(image.convert("RGB"))


def _jpeg420_options(quality: float) -> dict[str, Any]:
    return {"quality": round(quality), "subsampling": "4:2:0", "optimize": True}


def _jpeg444_options(quality: float) -> dict[str, Any]:
    return {"quality": round(quality), "subsampling": "4:4:4", "optimize": True}


def _jpeg2000_options(bpp: float) -> dict[str, Any]:
    # A layer's rate is the ratio of compression against 24 bits per pixel.
    return {"irreversible": True, "mct": 1, "quality_mode": "rates", "quality_layers": [24.0 / bpp]}


def _webp_options(quality: float) -> dict[str, Any]:
    return {"quality": round(quality), "method": 6}


def _avif444_options(quality: float) -> dict[str, Any]:
    return {
        "quality": round(quality),
        "subsampling": "4:4:4",
        "speed": 6,
        "codec": "aom",
        "max_threads": 1,
        "advanced": {"tune": "psnr"},
    }


OTHER_CODECS: tuple[Codec, ...] = (
    PillowCodec(
        "jpeg420",
        (2, 5, 8, 12, 20, 30, 40, 60, 80, 95),
        "JPEG 4:2:0, baseline, optimised Huffman tables, setting = quality",
        "JPEG",
        "jpg",
        _jpeg420_options,
    ),
    PillowCodec(
        "jpeg444",
        (2, 5, 8, 12, 20, 30, 40, 60, 80, 95),
        "JPEG 4:4:4, baseline, optimised Huffman tables, setting = quality",
        "JPEG",
        "jpg",
        _jpeg444_options,
    ),
    PillowCodec(
        "j2k",
        (0.05, 0.1, 0.15, 0.25, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 2.5),
        "JPEG 2000, 9/7 wavelet, colour transform, one layer, setting = bits per pixel",
        "JPEG2000",
        "jpg_2000",
        _jpeg2000_options,
        by_quality=False,
    ),
    PillowCodec(
        "webp",
        (0, 5, 10, 20, 40, 60, 80, 90, 95),
        "WebP (4:2:0), method 6, setting = quality",
        "WEBP",
        "webp",
        _webp_options,
    ),
    PillowCodec(
        "avif444",
        (2, 10, 20, 30, 40, 60, 70, 78, 90),
        "AVIF 4:4:4, aom, speed 6, tune psnr, one thread, setting = quality",
        "AVIF",
        "avif",
        _avif444_options,
    ),
    JpegXlCodec(),
    HeicCodec(),
    BpgCodec(),
)
"""Every codec but this project's own, in the order of tables."""


def select_codecs(
    names: Sequence[str] | None = None,
    betas: Sequence[float] = DEFAULT_BETAS,
    qualities: Sequence[float] | None = None,
) -> tuple[Codec, ...]:
    """Choose codecs by name.

    Args:
        names: names of codecs; `shc` stands for every shipped model, `shc-NAME-eN` for one with effort N, 0 to 9,
            `shc-NAME-quick` for its quick synthesis network; None means all.
        betas: settings of the project's own codec.
        qualities: instead of them, and of the settings of every other codec that has qualities from 0 to 100.

    Returns:
        The codecs in the order asked for, each once.

    Raises:
        UsageError: if a name is unknown, or none is given.
    """
    from shcodec.model import zoo

    points, by_quality = (betas, False) if qualities is None else (qualities, True)
    own = {SHC_PREFIX + model: ShcCodec(model, tuple(points), None, by_quality) for model in zoo.model_names()}
    others = [_at(codec, qualities) for codec in OTHER_CODECS]
    known: dict[str, Codec] = {**own, **{codec.name: codec for codec in others}}
    chosen: dict[str, Codec] = {}
    for name in known if names is None else names:
        model, _, effort = name.rpartition("-e")
        if name not in known and model in own and effort in set(string.digits):
            known[name] = replace(own[model], effort=int(effort))
        model = name.removesuffix(QUICK_SUFFIX)
        if name not in known and model in own and zoo.load(own[model].model).has_quick:
            known[name] = replace(own[model], quick=True)
        if name != "shc" and name not in known:
            raise UsageError(f"no codec {name!r}: known are shc, {', '.join(known)}")
        for part in own if name == "shc" else (name,):
            chosen[part] = known[part]
    if not chosen:
        raise UsageError("no codec to measure")
    return tuple(chosen.values())


def _at(codec: Codec, qualities: Sequence[float] | None) -> Codec:
    """Return a codec with these settings, if it has qualities."""
    if qualities is None or not isinstance(codec, PillowCodec) or not codec.by_quality:
        return codec
    return replace(codec, settings=tuple(qualities))
