"""What training of generators that draw in a few steps shares: what they start from, optimisers, and figures."""

from collections.abc import Mapping
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from genfast.metrics.evaluate import evaluate, references
from genfast.types import Pixels
from training.checkpoint import load_average, newest_checkpoint
from training.diffusion import Schedule
from training.nets.unet import UNet
from training.sampling import sample


def load_initial(generator: UNet, run: Path) -> UNet:
    """Load the newest checkpoint of a run, of a generator or of a DDPM, which is told less, into a generator.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        ValueError: its network is of another shape.
    """
    return load_average(newest_checkpoint(run), generator, lacks=lambda name: True)


def optimizers(networks: nn.ModuleDict, rates: Mapping[str, float], warmup: int) -> dict[str, torch.optim.Optimizer]:
    """An optimiser for each network, by name, of these learning rates; the generator waits for `warmup` steps."""
    delays = {"generator": {"delay": warmup}}
    return {
        name: torch.optim.Adam(
            [{"params": networks[name].parameters(), "lr": rate, **delays.get(name, {})}], betas=(0.0, 0.99)
        )
        for name, rate in rates.items()
    }


def fid_by_steps(network: UNet, schedule: Schedule, n: int, fabric: Fabric) -> tuple[dict[str, float], Pixels]:
    """FID of n samples in each number of steps, of a seed that no published figure is of; and those of the default."""
    drawn = {steps: sample(network, schedule, n, fabric, steps=steps, seed=1) for steps in schedule.paths}
    sheet = next(iter(drawn.values()))
    if not fabric.is_global_zero:
        return {}, sheet
    classifier = references("fashion-mnist-test", "fashion", device="cpu", threads=1)
    return {f"fid_{steps}": evaluate([pictures], classifier)[0].fid for steps, pictures in drawn.items()}, sheet
