"""DDPM (section 3.1): regression of x_0 from x_t, for every noise level at once.

Conditioned on log-SNR rather than on a step's number, one network serves every schedule, and starts every DDGAN
generator.
"""

import math
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from genfast.types import Pixels
from training.corruption import hide_labels
from training.data.datasets import check_garments
from training.data.images import Images, signed
from training.diffusion import ScheduleConfig, noised
from training.distributed import descend
from training.nets.layout import channels_last
from training.nets.unet import UNet, UNetConfig
from training.recipe import DataConfig, LoopConfig, config
from training.sampling import sample


@config
class DDPMRecipe:
    name: str
    family: Literal["ddpm"]
    loop: LoopConfig
    unet: UNetConfig
    data: DataConfig = DataConfig()
    schedule: ScheduleConfig = ScheduleConfig(steps=100)  # what sampling uses; training covers every level
    lr: float = 5e-4
    label_dropout: float = 0.1  # share of images whose class is not told, where classes are: for guidance

    def __post_init__(self) -> None:
        if self.unet.latent:
            raise ValueError("a DDPM has no latent: set unet.latent to 0")


class DDPMTraining:
    averaged = "unet"

    def __init__(self, recipe: DDPMRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        check_garments(recipe.data, recipe.unet.classes)
        self.network = channels_last(UNet(recipe.unet), fabric.device)
        self.networks = nn.ModuleDict({"unet": self.network})
        self.schedule = recipe.schedule.build().to(fabric.device)
        group = {"params": self.network.parameters(), "lr": recipe.lr}
        self.optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": torch.optim.Adam([group], betas=(0.9, 0.99))}

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        images = signed(images)
        label = hide_labels(labels, self.config.unet.classes, self.config.label_dropout, rng)
        # The cosine schedule's density of log-SNR (Nichol and Dhariwal 2021), its tails cut at +-9.7.
        u = torch.rand(len(images), generator=rng, device=images.device) * 0.99 + 0.005
        log_snr = -2 * torch.log(torch.tan(0.5 * math.pi * u))
        with self.fabric.autocast():
            error, loss = regression_loss(self.network, images, noised(images, log_snr, rng), log_snr, label=label)
        descend(self.fabric, self.network, loss, self.optimizers["optimizer"])
        return {"loss": loss, "error": error}

    def evaluate(self, network: UNet, images: Images) -> tuple[dict[str, float], Pixels]:
        return {}, sample(network, self.schedule, 100, self.fabric)


def regression_loss(
    network: UNet, x_0: Tensor, x_t: Tensor, log_snr: Tensor, **told: Tensor | None
) -> tuple[Tensor, Tensor]:
    """A denoiser's mean squared error in pictures x_0 (B, C, H, W), and its loss, both scalars.

    It sees x_t, at log-SNRs (B,), and is told the rest. The loss is eq. 6 with the weight SNR + 1, plain squared error
    in v (Salimans and Ho 2022).
    """
    error = (network(x_t, log_snr, **told).float() - x_0).square().mean((1, 2, 3))
    return error.mean(), (error * (1 + log_snr.exp())).mean()
