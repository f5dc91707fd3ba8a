"""Codecs that need more than Pillow: HEIC and JPEG XL through packages of their own, BPG through its programs.

Each does what `codecs.Codec` asks of a codec.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shcodec.pictures.picture import Pixels
from shcodec.support.errors import MissingExtraError, ShcError


@dataclass(frozen=True)
class HeicCodec:
    """HEIC through pillow-heif: x265 at constant QP, tuned as BPG's encoder is."""

    name: str = "heic444"
    settings: tuple[float, ...] = (20, 24, 29, 34, 37, 42, 47, 51)

    def describe(self) -> str:
        """Say what is run."""
        return "HEIC, x265 veryslow, 4:4:4, tune ssim, no psychovisual options, setting = QP"

    def version(self) -> str:
        """Return the versions of pillow-heif, libheif and x265."""
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
        """Return the versions of imagecodecs and libjxl."""
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
        """Return the version that `bpgenc` reports."""
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
