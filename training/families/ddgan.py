"""Denoising diffusion GAN (section 2.3): a generator G(x_t, z, t, s) -> x_0, a discriminator D(x_s, x_t, t, s)."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from genfast.types import Pixels
from training.corruption import hide_labels
from training.data.datasets import check_garments
from training.data.images import Images, signed
from training.diffusion import ReverseStep, ScheduleConfig
from training.distributed import descend
from training.few_steps import fid_by_steps, load_initial, optimizers
from training.losses import LOSSES, Loss, gradient_penalty
from training.nets.discriminator import Discriminator, DiscriminatorConfig
from training.nets.layout import channels_last
from training.nets.unet import UNet, UNetConfig
from training.recipe import DataConfig, LoopConfig, config

UNTOLD = 0.1  # share of images whose class is not told, where classes are


@config
class DDGANRecipe:
    name: str
    family: Literal["ddgan"]
    loop: LoopConfig
    unet: UNetConfig
    schedule: ScheduleConfig
    data: DataConfig = DataConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    loss: Loss = "relativistic"
    init_from: Path | None = None  # run of a DDPM of the same U-Net, whose regression the generator starts from
    shares: dict[PositiveInt, PositiveFloat] = field(default_factory=dict)
    # how often a number of steps is trained for, against 1 of the others
    discriminator_warmup: int = 0  # steps in which the discriminator alone learns
    lr_generator: float = 3e-4
    lr_discriminator: float = 5e-4
    regression: float = 0.0  # weight of the generator's mean squared error in the noise, beside the adversarial loss
    gamma: float = 1.0  # weight of the gradient penalties R1 and R2
    penalty_every: int = 8  # images: the gradient penalties are taken on one in so many
    eval_images: int = 2000  # images that the FID in the log is taken from

    def __post_init__(self) -> None:
        if not self.unet.latent:
            raise ValueError("a DDGAN's generator needs a latent: set unet.latent")


@dataclass(frozen=True)
class Given:
    """What both networks are told of B steps: x_t, and the levels and labels (B,)."""

    x_t: Tensor
    t: Tensor
    s: Tensor
    label: Tensor | None

    def first(self, n: int) -> "Given":
        return Given(self.x_t[:n], self.t[:n], self.s[:n], None if self.label is None else self.label[:n])


class DDGANTraining:
    averaged = "generator"

    def __init__(self, recipe: DDGANRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        self.loss = LOSSES[recipe.loss]
        self.schedule = recipe.schedule.build().to(fabric.device)
        unet = recipe.unet
        check_garments(recipe.data, unet.classes)
        generator = UNet(unet) if recipe.init_from is None else load_initial(UNet(unet), recipe.init_from)
        self.discriminator = Discriminator(recipe.discriminator, unet.channels, unet.classes)
        networks = nn.ModuleDict({"generator": generator, "discriminator": self.discriminator})
        self.networks = channels_last(networks, fabric.device)
        self.reverse = ReverseStep(generator, self.schedule)
        # Every step of every number of steps: (steps, share), (P,) each, and the levels s and t, (P, 2).
        rows = [(steps, t, path) for steps, path in self.schedule.paths.items() for t in range(1, steps + 1)]
        shares = [recipe.shares.get(steps, 1.0) / steps for steps, _, _ in rows]
        self.steps, self.shares = (
            torch.tensor(values, device=fabric.device) for values in ([steps for steps, _, _ in rows], shares)
        )
        self.levels = torch.tensor([path[t - 1 : t + 1] for _, t, path in rows], device=fabric.device)
        rates = {"generator": recipe.lr_generator, "discriminator": recipe.lr_discriminator}
        self.optimizers = optimizers(self.networks, rates, recipe.discriminator_warmup)

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        """Update the discriminator, then the generator, on the same pairs (x_s, x_t) and the same fakes."""
        images, schedule = signed(images), self.schedule
        randn = partial(torch.randn, generator=rng, device=images.device)
        which = torch.multinomial(self.shares, len(images), replacement=True, generator=rng)
        s, t = self.levels[which].unbind(1)
        label = hide_labels(labels, self.config.unet.classes, UNTOLD, rng)
        real = schedule.q_sample(images, s, randn(images.shape))
        given = Given(schedule.q_step(real, t, s, randn(images.shape)), t, s, label)
        learning = step >= self.config.discriminator_warmup
        with self.fabric.autocast(), torch.set_grad_enabled(learning):
            z = randn((len(images), self.config.unet.latent))
            fake, x_0 = self.reverse(given.x_t, t, s, randn(images.shape), z, label)
        true, made = (self._candidate(x, given) for x in (real, fake))
        # Eq. 6 without its weights: the error in the noise. It ties the generator down where x_t leaves little open,
        # and leaves it to the discriminator where a mean would be a blur.
        noise_error = (schedule.log_snr[t].exp() * (x_0 - images).square().mean((1, 2, 3))).mean()
        figures = self._update_discriminator(true, made.detach(), given, which)
        return figures | (self._update_generator(true, made, given, noise_error) if learning else {})

    def _candidate(self, x_s: Tensor, given: Given) -> Tensor:
        """What x_s adds to x_t: the x_0 behind it plus posterior noise, scaled to about unit variance."""
        c_0, c_t, sigma = self.schedule.posterior(given.t, given.s)
        return (x_s - c_t * given.x_t) / torch.sqrt(c_0.square() + sigma.square())

    def _score(self, candidate: Tensor, given: Given) -> Tensor:
        levels = self.schedule.log_snr[given.t], self.schedule.log_snr[given.s]
        score: Tensor = self.networks["discriminator"](candidate, given.x_t, *levels, given.label)
        return score

    def _update_discriminator(self, real: Tensor, fake: Tensor, given: Given, which: Tensor) -> dict[str, Tensor]:
        with self.fabric.autocast():
            v_real, v_fake = (self._score(candidate, given) for candidate in (real, fake))
        loss = self.loss.discriminator(v_real, v_fake)
        r1, r2 = (self._penalty(candidate, given) for candidate in (real, fake))
        whole = loss + 0.5 * self.config.gamma * (r1 + r2)
        descend(self.fabric, self.discriminator, whole, self.optimizers["discriminator"])
        gap, steps = v_real - v_fake, self.steps[which]
        gaps = {f"gap_{k}": gap[steps == k].sum() / (steps == k).sum().clamp(min=1) for k in self.schedule.paths}
        return {"loss_d": loss, "r1": r1, "r2": r2, "v_std": v_real.std(), **gaps}

    def _penalty(self, candidate: Tensor, given: Given) -> Tensor:
        n = max(1, len(given.t) // self.config.penalty_every)
        return gradient_penalty(lambda x: self._score(x, given.first(n)), candidate[:n])

    def _update_generator(self, real: Tensor, fake: Tensor, given: Given, noise_error: Tensor) -> dict[str, Tensor]:
        self.discriminator.requires_grad_(False)
        with self.fabric.autocast():
            loss = self.loss.generator(*(self._score(candidate, given) for candidate in (real, fake)))
        whole = loss + self.config.regression * noise_error
        descend(self.fabric, self.networks["generator"], whole, self.optimizers["generator"])
        self.discriminator.requires_grad_(True)
        return {"loss_g": loss, "noise_error": noise_error}

    def evaluate(self, network: UNet, images: Images) -> tuple[dict[str, float], Pixels]:
        return fid_by_steps(network, self.schedule, self.config.eval_images, self.fabric)
