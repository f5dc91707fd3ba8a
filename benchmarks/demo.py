"""Encodes and decodes two photographs at three betas: `make demo`.

Needs the package itself and scikit-image, which brings the photographs. Writes into demo/ the .shc files, the decoded
pictures and side_by_side.png: the original, then shc at each beta, and under each the JPEG nearest to it in size.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFont
from rich import box
from rich.console import Console
from rich.table import Table

from shcodec.cli.console import run_script
from shcodec.codec import decoding, encoding
from shcodec.model import zoo
from shcodec.pictures.picture import Pixels, psnr

PICTURES = ("chelsea", "coffee")
BETAS = (15.0, 50.0, 300.0)
CAPTION_HEIGHT = 22
MARGIN = 6


@dataclass(frozen=True)
class Trial:
    """One picture at one beta, and the JPEG beside it; times in seconds, PSNR in dB."""

    picture: str
    beta: float
    size: int
    psnr: float
    encode_s: float
    decode_s: float
    decoded: Pixels
    jpeg_size: int
    jpeg_psnr: float
    jpeg_decoded: Pixels

    def bpp(self, size: int) -> float:
        """Return the bits per pixel of a file of `size` bytes for this picture."""
        return float(8 * size / (self.decoded.shape[0] * self.decoded.shape[1]))


def try_picture(name: str, rgb: Pixels, beta: float, model: str, out: Path) -> Trial:
    """Encode to a file, decode that file, and find the JPEG of about the same size."""
    start = time.perf_counter()
    data = encoding.encode_array(rgb, beta, model=model)
    encoded = time.perf_counter()
    decoded = decoding.decode_array(data)
    end = time.perf_counter()
    path = out / f"{name}-{beta:g}.shc"
    path.write_bytes(data)
    Image.fromarray(decoded).save(path.with_suffix(".png"))
    jpeg = nearest_jpeg(rgb, len(data))
    jpeg_decoded = np.array(Image.open(io.BytesIO(jpeg)))
    return Trial(
        picture=name,
        beta=beta,
        size=len(data),
        psnr=psnr(rgb, decoded),
        encode_s=encoded - start,
        decode_s=end - encoded,
        decoded=decoded,
        jpeg_size=len(jpeg),
        jpeg_psnr=psnr(rgb, jpeg_decoded),
        jpeg_decoded=jpeg_decoded,
    )


def nearest_jpeg(rgb: Pixels, size: int) -> bytes:
    """Return the JPEG (4:2:0, optimised) whose size is nearest to `size` bytes; JPEG's smallest may still be larger."""
    files = []
    for quality in range(1, 96):
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, optimize=True)
        files.append(buffer.getvalue())
    return min(files, key=lambda file: abs(len(file) - size))


def result_table(trials: Sequence[Trial], model: str) -> Table:
    """Return the results as a table for the terminal."""
    table = Table(title=f"shc, model {model}, and the JPEG nearest in size", box=box.SIMPLE_HEAD)
    table.add_column("picture")
    for heading in ("beta", "bytes", "bpp", "PSNR dB", "enc s", "dec s", "JPEG bytes", "JPEG dB"):
        table.add_column(heading, justify="right")
    for trial in trials:
        table.add_row(
            trial.picture,
            f"{trial.beta:g}",
            f"{trial.size:,}",
            f"{trial.bpp(trial.size):.3f}",
            f"{trial.psnr:.2f}",
            f"{trial.encode_s:.2f}",
            f"{trial.decode_s:.2f}",
            f"{trial.jpeg_size:,}",
            f"{trial.jpeg_psnr:.2f}",
        )
    return table


def side_by_side(originals: dict[str, Pixels], trials: Sequence[Trial]) -> Image.Image:
    """Draw one sheet: for each picture a row of original and shc at each beta, and a row of JPEGs under it."""
    rows: list[list[tuple[str, Pixels] | None]] = []
    for name, original in originals.items():
        own = [trial for trial in trials if trial.picture == name]
        upper: list[tuple[str, Pixels] | None] = [(f"{name}, original", original)]
        lower: list[tuple[str, Pixels] | None] = [None]
        for trial in own:
            caption = f"shc, beta {trial.beta:g}: {trial.bpp(trial.size):.3f} bpp, {trial.psnr:.2f} dB"
            upper.append((caption, trial.decoded))
            caption = f"JPEG: {trial.bpp(trial.jpeg_size):.3f} bpp, {trial.jpeg_psnr:.2f} dB"
            lower.append((caption, trial.jpeg_decoded))
        rows += [upper, lower]
    cell_width = max(original.shape[1] for original in originals.values()) + MARGIN
    heights = [max(cell[1].shape[0] for cell in row if cell) + CAPTION_HEIGHT + MARGIN for row in rows]
    sheet = Image.new("RGB", (cell_width * len(rows[0]) + MARGIN, sum(heights) + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    for row_index, row in enumerate(rows):
        top = MARGIN + sum(heights[:row_index])
        for column, cell in enumerate(row):
            if cell is not None:
                left = MARGIN + column * cell_width
                draw.text((left, top), cell[0], fill="black", font=font)
                sheet.paste(Image.fromarray(cell[1]), (left, top + CAPTION_HEIGHT))
    return sheet


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description="Encode and decode two photographs at three betas.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the files (default: demo)")
    parser.add_argument("--model", default=zoo.DEFAULT_MODEL, help="name of the model")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    zoo.load(arguments.model)  # so that the first time below is that of coding alone
    originals: dict[str, Pixels] = {name: getattr(skimage.data, name)() for name in PICTURES}
    trials = [
        try_picture(name, rgb, beta, arguments.model, arguments.out)
        for name, rgb in originals.items()
        for beta in BETAS
    ]
    sheet = arguments.out / "side_by_side.png"
    side_by_side(originals, trials).save(sheet)

    console = Console()
    console.print(result_table(trials, arguments.model))
    console.print(f"The pictures, side by side: {sheet}")


if __name__ == "__main__":
    run_script(main)
