"""Picture <-> bytes: the whole way in one readable function each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from shcodec import container, zoo
from shcodec.errors import PictureError
from shcodec.runtime import GUARDED, Model, interpolate
from shcodec.symbols import Floats, Grid, Indices, Order, first_half

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
Hyper = npt.NDArray[np.int8] | None


@dataclass(frozen=True)
class FileInfo:
    """What can be said of a file without loading a network.

    Attributes:
        version: of the container.
        model_id: 8 hexadecimal digits.
        model: name of the installed model of that id, or None.
        width, height: pixels.
        beta: what the encoder aimed at.
        colour: "RGB" or "grey".
        sizes: bytes of header, chunks, payload and checksum.
        total: bytes of the file.
        bpp: bits of the file per pixel.
        chunks: tags of the optional chunks.
    """

    version: int
    model_id: str
    model: str | None
    width: int
    height: int
    beta: float
    colour: str
    sizes: dict[str, int]
    total: int
    bpp: float
    chunks: list[str]


def encode(
    image: Image.Image | Pixels | str | os.PathLike[str] | BinaryIO,
    beta: float = 50.0,
    *,
    model: str = zoo.DEFAULT_MODEL,
) -> bytes:
    """Compresses a picture.

    Args:
        image: a Pillow picture, (H, W, 3) uint8 samples, a path, or a binary file object. What is not RGB is converted.
        beta: 2 (largest file) to 4096; D + beta * R is minimised, D the squared error on 0..255, R bits per pixel.
        model: name of an installed model.

    Returns:
        The bytes of an .shc file.

    Raises:
        UsageError: beta is out of range.
        PictureError: not a readable picture.
        UnknownModelError: there is no such model.
    """
    from shcodec.pictures import read_picture

    if isinstance(image, np.ndarray):
        return encode_array(image, beta, model=model)
    return encode_array(read_picture(image).rgb, beta, model=model)


def decode(
    data: bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO, *, max_pixels: int = container.MAX_PIXELS
) -> Image.Image:
    """Decompresses a picture.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused before anything is allocated.

    Returns:
        An RGB picture, or mode L where the file says that it is grey.

    Raises:
        CorruptFileError: not an intact .shc file.
        LimitError: the picture is too large.
        UnknownModelError: the file's model is not installed.
    """
    from PIL import Image

    if isinstance(data, (str, os.PathLike)):
        with open(data, "rb") as stream:
            data = stream.read()
    elif not isinstance(data, (bytes, bytearray, memoryview)):
        data = data.read()
    data = bytes(data)
    image = Image.fromarray(decode_array(data, max_pixels=max_pixels))
    return image.convert("L") if container.unpack_header(data).grey else image


def encode_array(
    rgb: Pixels, beta: float = 50.0, *, model: str | Model = zoo.DEFAULT_MODEL, rate_weight: float | None = None
) -> bytes:
    """Compresses (H, W, 3) uint8 pixels; see `encode`.

    Args:
        rgb: pixels.
        beta: 2 to 4096.
        model: name of an installed model, or a loaded one.
        rate_weight: lambda of the index choice in squared steps per bit; 0 takes the nearest codeword, None what
            the model found best.
    """
    beta_byte = container.beta_to_byte(beta)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise PictureError(f"pixels must be (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}")
    height, width = rgb.shape[:2]
    if max(height, width) > container.MAX_SIDE:
        raise PictureError(f"{width}x{height} pixels: a side is longer than {container.MAX_SIDE}")
    model = zoo.load(model) if isinstance(model, str) else model
    tables, grid = model.tables, Grid.of(height, width)
    y, z = model.analyse(_padded(rgb, grid), beta_byte)
    orders = tables.orders(tables.class_map(z, beta_byte, grid))
    if rate_weight is None:
        rate_weight = float(interpolate(model.encoder_rate_weight, beta_byte))
    chosen: list[list[Indices]] = []

    def choose(order: Order, mean: Floats, step: Floats) -> list[Indices]:
        residual = (y[:, : grid.height, : grid.width] - mean) / step
        chosen.append(tables.search(order, residual.ravel(), rate_weight))
        return chosen[-1]

    _latent(model, z, beta_byte, grid, orders, choose)
    payload = tables.write(z, list(zip(orders, chosen, strict=True)))
    return container.pack(container.Container(model.id, width, height, beta_byte, payload))


def decode_array(data: bytes, *, max_pixels: int = container.MAX_PIXELS, model: Model | None = None) -> Pixels:
    """Decompresses to (H, W, 3) uint8 pixels; see `decode`.

    Args:
        data: the bytes of an .shc file.
        max_pixels: larger pictures are refused.
        model: a loaded model to use if the file names it; otherwise the installed ones are searched.
    """
    file = container.unpack(data, max_pixels=max_pixels)
    if model is None or model.id != file.model_id:
        model = zoo.load_by_id(file.model_id)
    grid = Grid.of(file.height, file.width)
    z, orders, indices = model.tables.read(file.payload, file.beta_byte, grid)
    remaining = iter(indices)
    y_hat = _latent(model, z, file.beta_byte, grid, orders, lambda order, mean, step: next(remaining))
    return np.ascontiguousarray(model.synthesise(y_hat, file.beta_byte)[: file.height, : file.width])


def _latent(
    model: Model,
    z: Hyper,
    beta_byte: int,
    grid: Grid,
    orders: Sequence[Order],
    choose: Callable[[Order, Floats, Floats], list[Indices]],
) -> Floats:
    """The decoded latent (M, 4 hz, 4 wz), pass by pass; the encoder chooses the indices on the way.

    Args:
        model: the model.
        z: hyper indices or None.
        beta_byte: rate step.
        grid: sizes.
        orders: elements of every pass.
        choose: (order, means, steps) -> indices of the pass; means and steps (M, h, w) of the coded positions.
    """
    tables = model.tables
    shape = (tables.latent, 4 * grid.hyper_height, 4 * grid.hyper_width)
    coded = (slice(None), slice(grid.height), slice(grid.width))
    mean, step, *features = model.describe(z, beta_byte, shape)
    size = tables.latent * grid.height * grid.width
    y_hat = mean.copy()
    for number, order in enumerate(orders):
        if number == 1:
            seen = _extended(y_hat, grid)
            y_hat += model.refine(seen, features[0], beta_byte) * ~first_half(*shape)
            _guard(y_hat, seen, step)
        indices = choose(order, y_hat[coded], step[coded])
        values = tables.values(order, indices, size).reshape(tables.latent, grid.height, grid.width)
        y_hat[coded] += step[coded] * values
    return y_hat


def _extended(y_hat: Floats, grid: Grid) -> Floats:
    """Fills the positions beyond the coded ones with the nearest coded column and row of the same parity.

    Same parity, so that a position of the first pass takes one that is decoded. Without this, the networks would
    see bare means there, and predict the last column and row from them.
    """
    if y_hat.shape[1:] == (grid.height, grid.width):
        return y_hat
    rows, columns = (np.arange(side) for side in y_hat.shape[1:])
    rows, columns = (
        np.where(index < coded, index, np.maximum(coded - 1 - (index - coded + 1) % 2, 0))
        for index, coded in ((rows, grid.height), (columns, grid.width))
    )
    return np.ascontiguousarray(y_hat[:, rows[:, None], columns])


def _guard(y_hat: Floats, seen: Floats, step: Floats) -> None:
    """Keeps second-pass means of the lowest frequencies between their four decoded neighbours, in place.

    Brightness is continuous, and a network that has seen few white skies may predict a mean that no codeword
    of the element's class can mend. One step of slack; the first half is left as it is.

    Args:
        y_hat: (M, h, w) decoded first half, means of the second.
        seen: the same with positions beyond the picture filled.
        step: (M, h, w).
    """
    count, height, width = GUARDED, *y_hat.shape[1:]
    around = np.pad(seen[:count], ((0, 0), (1, 1), (1, 1)), mode="reflect" if min(height, width) > 1 else "edge")
    sides = (around[:, :-2, 1:-1], around[:, 2:, 1:-1], around[:, 1:-1, :-2], around[:, 1:-1, 2:])
    low, high = np.minimum.reduce(sides) - step[:count], np.maximum.reduce(sides) + step[:count]
    means = ~first_half(*y_hat.shape)[:count]
    y_hat[:count] = np.where(means, np.clip(y_hat[:count], low, high), y_hat[:count])


def _padded(rgb: Pixels, grid: Grid) -> Pixels:
    """Repeats the last row and column up to whole positions of z, 64 pixels each."""
    bottom, right = 64 * grid.hyper_height - rgb.shape[0], 64 * grid.hyper_width - rgb.shape[1]
    return np.pad(rgb, ((0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else rgb


def info(data: bytes) -> FileInfo:
    """Header, sizes and model of a file; loads no network.

    Raises:
        CorruptFileError: not an intact .shc file.
    """
    file = container.unpack(data, max_pixels=container.MAX_SIDE**2)
    return FileInfo(
        version=container.VERSION,
        model_id=file.model_id.hex(),
        model=zoo.name_of(file.model_id),
        width=file.width,
        height=file.height,
        beta=container.byte_to_beta(file.beta_byte),
        colour="grey" if file.grey else "RGB",
        sizes=container.part_sizes(data),
        total=len(data),
        bpp=8 * len(data) / (file.width * file.height),
        chunks=[chunk.tag.decode("ascii") for chunk in file.chunks],
    )


def verify(data: bytes) -> None:
    """Checks the checksum and that all symbols decode; runs no network.

    Raises:
        ShcError: what is wrong.
    """
    file = container.unpack(data)
    tables = zoo.load_by_id(file.model_id).tables
    tables.read(file.payload, file.beta_byte, Grid.of(file.height, file.width))
