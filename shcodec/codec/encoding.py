"""A picture on its way to a file."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from shcodec import container
from shcodec.codec.analysis import analyse, code
from shcodec.codec.effort import effort_of, refine
from shcodec.codec.goals import goal_of
from shcodec.codec.quality import DEFAULT_BETA, beta_of
from shcodec.codec.rate_choice import is_plain, start
from shcodec.codec.rate_control import Found, search
from shcodec.container import picture_chunks
from shcodec.model import zoo
from shcodec.model.networks import Model
from shcodec.pictures.given import Source, picture_of, warn
from shcodec.pictures.picture import Pixels, check_pixels
from shcodec.support.errors import UsageError
from shcodec.support.progress import Report, unheard

if TYPE_CHECKING:
    from PIL import Image

    from shcodec.pictures.picture import Picture


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
        quality: the same from 0 (smallest file) to 100, as other codecs have it; 75 is beta 50.
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
        chunks=picture_chunks.chunks_of(picture),
    )
    for note in (*notes, *filter(None, [found.missed])):
        warn(note)
    return found.coded.data


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
