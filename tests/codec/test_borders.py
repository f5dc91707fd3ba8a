"""The outermost rows and columns are as good as the inside, whatever the sides of the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import ROOT, make_photo

from shcodec.codec import decoding, encoding
from shcodec.codec.analysis import own_rate_weight
from shcodec.container import beta_to_byte
from shcodec.model.networks import Model, padding
from shcodec.pictures.picture import Pixels

PERIOD = 64  # pixels after which the pictures repeat, mirrored, so that every border has its equal inside
BAND = 16  # outermost rows and columns that are looked at
# every residue of each side modulo 64 once, and every pair of multiples of 16
SIDES = [(96 + i, 96 + (37 * i + 11) % 64) for i in range(64)]
SIDES += [(96 + i, 96 + j) for i in range(0, 64, 16) for j in range(0, 64, 16)]
FLOOR = 2.0  # squared error that cannot be seen


@pytest.fixture(scope="module", params=["fast", "best"])
def shipped(request: pytest.FixtureRequest) -> Model:
    """Each shipped model that is more than the method of 2017."""
    return Model(ROOT / "models" / request.param, threads=1)


def tile(kind: str) -> Pixels:
    """Return a square of PERIOD that can be repeated without an edge."""
    y, x = np.mgrid[0 : PERIOD // 2, 0 : PERIOD // 2]
    if kind == "flat":
        part = np.full((*x.shape, 3), (245, 245, 247))
    elif kind == "gradient":
        part = np.stack([120 + x / 2, 90 + y / 2, 200 - (x + y) / 4], -1)
    else:
        data = pytest.importorskip("skimage.data", reason="photographs come from scikit-image")
        part = data.astronaut()[300 : 300 + PERIOD // 2, 90 : 90 + PERIOD // 2]
    return np.pad(part.astype(np.uint8), ((0, PERIOD // 2), (0, PERIOD // 2), (0, 0)), mode="symmetric")


def errors(model: Model, pixels: Pixels, beta: float) -> npt.NDArray[np.float64]:
    """Mean squared error of every pixel of a coded picture, (H, W)."""
    weight = own_rate_weight(model, beta_to_byte(beta))  # told, so that of plain pictures one rate is coded, not many
    decoded = decoding.decode_array(encoding.encode_array(pixels, beta, model=model, rate_weight=weight), model=model)
    squares: npt.NDArray[np.float64] = np.square(decoded.astype(np.float64) - pixels).mean(2)
    return squares


def bands(error: npt.NDArray[np.float64], width: int) -> list[tuple[float, float]]:
    """Mean error of the outermost rows and columns at the four sides, each beside that of its equal inside."""
    pairs = []
    for side in (error, error[::-1], error.T, error.T[::-1]):
        pairs.append((float(side[:width].mean()), float(side[PERIOD : PERIOD + width].mean())))
    return pairs


@pytest.mark.parametrize("kind", ["flat", "gradient", "photograph"])
def test_borders_are_as_good_as_the_inside(shipped: Model, kind: str) -> None:
    square = tile(kind)
    sides = SIDES if shipped.name == "fast" else SIDES[-16:]  # `best` takes three times as long
    for height, width in sides:
        error = errors(shipped, np.tile(square, (3, 3, 1))[:height, :width], 50)
        for outer, inner in bands(error, BAND):
            assert outer <= 1.5 * inner + FLOOR, (height, width)
        for outer, inner in bands(error, 1):  # one bad line is seen where sixteen rows hardly differ
            assert outer <= 4 * inner + 6 * FLOOR, (height, width)


def test_the_method_of_2017_ends_at_its_last_latent() -> None:
    """Its networks know no padding: sides of 16 k are as good as those of 64 k."""
    model = Model(ROOT / "models" / "sha", threads=1)
    expected, *others = (errors(model, np.tile(tile("flat"), (4, 3, 1))[:side], 50) for side in (192, 208, 224, 240))
    for error in others:
        assert error[-BAND:].mean() <= 1.1 * expected[-BAND:].mean()


@pytest.mark.parametrize(
    ("side", "length", "expected"),
    [
        (64, 64, [62, 63]),
        (64, 48, [46, 47, 47, 46, 45]),  # mirrored
        (64, 45, [43, *[44] * 8, 43, 42]),  # the last latent filled, then mirrored
        (64, 1, [0] * 64),
        (64, 17, [15, 16, *[16] * 15, *[16] * 16, 15, 14]),
    ],
)
def test_padding(side: int, length: int, expected: list[int]) -> None:
    index = padding(side, length)
    assert len(index) == side
    assert index[:length].tolist() == list(range(length))
    start = max(length - 2, 0)
    assert index[start : start + len(expected)].tolist() == expected


def test_nothing_beyond_the_coded_latents_is_shown(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network says of positions that hold no pixel does not change those that do."""
    data = encoding.encode_array(make_photo(80, 144), 20, model=model)  # 5 of 8 rows and 9 of 12 columns are coded
    expected = decoding.decode_array(data, model=model)
    describe = model.describe

    def disturbed(*given: Any) -> tuple[Any, ...]:
        mean, step, features = describe(*given)
        mean = mean.copy()
        mean[:, 5:] += 3
        mean[:, :, 9:] -= 3
        return mean, step, features

    monkeypatch.setattr(model, "describe", disturbed)
    assert np.array_equal(decoding.decode_array(data, model=model), expected)
