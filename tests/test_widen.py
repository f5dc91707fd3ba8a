"""Models that are given more latent channels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_photo
from torch import Tensor
from toy_training import toy_config

from shcodec.train.config import TrainConfig
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
