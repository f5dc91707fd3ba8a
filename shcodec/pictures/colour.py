"""Colour: what samples mean (profiles, transfer curves, primaries), and their conversion to sRGB.

Two descriptions are the same if they do the same to a grid of colours, whatever they are called: profiles whose name
says sRGB may be in linear light, and those of sRGB have many names.
"""

from __future__ import annotations

import functools
import io
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

Floats = npt.NDArray[np.float64]

_ICC_HEADER: Final = 128  # bytes
_SAME: Final = 2  # levels of 255: profiles of sRGB by different makers are not farther apart


class Curve(NamedTuple):
    """Light of a sample, both 0 to 1: (a x + b)^g from d on, c x below; type 3 of ICC's parametric curves."""

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0

    def light(self, samples: Floats) -> Floats:
        """Return the linear light of samples."""
        above: Floats = np.power(np.maximum(self.a * samples + self.b, 0.0), self.g)
        return np.where(samples >= self.d, above, self.c * samples)

    def samples(self, light: Floats) -> Floats:
        """Return the samples of linear light: the inverse of `light`."""
        above: Floats = (np.power(np.maximum(light, 0.0), 1.0 / self.g) - self.b) / self.a
        below = light / self.c if self.c else above
        return np.where(light >= self.c * self.d, above, below)


class Primaries(NamedTuple):
    """Chromaticities x, y of white, red, green and blue."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


SRGB_CURVE: Final = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_D65: Final = (0.3127, 0.329)
SRGB_PRIMARIES: Final = Primaries(_D65, (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
_ADOBE: Final = (Primaries(_D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), Curve(563 / 256))

# Code points of ITU-T H.273. The curves 1, 6, 14 and 15 of television are shown as sRGB's, as browsers do.
_C, _E = (0.31, 0.316), (1 / 3, 1 / 3)
CICP_PRIMARIES: Final = {
    1: SRGB_PRIMARIES,
    4: Primaries(_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Primaries(_D65, (0.64, 0.33), (0.29, 0.6), (0.15, 0.06)),
    6: Primaries(_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    7: Primaries(_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    8: Primaries(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: Primaries(_D65, (0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    10: Primaries(_E, (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)),
    11: Primaries((0.314, 0.351), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    12: Primaries(_D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    22: Primaries(_D65, (0.63, 0.34), (0.295, 0.605), (0.155, 0.077)),
}
CICP_CURVES: Final = {
    1: SRGB_CURVE,
    4: Curve(2.2),
    5: Curve(2.8),
    6: SRGB_CURVE,
    7: Curve(1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0913),
    8: Curve(1.0),
    13: SRGB_CURVE,
    14: SRGB_CURVE,
    15: SRGB_CURVE,
    17: Curve(2.6, (52.37 / 48) ** (1 / 2.6)),
}
_CURVE_NAMES: Final = {16: "PQ", 18: "HLG", 9: "logarithmic", 10: "logarithmic"}


@dataclass(frozen=True)
class Meaning:
    """How the samples of a picture are to be understood where no profile says it.

    Attributes:
        curve: from samples to light.
        primaries: of its colours.
    """

    curve: Curve = SRGB_CURVE
    primaries: Primaries = SRGB_PRIMARIES

    def table(self, largest: int) -> npt.NDArray[np.uint8]:
        """Return for each sample 0..`largest` the sample 0..255 of the same light with sRGB's curve."""
        samples = np.arange(largest + 1) / largest
        if self.curve != SRGB_CURVE:
            samples = SRGB_CURVE.samples(np.clip(self.curve.light(samples), 0.0, 1.0))
        return np.floor(255.0 * np.clip(samples, 0.0, 1.0) + 0.5).astype(np.uint8)

    @property
    def bends(self) -> bool:
        """Whether the curve shows other colours than sRGB's does."""
        table = self.table(255).astype(int)
        return int(np.abs(table - np.arange(256)).max()) > _SAME

    def profile(self) -> bytes:
        """Return a profile of these primaries with sRGB's curve; empty where that is sRGB."""
        if self.primaries == SRGB_PRIMARIES:
            return b""
        icc = made_profile(self.primaries, SRGB_CURVE)
        return b"" if shows_srgb(icc) else icc


def of_cicp(primaries: int, transfer: int) -> tuple[Meaning | None, str]:
    """Tell what two code points of H.273 mean; None, and why, where that cannot be shown in 8 bits or is not known."""
    curve = SRGB_CURVE if transfer == 2 else CICP_CURVES.get(transfer)
    gamut = SRGB_PRIMARIES if primaries == 2 else CICP_PRIMARIES.get(primaries)
    if curve is None:
        name = _CURVE_NAMES.get(transfer, f"number {transfer}")
        return None, f"transfer curve {name} not converted: colours will look wrong"
    if gamut is None:
        return None, f"colour primaries number {primaries} not known: taken for sRGB"
    return Meaning(curve, gamut), ""


def of_gamma(gamma: float | None, chromaticities: tuple[float, ...] | None) -> tuple[Meaning, str]:
    """Return what PNG's gAMA (exponent of the file, 0.45455 usually) and cHRM (white, red, green, blue) mean.

    As for libpng, an exponent within 5 % of 1 / 2.2 is sRGB's: nearly all who write it mean that.
    """
    curve, gamut, note = SRGB_CURVE, SRGB_PRIMARIES, ""
    if gamma is not None:
        if not 0.01 <= gamma <= 100:
            note = "unusable gAMA ignored"
        elif abs(2.2 * gamma - 1) >= 0.05:
            curve = Curve(1.0 / gamma)
    if chromaticities is not None:
        x, y = chromaticities[::2], chromaticities[1::2]
        given = Primaries(*zip(x, y, strict=True))
        try:
            made_profile(given, SRGB_CURVE)
            gamut = given
        except (ValueError, ZeroDivisionError, struct.error, np.linalg.LinAlgError):
            note = "unusable cHRM ignored"
    return Meaning(curve, gamut), note


def adobe_rgb() -> bytes:
    """Return a profile of the colours that cameras mark in EXIF as R03."""
    return made_profile(*_ADOBE)


def profile_space(icc: bytes) -> bytes:
    """Return the colour space that a profile's header names: b"RGB ", b"GRAY", b"CMYK"; empty if it is no profile."""
    return icc[16:20] if len(icc) >= _ICC_HEADER and icc[36:40] == b"acsp" else b""


def fitting_profile(icc: bytes, *, grey: bool) -> tuple[bytes, str]:
    """Return a profile as it is if it can belong to a coded picture, else none."""
    space = profile_space(icc)
    if not icc or space == (b"GRAY" if grey else b"RGB "):
        return icc, ""
    return (
        b"",
        "colour profile of another kind of picture dropped" if space else "unusable colour profile dropped",
    )


def to_srgb(image: Image.Image, icc: bytes) -> tuple[Image.Image, str]:
    """Follow a colour profile to sRGB; grey pictures stay grey, alpha stays, others become RGB.

    A profile that cannot be followed changes nothing, nor does one that shows the same colours as sRGB.
    """
    if image.mode in ("LA", "RGBA"):
        colours, note = to_srgb(image.convert(image.mode.removesuffix("A")), icc)
        colours.putalpha(image.getchannel("A"))
        return colours, note
    if image.mode != "CMYK" and shows_srgb(icc):
        return image, ""
    grey = image.mode == "L"
    if image.mode not in ("L", "RGB", "CMYK") or (grey and profile_space(icc) == b"RGB "):
        image = image.convert("RGB")
    converted = _followed(image, icc)
    if converted is None:
        return image.convert("L") if grey else image, "unusable colour profile ignored"
    return converted.convert("L") if grey else converted, "colour profile converted to sRGB"


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """Return a picture of mode LAB as RGB."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return image if converted is None else converted


@functools.lru_cache(maxsize=16)
def shows_srgb(icc: bytes) -> bool:
    """Whether a profile of RGB or grey shows a grid of colours as sRGB does, to two levels of 255."""
    if profile_space(icc) == b"GRAY":
        grid = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    elif profile_space(icc) == b"RGB ":
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        greys = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
        grid = Image.fromarray(np.concatenate([colours, greys], axis=1))
    else:
        return False
    shown = _followed(grid, icc)
    if shown is None:
        return False
    difference = np.asarray(shown).astype(int) - np.asarray(grid.convert("RGB"))
    return int(np.abs(difference).max()) <= _SAME


def _followed(image: Image.Image, icc: bytes) -> Image.Image | None:
    """Return a picture as RGB in sRGB; None where the profile cannot be followed."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def made_profile(primaries: Primaries, curve: Curve) -> bytes:
    """Return an ICC profile (version 4, for monitors) of primaries and a curve.

    Raises:
        ValueError, ZeroDivisionError, numpy.linalg.LinAlgError: the primaries span no colours.
        struct.error: they are beyond what a profile can say.
    """
    white = np.array([0.9642, 1.0, 0.8249])  # D50, in which all profiles are
    columns = _to_xyz(primaries)
    text = "made of a picture's description".encode("utf-16-be")
    words = b"mluc" + struct.pack(">5I", 0, 1, 12, 0x656E5553, len(text)) + struct.pack(">I", 28) + text
    bent = b"para" + struct.pack(">IHH5i", 0, 3, 0, *(round(65536 * value) for value in curve))
    tags = {b"desc": words, b"cprt": words, b"wtpt": _xyz(white)}
    tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)}
    tags |= {b"rTRC": bent, b"gTRC": bent, b"bTRC": bent}
    table, body, places = b"", b"", dict[bytes, int]()
    start = _ICC_HEADER + 4 + 12 * len(tags)
    for name, data in tags.items():
        if data not in places:  # tags of the same content share it
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += name + struct.pack(">2I", places[data], len(data))
    head = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(white)[8:]
    return head + bytes(_ICC_HEADER - len(head)) + struct.pack(">I", len(tags)) + table + body


def _xyz(values: Floats) -> bytes:
    return b"XYZ " + struct.pack(">I3i", 0, *(round(65536 * float(value)) for value in values))


def _to_xyz(primaries: Primaries) -> Floats:
    """Return the matrix from linear light to XYZ under D50, (3, 3), adapted after Bradford."""

    def whole(xy: tuple[float, float]) -> Floats:
        x, y = xy
        return np.array([x, y, 1 - x - y]) / y

    def seen(xy: tuple[float, float]) -> Floats:
        return np.array([xy[0], xy[1], 1 - xy[0] - xy[1]])

    white = whole(primaries.white)
    colours = np.stack([seen(xy) for xy in primaries[1:]], axis=1)
    if abs(float(np.linalg.det(colours))) < 1e-4:
        raise ValueError("the primaries span no colours")
    matrix = colours * np.linalg.solve(colours, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gain = (bradford @ np.array([0.9642, 1.0, 0.8249])) / (bradford @ white)
    adapted: Floats = np.linalg.solve(bradford, gain[:, None] * bradford) @ matrix
    return adapted
