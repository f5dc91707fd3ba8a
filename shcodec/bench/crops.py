"""Crops of a picture as every codec leaves it, at about equal bytes, beside the original."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shcodec.bench import measuring
from shcodec.bench.cells import Cell, Failure
from shcodec.bench.codecs import Codec
from shcodec.bench.datasets import PictureFile
from shcodec.pictures.picture import Pixels, psnr

TARGET_BPP = 0.25
"""Rate at which codecs are looked at: low enough for faults to show, high enough for pictures that one would keep."""

CROP_SIDE = 256
"""Pixels of a crop, where the picture has as many."""

_TOLERANCE = 0.02
_TRIES = 5
_STRIDE = 32


@dataclass(frozen=True)
class Crop:
    """A part of a picture that went through a codec.

    Attributes:
        codec: name of the codec.
        size: bytes of the whole file.
        bpp: bits of the whole file per pixel.
        psnr: dB over the whole picture.
        rgb: (h, w, 3) uint8.
    """

    codec: str
    size: int
    bpp: float
    psnr: float
    rgb: Pixels


@dataclass(frozen=True)
class Viewer:
    """The crops of one picture.

    Attributes:
        image: name of the picture.
        target: bytes that every codec aimed at.
        original: (h, w, 3) uint8.
        crops: one per codec that could be run.
    """

    image: str
    target: int
    original: Pixels
    crops: tuple[Crop, ...]


def choose_pictures(pictures: Sequence[PictureFile], count: int) -> list[PictureFile]:
    """Choose pictures evenly spread over the set, and not by their results."""
    count = min(count, len(pictures))
    return [pictures[(2 * number + 1) * len(pictures) // (2 * count)] for number in range(count)]


def make_viewer(
    picture: PictureFile, codecs: Iterable[Codec], cells: Sequence[Cell], on_done: Callable[[], None] = lambda: None
) -> tuple[Viewer, list[Failure]]:
    """Code a picture by every codec at about equal bytes.

    Args:
        picture: the picture.
        codecs: the codecs.
        cells: what was measured of this picture; a codec without cells is left out, its failures being listed already.
        on_done: called after each codec.

    Returns:
        The crops, and what failed.
    """
    rgb = measuring.load(picture.path)
    sizes = {codec: {cell.setting: cell.size for cell in cells if cell.codec == codec.name} for codec in codecs}
    target = choose_target([list(known.values()) for known in sizes.values() if known], rgb.shape[0] * rgb.shape[1])
    window = busiest_window(rgb)
    found: list[Crop] = []
    failures: list[Failure] = []
    for codec, known in sizes.items():
        if known:
            try:
                data = encode_to_size(codec, rgb, target, known)
                decoded = codec.decode(data)
                found.append(_crop(codec.name, data, rgb, decoded, window))
            except Exception as error:  # codecs are foreign code; see measuring.measure_cell
                failures.append(Failure(picture.name, codec.name, "crop", measuring.describe_error(error)))
        on_done()
    return Viewer(picture.name, target, rgb[window], tuple(found)), failures


def choose_target(sizes: Sequence[Sequence[int]], pixels: int) -> int:
    """Choose a size in bytes: `TARGET_BPP`, or the nearest that all codecs reach where there is one.

    Args:
        sizes: the sizes that each codec gave at its settings.
        pixels: pixels of the picture.
    """
    target = round(TARGET_BPP * pixels / 8)
    low = max((min(own) for own in sizes), default=target)
    high = min((max(own) for own in sizes), default=target)
    return min(max(target, low), high) if low <= high else target


def encode_to_size(codec: Codec, rgb: Pixels, target: int, known: Mapping[float, int]) -> bytes:
    """Search the setting that comes nearest to a size, between the settings that were measured.

    The logarithm of the size is taken as linear between the two nearest settings, over and again.

    Args:
        codec: the codec.
        rgb: (H, W, 3) uint8.
        target: bytes wanted.
        known: bytes by setting; at least one.

    Returns:
        The file.
    """
    sizes, files = dict(known), dict[float, bytes]()
    for _ in range(_TRIES):
        setting = _guess(sizes, target)
        if setting is None:
            break
        files[setting] = codec.encode(rgb, setting)
        sizes[setting] = len(files[setting])
    best = min(sizes, key=lambda setting: _distance(sizes[setting], target))
    return files[best] if best in files else codec.encode(rgb, best)


def busiest_window(rgb: Pixels) -> tuple[slice, slice]:
    """Find the part of a picture with most detail: the largest mean difference between neighbours.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        Rows and columns of a window of `CROP_SIDE` pixels a side, or fewer where the picture has fewer.
    """
    luma = rgb.astype(np.float64).mean(axis=2)
    detail = np.abs(np.diff(luma, axis=0, append=luma[-1:])) + np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    sums = np.pad(detail.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = min(CROP_SIDE, rgb.shape[0]), min(CROP_SIDE, rgb.shape[1])
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    coarse = inside[::_STRIDE, ::_STRIDE]
    row, column = np.unravel_index(int(coarse.argmax()), coarse.shape)
    top, left = int(row) * _STRIDE, int(column) * _STRIDE
    return slice(top, top + height), slice(left, left + width)


def _guess(sizes: Mapping[float, int], target: int) -> float | None:
    """Return the setting to try next; None where the best is near enough, or lies at an end."""
    if min(_distance(size, target) for size in sizes.values()) <= _TOLERANCE:
        return None
    below = [setting for setting, size in sizes.items() if size < target]
    above = [setting for setting, size in sizes.items() if size > target]
    if not below or not above:
        return None
    low = max(below, key=lambda setting: sizes[setting])
    high = min(above, key=lambda setting: sizes[setting])
    share = math.log(target / sizes[low]) / math.log(sizes[high] / sizes[low])
    setting = low + share * (high - low)
    # A codec of whole settings gives the same file again between two neighbours; nothing more is to be gained then.
    return None if setting in sizes else setting


def _distance(size: int, target: int) -> float:
    return abs(math.log(size / target))


def _crop(codec: str, data: bytes, rgb: Pixels, decoded: Pixels, window: tuple[slice, slice]) -> Crop:
    return Crop(codec, len(data), 8 * len(data) / (rgb.shape[0] * rgb.shape[1]), psnr(rgb, decoded), decoded[window])
