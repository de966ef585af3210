"""What a family of models is to the loop: a recipe, and a class that takes one training step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from genfast.types import Pixels
from training.data.images import Images
from training.recipe import Recipe

N_contra = TypeVar("N_contra", contravariant=True)


class Training(Protocol[N_contra]):
    """A family's networks, one of them of class N, and its training step."""

    networks: nn.ModuleDict
    averaged: str  # the network of class N, whose EMA users get
    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        """Update every network on images (B, C, H, W) uint8, or tokens (B, h, w), for the step after `step` of them.

        Returns scalars to log.
        """

    def evaluate(self, network: N_contra, images: Images) -> tuple[dict[str, float], Pixels | None]:
        """Evaluate the averaged network, given the data set's images.

        Returns figures, those of process 0 being logged, and pictures [N, H, W, C] uint8 for the grid.
        """


@dataclass(frozen=True)
class Family:
    """A recipe's dataclass, and what makes a training of such a recipe."""

    recipe: type[Recipe]
    training: Callable[[Any, Fabric], Training[Any]]
    numbered: bool = False  # whether its labels are the places of images in the data set
