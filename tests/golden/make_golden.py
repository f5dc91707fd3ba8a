"""Writes the golden files: ``.shc`` files of the frozen model, their decoded pixels, and a manifest.

A golden file that exists is never written again, nor is its line of the manifest: files of version 1 must decode
for ever, whatever later encoders make of the same picture. To add one, add a line to `CASES` and run

    python tests/golden/make_golden.py

Symbols are for ever; pixels may change where the picture path is mended. Those that do are written again by

    python tests/golden/make_golden.py --pixels
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from shcodec import container
from shcodec.codec import decoding
from shcodec.codec.rate_choice import FilesByRate
from shcodec.container.extras import pack_extras
from shcodec.container.payload import split
from shcodec.model.zoo import load, load_by_id
from shcodec.pictures.picture import Pixels
from shcodec.pictures.reading import read_picture
from shcodec.symbols import stream
from shcodec.symbols.grid import Grid, tiles_of

FOLDER = Path(__file__).resolve().parent
FILES = FOLDER / "files"
MANIFEST = FOLDER / "manifest.json"
MODEL = "model"
NOTE = container.Chunk(b"noTe", b"readers of version 1 skip what they may")


@dataclass(frozen=True)
class Case:
    """One golden file: its picture, how large, at which beta, of which mode, with a chunk or with metadata."""

    picture: str
    width: int
    height: int
    beta: float
    chunk: bool = False
    mode: str = "RGB"
    told: bool = False

    @property
    def name(self) -> str:
        """Name of the file, without suffix."""
        marks = ["chunk"] * self.chunk + [self.mode] * (self.mode != "RGB") + ["told"] * self.told
        return "-".join([self.picture, f"{self.width}x{self.height}", f"{self.beta:g}", *marks])


CASES = (
    Case("scene", 1, 1, 50),
    Case("noise", 1, 1, 2),
    Case("scene", 1, 70, 50),
    Case("scene", 70, 1, 5),
    Case("scene", 16, 17, 2),
    Case("scene", 63, 65, 15),
    Case("scene", 130, 67, 2),
    Case("scene", 130, 67, 50),
    Case("scene", 130, 67, 4096),
    Case("scene", 64, 128, 500, chunk=True),
    Case("scene", 200, 150, 10),
    Case("noise", 48, 33, 2),
    Case("noise", 48, 33, 300),
    Case("black", 64, 64, 50),
    Case("black", 65, 64, 4096),
    Case("ramp", 97, 80, 150),
    Case("scene", 2100, 30, 120),  # two tiles side by side
    Case("noise", 20, 2060, 600, chunk=True),  # one above the other
    Case("scene", 70, 50, 60, mode="L"),
    Case("scene", 70, 50, 60, mode="LA"),
    Case("scene", 50, 70, 40, mode="RGBA", told=True),
    Case("ramp", 33, 20, 100, told=True),
)


def picture(kind: str, width: int, height: int) -> Pixels:
    """Return a generated picture, (height, width, 3) uint8: the same on every machine.

    Only the encoder sees it, so that the golden files do not depend on it once they are written.
    """
    if kind == "noise":
        return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "black":
        return np.zeros((height, width, 3), np.uint8)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    if kind == "ramp":
        planes = [255 * x / width, 255 * y / height, 128 + 0 * x]
    else:  # a scene: shading, a disc with a sharp edge, stripes, grain
        disc = 70.0 * ((x - width / 3) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2)
        grain = np.random.default_rng(5).normal(0, 5, (height, width))
        stripes = 40 * np.sin(x / 3 + y / 7) * (x > width / 2)
        planes = [80 + 90 * x / width + disc, 60 + 120 * y / height + grain, 130 + stripes - disc]
    return np.asarray(np.clip(np.stack(planes, axis=-1), 0, 255), np.uint8)


def image_of(case: Case) -> Image.Image:
    """Return the case's picture with all that comes with it."""
    image = Image.fromarray(picture(case.picture, case.width, case.height)).convert(case.mode)
    if image.mode.endswith("A"):
        y, x = np.mgrid[0 : case.height, 0 : case.width]
        image.putalpha(Image.fromarray(np.clip(8 * (x + y) - 200, 0, 255).astype(np.uint8)))
    if case.told:
        image.getexif()[0x0112] = 6  # turned by a quarter
        image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        image.info["xmp"] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    return image


def sha256(arrays: Sequence[npt.NDArray[Any]], dtype: str) -> str:
    """SHA-256 of the arrays' values one after another, each as the little-endian type `dtype`."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(array, dtype).tobytes() for array in arrays)).hexdigest()


def describe(data: bytes) -> dict[str, Any]:
    """Return the symbols of a file, as the manifest pins them."""
    file = container.unpack(data)
    tables = load_by_id(file.model_id).tables
    hyper, classes, flat, passes = [], [], [], 0
    parts = tiles_of(Grid.of(file.height, file.width))
    for tile, part in zip(parts, split(container.head(file), file.payload, len(parts)), strict=True):
        z, orders, indices = stream.read(tables, part or b"", file.beta_byte, tile.grid)
        hyper += [] if z is None else [z]
        classes.append(tables.classes_of(z, file.beta_byte, tile.grid))
        flat += [group for groups in indices for group in groups]
        passes += len(orders)
    return {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "model": file.model_id.hex(),
        "beta_byte": file.beta_byte,
        "hyper": sha256(hyper, "<i1"),
        "classes": sha256(classes, "<u1"),
        "indices": sha256(flat, "<i4"),
        "symbols": sum(map(len, flat)),
        "passes": passes,
    }


def write(case: Case) -> dict[str, Any]:
    """Write one golden file and its pixels; returns its line of the manifest."""
    read = read_picture(image_of(case))
    chunks = (*pack_extras(read), *([NOTE] if case.chunk else []))
    files = FilesByRate(load(MODEL), read.samples, chunks=chunks)
    data = files.coded(files.choose(container.beta_to_byte(case.beta))).data
    (FILES / f"{case.name}.shc").write_bytes(data)
    write_pixels(case.name)
    return {"width": case.width, "height": case.height, "beta": case.beta, "mode": case.mode, **describe(data)}


def write_pixels(name: str) -> bool:
    """Write what a golden file decodes to, unless the stored pixels are within 1 of it; returns whether it did."""
    path, decoded = FILES / f"{name}.png", decoding.decode(FILES / f"{name}.shc")
    decoded.info.clear()
    if path.exists() and np.abs(np.asarray(Image.open(path)).astype(int) - np.asarray(decoded)).max() <= 1:
        return False
    decoded.save(path, optimize=True)
    return True


def main() -> None:
    """Write what is not there yet."""
    os.environ["SHC_MODELS"] = str(FOLDER)
    if sys.argv[1:] == ["--pixels"]:
        print(f"{sum(write_pixels(case.name) for case in CASES)} pictures written anew")
        return
    FILES.mkdir(exist_ok=True)
    known = json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.exists() else {}
    added = {case.name: write(case) for case in CASES if case.name not in known}
    MANIFEST.write_text(json.dumps(known | added, indent=1) + "\n", encoding="utf-8")
    print(f"{len(added)} golden files written, {len(known)} kept")


if __name__ == "__main__":
    main()
