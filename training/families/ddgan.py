"""Denoising diffusion GAN (section 2.3): a generator G(x_t, z, t) -> x_0 against a discriminator D(x_{t-1}, x_t, t)."""

from functools import partial
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor, nn

from genfast.metrics.evaluate import evaluate, references
from genfast.types import Pixels
from training.checkpoint import newest_checkpoint
from training.corruption import hide_labels
from training.data.datasets import check_classes
from training.data.images import Images, signed
from training.diffusion import ReverseStep, ScheduleConfig, at
from training.distributed import average_gradients
from training.losses import LOSSES, Loss, gradient_penalty
from training.nets.discriminator import Discriminator, DiscriminatorConfig
from training.nets.layout import channels_last
from training.nets.unet import UNet, UNetConfig
from training.recipe import DataConfig, LoopConfig, config
from training.sampling import sample

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
    discriminator_warmup: int = 0  # steps in which the discriminator alone learns
    lr_generator: float = 3e-4
    lr_discriminator: float = 5e-4
    regression: float = 0.0  # weight of the generator's mean squared error in the noise, beside the adversarial loss
    gamma: float = 1.0  # weight of the gradient penalties R1 and R2
    penalised: int = 8  # the penalties are taken on one in so many images
    eval_images: int = 2000  # images that the FID in the log is taken from

    def __post_init__(self) -> None:
        if not self.unet.latent:
            raise ValueError("a DDGAN's generator needs a latent: set unet.latent")


class DDGANTraining:
    averaged = "generator"

    def __init__(self, recipe: DDGANRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        self.loss = LOSSES[recipe.loss]
        self.schedule = recipe.schedule.build().to(fabric.device)
        unet = recipe.unet
        check_classes(recipe.data, unet.classes)
        generator, discriminator = UNet(unet), Discriminator(recipe.discriminator, unet.channels, unet.classes)
        if recipe.init_from is not None:
            weights = load_file(newest_checkpoint(recipe.init_from) / "model.safetensors")
            generator.load_state_dict({**generator.state_dict(), **weights}, strict=True)  # all but z and labels
        networks = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        self.networks = channels_last(networks, fabric.device)
        self.reverse = ReverseStep(generator, self.schedule)
        groups = {
            "generator": {"lr": recipe.lr_generator, "delay": recipe.discriminator_warmup},
            "discriminator": {"lr": recipe.lr_discriminator},
        }
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam([{"params": self.networks[name].parameters(), **group}], betas=(0.0, 0.99))
            for name, group in groups.items()
        }

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        """Update the discriminator, then the generator, on the same pairs (x_{t-1}, x_t) and the same fakes."""
        images, schedule = signed(images), self.schedule
        randn = partial(torch.randn, generator=rng, device=images.device)
        t = torch.randint(1, schedule.steps + 1, (len(images),), generator=rng, device=images.device)
        label = hide_labels(labels, self.config.unet.classes, UNTOLD, rng)
        real = schedule.q_sample(images, t - 1, randn(images.shape))
        x_t = schedule.q_step(real, t, randn(images.shape))
        learning = step >= self.config.discriminator_warmup
        with self.fabric.autocast(), torch.set_grad_enabled(learning):
            z = randn((len(images), self.config.unet.latent))
            fake, x_0 = self.reverse(x_t, t, z, randn(images.shape), label)
        real, fake = self._candidate(real, x_t, t), self._candidate(fake, x_t, t)
        # Eq. 6 without its weights: the error in the noise. It ties the generator down where x_t leaves little open,
        # and leaves it to the discriminator where a mean would be a blur.
        noise_error = (schedule.log_snr[t].exp() * (x_0 - images).square().mean((1, 2, 3))).mean()
        given = x_t, t, label
        figures = self._update_discriminator(real, fake.detach(), *given)
        return figures | (self._update_generator(real, fake, *given, noise_error) if learning else {})

    def _candidate(self, x_previous: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """What x_{t-1} adds to x_t: the x_0 behind it plus posterior noise, scaled to about unit variance."""
        c_0, c_t, sigma = (at(table, t) for table in (self.schedule.c_0, self.schedule.c_t, self.schedule.sigma))
        return (x_previous - c_t * x_t) / torch.sqrt(c_0.square() + sigma.square())

    def _score(self, candidate: Tensor, x_t: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        score: Tensor = self.networks["discriminator"](candidate, x_t, self.schedule.log_snr[t], label)
        return score.float()

    def _update_discriminator(
        self, real: Tensor, fake: Tensor, x_t: Tensor, t: Tensor, label: Tensor | None = None
    ) -> dict[str, Tensor]:
        with self.fabric.autocast():
            v_real, v_fake = (self._score(candidate, x_t, t, label) for candidate in (real, fake))
        loss = self.loss.discriminator(v_real, v_fake)
        few = slice(max(1, len(t) // self.config.penalised))
        score = partial(self._score, x_t=x_t[few], t=t[few], label=label if label is None else label[few])
        r1, r2 = gradient_penalty(score, real[few]), gradient_penalty(score, fake[few])
        self._descend("discriminator", loss + 0.5 * self.config.gamma * (r1 + r2))
        gap = v_real - v_fake
        gaps = {f"gap_{k}": gap[t == k].sum() / (t == k).sum().clamp(min=1) for k in range(1, self.schedule.steps + 1)}
        return {"loss_d": loss, "r1": r1, "r2": r2, "v_std": v_real.std(), **gaps}

    def _update_generator(
        self, real: Tensor, fake: Tensor, x_t: Tensor, t: Tensor, label: Tensor | None, noise_error: Tensor
    ) -> dict[str, Tensor]:
        discriminator = self.networks["discriminator"].requires_grad_(False)
        with self.fabric.autocast():
            loss = self.loss.generator(*(self._score(candidate, x_t, t, label) for candidate in (real, fake)))
        self._descend("generator", loss + self.config.regression * noise_error)
        discriminator.requires_grad_(True)
        return {"loss_g": loss, "noise_error": noise_error}

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()
        average_gradients(self.fabric, self.networks[name])
        optimizer.step()

    def evaluate(self, network: UNet, images: Images) -> tuple[dict[str, float], Pixels]:
        """FID of samples, and of what comes of real x_k for each k: where it rises is the step that errs."""
        drawn = sample(network, self.schedule, self.config.eval_images, self.fabric)
        sets = {"fid": drawn}
        for k in range(1, self.schedule.steps + 1):
            begin = images, k
            sets[f"fid_from_{k}"] = sample(network, self.schedule, self.config.eval_images, self.fabric, begin)
        if not self.fabric.is_global_zero:
            return {}, drawn
        judge = references("fashion-mnist-test", "fashion", device="cpu", threads=1)
        return {name: evaluate([pictures], judge)[0].fid for name, pictures in sets.items()}, drawn
