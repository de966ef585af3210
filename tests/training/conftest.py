"""Small recipes, real garments, one process."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from genfast.images import io
from training.checkpoint import Checkpoints
from training.data import fashion_mnist
from training.families.ddpm import DDPMTraining
from training.nets.unet import UNet
from training.nets.vqgan import VQGAN
from training.recipe import Recipe
from training.registry import validate

NETWORK = {"widths": [8, 16], "groups": 4, "heads": 2, "embedding": 16}


@pytest.fixture(autouse=True)
def _one_thread_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.threads.cores", lambda: 1)  # tests run beside each other
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
            "dmd": {
                "unet": {**NETWORK, "size": size, "latent": 8},
                "schedule": {"steps": 4},
                "teacher": "runs/tiny",
            },
            "vqgan": {"data": {"name": "avatars"}},
            "dequantiser": {"data": {"name": "avatars"}, "frozen_from": "runs/tiny", "vqgan": {"dequantiser": {}}},
            "sundae": {
                "data": {"name": "fashion-mnist"},
                "hourglass": {
                    **{"tokens": size, "vocabulary": 256, "classes": 10, "widths": [16, 32], "heads": [2, 2]},
                    **{"depths": [1, 1, 1], "head": 16, "features": 16},
                },
            },
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
    pixels, labels = fashion_mnist.load("train")
    return pixels[:4096], labels[:4096]


@pytest.fixture(scope="session")
def thumbnails(garments: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The same at 8x8, each pixel the mean of 3x3: [N, 8, 8, 1] uint8."""
    pixels, labels = garments
    inner = pixels[:, 2:26, 2:26, 0].reshape(-1, 8, 3, 8, 3)
    return inner.mean((2, 4)).astype(np.uint8)[..., None], labels


@pytest.fixture
def save_ddpm(recipe: Callable[..., Recipe], fabric: Fabric, tmp_path: Path) -> Callable[..., UNet]:
    """Makes `tmp_path` the run of a DDPM that has learned nothing, of a small recipe; returns its network."""

    def save(**fields: Any) -> UNet:
        chosen = recipe("ddpm", **fields)
        training = DDPMTraining(chosen, fabric)
        if training.network.label is not None:
            torch.nn.init.normal_(training.network.label.weight)
        Checkpoints(tmp_path, chosen, fabric, training, AveragedModel(training.network)).save(1, 0.0)
        return training.network

    return save


@pytest.fixture(scope="session")
def make_vqgan(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes the run of an untrained VQ-GAN of a seed: 2x2 regions of 32 codes for 40 images of noise, 128x128."""
    folder = tmp_path_factory.mktemp("noise")
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), np.uint8)):
        io.write(folder / f"{i:02d}.png", pixels)
    network = {"codes": 32, "latent": 8, "regions": 2, "encoder": [8, 8, 8], "decoder": [8, 8, 8, 8]}
    data = {"name": "folder", "folder": folder, "size": 128}
    recipe = validate({"name": "noise", "family": "vqgan", "loop": {"steps": 1}, "data": data, "vqgan": network})

    def make(seed: int) -> Path:
        run = tmp_path_factory.mktemp("vqgan")
        checkpoint = run / "checkpoint-00000001"
        checkpoint.mkdir()
        torch.manual_seed(seed)
        vqgan = VQGAN(recipe.vqgan)
        vqgan.codebook *= 0.3  # about as long as latents are
        save_file(vqgan.state_dict(), checkpoint / "model.safetensors")
        about = {"recipe": dataclasses.asdict(recipe), "step": 1, "images": 64, "hours": 0.1}
        (checkpoint / "recipe.json").write_text(json.dumps(about, default=str))
        return run

    return make


@pytest.fixture(scope="session")
def vqgan(make_vqgan: Callable[[int], Path]) -> Path:
    return make_vqgan(0)
