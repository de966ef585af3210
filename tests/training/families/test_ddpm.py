"""The regression of x_0: its loss at a known prediction, one step, and that it learns."""

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from training.families.ddpm import DDPMTraining
from training.recipe import Recipe


def as_batch(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def rng(step: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def test_the_loss_is_the_squared_error_in_v(recipe: Callable[..., Recipe], fabric: Fabric) -> None:
    """v = signal noise - noise x_0 has unit variance for images of +-1, so predicting 0 costs 1 at every level."""
    training = DDPMTraining(recipe("ddpm"), fabric)
    for parameter in training.network.head.parameters():
        nn.init.zeros_(parameter)
    images = torch.randint(2, (4000, 1, 8, 8)) * 255
    torch.testing.assert_close(
        training.step(images, None, rng(), 0)["loss"].detach(), torch.tensor(1.0), atol=0.02, rtol=0
    )


def test_one_step_moves_every_weight(
    recipe: Callable[..., Recipe], fabric: Fabric, thumbnails: tuple[np.ndarray, np.ndarray]
) -> None:
    training = DDPMTraining(recipe("ddpm"), fabric)
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    figures = training.step(as_batch(thumbnails[0][:16]), None, rng(), 0)
    assert all(value.isfinite() and value.shape == () for value in figures.values())
    assert not [name for name, value in training.network.state_dict().items() if torch.equal(value, before[name])]


def test_a_step_is_a_function_of_its_stream(
    recipe: Callable[..., Recipe], fabric: Fabric, thumbnails: tuple[np.ndarray, np.ndarray]
) -> None:
    images, ends = as_batch(thumbnails[0][:8]), []
    for seed, stray in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(0)
        training = DDPMTraining(recipe("ddpm"), fabric)
        torch.manual_seed(stray)
        training.step(images, None, rng(seed), 0)
        ends.append(training.network.stem.weight)
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_classes_are_told_but_for_some(
    recipe: Callable[..., Recipe], fabric: Fabric, thumbnails: tuple[np.ndarray, np.ndarray]
) -> None:
    """Rows of the label embedding move for those classes that a batch has, and for none where all are hidden."""
    told = replace(recipe("ddpm").unet, classes=10)
    images, labels = as_batch(thumbnails[0][:16]), torch.tensor([2, 7] * 8)
    for dropout, moved in ((0.0, [2, 7]), (1.0, [10])):
        training = DDPMTraining(recipe("ddpm", unet=asdict(told), label_dropout=dropout), fabric)
        training.step(images, labels, rng(), 0)
        assert training.network.label.weight.abs().sum(1).nonzero()[:, 0].tolist() == moved
    with pytest.raises(ValueError, match="unet.classes is 3: garments have 10"):
        DDPMTraining(recipe("ddpm", unet=asdict(replace(told, classes=3))), fabric)
    with pytest.raises(ValueError, match="diffusion models learn fashion-mnist, not avatars"):
        DDPMTraining(recipe("ddpm", data={"name": "avatars"}), fabric)


def test_it_learns(recipe: Callable[..., Recipe], fabric: Fabric, thumbnails: tuple[np.ndarray, np.ndarray]) -> None:
    training = DDPMTraining(recipe("ddpm", lr=5e-3), fabric)
    batches = as_batch(thumbnails[0]).split(64)
    losses = []
    for step, batch in enumerate(batches):
        losses.append(training.step(batch, None, rng(step), step)["loss"].item())
    assert np.mean(losses[-10:]) < 0.65 * np.mean(losses[:3])


def test_evaluation_draws_a_grid(
    recipe: Callable[..., Recipe], fabric: Fabric, thumbnails: tuple[np.ndarray, np.ndarray]
) -> None:
    training = DDPMTraining(recipe("ddpm"), fabric)
    figures, pictures = training.evaluate(training.network, torch.from_numpy(thumbnails[0]).permute(0, 3, 1, 2))
    assert figures == {} and pictures.shape == (100, 8, 8, 1) and pictures.dtype == np.uint8
