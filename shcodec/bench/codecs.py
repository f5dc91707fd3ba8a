"""The codecs that are compared: each turns a picture into the bytes of a whole file, and back.

A codec is a small frozen object that can be sent to a worker process. It holds no state: libraries are imported where
they are used, so that one that is not installed is noticed by `Codec.version` and nowhere else.
"""

from __future__ import annotations

import io
import shutil
import string
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL
from PIL import Image, features

from shcodec.codec.quality import beta_of
from shcodec.pictures.picture import Pixels
from shcodec.support.errors import MissingExtraError, ShcError, UsageError

DEFAULT_BETAS = (5.0, 15.0, 50.0, 150.0, 500.0, 1500.0)
"""Settings of `shc`: the price of a bit, from high rate to low."""

SHC_PREFIX = "shc-"
"""What the name of a shipped model is preceded by in results."""


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
        """Codecs are keys of caches."""


@dataclass(frozen=True)
class ShcCodec:
    """One model of this project, with the default effort of the encoder or another.

    Attributes:
        model: its name.
        settings: points of the curve, as betas or as qualities.
        effort: of the encoder; None is the default.
        by_quality: whether they are qualities.
    """

    model: str
    settings: tuple[float, ...] = DEFAULT_BETAS
    effort: int | None = None
    by_quality: bool = False

    @property
    def name(self) -> str:
        """`shc-` and the name of the model, then `-e` and the effort where it is not the default."""
        return SHC_PREFIX + self.model + ("" if self.effort is None else f"-e{self.effort}")

    def describe(self) -> str:
        """Say which model is run."""
        told = "" if self.effort is None else f", effort {self.effort}"
        return f"shc, model {self.model}{told}, setting = {'quality' if self.by_quality else 'beta'}"

    def version(self) -> str:
        """Version of the package and of the model, without loading a network."""
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

        return decoding.decode_array(data)


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
        """Versions of Pillow and of the library behind the format."""
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


@dataclass(frozen=True)
class HeicCodec:
    """HEIC through pillow-heif: x265 at constant QP, tuned as BPG's encoder is."""

    name: str = "heic444"
    settings: tuple[float, ...] = (20, 24, 29, 34, 37, 42, 47, 51)

    def describe(self) -> str:
        """Say what is run."""
        return "HEIC, x265 veryslow, 4:4:4, tune ssim, no psychovisual options, setting = QP"

    def version(self) -> str:
        """Versions of pillow-heif, libheif and x265."""
        heif = _heif()
        details = heif.libheif_info()
        if not details["HEIF"]:
            raise ShcError("this pillow-heif was built without an encoder for HEIC")
        return f"pillow-heif {heif.__version__}, libheif {details['libheif']}, {details['HEIF']}"

    def encode(self, rgb: Pixels, setting: float) -> bytes:
        """Save the picture at QP = `setting`."""
        # libheif turns psychovisual tuning and adaptive quantisation on by default; bpgenc does not, and with them
        # PSNR would suffer. The dictionary is made anew for each call because pillow-heif writes into it.
        parameters = {
            "preset": "veryslow",
            "tune": "ssim",
            "x265:qp": f"{round(setting)}",
            "x265:psy-rd": "0",
            "x265:psy-rdoq": "0",
            "x265:aq-mode": "0",
        }
        buffer = io.BytesIO()
        picture = _heif().from_pillow(Image.fromarray(rgb))
        picture.save(buffer, format="HEIF", chroma="444", tile_size=0, enc_params=parameters)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """Open the file again."""
        picture = _heif().open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
        return np.asarray(picture.to_pillow().convert("RGB"))


@dataclass(frozen=True)
class JpegXlCodec:
    """JPEG XL through imagecodecs, one thread."""

    name: str = "jxl"
    settings: tuple[float, ...] = (0.5, 1, 2, 4, 6, 10, 14, 19, 25)
    effort: int = 7

    def describe(self) -> str:
        """Say what is run."""
        return f"JPEG XL, effort {self.effort}, setting = distance"

    def version(self) -> str:
        """Versions of imagecodecs and libjxl."""
        imagecodecs = _imagecodecs()
        return f"imagecodecs {imagecodecs.__version__}, {imagecodecs.jpegxl_version()}"

    def encode(self, rgb: Pixels, setting: float) -> bytes:
        """Encode at the distance `setting`."""
        return bytes(_imagecodecs().jpegxl_encode(rgb, distance=setting, effort=self.effort, numthreads=1))

    def decode(self, data: bytes) -> Pixels:
        """Decode a JPEG XL file."""
        return np.asarray(_imagecodecs().jpegxl_decode(data, numthreads=1), dtype=np.uint8)


@dataclass(frozen=True)
class BpgCodec:
    """BPG through the programs `bpgenc` and `bpgdec`, where they are on the PATH."""

    name: str = "bpg444"
    settings: tuple[float, ...] = (22, 27, 32, 37, 42, 47)

    def describe(self) -> str:
        """Say what is run."""
        return "BPG, x265, 4:4:4 YCbCr, 8 bit, setting = QP"

    def version(self) -> str:
        """Version that `bpgenc` reports."""
        for program in ("bpgenc", "bpgdec"):
            if shutil.which(program) is None:
                raise ShcError(f"{program} is not on the PATH")
        # bpgenc prints its version with its help, and ends with an error then.
        help_text = subprocess.run(["bpgenc"], capture_output=True, text=True, check=False)
        lines = (help_text.stdout + help_text.stderr).splitlines()
        return next((line.strip() for line in lines if "version" in line), "bpgenc of unknown version")

    def encode(self, rgb: Pixels, setting: float) -> bytes:
        """Encode at QP = `setting`."""
        with tempfile.TemporaryDirectory(prefix="shc-bench-") as folder:
            source, coded = Path(folder, "picture.png"), Path(folder, "picture.bpg")
            Image.fromarray(rgb).save(source, compress_level=1)
            options = ["-f", "444", "-e", "x265", "-c", "ycbcr", "-b", "8", "-q", f"{round(setting)}"]
            _run_program(["bpgenc", *options, "-o", str(coded), str(source)])
            return coded.read_bytes()

    def decode(self, data: bytes) -> Pixels:
        """Decode a BPG file."""
        with tempfile.TemporaryDirectory(prefix="shc-bench-") as folder:
            coded, decoded = Path(folder, "picture.bpg"), Path(folder, "picture.png")
            coded.write_bytes(data)
            _run_program(["bpgdec", "-o", str(decoded), str(coded)])
            with Image.open(decoded) as image:
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
        names: names of codecs; `shc` stands for every shipped model, `shc-NAME-eN` for one with effort N, 0 to 9; None
            means all.
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


def _heif() -> Any:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingExtraError("HEIC needs the package pillow-heif: pip install 'shcodec[bench]'") from error
    return pillow_heif


def _imagecodecs() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingExtraError("JPEG XL needs the package imagecodecs: pip install 'shcodec[bench]'") from error
    return imagecodecs


def _run_program(command: Sequence[str]) -> None:
    """Run a program; a failure becomes one line that names it and what it said last."""
    finished = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if finished.returncode:
        said = (finished.stderr or finished.stdout).strip().splitlines() or ["no message"]
        raise ShcError(f"{command[0]} failed ({finished.returncode}): {said[-1]}")
