"""From cells to curves: means over the pictures, BD-rates against an anchor, bits at equal quality."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from shcodec.bench import bd_rate
from shcodec.bench.cells import Cell
from shcodec.bench.literature import PublishedPoint

Getter = Callable[[Cell], float | None]

MEASURES: Mapping[str, Getter] = MappingProxyType(
    {"psnr": lambda cell: cell.psnr, "ms_ssim_db": lambda cell: cell.ms_ssim_db}
)
"""Measures that BD-rates are taken for, both in dB."""

PSNR_TARGETS = (26.0, 28.0, 30.0, 32.0, 34.0, 36.0, 38.0, 40.0)
"""Values of PSNR, in dB, at which the rates of all codecs are compared."""


@dataclass(frozen=True)
class Point:
    """Means over the pictures at one setting; None where no picture has the measure.

    Attributes:
        setting: the codec's setting.
        size: bytes.
        bpp: bits per pixel, the mean of the pictures' own.
        psnr: dB.
        ms_ssim: 0..1.
        ms_ssim_db: dB, the mean of the pictures' own.
        ssim: -1..1.
        enc_mp_s: megapixels encoded a second, all pixels over all seconds.
        dec_mp_s: megapixels decoded a second.
        enc_process_s: seconds of a whole process that encodes, the mean.
        dec_process_s: seconds of a whole process that decodes, the mean.
    """

    setting: float
    size: float
    bpp: float
    psnr: float
    ms_ssim: float | None
    ms_ssim_db: float | None
    ssim: float | None
    enc_mp_s: float | None
    dec_mp_s: float | None
    enc_process_s: float | None
    dec_process_s: float | None


@dataclass(frozen=True)
class CodecCurve:
    """All that was measured of one codec.

    Attributes:
        codec: its name.
        source: `measured` or `stored`.
        images: pictures measured at every setting; only these enter any mean.
        points: one per setting, ascending in rate.
        cells: cells of `images`.
    """

    codec: str
    source: str
    images: tuple[str, ...]
    points: tuple[Point, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """A codec against an anchor, by one measure, over the pictures that both have.

    Attributes:
        codec: the codec under test.
        anchor: the codec it is compared with.
        measure: key of `MEASURES`.
        mean_curve: BD-rate of the curves averaged over pictures, the headline of papers; None without common range.
        mean_of_images: mean of the pictures' own BD-rates, in percent.
        images: pictures in the mean curves.
        images_in_mean: pictures in `mean_of_images`: those whose own curves share a range.
    """

    codec: str
    anchor: str
    measure: str
    mean_curve: bd_rate.BdRate | None
    mean_of_images: float | None
    images: int
    images_in_mean: int


def build_curves(cells: Iterable[Cell], order: Sequence[str]) -> tuple[CodecCurve, ...]:
    """Group cells by codec and average over pictures.

    A picture that lacks one of a codec's settings is left out of that codec's means: averages over different pictures
    would not compare.

    Args:
        cells: all cells.
        order: names of codecs in the order wanted; one without a complete picture is left out.
    """
    by_codec: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_codec[cell.codec].append(cell)
    curves = (_curve(name, by_codec[name]) for name in order if name in by_codec)
    return tuple(curve for curve in curves if curve.images)


def compare(test: CodecCurve, anchor: CodecCurve, measure: str) -> Comparison:
    """Take the BD-rate of a codec against an anchor.

    Args:
        test: the codec under test.
        anchor: the codec it is compared with.
        measure: key of `MEASURES`.
    """
    get = MEASURES[measure]
    ours, theirs = _by_image(test, get), _by_image(anchor, get)
    common = [image for image in ours if image in theirs]
    singles = [bd_rate.bd_rate(_image_curve(theirs[i], get), _image_curve(ours[i], get)) for i in common]
    mean_of_images, images_in_mean = bd_rate.mean_percent(singles)
    return Comparison(
        codec=test.codec,
        anchor=anchor.codec,
        measure=measure,
        mean_curve=bd_rate.bd_rate(_mean_curve(theirs, common, get), _mean_curve(ours, common, get)),
        mean_of_images=mean_of_images,
        images=len(common),
        images_in_mean=images_in_mean,
    )


def bpp_at_psnr(curve: CodecCurve, psnr: float) -> float | None:
    """Interpolate the bits per pixel of the mean curve at a PSNR in dB; None outside the measured range."""
    return bd_rate.rate_at(mean_curve(curve.points), psnr)


def mean_curve(points: Iterable[Point | PublishedPoint]) -> bd_rate.Curve:
    """Make the curve of PSNR in dB over bits per pixel from means at every setting."""
    known = list(points)
    return bd_rate.curve([point.bpp for point in known], [point.psnr for point in known])


def median_speed(curve: CodecCurve, kind: Literal["enc_mp_s", "dec_mp_s"]) -> float | None:
    """Take the median over a codec's settings of its speed in megapixels a second; None where it was not timed."""
    speeds = [speed for point in curve.points if (speed := getattr(point, kind)) is not None]
    return statistics.median_high(speeds) if speeds else None


def _curve(codec: str, cells: Sequence[Cell]) -> CodecCurve:
    settings = {cell.setting for cell in cells}
    measured: dict[str, set[float]] = defaultdict(set)
    for cell in cells:
        measured[cell.image].add(cell.setting)
    complete = {image for image, done in measured.items() if done == settings}
    kept = [cell for cell in cells if cell.image in complete]
    groups = [[cell for cell in kept if cell.setting == setting] for setting in settings]
    points = [_point(group[0].setting, group) for group in groups if group]
    return CodecCurve(
        codec=codec,
        source=cells[0].source,
        images=tuple(sorted(complete)),
        points=tuple(sorted(points, key=lambda point: point.bpp)),
        cells=tuple(kept),
    )


def _point(setting: float, cells: Sequence[Cell]) -> Point:
    megapixels = sum(cell.pixels for cell in cells) / 1e6
    enc_s, dec_s = _mean(c.enc_s for c in cells), _mean(c.dec_s for c in cells)
    return Point(
        setting=setting,
        size=float(np.mean([cell.size for cell in cells])),
        bpp=float(np.mean([cell.bpp for cell in cells])),
        psnr=float(np.mean([cell.psnr for cell in cells])),
        ms_ssim=_mean(cell.ms_ssim for cell in cells),
        ms_ssim_db=_mean(cell.ms_ssim_db for cell in cells),
        ssim=_mean(cell.ssim for cell in cells),
        enc_mp_s=megapixels / (enc_s * len(cells)) if enc_s else None,
        dec_mp_s=megapixels / (dec_s * len(cells)) if dec_s else None,
        enc_process_s=_mean(cell.enc_process_s for cell in cells),
        dec_process_s=_mean(cell.dec_process_s for cell in cells),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _by_image(curve: CodecCurve, get: Getter) -> dict[str, list[Cell]]:
    """Group a codec's cells by picture; pictures without the measure are left out."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in curve.cells:
        if get(cell) is not None:
            groups[cell.image].append(cell)
    return groups


def _image_curve(cells: Sequence[Cell], get: Getter) -> bd_rate.Curve:
    return bd_rate.curve([cell.bpp for cell in cells], [_value(cell, get) for cell in cells])


def _mean_curve(groups: Mapping[str, Sequence[Cell]], images: Sequence[str], get: Getter) -> bd_rate.Curve:
    by_setting: dict[float, list[Cell]] = defaultdict(list)
    for image in images:
        for cell in groups[image]:
            by_setting[cell.setting].append(cell)
    rates = [float(np.mean([cell.bpp for cell in cells])) for cells in by_setting.values()]
    qualities = [float(np.mean([_value(cell, get) for cell in cells])) for cells in by_setting.values()]
    return bd_rate.curve(rates, qualities)


def _value(cell: Cell, get: Getter) -> float:
    value = get(cell)
    if value is None:
        raise ValueError(f"{cell.image}, {cell.codec}: measure not taken")
    return value
