"""Small recipes, real garments, one process."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from training.data import fashion_mnist
from training.recipe import Recipe, validate

NETWORK = {"widths": [8, 16], "groups": 4, "heads": 2, "embedding": 16}


@pytest.fixture(autouse=True)
def _one_thread_one_seed() -> None:
    torch.set_num_threads(1)  # as the command line does
    torch.manual_seed(0)


@pytest.fixture
def fabric() -> Fabric:
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    return fabric


@pytest.fixture(scope="session")
def table() -> Callable[..., dict[str, Any]]:
    """Makes the table of a small recipe; keywords replace whole sections, or keys at the top."""

    def make(family: str, *, size: int = 8, loop: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        networks = {
            "classifier": {},
            "ddpm": {"unet": {**NETWORK, "size": size, "latent": 0}, "schedule": {"steps": 4}},
            "ddgan": {
                "unet": {**NETWORK, "size": size, "latent": 8},
                "schedule": {"steps": 4},
                "discriminator": {"widths": [8, 16], "embedding": 16},
            },
            "vqgan": {"data": {"name": "avatars"}},
        }
        return {"name": "tiny", "family": family, "loop": {"steps": 60, "batch": 16, **(loop or {})}} | (
            networks[family] | fields
        )

    return make


@pytest.fixture(scope="session")
def recipe(table: Callable[..., dict[str, Any]]) -> Callable[..., Recipe]:
    """Makes a small recipe, as `table` does."""
    return lambda family, **fields: validate(table(family, **fields))


@pytest.fixture(scope="session")
def garments() -> tuple[np.ndarray, np.ndarray]:
    """A few thousand training images [N, 28, 28, 1] uint8 and their labels [N]."""
    if not fashion_mnist.DEBIAN.is_dir():
        pytest.skip("needs Fashion-MNIST: install Debian's package dataset-fashion-mnist")
    images, labels = fashion_mnist.load("train")
    return images[:4096], labels[:4096]


@pytest.fixture(scope="session")
def thumbnails(garments: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The same at 8x8, each pixel the mean of 3x3: [N, 8, 8, 1] uint8."""
    images, labels = garments
    inner = images[:, 2:26, 2:26, 0].reshape(-1, 8, 3, 8, 3)
    return inner.mean((2, 4)).astype(np.uint8)[..., None], labels
