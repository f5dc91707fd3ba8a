"""Picture <-> bytes: the whole way in one readable function each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from shcodec import alpha, container, decoder, metadata, zoo
from shcodec.effort import effort_of, refine
from shcodec.encoder import Pixels, analyse, check_pixels, code
from shcodec.errors import CorruptFileError, UsageError
from shcodec.given import Source, picture_of, read_bytes, warn
from shcodec.goals import goal_of
from shcodec.quality import DEFAULT_BETA, beta_of, quality_of
from shcodec.rate_choice import is_plain, start
from shcodec.reports import Report, unheard
from shcodec.runtime import Model
from shcodec.search import Found, search
from shcodec.symbols import Grid
from shcodec.tiles import tiles_of

if TYPE_CHECKING:
    from PIL import Image

    from shcodec.pictures import Picture


@dataclass(frozen=True)
class FileInfo:
    """What can be said of a file without loading a network.

    Attributes:
        version: of the container.
        model_id: 8 hexadecimal digits.
        model: name of the installed model of that id, or None.
        width, height: pixels.
        beta: what the encoder aimed at.
        quality: the same from 0 to 100.
        colour: "RGB" or "grey".
        mode: Pillow's mode of the decoded picture: "RGB", "L", or with alpha "RGBA", "LA".
        metadata: which of "ICC", "EXIF" and "XMP" the file holds.
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
    quality: float
    colour: str
    mode: str
    metadata: tuple[str, ...]
    sizes: dict[str, int]
    total: int
    bpp: float
    chunks: list[str]


def encode(
    image: Image.Image | Picture | npt.NDArray[Any] | Source,
    beta: float | None = None,
    *,
    quality: float | None = None,
    model: str | Model = zoo.DEFAULT_MODEL,
    size: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    effort: int | None = None,
    strict: bool = False,
    strip: bool = False,
    max_pixels: int = container.MAX_PIXELS,
) -> bytes:
    """Compresses a picture.

    At most one of `beta`, `quality`, `size`, `bpp` and `psnr` says what is wanted; without any it is beta = 50.

    Args:
        image: a picture file of any kind that Pillow reads (its bytes, its path, or a binary file object), a Pillow
            image, one that `read_picture` has read, or uint8 samples: (H, W) is grey, (H, W, 3) RGB, (H, W, 2 or 4)
            the same with alpha. Grey, alpha and metadata (colour profile, EXIF, XMP) are kept; what else is not RGB is
            converted, and a `ShcWarning` tells so.
        beta: 2 (largest file) to 4096; D + beta * R is minimised, D the squared error on 0..255, R bits per pixel. A
            coarser one is taken where it shows the picture better: a `ShcWarning` tells which.
        quality: the same from 0 (smallest file) to 100, as other codecs have it; 75 is beta 50. See `shcodec.quality`.
        model: name of an installed model, or a loaded one.
        size: bytes of the whole file with alpha and metadata, which has at most these and at least 97 % of them, unless
            a smaller one shows the picture better.
        bpp: the same in bits per pixel.
        psnr: dB of the decoded 8-bit picture, met within 0.1 dB.
        effort: 0 to 9, how hard to try; None is 3. From 7 on torch is needed (extra `train`).
        strict: fail where the model cannot meet a size or a PSNR for this picture, instead of taking what is nearest
            with a `ShcWarning`.
        strip: leave out all metadata, after turning the picture as its EXIF says and converting it to sRGB.
        max_pixels: larger pictures are refused before their samples are read.

    Returns:
        The bytes of an .shc file.

    Raises:
        UsageError: an argument is out of range, or two contradict each other.
        PictureError: not a readable picture.
        UnknownModelError: there is no such model.
        TargetError: what was wanted cannot be met, and `strict`.
        MissingExtraError: the effort needs torch, which is not installed.
        LimitError: the picture is too large, in itself or for the effort.
    """
    picture, notes = picture_of(image, strip=strip, max_pixels=max_pixels)
    found = encode_found(
        picture.rgb,
        beta,
        quality=quality,
        model=model,
        size=size,
        bpp=bpp,
        psnr=psnr,
        effort=effort,
        strict=strict,
        grey=picture.grey,
        chunks=metadata.chunks_of(picture),
    )
    for note in (*notes, *filter(None, [found.missed])):
        warn(note)
    return found.coded.data


def decode(data: Source, *, max_pixels: int = container.MAX_PIXELS) -> Image.Image:
    """Decompresses a picture.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused before anything is allocated.

    Returns:
        A picture of mode RGB or, where the file says that it is grey, L; with alpha RGBA or LA. What the file holds of
        `icc_profile`, `exif`, `xmp` and resolution is in its `info`, as Pillow's own readers set it; the EXIF's
        orientation is not applied (`PIL.ImageOps.exif_transpose` does that).

    Raises:
        CorruptFileError: not an intact .shc file.
        LimitError: the picture is too large.
        UnknownModelError: the file's model is not installed.
    """
    parts = decode_parts(data, max_pixels=max_pixels)
    return image_of(parts.file, parts.rgb)


def image_of(file: container.Container, rgb: Pixels, region: tuple[int, int, int, int] | None = None) -> Image.Image:
    """The picture that a file shows: its decoded samples as grey if it is grey, with its alpha and metadata.

    Args:
        file: the unpacked file.
        rgb: (H, W, 3) uint8, its decoded samples or those of the region.
        region: left, top, width and height, as for `decode_parts`.

    Returns:
        As `decode`.

    Raises:
        CorruptFileError: alpha or metadata are damaged.
    """
    from PIL import Image

    told = metadata.read(file.chunks)
    if rgb.shape[:2] != (file.height, file.width):
        told = told.of_a_crop(rgb.shape[1], rgb.shape[0])
    image = Image.fromarray(rgb)
    if file.grey:
        image = image.convert("L")
    for chunk in file.chunks:
        if chunk.tag == container.ALPHA:
            left, top, width, height = region or (0, 0, file.width, file.height)
            plane = alpha.unpack(chunk.data, file.width, file.height)
            image.putalpha(Image.fromarray(plane[top : top + height, left : left + width]))
    image.info.update(told.pillow_info)
    return image


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
    quality: float | None = None,
    model: str | Model = zoo.DEFAULT_MODEL,
    size: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    effort: int | None = None,
    strict: bool = False,
    grey: bool = False,
    chunks: tuple[container.Chunk, ...] = (),
    report: Report = unheard,
) -> Found:
    """Compresses (H, W, 3) uint8 pixels and tells how it went; see `encode`.

    Args:
        rgb: pixels.
        beta, quality, model, size, bpp, psnr, effort, strict: as in `encode`; the model may be a loaded one.
        grey: whether the file is to say that the picture is grey; its channels are then equal.
        chunks: what the file is to hold besides the symbols; part of its size.
        report: told how the work goes on.
    """
    targets = {"beta": beta, "quality": quality, "size": size, "bpp": bpp, "psnr": psnr}
    wanted = {name: value for name, value in targets.items() if value is not None}
    if len(wanted) > 1:
        raise UsageError(f"{' and '.join(wanted)} exclude each other")
    for name, value in wanted.items():
        if not isinstance(value, Real):
            raise UsageError(f"{name} must be a number, not {value!r}")
    trying = effort_of(effort)
    if quality is not None:
        beta = beta_of(quality)
    asked = DEFAULT_BETA if beta is None else beta
    beta_byte = container.beta_to_byte(asked)
    check_pixels(rgb)
    goal = None
    if wanted and beta is None:
        goal = goal_of(rgb.shape[0] * rgb.shape[1], size=size, bpp=bpp, psnr=psnr, chunks=chunks)
    model = zoo.load(model) if isinstance(model, str) else model
    if goal is not None:
        return search(model, rgb, goal, trying, report, strict=strict, grey=grey, chunks=chunks)
    analysis, coded = start(model, rgb, beta_byte, grey=grey, chunks=chunks, report=report)
    *_, coded = refine(analysis, coded.beta_byte, trying, report, coded)
    took = container.byte_to_beta(coded.beta_byte)
    told = f"beta {asked:g}" if quality is None else f"quality {quality:g} (beta {asked:.4g})"
    # a step or two of a plain picture's ladder are not worth a word: the file is smaller, its picture better
    is_news = coded.beta_byte > beta_byte and not is_plain(rgb)
    missed = f"wanted {told}, took {took:.3g}" if is_news else ""
    return Found(coded, probes=1, analyses=1, missed=missed)


def decode_array(data: Source, *, max_pixels: int = container.MAX_PIXELS, model: Model | None = None) -> Pixels:
    """Decompresses to (H, W, 3) uint8 pixels; see `decode`.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused.
        model: a loaded model to use if the file names it; otherwise the installed ones are searched.
    """
    return decode_parts(data, max_pixels=max_pixels, model=model).rgb


@dataclass(frozen=True)
class Parts:
    """What could be decoded of a file.

    Attributes:
        file: what the file holds besides; its payload is not kept.
        rgb: (H, W, 3) uint8 of the picture or the region; of a grey one with equal channels.
        damaged: left, top, width and height of what could not be decoded and is grey; the region may hold none of it.
    """

    file: container.Container
    rgb: Pixels
    damaged: tuple[tuple[int, int, int, int], ...]


def decode_parts(
    data: Source,
    *,
    max_pixels: int = container.MAX_PIXELS,
    model: Model | None = None,
    region: tuple[int, int, int, int] | None = None,
    keep_going: bool = False,
    report: Report = unheard,
) -> Parts:
    """Decompresses a region of a picture, or as much of a damaged one as there is.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused, whatever the region.
        model: as for `decode_array`.
        region: left, top, width and height in pixels; only what it needs is decoded.
        keep_going: paint damaged tiles grey instead of failing.
        report: told how the work goes on.

    Raises:
        CorruptFileError: not an intact .shc file; with `keep_going`, one of which nothing can be decoded.
        UsageError: the region is not within the picture.
    """
    data = read_bytes(data)
    file = _salvaged(data, max_pixels) if keep_going else container.unpack(data, max_pixels=max_pixels)
    _check_chunks(file)  # a picture may take minutes, and be for nothing
    if model is None or model.id != file.model_id:
        model = zoo.load_by_id(file.model_id)
    area = None if region is None else _area(region, file)
    latent, damaged = decoder.read(file, model, region=area, salvage=keep_going)
    rgb = decoder.pixels(latent, (file.height, file.width), area, report)
    if file.grey:
        rgb[:] = decoder.luma(rgb)[..., None]
    decoder.paint(rgb, damaged, area)
    return Parts(replace(file, payload=b""), rgb, tuple(tile.box(file.width, file.height) for tile in damaged))


def _salvaged(data: bytes, max_pixels: int) -> container.Container:
    """The file, damaged or not, if it has tiles: the stream of a single tile has no other checksum than the file's."""
    try:
        return container.unpack(data, max_pixels=max_pixels)
    except CorruptFileError:
        file = container.unpack(data, max_pixels=max_pixels, salvage=True)
        if len(tiles_of(Grid.of(file.height, file.width))) == 1:
            raise
        return file


def _check_chunks(file: container.Container) -> None:
    """Reads alpha and metadata; raises CorruptFileError if they are damaged."""
    metadata.read(file.chunks)
    for chunk in file.chunks:
        if chunk.tag == container.ALPHA:
            alpha.unpack(chunk.data, file.width, file.height)


def _area(region: tuple[int, int, int, int], file: container.Container) -> tuple[slice, slice]:
    left, top, width, height = region
    if width < 1 or height < 1 or min(left, top) < 0 or left + width > file.width or top + height > file.height:
        told = ",".join(map(str, region))
        raise UsageError(f"the region {told} is not within the picture of {file.width}x{file.height}")
    return slice(top, top + height), slice(left, left + width)


def info(data: Source) -> FileInfo:
    """Header, sizes and model of a file; loads no network.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.

    Raises:
        CorruptFileError: not an intact .shc file.
    """
    data = read_bytes(data)
    file = container.unpack(data, max_pixels=container.MAX_SIDE**2)
    return FileInfo(
        version=container.VERSION,
        model_id=file.model_id.hex(),
        model=zoo.name_of(file.model_id),
        width=file.width,
        height=file.height,
        beta=container.byte_to_beta(file.beta_byte),
        quality=quality_of(container.byte_to_beta(file.beta_byte)),
        colour="grey" if file.grey else "RGB",
        mode=metadata.mode(file.chunks, grey=file.grey),
        metadata=metadata.names(file.chunks),
        sizes=container.part_sizes(data),
        total=len(data),
        bpp=8 * len(data) / (file.width * file.height),
        chunks=[chunk.tag.decode("ascii") for chunk in file.chunks],
    )


def verify(data: Source, *, max_pixels: int = container.MAX_PIXELS) -> None:
    """Checks the checksum, alpha and metadata, and that all symbols decode; runs no network.

    Args:
        data: the bytes of an .shc file, its path, or a binary file object.
        max_pixels: larger pictures are refused.

    Raises:
        ShcError: what is wrong.
    """
    file = container.unpack(read_bytes(data), max_pixels=max_pixels)
    _check_chunks(file)
    decoder.read(file, zoo.load_by_id(file.model_id))
