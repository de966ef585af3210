"""The classifier that scores: it learns, and its augmentation moves and mirrors."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from training.families.classifier import ClassifierTraining
from training.recipe import Recipe


@pytest.fixture
def training(
    recipe: Callable[..., Recipe], fabric: Fabric, garments: tuple[np.ndarray, np.ndarray]
) -> ClassifierTraining:
    return ClassifierTraining(recipe("classifier"), fabric)


@pytest.mark.slow
def test_it_learns(training: ClassifierTraining, garments: tuple[np.ndarray, np.ndarray]) -> None:
    images = torch.from_numpy(garments[0]).permute(0, 3, 1, 2)
    labels = torch.from_numpy(garments[1])
    before = {name: parameter.clone() for name, parameter in training.network.named_parameters()}
    seen = []
    for step, (x, y) in enumerate(zip(images.split(32)[:70], labels.split(32), strict=False)):
        seen.append(training.step(x, y, torch.Generator().manual_seed(step), step))
        if not step:
            after = dict(training.network.named_parameters())
            assert not [name for name in before if torch.equal(before[name], after[name])]
    assert all(value.isfinite() for figures in seen for value in figures.values())
    assert torch.stack([figures["accuracy"] for figures in seen[-15:]]).mean() > 0.6  # each image is new to it


@pytest.mark.slow
def test_evaluation_counts_right_answers(training: ClassifierTraining) -> None:
    training.images, training.labels = training.images[:510], training.labels[:510]
    network = training.network.eval()
    with torch.no_grad():
        right = (network(training.images).argmax(1) == training.labels).float().mean().item()
    figures, pictures = training.evaluate(network, training.images)
    assert figures == {"test_accuracy": pytest.approx(right)} and pictures is None


def test_augmentation_mirrors_some_and_moves_all(training: ClassifierTraining) -> None:
    image = torch.full((1, 1, 28, 28), -1.0)
    image[0, 0, 10, 5] = 1  # away from the middle, so that its place tells what was done
    places = set()
    for seed in range(200):
        moved = training._augment(image.expand(8, -1, -1, -1), torch.Generator().manual_seed(seed))
        assert moved.shape == (8, 1, 28, 28)
        found = [(y - 10, x - (22 if x >= 14 else 5), x >= 14) for _, _, y, x in (moved == 1).nonzero().tolist()]
        assert len(found) == 8 and len({place[:2] for place in found}) == 1  # one shift a batch
        places.update(found)
    assert places == {(dy, dx, mirrored) for dy in range(-2, 3) for dx in range(-2, 3) for mirrored in (True, False)}
