"""What a benchmark measures, cell by cell, and the CSV file that holds it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from shcodec.support.atomic import write_text
from shcodec.support.errors import ShcError

MEASURED = "measured"
"""Source of a cell that was measured in this run."""

STORED = "stored"
"""Source of a cell that comes with the package, measured on another machine."""

COLUMNS = (
    "image",
    "codec",
    "setting",
    "bytes",
    "bpp",
    "psnr",
    "ms_ssim",
    "enc_s",
    "dec_s",
    "ms_ssim_db",
    "ssim",
    "width",
    "height",
    "source",
    "enc_process_s",
    "dec_process_s",
)
"""Columns of results.csv; an empty field is a measure that is not defined or was not taken."""


@dataclass(frozen=True)
class Cell:
    """One picture, coded by one codec at one setting.

    Attributes:
        image: name of the picture.
        codec: name of the codec.
        setting: the codec's setting (quality, QP, bits per pixel, beta, ...).
        size: bytes of the whole file.
        width: pixels.
        height: pixels.
        psnr: dB; infinite for a lossless result.
        ms_ssim: 0..1, None where a side is under 161.
        ms_ssim_db: dB, None where `ms_ssim` is.
        ssim: -1..1, None where a side is under 7.
        enc_s: seconds to encode; None if not measured alone on the machine.
        dec_s: seconds to decode; None if not measured alone on the machine.
        source: `MEASURED` or `STORED`.
        enc_process_s: seconds of a whole process that encodes; None if that was not asked for, or is not shc.
        dec_process_s: seconds of a whole process that decodes, likewise.
    """

    image: str
    codec: str
    setting: float
    size: int
    width: int
    height: int
    psnr: float
    ms_ssim: float | None
    ms_ssim_db: float | None
    ssim: float | None
    enc_s: float | None = None
    dec_s: float | None = None
    source: str = MEASURED
    enc_process_s: float | None = None
    dec_process_s: float | None = None

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8.0 * self.size / self.pixels

    @property
    def pixels(self) -> int:
        """Pixels of the picture."""
        return self.width * self.height


@dataclass(frozen=True)
class Failure:
    """Something that could not be measured; an empty field means all of its kind.

    Attributes:
        image: name of the picture.
        codec: name of the codec.
        setting: the codec's setting, as text.
        error: one line.
    """

    image: str
    codec: str
    setting: str
    error: str

    def __str__(self) -> str:
        """Name what failed, and why, in one line."""
        what = " ".join(part for part in (self.image, self.codec, self.setting) if part)
        return f"{what}: {self.error}"


def to_row(cell: Cell) -> dict[str, str]:
    """Format a cell as the fields of one line of results.csv."""
    return {
        "image": cell.image,
        "codec": cell.codec,
        "setting": f"{cell.setting:g}",
        "bytes": str(cell.size),
        "bpp": f"{cell.bpp:.6f}",
        "psnr": f"{cell.psnr:.5f}",
        "ms_ssim": _optional(cell.ms_ssim, 7),
        "enc_s": _optional(cell.enc_s, 6),
        "dec_s": _optional(cell.dec_s, 6),
        "ms_ssim_db": _optional(cell.ms_ssim_db, 5),
        "ssim": _optional(cell.ssim, 7),
        "width": str(cell.width),
        "height": str(cell.height),
        "source": cell.source,
        "enc_process_s": _optional(cell.enc_process_s, 6),
        "dec_process_s": _optional(cell.dec_process_s, 6),
    }


def from_row(row: Mapping[str, str]) -> Cell:
    """Read a cell back from the fields of one line.

    Raises:
        KeyError: if a column is missing.
        ValueError: if a field is not a number.
    """
    return Cell(
        image=row["image"],
        codec=row["codec"],
        setting=float(row["setting"]),
        size=int(row["bytes"]),
        width=int(row["width"]),
        height=int(row["height"]),
        psnr=float(row["psnr"]),
        ms_ssim=_number(row["ms_ssim"]),
        ms_ssim_db=_number(row["ms_ssim_db"]),
        ssim=_number(row["ssim"]),
        enc_s=_number(row["enc_s"]),
        dec_s=_number(row["dec_s"]),
        source=row["source"],
        enc_process_s=_number(row["enc_process_s"]),
        dec_process_s=_number(row["dec_process_s"]),
    )


def csv_text(cells: Iterable[Cell], *, header: bool) -> str:
    """Format cells as CSV, with or without the line of column names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(to_row(cell) for cell in cells)
    return text.getvalue()


def write_csv(path: Path, cells: Iterable[Cell]) -> None:
    """Replace a file by these cells, at once: an interrupted call leaves the old file."""
    write_text(path, csv_text(cells, header=True))


def read_csv(path: Path) -> list[Cell]:
    """Read results.csv; a last line that was cut short by an interruption is left out.

    Raises:
        ShcError: if the file is not a table of results.
    """
    # Whole lines only: a number that lost its last digits would still be a number.
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ShcError(f"{path} is not a table of results of this version")
    cells = []
    for row in reader:
        try:
            cells.append(from_row(row))
        except (KeyError, TypeError, ValueError) as error:
            raise ShcError(f"{path}, line {reader.line_num}: {error}") from error
    return cells


def stored_cells(dataset: str, codec: str, images: Iterable[str]) -> list[Cell]:
    """Load the measurements of a codec that come with the package (`reference/README.md` says how they were made).

    Args:
        dataset: name of the benchmark set.
        codec: name of the codec.
        images: names of the pictures wanted; those without measurements are left out.

    Returns:
        The cells, without seconds; none if nothing is stored for the set and codec.
    """
    from shcodec.bench.metrics import to_db

    table = resources.files("shcodec.bench") / "reference" / f"{dataset}-{codec}.csv"
    if not table.is_file():
        return []
    wanted = set(images)
    rows = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8")))
    return [
        Cell(
            image=row["image"],
            codec=codec,
            setting=float(row["setting"]),
            size=int(row["bytes"]),
            width=int(row["width"]),
            height=int(row["height"]),
            psnr=float(row["psnr"]),
            ms_ssim=float(row["ms_ssim"]),
            ms_ssim_db=to_db(float(row["ms_ssim"])),
            ssim=float(row["ssim"]),
            source=STORED,
        )
        for row in rows
        if row["image"] in wanted
    ]


def _optional(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _number(field: str) -> float | None:
    return float(field) if field else None
