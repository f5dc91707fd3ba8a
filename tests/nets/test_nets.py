"""Networks: shapes, modulation by beta, the integer class map, receptive fields, and refused configurations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from toy_training import FAMILIES, toy_config

from shcodec.nets.codec import CodecNet, first_half
from shcodec.nets.config import ModelConfig
from shcodec.nets.hyper import ClassMap, start_steps
from shcodec.nets.layers import full_precision, knot_weights
from shcodec.support.errors import UsageError
from shcodec.symbols import grid as grids
from shcodec.symbols.ans import integer_table
from shcodec.symbols.grid import Grid
from shcodec.symbols.knots import KNOTS, interpolate
from shcodec.symbols.tables import SymbolTables
from shcodec.train.config import TrainConfig
from shcodec.train.objective import Learner, classes_of

SHIPPED = ("fast", "sha", "tiny")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(5)


def make_net(family: str = "hyper") -> CodecNet:
    return CodecNet(toy_config(family).model).eval()


# -- beta -------------------------------------------------------------------------------------------


def test_knot_weights_interpolate_as_the_runtime_does() -> None:
    weights = knot_weights(torch.arange(256))
    assert weights.shape == (256, KNOTS)
    assert torch.equal(weights.sum(1), torch.ones(256))
    knots = np.random.default_rng(0).normal(size=(KNOTS, 5)).astype(np.float32)
    expected = np.stack([interpolate(knots, b) for b in range(256)])
    assert np.allclose(weights.numpy() @ knots, expected, atol=1e-6)


def test_untrained_gains_are_neutral() -> None:
    net = make_net()
    stages = net.g_s.split(net.g_s.gain(knot_weights(torch.tensor([3, 200]))))
    assert len(stages) == 3
    assert all(torch.equal(scale, torch.ones_like(scale)) and not bias.any() for scale, bias in stages)


def test_steps_follow_beta_and_stay_positive() -> None:
    net = make_net()
    latents = net.latents(torch.rand(4, 3, 64, 64) * 255, torch.tensor([0, 80, 160, 255]))
    steps = latents.step.mean((1, 2, 3))
    assert latents.step.min() > 0
    assert torch.equal(steps, steps.sort().values)
    assert float(start_steps()[-1] / start_steps()[0]) == pytest.approx(2 ** (11 * 256 / 255 / 2), rel=1e-4)


# -- shapes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 192)])
def test_shapes(family: str, height: int, width: int) -> None:
    net = make_net(family)
    x, beta = torch.rand(2, 3, height, width) * 255, torch.tensor([10, 240])
    with torch.no_grad():
        latents = net.latents(x, beta)
        pixels = net.synthesise(latents.y, beta)
    size = (2, net.config.latent, height // 16, width // 16)
    assert pixels.shape == x.shape
    assert latents.y.shape == latents.mean.shape == latents.coordinate.shape == size
    assert torch.broadcast_shapes(latents.step.shape, size) == size
    if family == "seed":
        assert latents.z is None and latents.features is None
        return
    assert latents.z is not None and latents.z.shape == (2, 6, height // 64, width // 64)
    with torch.no_grad():
        second = net.second_means(latents.y, latents, beta)
    assert second.shape == size


def test_bfloat16_reaches_neither_latent_nor_pixels() -> None:
    net = make_net()
    net.mixed = True
    beta = torch.tensor([100])
    latents = net.latents(torch.rand(1, 3, 64, 64) * 255, beta)
    pixels = net.synthesise(latents.y, beta)
    outputs = (latents.y, latents.mean, latents.step, latents.coordinate, pixels)
    assert all(tensor.dtype == torch.float32 for tensor in outputs)
    values = pixels.detach().flatten()
    assert not torch.equal(values, values.bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        assert full_precision(torch.nn.Linear(2, 2), torch.rand(1, 2)).dtype == torch.float32


def test_the_checkerboard_is_the_codecs() -> None:
    for shape in ((6, 5, 7), (5, 4, 4), (16, 1, 1)):
        assert np.array_equal(first_half(*shape).numpy(), grids.first_half(*shape))


def test_hyper_latent_is_hard_with_straight_through_gradient() -> None:
    net = make_net()
    latents = net.latents(torch.rand(1, 3, 64, 64) * 255, torch.tensor([100]))
    assert latents.z is not None
    (gradient,) = torch.autograd.grad(latents.mean.square().sum(), latents.z)
    assert gradient.any()
    loud = make_net()
    with torch.no_grad():
        assert loud.h_a.down64.bias is not None
        loud.h_a.down64.bias.fill_(1e4)
        coordinate = loud.latents(torch.rand(1, 3, 64, 64) * 255, torch.tensor([100])).coordinate
        limit = torch.full((1, 6, 1, 1), float(loud.config.hyper.limit))
        expected = loud.class_map(limit, knot_weights(torch.tensor([100])))
    assert torch.allclose(coordinate, expected, atol=1e-3)  # clipped to what a file can hold


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_linear_shortcuts_start_as_principal_components(family: str) -> None:
    model = replace(toy_config(family).model, shortcut=True)
    blocks = torch.nn.functional.interpolate(torch.rand(400, 3, 6, 6) * 255, size=16, mode="bicubic")
    beta, weights = torch.tensor([100]), knot_weights(torch.tensor([100]))
    row = torch.cat(list(blocks[:8]), 2)[None]  # (1, 3, 16, 128)
    x = torch.cat([row, row], 2)
    errors = []
    for latent in (1, 12, 108):  # such blocks have 3 x 36 degrees of freedom
        net = CodecNet(replace(model, latent=latent)).eval()
        net.start_from(blocks)
        for head in (net.g_a.head, net.g_s.head):
            torch.nn.init.zeros_(head.weight)
        y = net.g_a(x, net.g_a.gain(weights))
        errors.append(float((net.synthesise(y, beta) - x).square().mean()))
    assert errors[0] > errors[1] > 100 * errors[2]
    assert errors[2] < 0.5
    start = net.class_map.bias_knots if family == "hyper" else net.prior_knots
    assert torch.equal(start, start.sort(1, descending=True).values)  # the largest variances come first


# -- class map --------------------------------------------------------------------------------------


def class_tables(class_map: ClassMap, config: ModelConfig) -> SymbolTables:
    """Return the codec's tables around the integers of a float class map."""
    weight, shift, bias = class_map.integers()
    size = 2 * config.hyper.limit + 1
    tensors: dict[str, Any] = {
        "latent.channels": np.array([config.latent], np.int32),
        "class.count": np.array([64], np.int32),
        "class.bands": np.array([0], np.int32),
        "codebook.0": np.zeros((2, 1), np.float16),
        "histogram.0": np.full((64, 2), 1 << 23, np.uint32),
        "hyper.bank": np.tile(integer_table(np.ones(size)), (1, config.hyper.channels, 1)),
        "class_map.weight": weight.numpy(),
        "class_map.shift": shift.numpy(),
        "class_map.bias": bias.numpy(),
    }
    return SymbolTables(tensors)


@pytest.mark.parametrize("scale", [0.02, 0.5, 30.0])
def test_integer_class_map_is_the_floor_of_the_float_one(scale: float) -> None:
    config = TrainConfig.load("tiny").model
    class_map = ClassMap(config, start_steps())
    with torch.no_grad():
        class_map.weight.normal_(0, scale)
        class_map.bias_knots.add_(torch.randn(17, config.latent) * 3)
    class_map.fake_integer = True
    tables = class_tables(class_map, config)
    grid = Grid.of(640, 320)
    differing = []
    for beta_byte in (0, 77, 128, 255):
        z = torch.randint(-7, 8, (config.hyper.channels, 10, 5))
        with torch.no_grad():
            coordinate = class_map(z[None].float(), knot_weights(torch.tensor([beta_byte])))[0]
        expected = coordinate.floor().clamp(0, 63).numpy()
        exact = tables.classes_of(z.numpy().astype(np.int8), beta_byte, grid)
        assert np.abs(exact - expected).max() <= 1
        differing.append(np.mean(exact != expected))
    # only the bias is rounded, to 2^-shift: a coordinate that close to an integer may fall to its other side
    shift = float(class_map.shifts().min())
    assert np.mean(differing) <= 2 * 2**-shift


def test_fake_integers_keep_the_gradient() -> None:
    config = TrainConfig.load("tiny").model
    class_map = ClassMap(config, start_steps())
    class_map.fake_integer = True
    z = torch.randint(-7, 8, (1, config.hyper.channels, 2, 2)).float()
    class_map(z, knot_weights(torch.tensor([9]))).sum().backward()
    assert class_map.weight.grad is not None and class_map.weight.grad.any()
    integers = class_map.integer_weight()
    assert torch.equal(integers, integers.round()) and integers.abs().max() <= 127
    assert integers.abs().view(config.latent, -1).amax(1).min() >= 63  # every channel fills int8


# -- windows ----------------------------------------------------------------------------------------


# -- configurations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_load_and_return_from_dict(name: str) -> None:
    config = TrainConfig.load(name)
    assert config.model.name == name
    assert TrainConfig.from_dict(config.to_dict()) == config


MODEL: dict[str, Any] = TrainConfig.load("tiny").to_dict()["model"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lattent": 16}, "lattent"),
        ({"latent": 0}, "at least one channel"),
        ({"latent": 800, "shortcut": True}, "768"),
        ({"shortcut": 1}, "shortcut = 1"),
        ({"latent": "16"}, "latent = '16'"),
        ({"latent": True}, "latent = True"),
        ({"name": 3}, "name = 3"),
        ({"analysis": {"width9": 3}}, "width9"),
        ({"analysis": 3}, "not valid"),
        ({"synthesis": {"width4": -12}}, "width4 = -12"),
        ({"synthesis": {"width4": 1.5}}, "width4 = 1.5"),
        ({"hyper": {"limit": 200}}, "limit"),
        ({"hyper": {"channels": 0}}, "skip needs a hyper path"),
        ({"quantiser": {"classes": 65, "skip": 7, "bands": [[7, 64, 4, 48]]}}, "classes = 65"),
        ({"quantiser": {"skip": 7, "bands": [[7, 63, 3, 48]]}}, "1, 2 or 4"),
        ({"quantiser": {"skip": 7, "bands": [[7, 62, 4, 48]]}}, "end at class 62"),
        ({"quantiser": {"skip": 7, "bands": [[8, 63, 4, 48]]}}, "does not continue"),
        ({"quantiser": {"skip": 7, "bands": [[7, 20, 1, 48], [21, 63, 4, 48]]}}, "does not continue"),
        ({"quantiser": {"skip": 7, "bands": [[7, 63, 4, 1]]}}, "does not continue"),
        ({"quantiser": {"skip": 7, "bands": [[7, 63, 4]]}}, "not valid"),
        ({"quantiser": {"skip": 7, "bands": [["7", 63, 4, 48]]}}, "first = '7'"),
        ({"quantiser": {"skip": 64, "bands": []}}, "bands end"),
        ({"quantiser": {"skip": 7, "bands": 7}}, "not valid"),
    ],
)
def test_bad_model_tables_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ModelConfig.from_dict(MODEL | change)
    assert "\n" not in str(caught.value)


def test_a_model_needs_a_name() -> None:
    with pytest.raises(UsageError, match="name"):
        ModelConfig.from_dict({"latent": 16})


def test_kept_channels_are_always_coded() -> None:
    config = toy_config()
    quantiser = replace(config.model.quantiser, kept=3)
    learner = Learner(replace(config, model=replace(config.model, quantiser=quantiser)))
    with torch.no_grad():
        learner.net.class_map.weight.zero_()
        learner.net.class_map.bias_knots.fill_(-5.0)  # everything is far too cold
        beta = torch.tensor([100])
        classes = classes_of(learner, learner.net.latents(torch.zeros(1, 3, 64, 64), beta), beta)
    assert int(classes[:, :3].min()) >= quantiser.skip
    assert int(classes[:, 3:].max()) < quantiser.skip
    with pytest.raises(UsageError, match="kept"):
        replace(config.model, quantiser=replace(quantiser, kept=1000)).check()
