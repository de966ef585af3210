"""VQ-GAN (Esser et al. 2021): tokens that a picture can be drawn from again, at 1/32 of its side."""

from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from training.clusters import start
from training.data import Images, load
from training.loop import average_gradients
from training.losses import LOSSES
from training.nets.perceptual import Perceptual
from training.nets.vqgan import VQGAN, PatchDiscriminator, VQGANConfig
from training.recipe import DataConfig, LoopConfig, config

STARTED_FROM = 400  # images whose patches the linear paths and the codes start from
WATCHED = 40  # held-out images that a figure of the log is taken from
SHOWN = 10  # of these, side by side with their reconstructions
CLIP = 0.2  # norm of the gradient, about four times what is usual
DECAY = 0.995  # of the codes' averages a step
RESTARTS = 8  # dead codes that are moved a step, at most: more would crowd at the same latents
DEAD = 0.001  # tokens a step, on average: a code that gets fewer is given another place
NEW = 0.01  # what a code counts when it gets a place: unused, it is dead after 460 steps


@config
class VQGANRecipe:
    name: str
    family: Literal["vqgan"]
    loop: LoopConfig
    data: DataConfig
    vqgan: VQGANConfig = VQGANConfig()
    lr: float = 5e-4  # of the decoder
    lr_encoder: float = 1.5e-4  # codes must follow what it does: the decoder's rate diverged
    lr_linear: float = 4e-6  # of the linear paths, which start at their optimum
    lr_discriminator: float = 2e-4
    gradients: float = 1.0  # weight of differences between neighbouring pixels, against those of pixels
    commitment: float = 0.1
    perceptual: float = 0.1
    perceptual_from: int = 0  # step
    adversarial: float = 0.3  # size of the adversarial gradient at the pixels, against that of all else
    adversarial_from: int = 0  # step
    head_start: int = 300  # steps before, in which the discriminator alone learns


class Clock(nn.Module):
    """How many steps have been taken: saved with the networks, unlike an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))


class Usage(nn.Module):
    """Moving averages of what each code stands for: tokens a step (V,) and the sums of their latents (V, D)."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(config.codes))
        self.register_buffer("sums", torch.zeros(config.codes, config.latent))


class VQGANTraining:
    name = "vqgan"
    recipe = VQGANRecipe
    averaged = "vqgan"

    def __init__(self, recipe: VQGANRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        self.vqgan, self.clock, self.usage = VQGAN(recipe.vqgan), Clock(), Usage(recipe.vqgan)
        self.discriminator = PatchDiscriminator()
        networks = {"vqgan": self.vqgan, "discriminator": self.discriminator, "usage": self.usage, "clock": self.clock}
        self.networks = nn.ModuleDict(networks).to(fabric.device, memory_format=torch.channels_last)
        self.perceptual = Perceptual().to(fabric.device, memory_format=torch.channels_last)
        linear = [self.vqgan.encoder.linear, self.vqgan.decoder.linear]
        groups = [
            {"params": self.vqgan.decoder.network.parameters(), "lr": recipe.lr},
            {"params": self.vqgan.encoder.network.parameters(), "lr": recipe.lr_encoder},
            {"params": nn.ModuleList(linear).parameters(), "lr": recipe.lr_linear},
        ]
        judge = {
            "params": self.discriminator.parameters(),
            "lr": recipe.lr_discriminator,
            "delay": recipe.adversarial_from - recipe.head_start,
        }
        self.optimizers = {
            "vqgan": torch.optim.Adam(groups, betas=(0.9, 0.99)),
            "discriminator": torch.optim.Adam([judge], betas=(0.0, 0.99)),
        }
        self.held_out, _ = load(recipe.data, "validation", WATCHED)

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        step = int(self.clock.step)
        if step == 0:
            self._start(images.shape[2] * images.shape[3])
        with self.fabric.autocast():
            latents = self.vqgan.encoder(images)
        latents = latents.float()
        tokens = self.vqgan.quantise(latents)
        codes = self.vqgan.embed(tokens)
        with self.fabric.autocast():
            pictures = self.vqgan.decoder(latents + (codes - latents).detach())  # straight through
        commitment = (latents - codes).square().mean()
        figures, gradient = self._judge(pictures.detach().float(), images, step)

        optimizer = self.optimizers["vqgan"]
        optimizer.zero_grad()
        torch.autograd.backward([pictures, self.config.commitment * commitment], [gradient.to(pictures.dtype), None])
        average_gradients(self.fabric, self.vqgan)
        nn.utils.clip_grad_norm_(self.vqgan.parameters(), CLIP)
        optimizer.step()
        self._update_codes(latents.detach(), tokens, rng)
        self.clock.step += 1
        share = self.usage.counts / self.usage.counts.sum()
        return figures | {"commitment": commitment, "perplexity": torch.special.entr(share).sum().exp()}

    def _start(self, pixels: int) -> None:
        """Set the linear paths, the codes and their averages from the training images, alike in every process."""
        images, _ = load(self.config.data, "train", STARTED_FROM)
        shares = start(self.vqgan, images, torch.Generator(self.fabric.device).manual_seed(self.config.loop.seed))
        tokens = self.config.loop.batch * pixels // 32**2
        self.usage.counts.copy_((shares * tokens).clamp(min=NEW))
        self.usage.sums.copy_(self.vqgan.codebook * self.usage.counts[:, None])

    def _judge(self, pictures: Tensor, images: Tensor, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of pictures (B, 3, H, W), and the gradient by them of what is to be minimised."""
        pictures.requires_grad_()
        loss = reconstruction = contrast_error(pictures, images, self.config.gradients)
        figures = {"reconstruction": reconstruction, "psnr": psnr(pictures.detach(), images)}
        if step >= self.config.perceptual_from:
            with self.fabric.autocast():
                figures["perceptual"] = self.perceptual(pictures, images)
            loss = loss + self.config.perceptual * figures["perceptual"]
        (gradient,) = torch.autograd.grad(loss, pictures)
        if step >= self.config.adversarial_from - self.config.head_start:
            figures["loss_d"] = self._update_discriminator(pictures.detach(), images)
        if step >= self.config.adversarial_from:
            figures["loss_g"] = self._relativistic("generator", pictures, images)
            (adversarial,) = torch.autograd.grad(figures["loss_g"], pictures)
            # The adaptive weight of Esser et al. (eq. 7), taken at the pixels rather than at the last layer.
            scale = self.config.adversarial * gradient.norm() / adversarial.norm().clamp(min=1e-12)
            gradient = gradient + scale * adversarial
        return figures, gradient

    def _update_discriminator(self, pictures: Tensor, images: Tensor) -> Tensor:
        optimizer = self.optimizers["discriminator"]
        optimizer.zero_grad()
        loss = self._relativistic("discriminator", pictures, images)
        loss.backward()
        average_gradients(self.fabric, self.discriminator)
        optimizer.step()
        return loss

    def _relativistic(self, whose: Literal["generator", "discriminator"], pictures: Tensor, images: Tensor) -> Tensor:
        """Which of the two is real is asked of each neighbourhood of an image and its reconstruction."""
        with self.fabric.autocast():
            real, fake = self.discriminator(images), self.discriminator(pictures)
        return getattr(LOSSES["relativistic"], whose)(real.float(), fake.float())

    @torch.no_grad()
    def _update_codes(self, latents: Tensor, tokens: Tensor, rng: torch.Generator) -> None:
        """Move each code to the mean of its latents (van den Oord et al. 2017, appendix A), and dead ones elsewhere.

        A dead code moves to a latent of this batch, the likelier the worse that latent's own code suits it.
        """
        usage, codebook = self.usage, self.vqgan.codebook
        points, chosen = latents.permute(0, 2, 3, 1).flatten(0, 2), tokens.flatten()  # (N, D), (N,)
        batch = torch.zeros(len(codebook), 1 + points.shape[1], device=points.device)
        batch.index_add_(0, chosen, torch.cat([torch.ones_like(points[:, :1]), points], dim=1))
        batch = self.fabric.all_reduce(batch, reduce_op="sum")
        usage.counts.lerp_(batch[:, 0], 1 - DECAY)
        usage.sums.lerp_(batch[:, 1:], 1 - DECAY)

        dead = torch.nonzero(usage.counts < DEAD)[:RESTARTS, 0]
        error = (points - codebook[chosen]).square().sum(1)
        places = points[torch.multinomial(error + 1e-9, RESTARTS, generator=rng)[: len(dead)]]
        usage.counts[dead] = NEW
        usage.sums[dead] = NEW * self.fabric.broadcast(places)  # every process has its own latents
        codebook.copy_(usage.sums / usage.counts[:, None])

    @torch.no_grad()
    def watch(self, network: VQGAN, images: Images) -> tuple[dict[str, float], np.ndarray]:
        """Reconstructions of held-out images: PSNR, feature distance, how many codes they use; some are shown."""
        figures: dict[str, list[float]] = {"held_out_psnr": [], "held_out_perceptual": []}
        counts = torch.zeros(len(network.codebook))
        shown = []
        for i in range(len(self.held_out)):
            pixels = torch.from_numpy(self.held_out[i]).to(self.fabric.device)  # (H, W, 3)
            image = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1
            tokens = network.encode(image)
            picture = network.decode(tokens).clamp(-1, 1)
            figures["held_out_psnr"].append(psnr(picture, image).item())
            figures["held_out_perceptual"].append(self.perceptual(picture, image).item())
            counts += torch.bincount(tokens.flatten().cpu(), minlength=len(counts))
            if i < SHOWN:
                drawn = ((picture[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8)
                shown.append(torch.cat([pixels, drawn], dim=1).cpu().numpy())  # [H, 2W, 3]
        usage = {
            "held_out_usage": (counts > 0).float().mean().item(),
            "held_out_perplexity": torch.special.entr(counts / counts.sum()).sum().exp().item(),
        }
        return {name: float(np.mean(values)) for name, values in figures.items()} | usage, np.stack(shown)


def psnr(pictures: Tensor, images: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1], a scalar."""
    return -10 * torch.log10((pictures - images).square().mean() / 4)


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
