"""Models that are given more latent channels, or larger transforms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_photo
from torch import Tensor
from toy_training import toy_config

from shcodec.train.config import TrainConfig
from shcodec.train.grow import grow, is_smaller
from shcodec.train.objective import Learner
from shcodec.train.widen import is_narrower, places, widen


def configs() -> tuple[TrainConfig, TrainConfig]:
    narrow = toy_config("shortcut")
    return narrow, replace(narrow, model=replace(narrow.model, latent=narrow.model.latent + 16))


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    photo = torch.from_numpy(make_photo(256, 192)).permute(2, 0, 1).float()
    return photo.unfold(1, 64, 64).unfold(2, 64, 64).flatten(1, 2).transpose(0, 1)


def test_only_more_channels_are_widening() -> None:
    narrow, wide = (config.model for config in configs())
    assert is_narrower(narrow, wide)
    assert not is_narrower(wide, narrow)
    assert not is_narrower(narrow, narrow)
    assert not is_narrower(replace(narrow, shortcut=False), wide)


def test_halves_of_the_checkerboard_stay() -> None:
    assert places(4, 8).tolist() == [0, 1, 4, 5]


def test_a_wide_model_does_what_the_narrow_one_did_and_loses_less(pictures: Tensor) -> None:
    narrow_config, wide_config = configs()
    torch.manual_seed(0)
    narrow, wide = Learner(narrow_config).eval(), Learner(wide_config).eval()
    narrow.net.start_from(pictures)
    widen(wide, dict(narrow.named_parameters()), narrow_config.model, pictures)
    beta = torch.full((len(pictures),), 20)
    old = places(narrow_config.model.latent, wide_config.model.latent)
    with torch.no_grad():
        before, after = narrow.net.latents(pictures, beta), wide.net.latents(pictures, beta)
        torch.testing.assert_close(after.y[:, old], before.y)
        torch.testing.assert_close(after.mean[:, old], before.mean)
        torch.testing.assert_close(after.step[:, old], before.step)
        torch.testing.assert_close(after.coordinate[:, old], before.coordinate)
        only_old = torch.zeros_like(after.y)
        only_old[:, old] = before.y
        torch.testing.assert_close(wide.net.synthesise(only_old, beta), narrow.net.synthesise(before.y, beta))
        lost = (narrow.net.synthesise(before.y, beta) - pictures).square().mean()
        still_lost = (wide.net.synthesise(after.y, beta) - pictures).square().mean()
    assert still_lost < 0.8 * lost


def larger(config: TrainConfig) -> TrainConfig:
    a, s = config.model.analysis, config.model.synthesis
    analysis = replace(a, width8=a.width8 + 8, blocks8=a.blocks8 + 1, width16=a.width16 + 4, blocks16=a.blocks16 + 2)
    synthesis = replace(
        s, width16=s.width16 + 8, blocks8=s.blocks8 + 1, width8=s.width8 + 4, width4=s.width4 + 3, expand4=s.expand4 + 5
    )
    return replace(config, model=replace(config.model, analysis=analysis, synthesis=synthesis))


def test_only_larger_transforms_are_growth() -> None:
    small, wide = configs()
    large = larger(small)
    assert is_smaller(small.model, large.model)
    assert not is_smaller(large.model, small.model)
    assert not is_smaller(small.model, small.model)
    assert not is_smaller(small.model, wide.model)
    assert not is_smaller(wide.model, large.model)


@pytest.mark.parametrize("family", ["hyper", "shortcut"])
def test_a_grown_model_does_what_the_small_one_did(family: str, pictures: Tensor) -> None:
    config = toy_config(family)
    torch.manual_seed(0)
    small, large = Learner(config).eval(), Learner(larger(config)).eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    grow(large, small)
    beta = torch.full((len(pictures),), 100)
    with torch.no_grad():
        before, after = small.net.latents(pictures, beta), large.net.latents(pictures, beta)
        torch.testing.assert_close(after.y, before.y, rtol=1e-4, atol=1e-4)
        decoded = small.net.synthesise(before.y, beta)
        torch.testing.assert_close(large.net.synthesise(before.y, beta), decoded, rtol=1e-4, atol=1e-2)
    loss = large.net.synthesise(large.net.latents(pictures, beta).y, beta).square().mean()
    loss.backward()
    reading = large.net.g_s.up8.weight
    assert reading.grad is not None
    new = reading.grad[: 4 * config.model.synthesis.width8, config.model.synthesis.width16 :]
    assert (new != 0).any()  # what was zeroed can learn
