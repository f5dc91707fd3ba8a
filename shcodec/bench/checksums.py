"""Pins of the benchmark sets: the SHA-256 of every picture's pixels, so that a wrong copy is noticed.

Pixels are pinned, and not files, so that any lossless copy will do. The pins of the pictures in a folder are made by

    python -m shcodec.bench.checksums FOLDER > shcodec/bench/pins/SET.csv
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from shcodec.pictures.picture import Pixels
from shcodec.pictures.reading import read_picture
from shcodec.support.errors import PictureError

URBAN100_TAIL = "_SRF_4_HR"
"""What Urban100's home adds to the names of its pictures."""

# In the order in which copies of a picture are preferred; the pins see to it that all have the same pixels.
_SUFFIXES = (".webp", ".png", ".jpg")
_COLUMNS = ("image", "width", "height", "sha256")


@dataclass(frozen=True)
class Pin:
    """What a picture must be.

    Attributes:
        width: pixels.
        height: pixels.
        sha256: of the 8-bit RGB samples, row by row, 64 hexadecimal digits.
    """

    width: int
    height: int
    sha256: str

    @classmethod
    def of(cls, rgb: Pixels) -> Pin:
        """Return the pin of a (H, W, 3) uint8 picture."""
        return cls(rgb.shape[1], rgb.shape[0], hashlib.sha256(rgb.tobytes()).hexdigest())

    def check(self, rgb: Pixels) -> None:
        """Compare a (H, W, 3) uint8 picture with the pin.

        Raises:
            PictureError: it is another picture, or not a lossless copy.
        """
        found = Pin.of(rgb)
        if (found.width, found.height) != (self.width, self.height):
            raise PictureError(
                f"not the picture of the set: {found.width}x{found.height} pixels, and not {self.width}x{self.height}"
            )
        if found != self:
            raise PictureError(
                f"not the picture of the set, or not a lossless copy: SHA-256 of its pixels is {found.sha256[:16]}..., "
                f"and not {self.sha256[:16]}..."
            )


def load_pins(dataset: str) -> Mapping[str, Pin]:
    """Load the pins of a benchmark set, by name of the picture; empty where the set is not pinned."""
    table = resources.files("shcodec.bench") / "pins" / f"{dataset}.csv"
    if not table.is_file():
        return {}
    rows = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8")))
    return {row["image"]: Pin(int(row["width"]), int(row["height"]), row["sha256"]) for row in rows}


def pictures_by_name(folder: Path) -> dict[str, Path]:
    """List the pictures in the folder of a benchmark set, one file each, by the name that the set gives them."""
    paths = sorted(path for path in folder.glob("*") if not path.name.startswith("."))
    found: dict[str, Path] = {}
    for suffix in _SUFFIXES:
        for path in paths:
            if path.suffix.lower() == suffix:
                found.setdefault(path.stem.removesuffix(URBAN100_TAIL), path)
    return found


def pins_csv(pictures: Mapping[str, Path]) -> str:
    """Format the pins of pictures as CSV.

    Args:
        pictures: files by the name that the set gives them.

    Raises:
        PictureError: if one cannot be read.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name in sorted(pictures):
        pin = Pin.of(read_picture(pictures[name]).rgb)
        writer.writerow((name, pin.width, pin.height, pin.sha256))
    return text.getvalue()


def main(arguments: Sequence[str]) -> None:
    """Print the pins; the one argument is the folder."""
    if len(arguments) != 1:
        sys.exit("usage: python -m shcodec.bench.checksums FOLDER > shcodec/bench/pins/SET.csv")
    sys.stdout.write(pins_csv(pictures_by_name(Path(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
