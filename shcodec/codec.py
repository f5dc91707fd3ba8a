"""Picture <-> bytes: the whole way in one readable function each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from shcodec import container, zoo
from shcodec.effort import Report, effort_of, refine
from shcodec.encoder import Pixels, analyse, check_pixels, code
from shcodec.errors import UsageError
from shcodec.latent import decoded_latent
from shcodec.runtime import Model
from shcodec.search import Found, goal_of, search
from shcodec.symbols import Grid

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_BETA = 50.0


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
    beta: float | None = None,
    *,
    model: str = zoo.DEFAULT_MODEL,
    size: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    effort: int | None = None,
    strict: bool = False,
) -> bytes:
    """Compresses a picture.

    At most one of `beta`, `size`, `bpp` and `psnr` says what is wanted; without any it is beta = 50.

    Args:
        image: a Pillow picture, (H, W, 3) uint8 samples, a path, or a binary file object. What is not RGB is converted.
        beta: 2 (largest file) to 4096; D + beta * R is minimised, D the squared error on 0..255, R bits per pixel.
        model: name of an installed model.
        size: bytes of the whole file, which has at most these and at least 97 % of them.
        bpp: the same in bits per pixel.
        psnr: dB of the decoded 8-bit picture, met within 0.1 dB.
        effort: 0 to 9, how hard to try; None is 3. From 7 on torch is needed (extra `train`).
        strict: fail where the model cannot meet a size or a PSNR for this picture, instead of taking what is nearest.

    Returns:
        The bytes of an .shc file.

    Raises:
        UsageError: an argument is out of range, or two contradict each other.
        PictureError: not a readable picture.
        UnknownModelError: there is no such model.
        TargetError: what was wanted cannot be met, and `strict`.
        MissingExtraError: the effort needs torch, which is not installed.
        LimitError: the picture is too large for the effort.
    """
    from shcodec.pictures import read_picture

    rgb = image if isinstance(image, np.ndarray) else read_picture(image).rgb
    found = encode_found(rgb, beta, model=model, size=size, bpp=bpp, psnr=psnr, effort=effort, strict=strict)
    return found.coded.data


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
    rgb: Pixels,
    beta: float | None = None,
    *,
    model: str | Model = zoo.DEFAULT_MODEL,
    rate_weight: float | None = None,
    effort: int | None = None,
) -> bytes:
    """Compresses (H, W, 3) uint8 pixels; see `encode`.

    Args:
        rgb: pixels.
        beta: 2 to 4096; None is 50.
        model: name of an installed model, or a loaded one.
        rate_weight: lambda of the index choice in squared steps per bit; 0 takes the nearest codeword, None what
            the model found best. With a number, `effort` means nothing.
        effort: 0 to 9.
    """
    if rate_weight is None:
        return encode_found(rgb, beta, model=model, effort=effort).coded.data
    beta_byte = container.beta_to_byte(DEFAULT_BETA if beta is None else beta)
    check_pixels(rgb)
    model = zoo.load(model) if isinstance(model, str) else model
    return code(analyse(model, rgb, beta_byte), beta_byte, rate_weight).data


def encode_found(
    rgb: Pixels,
    beta: float | None = None,
    *,
    model: str | Model = zoo.DEFAULT_MODEL,
    size: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    effort: int | None = None,
    strict: bool = False,
    report: Report = lambda done, total: None,
) -> Found:
    """Compresses (H, W, 3) uint8 pixels and tells how it went; see `encode`.

    Args:
        rgb: pixels.
        beta, model, size, bpp, psnr, effort, strict: as in `encode`; the model may be a loaded one.
        report: told (done, total) while a latent is refined by gradient descent.
    """
    wanted = [value for value in (beta, size, bpp, psnr) if value is not None]
    if len(wanted) > 1:
        raise UsageError("beta, a size, bits per pixel and a PSNR exclude each other")
    trying = effort_of(effort)
    beta_byte = container.beta_to_byte(DEFAULT_BETA if beta is None else beta)
    check_pixels(rgb)
    goal = goal_of(rgb.shape[0] * rgb.shape[1], size=size, bpp=bpp, psnr=psnr) if wanted and beta is None else None
    model = zoo.load(model) if isinstance(model, str) else model
    if goal is not None:
        return search(model, rgb, goal, trying, report, strict=strict)
    analysis, weight = refine(analyse(model, rgb, beta_byte), beta_byte, trying, report)
    return Found(code(analysis, beta_byte, weight), probes=1, analyses=1, missed="")


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
    y_hat = decoded_latent(model, z, file.beta_byte, grid, orders, lambda order, mean, step: next(remaining))
    return np.ascontiguousarray(model.synthesise(y_hat, file.beta_byte)[: file.height, : file.width])


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
