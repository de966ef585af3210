"""Data order, learning rates, averages, logs, and runs that go on where they stopped."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from genfast.images import io
from training.checkpoint import newest_checkpoint
from training.data import fashion_mnist
from training.loop import batch_indices, ema, learning_rate_factor, run
from training.recipe import LoopConfig, Recipe
from training.registry import FAMILIES

MakeRecipe = Callable[..., Recipe]


class Probe:
    """A family of one weight, which falls by its learning rate each step, and keeps what it is given."""

    averaged = "line"
    rate = 0.5
    made: "Probe"

    def __init__(self, recipe: Recipe, fabric: Fabric) -> None:
        self.networks = nn.ModuleDict({"line": nn.Linear(1, 1, bias=False)})
        nn.init.zeros_(self.networks["line"].weight)
        self.optimizers = {
            "sgd": torch.optim.SGD([{"params": self.networks.parameters(), "lr": self.rate, "delay": 2}])
        }
        self.labels: list[Tensor] = []
        self.images: list[Tensor] = []
        self.evaluated: list[float] = []
        Probe.made = self

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        self.images.append(images)
        self.labels.append(labels)
        self.networks["line"].weight.grad = torch.ones(1, 1)
        self.optimizers["sgd"].step()
        return {"loss": labels.float().sum(), "random": torch.rand((), generator=rng)}

    def evaluate(self, network: nn.Module, images: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
        assert not network.training
        self.evaluated.append(network.weight.item())
        return {"figure": 1.5}, images


@pytest.fixture
def probe(recipe: MakeRecipe, fabric: Fabric, tmp_path: Path) -> Callable[..., Probe]:
    """Runs the probe on 10 images, whose labels are 0..9, in tmp_path."""
    chosen = recipe("ddpm")

    def train(**loop: Any) -> Probe:
        config = LoopConfig(**{"steps": 6, "batch": 4, "warmup": 0, "log_every": 1, **loop})
        images = np.full((10, 4, 4, 1), 255, np.uint8) * (np.arange(10) % 2 == 0)[:, None, None, None]
        run(Probe, replace(chosen, loop=config), images.astype(np.uint8), np.arange(10), tmp_path, fabric)
        return Probe.made

    return train


def figures(folder: Path, name: str) -> dict[int, float]:
    with (folder / "figures.csv").open() as file:
        return {int(row["step"]): float(row["value"]) for row in csv.DictReader(file) if row["name"] == name}


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """Every tensor that resuming needs, by a name."""

    def flatten(value: Any, name: str) -> dict[str, Tensor]:
        if isinstance(value, Tensor):
            return {name: value}
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {k: v for key, child in children for k, v in flatten(child, f"{name}.{key}").items()}

    return flatten(torch.load(checkpoint / "state.ckpt", weights_only=True), "")


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys() and len(a) > 1
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


def test_each_epoch_takes_each_image_once() -> None:
    taken = torch.cat([batch_indices(10, 4, seed=0, step=step) for step in range(15)])  # six epochs
    epochs = taken.view(6, 10)
    assert (epochs.sort(dim=1).values == torch.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 6


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert (batch_indices(3, 7, seed=0, step=0).bincount() >= 2).all()


def test_the_order_is_a_function_of_seed_and_step() -> None:
    late = batch_indices(1000, 8, seed=1, step=700)
    for step in range(3):
        batch_indices(1000, 8, seed=2, step=step)
    assert torch.equal(batch_indices(1000, 8, seed=1, step=700), late)
    assert not torch.equal(batch_indices(1000, 8, seed=2, step=700), late)


def test_learning_rates_rise_stay_and_fall() -> None:
    loop = LoopConfig(steps=100, warmup=10, decay=20)
    factors = [learning_rate_factor(loop, step) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10:81] == [1] * 71
    assert factors[80:] == pytest.approx([(1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)])
    assert 0 < factors[99] < 0.01


def test_a_delayed_learning_rate_rises_later() -> None:
    loop = LoopConfig(steps=100, warmup=4)
    factors = [learning_rate_factor(loop, step, delay=50) for step in range(56)]
    assert factors == [0] * 50 + [0.25, 0.5, 0.75, 1, 1, 1]


def test_learning_rates_need_neither_warm_up_nor_decay() -> None:
    loop = LoopConfig(steps=5, warmup=0)
    assert [learning_rate_factor(loop, step) for step in range(5)] == [1] * 5


def test_a_step_gets_its_images_and_learning_rates(probe: Callable[..., Probe]) -> None:
    made = probe()
    labels = torch.stack(made.labels)
    assert torch.equal(labels, torch.stack([batch_indices(10, 4, seed=0, step=step) for step in range(6)]))
    for images, label in zip(torch.stack(made.images).flatten(0, 1), labels.flatten(), strict=True):
        assert (images == (255 if label % 2 == 0 else 0)).all() and images.shape == (1, 4, 4)
    assert made.networks["line"].weight.item() == -0.5 * 4  # the first two of six steps are a delay


def test_the_average_is_exponential_with_a_memory_that_grows(probe: Callable[..., Probe]) -> None:
    made = probe(ema=0.3, steps=8)
    decays = [0, 2 / 11, 3 / 12, 0.3, 0.3, 0.3, 0.3, 0.3]  # (1 + n) / (10 + n) after n updates, at most 0.3
    average = 0.0
    for decay, weight in zip(decays, [0, 0, -0.5, -1, -1.5, -2, -2.5, -3], strict=True):
        average = decay * average + (1 - decay) * weight
    assert made.evaluated == pytest.approx([average])


def test_the_average_forgets_the_start() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = AveragedModel(network, multi_avg_fn=ema(0.999))
    for step in range(200):
        nn.init.constant_(network.weight, 0.0 if step < 20 else 1.0)
        average.update_parameters(network)
    assert average.module.weight.item() > 0.99  # at 0.999 from the start it were 0.16


def test_logs_are_means_and_grids_are_pictures(probe: Callable[..., Probe], tmp_path: Path) -> None:
    made = probe(log_every=3, evaluate_every=4)
    sums = [labels.sum().item() for labels in made.labels]
    assert figures(tmp_path, "loss") == pytest.approx({3: sum(sums[:3]) / 3, 6: sum(sums[3:]) / 3}, rel=1e-5)
    assert figures(tmp_path, "figure") == {4: 1.5, 6: 1.5} and figures(tmp_path, "images_per_second")[3] > 0
    assert io.read(tmp_path / "grid-00000004.png").shape[2] == 1
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_the_newest_two_checkpoints_stay(probe: Callable[..., Probe], tmp_path: Path) -> None:
    probe(checkpoint_every=2)
    assert [path.name for path in sorted(tmp_path.glob("checkpoint*"))] == [
        "checkpoint-00000004",
        "checkpoint-00000006",
    ]
    newest = newest_checkpoint(tmp_path)
    assert sorted(path.name for path in newest.iterdir()) == ["model.safetensors", "recipe.json", "state.ckpt"]
    about = json.loads((newest / "recipe.json").read_text())
    assert (about["step"], about["images"], about["recipe"]["loop"]["steps"]) == (6, 24, 6)
    assert 0 < about["hours"] < 1


def test_a_finished_run_stays_as_it_is(probe: Callable[..., Probe], tmp_path: Path) -> None:
    probe()
    before = weights(newest_checkpoint(tmp_path))
    assert probe().labels == []
    assert_equal(weights(newest_checkpoint(tmp_path)), before)


def test_a_run_goes_on_with_the_same_data_noise_and_logs(probe: Callable[..., Probe], tmp_path: Path) -> None:
    whole = probe(checkpoint_every=4)
    losses, noises = figures(tmp_path, "loss"), figures(tmp_path, "random")
    assert len(set(noises.values())) == 6
    shutil.rmtree(tmp_path / "checkpoint-00000006")
    rest = probe(checkpoint_every=4)
    assert torch.equal(torch.stack(rest.labels), torch.stack(whole.labels[4:]))
    assert figures(tmp_path, "loss") == losses and figures(tmp_path, "random") == noises
    assert rest.evaluated == whole.evaluated


def test_a_run_goes_on_at_the_learning_rate_that_its_recipe_now_has(
    probe: Callable[..., Probe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe(checkpoint_every=4)
    shutil.rmtree(tmp_path / "checkpoint-00000006")
    monkeypatch.setattr(Probe, "rate", 0.25)
    assert probe().networks["line"].weight.item() == -0.5 * 2 - 0.25 * 2


def test_logs_stay_means_when_checkpoints_and_logs_alternate(probe: Callable[..., Probe], tmp_path: Path) -> None:
    probe(checkpoint_every=4, log_every=3)
    shutil.rmtree(tmp_path / "checkpoint-00000006")
    rest = probe(checkpoint_every=4, log_every=3)
    assert figures(tmp_path, "loss")[6] == pytest.approx(torch.stack(rest.labels).sum().item() / 2, rel=1e-5)


def test_a_run_killed_in_its_last_evaluation_evaluates_again(
    probe: Callable[..., Probe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Probe, "evaluate", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        probe()
    assert probe().evaluated and figures(tmp_path, "figure") == {6: 1.5}


@pytest.mark.parametrize("family", ["classifier", "ddpm"])
def test_interrupted_and_whole_runs_end_with_equal_weights(
    family: str,
    recipe: MakeRecipe,
    fabric: Fabric,
    garments: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without decay a run of 3 steps is the beginning of one of 6. For ddgan, killed: tests/training/test_main.py."""
    images, labels = (array[:100] for array in garments)
    monkeypatch.setattr(fashion_mnist, "load", lambda split, folder: (images, labels))  # 10,000 test images take long
    for folder, lengths in {"whole": [6], "interrupted": [3, 6]}.items():
        for steps in lengths:
            chosen = recipe(family, size=28, loop={"steps": steps, "batch": 4, "warmup": 0, "ema": 0.5})
            run(FAMILIES[family].training, chosen, images, labels, tmp_path / folder, fabric)
    whole, interrupted = (newest_checkpoint(tmp_path / folder) for folder in ("whole", "interrupted"))
    assert_equal(weights(interrupted), weights(whole))


def test_processes_that_see_other_checkpoints_do_not_go_on(
    probe: Callable[..., Probe], fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe(steps=2)
    monkeypatch.setattr(fabric, "broadcast", lambda newest: None)  # as of a first process that finds none
    with pytest.raises(ValueError, match="is not the same on all machines"):
        probe()


def test_an_evaluation_takes_none_of_the_time_of_steps(
    probe: Callable[..., Probe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("training.loop.time.perf_counter", lambda: clock[0])

    def passing(method: str, seconds: float) -> Callable[..., Any]:
        plain = getattr(Probe, method)

        def slow(*arguments: Any) -> Any:
            clock[0] += seconds
            return plain(*arguments)

        return slow

    monkeypatch.setattr(Probe, "step", passing("step", 1.0))
    monkeypatch.setattr(Probe, "evaluate", passing("evaluate", 100.0))
    probe(steps=6, log_every=4, evaluate_every=3)
    probe(steps=8, log_every=4, evaluate_every=3)
    assert figures(tmp_path, "images_per_second") == {4: 4.0, 8: 4.0}
