"""Samples while training. That they are what users draw: tests/export/test_diffusion.py."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from genfast.samplers import ddgan
from training import sampling
from training.diffusion import ReverseStep, ScheduleConfig
from training.nets.unet import UNet
from training.recipe import Recipe

SCHEDULE = ScheduleConfig(log_snr={2: (7.0, -6.0), 3: (14.0, 0.0, -6.0)}).build()  # at first hardly any noise


@pytest.fixture
def generator(recipe: Callable[..., Recipe]) -> UNet:
    network = UNet(recipe("ddgan").unet).eval()
    nn.init.normal_(network.mapping.layers[-1].weight)
    return network


def assert_close(a: np.ndarray, b: np.ndarray) -> None:
    """Equal but for a grey level, which rounding may cost."""
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize(("steps", "seed"), [(3, 0), (2, 1)])
def test_images_are_those_of_a_seed(generator: UNet, fabric: Fabric, steps: int, seed: int) -> None:
    step, path = ReverseStep(generator, SCHEDULE), np.array({3: [0, 1, 3, 4], 2: [0, 2, 4]}[steps])

    def one(x_t: np.ndarray, t: np.ndarray, z: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            outputs = step(*(torch.from_numpy(array) for array in (x_t, path[t], path[t - 1], noise, z)))
        return tuple(output.numpy() for output in outputs)

    drawn = sampling.sample(generator, SCHEDULE, 5, fabric, steps=steps, seed=seed)
    wanted = [ddgan.sample(one, steps=steps, latent=8, shape=(1, 8, 8), seed=seed, indices=[i]) for i in range(5)]
    assert_close(drawn, np.concatenate(wanted))
    assert drawn.std(axis=0).max() > 10


def test_the_batch_does_not_matter(generator: UNet, fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sampling.sample(generator, SCHEDULE, 7, fabric)
    monkeypatch.setattr(sampling, "BATCH", 3)
    assert_close(sampling.sample(generator, SCHEDULE, 7, fabric), whole)
