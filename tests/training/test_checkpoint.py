"""Checkpoints: what they hold, and that they appear whole."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.checkpoint import Checkpoints, load_average, newest_checkpoint, saved
from training.families.ddpm import DDPMTraining
from training.nets.unet import UNet
from training.recipe import Recipe


def test_checkpoints_hold_the_average_and_ignore_what_is_partial(
    recipe: Callable[..., Recipe], fabric: Fabric, tmp_path: Path
) -> None:
    chosen = recipe("ddpm")
    training = DDPMTraining(chosen, fabric)
    average = AveragedModel(training.network, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    nn.init.normal_(average.module.stem.weight)
    checkpoints = Checkpoints(tmp_path, chosen, fabric, training, average)
    assert checkpoints.restore() == (0, 0.0)

    (tmp_path / "checkpoint.partial").mkdir()
    (tmp_path / "checkpoint.partial" / "leftover").write_text("half of a state")
    assert checkpoints.restore() == (0, 0.0)
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        newest_checkpoint(tmp_path)

    checkpoints.save(5, 0.25)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000005"]
    newest = newest_checkpoint(tmp_path)
    assert not (newest / "leftover").exists()
    weights, averages = load_file(newest / "model.safetensors"), average.module.state_dict()
    assert weights.keys() == averages.keys() and all(torch.equal(weights[name], averages[name]) for name in weights)
    assert (saved(newest)["step"], saved(newest)["images"], saved(newest)["recipe"]["name"]) == (5, 80, "tiny")
    loaded = load_average(newest, UNet(chosen.unet))
    assert torch.equal(loaded.stem.weight, average.module.stem.weight)

    for network in (training.network, average.module):
        nn.init.zeros_(network.stem.weight)
    assert checkpoints.restore() == (5, 0.25)
    assert torch.equal(average.module.stem.weight, loaded.stem.weight)
    assert training.network.stem.weight.abs().sum() > 0
