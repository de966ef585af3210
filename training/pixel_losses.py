"""What a decoder minimises at the pixels: error, perceptual distance, and a discriminator's opinion."""

from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from training.distributed import descend
from training.losses import LOSSES
from training.nets.layout import channels_last
from training.nets.perceptual import Perceptual
from training.nets.vqgan import PatchDiscriminator
from training.recipe import config


@config
class PixelLossConfig:
    gradients: float = 1.0  # weight of differences between neighbouring pixels, against those of pixels
    perceptual: float = 0.1  # 0: none
    perceptual_from: int = 0  # step
    adversarial: float = 0.3  # size of the adversarial gradient at the pixels, against that of all else; 0: none
    adversarial_from: int = 300  # step
    discriminator_warmup: int = 300  # steps before, in which the discriminator alone learns
    lr_discriminator: float = 2e-4

    def __post_init__(self) -> None:
        if self.adversarial_from < self.discriminator_warmup:
            raise ValueError("adversarial_from must be discriminator_warmup at least: the discriminator learns before")


class PixelLosses:
    """Losses of pictures, and what is to be minimised; the discriminator learns on the way."""

    def __init__(self, config: PixelLossConfig, discriminator: PatchDiscriminator, fabric: Fabric) -> None:
        self.config, self.discriminator, self.fabric = config, discriminator, fabric
        self.perceptual = channels_last(Perceptual(), fabric.device)
        critic = {
            "params": discriminator.parameters(),
            "lr": config.lr_discriminator,
            "delay": config.adversarial_from - config.discriminator_warmup,
        }
        self.optimizer = torch.optim.Adam([critic], betas=(0.0, 0.99))

    def __call__(self, pictures: Tensor, images: Tensor, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of pictures (B, 3, H, W), and a scalar whose gradient by them is that of what is to be minimised."""
        made, pictures = pictures, pictures.detach().float().requires_grad_()
        loss = reconstruction = contrast_error(pictures, images, self.config.gradients)
        figures = {"reconstruction": reconstruction, "psnr": psnr(pictures.detach(), images)}
        if self.config.perceptual and step >= self.config.perceptual_from:
            with self.fabric.autocast():
                figures["perceptual"] = self.perceptual(pictures, images)
            loss = loss + self.config.perceptual * figures["perceptual"]
        (gradient,) = torch.autograd.grad(loss, pictures)
        if self.config.adversarial and step >= self.config.adversarial_from - self.config.discriminator_warmup:
            figures["loss_d"] = self._update_discriminator(pictures.detach(), images)
        if self.config.adversarial and step >= self.config.adversarial_from:
            figures["loss_g"] = self._relativistic("generator", pictures, images)
            (adversarial,) = torch.autograd.grad(figures["loss_g"], pictures)
            # The adaptive weight of Esser et al. (eq. 7), taken at the pixels rather than at the last layer.
            scale = self.config.adversarial * gradient.norm() / adversarial.norm().clamp(min=1e-12)
            gradient = gradient + scale * adversarial
        return figures, (made * gradient.to(made.dtype)).sum()

    def _update_discriminator(self, pictures: Tensor, images: Tensor) -> Tensor:
        loss = self._relativistic("discriminator", pictures, images)
        descend(self.fabric, self.discriminator, loss, self.optimizer)
        return loss

    def _relativistic(self, whose: Literal["generator", "discriminator"], pictures: Tensor, images: Tensor) -> Tensor:
        """Which of the two is real is asked of each neighbourhood of an image and its reconstruction."""
        with self.fabric.autocast():
            real, fake = self.discriminator(images), self.discriminator(pictures)
        loss = LOSSES["relativistic"]
        of = loss.generator if whose == "generator" else loss.discriminator
        return of(real.float(), fake.float())


def psnr(pictures: Tensor, images: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1], a scalar."""
    return decibels((pictures - images).square())


def decibels(error: Tensor) -> Tensor:
    """PSNR in dB of squared errors in a range of 2, a scalar."""
    return -10 * torch.log10(error.mean() / 4)


def contrast_error(pictures: Tensor, images: Tensor, gradients: float) -> Tensor:
    """Absolute error of pixels and of differences between neighbours, where contrast is low weighing more: a scalar.

    A plain error ignores a dark eye on dark skin. Weights fall with the standard deviation of brightness in squares of
    64 pixels, and are 1 on average.
    """
    brightness = images.mean(1, keepdim=True)
    mean, square = (F.avg_pool2d(x, 64, 32, padding=32, count_include_pad=False) for x in (brightness, brightness**2))
    weight = 1 / ((square - mean.square()).clamp(min=0).sqrt() + 0.3)  # (B, 1, H/32 + 1, W/32 + 1)
    weight = F.interpolate(weight / weight.mean(), images.shape[2:], mode="bilinear", align_corners=True)
    error = pictures - images
    loss = (weight * error.abs()).mean()
    for dim in (2, 3):
        n = error.shape[dim] - 1
        loss = loss + gradients * (weight.narrow(dim, 0, n) * error.diff(dim=dim).abs()).mean()
    return loss
