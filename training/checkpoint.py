"""Checkpoints of a run: folders checkpoint-STEP, which appear whole.

recipe.json          the recipe, and how far it is
model.safetensors    the averaged network
state.ckpt           what resuming needs
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from training.family import Training
from training.recipe import Recipe

N = TypeVar("N", bound=nn.Module)


class Checkpoints:
    """Writes a run's checkpoints, and goes on from the newest."""

    def __init__(
        self, folder: Path, recipe: Recipe, fabric: Fabric, training: Training[Any], average: AveragedModel
    ) -> None:
        self.folder, self.recipe, self.fabric, self.average = folder, recipe, fabric, average
        self.state = {"networks": training.networks, "average": average, **training.optimizers}

    def save(self, step: int, hours: float) -> None:
        """Write a checkpoint under a temporary name, rename it, and drop all but the newest two."""
        partial = self.folder / "checkpoint.partial"
        if self.fabric.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.fabric.barrier()
        self.fabric.save(partial / "state.ckpt", {**self.state, "step": step, "hours": hours})
        if self.fabric.is_global_zero:
            weights = {name: value.contiguous() for name, value in self.average.module.state_dict().items()}
            save_file(weights, partial / "model.safetensors")
            summary = {"step": step, "images": step * self.recipe.loop.batch, "hours": hours}
            about = {"recipe": dataclasses.asdict(self.recipe), **summary}
            (partial / "recipe.json").write_text(json.dumps(about, indent=2, default=str))  # paths are no JSON
            partial.replace(self.folder / f"checkpoint-{step:08d}")
            for old in sorted(self.folder.glob("checkpoint-*"))[:-2]:
                shutil.rmtree(old)
        self.fabric.barrier()

    def restore(self) -> tuple[int, float]:
        """Load the newest checkpoint if there is one; return its step and the hours spent so far.

        Raises:
            ValueError: this process finds another than the first.
        """
        found = sorted(self.folder.glob("checkpoint-*"))
        newest = found[-1].name if found else None
        if self.fabric.broadcast(newest) != newest:
            raise ValueError(f"{self.folder} is not the same on all machines: share it, or copy it to each")
        if not found:
            return 0, 0.0
        rest = self.fabric.load(found[-1] / "state.ckpt", self.state)
        return rest["step"], rest["hours"]


def newest_checkpoint(run: Path) -> Path:
    """The last whole checkpoint of a run's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(run.glob("checkpoint-*"))
    if not found:
        raise FileNotFoundError(f"{run} has no checkpoint; train it first")
    return found[-1]


def saved(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself: its recipe, as a table, step, images and hours."""
    about: dict[str, Any] = json.loads((checkpoint / "recipe.json").read_text())
    return about


def load_average(checkpoint: Path, network: N, lacks: Callable[[str], bool] = lambda name: False) -> N:
    """Load a checkpoint's averaged weights into a network, which keeps its own of those names that it may lack.

    Raises ValueError where it is of another shape.
    """
    kept = {name: tensor for name, tensor in network.state_dict().items() if lacks(name)}
    try:
        network.load_state_dict({**kept, **load_file(checkpoint / "model.safetensors")}, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} holds a network of another shape") from error
    return network
