"""Pictures to train on beside photographs: text, shapes, patterns and gradients, as screens show them.

Packs of photographs hold next to none of these, and a codec that has never seen sharp letters on white or a pattern of
single pixels spends more bits on them than JPEG.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from shcodec.pictures.picture import Pixels

SIDE = 512
TEXT = (
    "the quick brown fox jumps over a lazy dog File Edit View Help Cancel 0123456789 3.14 import return void {} () == "
    "!= ; : - learned image codec window"
)
PLAIN = (0, 32, 64, 128, 192, 224, 240, 255)  # greys of backgrounds and letters

Colour = tuple[int, int, int]


def drawings(number: int, seed: int) -> list[Pixels]:
    """Draw pictures.

    Args:
        number: how many.
        seed: they depend on this and their number alone.

    Returns:
        (512, 512, 3) uint8 each.
    """
    return [_drawing(np.random.default_rng((seed, i))) for i in range(number)]


def drawings_beside(pictures: list[Pixels], share: float, seed: int) -> list[Pixels]:
    """Return as many drawings as take a share (0 to below 1) of the area that they and the pictures have together."""
    area = int(sum(picture.shape[0] * picture.shape[1] for picture in pictures))
    return drawings(math.ceil(share / (1 - share) * area / SIDE**2), seed)


def _drawing(rng: np.random.Generator) -> Pixels:
    side = SIDE * (2 if rng.random() < 0.3 else 1)  # a third is drawn large and scaled down: soft edges
    ground = _colour(rng) if rng.random() < 0.6 else ((255, 255, 255) if rng.random() < 0.6 else (20, 20, 20))
    picture = Image.fromarray(_ground(rng, side, ground))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 24)):
        _shape(rng, draw, side)
    if rng.random() < 0.65:
        _text(rng, draw, side, dark=sum(ground) > 384)
    if side != SIDE:
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.array(picture)


def _colour(rng: np.random.Generator) -> Colour:
    """Return any colour, or as often a grey that designers like."""
    if rng.random() < 0.5:
        grey = PLAIN[rng.integers(len(PLAIN))]
        return grey, grey, grey
    red, green, blue = rng.integers(0, 256, 3)
    return int(red), int(green), int(blue)


def _ground(rng: np.random.Generator, side: int, colour: Colour) -> Pixels:
    """Return a plain ground, a linear gradient, or stripes and checks of 1 to 11 pixels."""
    rows, columns = np.mgrid[0:side, 0:side]
    kind, other = rng.random(), np.array(_colour(rng), np.float64)
    mix: npt.NDArray[np.floating] = np.zeros((side, side))
    if kind < 0.15:
        angle = rng.uniform(0, 2 * np.pi)
        mix = ((columns / side - 0.5) * np.cos(angle) + (rows / side - 0.5) * np.sin(angle) + 0.5).clip(0, 1)
    elif kind < 0.3:
        width = int(rng.integers(1, 12))
        across, down = rng.random() < 0.7, rng.random() < 0.7
        mix = ((across * (columns // width) + down * (rows // width)) % 2).astype(np.float64)
    ground: Pixels = (np.array(colour) * (1 - mix[..., None]) + other * mix[..., None]).round().astype(np.uint8)
    return ground


def _shape(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int) -> None:
    left, top = rng.integers(0, side, 2)
    width, height = rng.integers(4, side // 3, 2)
    box = (int(left), int(top), int(left + width), int(top + height))
    line, kind = int(rng.integers(1, 4)), rng.random()
    if kind < 0.5:
        draw.rectangle(box, fill=_colour(rng), outline=_colour(rng), width=line)
    elif kind < 0.7:
        draw.ellipse(box, fill=_colour(rng), outline=_colour(rng), width=line)
    else:
        draw.line(box, fill=_colour(rng), width=line)


def _text(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, *, dark: bool) -> None:
    """Draw lines of words over the whole picture, most of them in a colour that can be read."""
    size = int(rng.integers(8, 28))
    font = ImageFont.load_default(size=size)
    own = _colour(rng) if rng.random() < 0.4 else ((0, 0, 0) if dark else (255, 255, 255))
    left, spacing = int(rng.integers(-20, side // 3)), size * rng.uniform(1.05, 1.6)
    for top in np.arange(rng.integers(0, 10), side, spacing):
        words = " ".join(rng.choice(TEXT.split(), 24))
        draw.text((left, int(top)), words, font=font, fill=own if rng.random() < 0.85 else _colour(rng))
