"""Families on an NVIDIA GPU: steps, evaluation, and a run that goes on where it stopped."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file

from training.checkpoint import newest_checkpoint
from training.families import classifier, sundae, vqgan
from training.loop import batch, run
from training.nets.unet import UNet
from training.recipe import Recipe
from training.registry import FAMILIES

pytestmark = [pytest.mark.cuda, pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])]

Data = tuple[np.ndarray, np.ndarray]

N = 120  # images
# The judge of few steps takes garments. A dequantiser needs a VQ-GAN of 32x32 tokens.
SIDE = {"classifier": 28, "ddpm": 8, "ddgan": 28, "dmd": 28, "vqgan": 128, "sundae": 8}
VQGAN = {"codes": 32, "latent": 8, "regions": 2, "encoder": [8, 8, 8], "decoder": [8, 8, 8, 8]}
FIELDS: dict[str, dict[str, Any]] = {
    "ddgan": {"eval_images": 20},
    "dmd": {"eval_images": 20, "critic_warmup": 0},
    "vqgan": {
        "vqgan": VQGAN,
        "window": 64,
        "init_images": N,
        "losses": {"adversarial_from": 0, "discriminator_warmup": 0},
    },
    "sundae": {"sampling": {"sampler": "random-order", "steps": 3}},
}


@pytest.fixture
def gpu(precision: str) -> Fabric:
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch sees no GPU")
    fabric = Fabric(accelerator="cuda", devices=1, precision=precision)
    fabric.launch()
    return fabric


@pytest.fixture(params=SIDE)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def noise(family: str, monkeypatch: pytest.MonkeyPatch) -> Data:
    """Random images [N, S, S, C] uint8 of ten classes, which every data set then is."""
    rng, side = np.random.default_rng(0), SIDE[family]
    pixels = rng.integers(0, 256, (N, side, side, 3 if family == "vqgan" else 1), np.uint8)
    labels = np.arange(N) % 10

    def load(data: object, split: str, count: int | None = None) -> Data:
        return pixels[:count], labels[:count]

    for module in classifier, sundae, vqgan:
        monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(vqgan, "EVAL_IMAGES", 3)
    monkeypatch.setattr(vqgan, "SHOWN", 2)
    return pixels, labels


@pytest.fixture
def small(family: str, recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Recipe]:
    """Makes a recipe of the family, for so many steps."""
    fields = FIELDS.get(family, {})
    if family == "dmd":
        teacher = tmp_path / "teacher" / "checkpoint-00000001"
        teacher.mkdir(parents=True)
        save_file(UNet(recipe("ddpm", size=SIDE[family]).unet).state_dict(), teacher / "model.safetensors")
        fields = fields | {"teacher": teacher.parent}

    def make(steps: int) -> Recipe:
        loop = {"steps": steps, "batch": 12, "warmup": 0, "log_every": 1, "evaluate_every": 100}
        return recipe(family, size=SIDE[family], loop=loop, **fields)

    return make


def test_steps_move_every_network_on_the_gpu(
    family: str, gpu: Fabric, noise: Data, small: Callable[..., Recipe]
) -> None:
    training = FAMILIES[family].training(small(2), gpu)
    tensors = training.networks.state_dict()
    assert {value.device.type for value in tensors.values()} == {"cuda"}
    before = {name: value.clone() for name, value in tensors.items()}
    labels = torch.from_numpy(noise[1]).to(gpu.device)
    for step in range(2):  # where an output starts at zero, what is before it moves a step later
        rows = torch.arange(12 * step, 12 * step + 12)
        rng = torch.Generator(gpu.device).manual_seed(step)
        figures = training.step(batch(noise[0], rows).to(gpu.device), labels[rows], rng, step)
        assert figures and all(value.isfinite() and value.shape == () for value in figures.values())
    after = training.networks.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    for name, network in training.networks.items():
        own = [f"{name}.{parameter}" for parameter, _ in network.named_parameters()]
        moved = [key for key in own if not torch.equal(after[key], before[key])]
        assert len(moved) > 0.8 * len(own), set(own) - set(moved)


def test_a_run_is_evaluated_and_goes_on_where_it_stopped(
    family: str, gpu: Fabric, noise: Data, small: Callable[..., Recipe], tmp_path: Path
) -> None:
    for steps in 2, 3:
        run(FAMILIES[family].training, small(steps), *noise, tmp_path / "run", gpu)
        assert newest_checkpoint(tmp_path / "run").name == f"checkpoint-{steps:08}"
    with (tmp_path / "run" / "figures.csv").open() as file:
        figures = list(csv.DictReader(file))
    assert {int(row["step"]) for row in figures} == {1, 2, 3}
    assert all(np.isfinite(float(row["value"])) for row in figures)
    if family != "classifier":  # whose evaluation shows no pictures
        assert {path.name for path in (tmp_path / "run").glob("grid-*.png")} == {
            "grid-00000002.png",
            "grid-00000003.png",
        }
