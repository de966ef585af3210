"""Samples while training. That they are what users draw: tests/export/test_diffusion.py."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from genfast.samplers import ddgan
from training import sampling
from training.diffusion import ReverseStep, ScheduleConfig
from training.nets.unet import UNet, UNetConfig
from training.recipe import Recipe

SCHEDULE = ScheduleConfig(steps=3, log_snr=(14.0, 0.0, -6.0)).build()  # the first level has hardly any noise


class Believer(nn.Module):
    """Takes x_t for x_0."""

    config = UNetConfig(size=8, latent=0)

    def forward(self, x_t: Tensor, log_snr: Tensor, z: Tensor | None, label: Tensor | None) -> Tensor:
        assert z is None and label is None
        return x_t


@pytest.fixture
def generator(recipe: Callable[..., Recipe]) -> UNet:
    network = UNet(recipe("ddgan").unet).eval()
    nn.init.normal_(network.mapping.layers[-1].weight)
    return network


def assert_close(a: np.ndarray, b: np.ndarray) -> None:
    """Equal but for a grey level, which rounding may cost."""
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    assert np.abs(a.astype(int) - b).max() <= 1


def test_images_are_those_of_seed_0(generator: UNet, fabric: Fabric) -> None:
    step = ReverseStep(generator, SCHEDULE)

    def one(x_t: np.ndarray, t: np.ndarray, z: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            outputs = step(*(torch.from_numpy(array) for array in (x_t, t, z, noise)))
        return tuple(output.numpy() for output in outputs)

    drawn = sampling.sample(generator, SCHEDULE, 5, fabric)
    wanted = [ddgan.sample(one, steps=3, latent=8, shape=(1, 8, 8), seed=0, indices=[i]) for i in range(5)]
    assert_close(drawn, np.concatenate(wanted))
    assert drawn.std(axis=0).max() > 10


def test_the_batch_does_not_matter(generator: UNet, fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sampling.sample(generator, SCHEDULE, 7, fabric)
    monkeypatch.setattr(sampling, "BATCH", 3)
    assert_close(sampling.sample(generator, SCHEDULE, 7, fabric), whole)


def test_beginning_at_real_images_runs_the_last_steps_alone(
    fabric: Fabric, thumbnails: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "BATCH", 8)
    images = thumbnails[0][:50]
    steps, denoise = [], ddgan.denoise
    monkeypatch.setattr(ddgan, "denoise", lambda *a, **fields: steps.append(fields["steps"]) or denoise(*a, **fields))

    def error(k: int) -> float:
        drawn = sampling.sample(Believer(), SCHEDULE, 20, fabric, begin=(images, k))
        assert set(steps) == {k} and drawn.shape == (20, 8, 8, 1)
        steps.clear()
        return np.abs(drawn.astype(int) - thumbnails[0][:20]).mean()

    assert error(1) < 2 < 20 < error(2) < error(3)
