"""From a picture to its file: the whole way, in the order of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from shcodec import container
from shcodec.codec.analysis import analyse, encode_latent
from shcodec.codec.effort import effort_of
from shcodec.codec.goals import goal_of
from shcodec.codec.improvement import improve
from shcodec.codec.quality import DEFAULT_BETA
from shcodec.codec.rate_choice import FilesByRate
from shcodec.codec.rate_control import Outcome, search
from shcodec.codec.request import Request
from shcodec.container.extras import pack_extras
from shcodec.model import zoo
from shcodec.model.networks import Model
from shcodec.pictures.arguments import File, picture_of, warn
from shcodec.pictures.picture import Picture, Pixels, check_samples
from shcodec.support.errors import PictureError
from shcodec.support.progress import Report, unheard

if TYPE_CHECKING:
    from PIL import Image


def encode(
    image: Image.Image | Picture | npt.NDArray[Any] | File,
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
    """Compress a picture.

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
    request = Request(model, beta, quality, size, bpp, psnr, effort, strict, strip, max_pixels)
    picture, notes = picture_of(image, strip=strip, max_pixels=max_pixels)
    outcome = encode_picture(picture, request)
    for note in (*notes, *filter(None, [outcome.missed])):
        warn(note)
    return outcome.coded.data


def encode_array(
    rgb: Pixels,
    beta: float | None = None,
    *,
    model: str | Model = zoo.DEFAULT_MODEL,
    rate_weight: float | None = None,
    effort: int | None = None,
) -> bytes:
    """Compress (H, W, 3) uint8 pixels; see `encode`.

    Args:
        rgb: pixels.
        beta: 2 to 4096; None is 50.
        model: name of an installed model, or a loaded one.
        rate_weight: lambda of the index choice in squared steps per bit; 0 takes the nearest codeword, None what
            the model found best. With a number, `effort` means nothing.
        effort: 0 to 9.

    Raises:
        PictureError: pixels of another kind.
    """
    if rgb.ndim != 3:
        raise PictureError(f"pixels must be (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}")
    if rate_weight is None:
        return encode_picture(Picture(rgb), Request(model, beta, effort=effort)).coded.data
    beta_byte = container.beta_to_byte(DEFAULT_BETA if beta is None else beta)
    check_samples(rgb)
    return encode_latent(analyse(_loaded(model), rgb, beta_byte), beta_byte, rate_weight).data


def encode_picture(picture: Picture, request: Request, report: Report = unheard) -> Outcome:
    """Compress a picture that has been read, and tell how it went.

    Args:
        picture: its alpha and metadata become chunks of the file.
        request: what is wanted of the file; `strip` and `max_pixels` have been seen to by whoever has read the picture.
        report: told how the work goes on.

    Raises:
        PictureError: samples of another kind than `Picture` says.
        TargetError, LimitError, UnknownModelError: as for `encode`.
    """
    samples, chunks, effort = picture.samples, pack_extras(picture), effort_of(request.effort)
    check_samples(samples)
    model = _loaded(request.model)
    beta = request.wanted_beta
    if beta is None:
        goal = goal_of(request, picture.samples.shape[0] * picture.samples.shape[1], chunks)
        return search(model, samples, goal, effort, report, strict=request.strict, chunks=chunks)
    wanted = container.beta_to_byte(beta)
    files = FilesByRate(model, samples, chunks=chunks, report=report)
    beta_byte = files.choose(wanted)
    *_, coded = improve(files.analysis(beta_byte), beta_byte, effort, report, files.coded(beta_byte))
    missed = ""
    # a step of a plain picture's ladder is no news: the file is smaller, and its picture better
    if beta_byte > wanted and not files.plain:
        told = f"beta {beta:g}" if request.quality is None else f"quality {request.quality:g} (beta {beta:.4g})"
        missed = f"wanted {told}, took {container.byte_to_beta(beta_byte):.3g}"
    return Outcome(coded, probes=1, analyses=1, missed=missed)


def _loaded(model: str | Model) -> Model:
    return zoo.load(model) if isinstance(model, str) else model
