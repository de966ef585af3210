"""VQ-GAN (Esser et al. 2021): tokens that a picture can be drawn from again, at 1/32 of its side."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from genfast.samplers.ddgan import to_pixels
from genfast.types import Pixels
from training.checkpoint import load_average, newest_checkpoint
from training.data.datasets import load
from training.data.images import Images, signed
from training.distributed import average_gradients, gather_rows
from training.init.pca_kmeans import init_vqgan
from training.losses import LOSSES
from training.nets.layout import channels_last
from training.nets.perceptual import Perceptual
from training.nets.vqgan import FACTOR, VQGAN, PatchDiscriminator, VQGANConfig, region_map
from training.recipe import DataConfig, LoopConfig, config

EVAL_IMAGES = 40  # held-out images that a figure of the log is taken from
SHOWN = 10  # of these, side by side with their reconstructions
CLIP = 0.2  # norm of the gradient, about four times what is usual
DECAY = 0.9997  # of the codes' counts a step: most codes stand for few patches, and are seldom met
RESTARTS = 8  # dead codes that are moved a step, at most: more would crowd at the same latents
DEAD = 0.1  # tokens: a code whose count falls below is given another place
NEW = 1.0  # what a code counts at least when it gets a place: unused, it is dead after 7,700 steps


@config
class VQGANRecipe:
    name: str
    family: Literal["vqgan"]
    loop: LoopConfig
    data: DataConfig
    vqgan: VQGANConfig = VQGANConfig()
    frozen_from: Path | None = None  # run whose encoder and codes are kept: its decoder alone learns on
    window: int = 0  # side in pixels of the random windows of images that are drawn again; 0: whole images
    init_images: int = 400  # images whose patches the linear paths and the codes start from
    lr: float = 5e-4  # of the decoder
    lr_encoder: float = 5e-5  # codes must follow what it does: the decoder's rate diverged
    lr_linear: float = 4e-6  # of the linear paths, which start at their optimum
    lr_discriminator: float = 2e-4
    gradients: float = 1.0  # weight of differences between neighbouring pixels, against those of pixels
    commitment: float = 0.1
    perceptual: float = 0.1
    perceptual_from: int = 0  # step
    adversarial: float = 0.3  # size of the adversarial gradient at the pixels, against that of all else
    adversarial_from: int = 0  # step
    discriminator_warmup: int = 300  # steps before, in which the discriminator alone learns


class VQGANTraining:
    averaged = "vqgan"

    def __init__(self, recipe: VQGANRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        self.vqgan, self.discriminator = VQGAN(recipe.vqgan), PatchDiscriminator()
        if recipe.frozen_from is not None:
            load_average(newest_checkpoint(recipe.frozen_from), self.vqgan).encoder.requires_grad_(False)
        self.networks = nn.ModuleDict({"vqgan": self.vqgan, "discriminator": self.discriminator})
        # How many tokens each code has lately stood for, a sum that forgets: saved with the networks.
        self.networks.register_buffer("usage", torch.zeros(recipe.vqgan.regions**2, recipe.vqgan.codes))
        channels_last(self.networks, fabric.device)
        self.perceptual = channels_last(Perceptual(), fabric.device)
        linear = [self.vqgan.encoder.linear, self.vqgan.decoder.linear]
        groups = [
            {"params": self.vqgan.decoder.network.parameters(), "lr": recipe.lr},
            {"params": self.vqgan.encoder.network.parameters(), "lr": recipe.lr_encoder},
            {"params": nn.ModuleList(linear).parameters(), "lr": recipe.lr_linear},
        ]
        critic = {
            "params": self.discriminator.parameters(),
            "lr": recipe.lr_discriminator,
            "delay": recipe.adversarial_from - recipe.discriminator_warmup,
        }
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "vqgan": torch.optim.Adam(groups, betas=(0.9, 0.99)),
            "discriminator": torch.optim.Adam([critic], betas=(0.0, 0.99)),
        }
        self.held_out, _ = load(recipe.data, "validation", EVAL_IMAGES)

    @property
    def usage(self) -> Tensor:
        return self.networks.get_buffer("usage")

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        fixed = self.config.frozen_from is not None
        if step == 0 and not fixed:
            self._init()
        images, regions = windows(images, self.config.window, self.config.vqgan.regions, rng)
        images = signed(images)
        with self.fabric.autocast():
            latents = self.vqgan.encoder(images)
        latents = latents.float()
        tokens = self.vqgan.quantise(latents, regions)
        codes = self.vqgan.embed(tokens, regions)
        with self.fabric.autocast():
            pictures = self.vqgan.decoder(latents + (codes - latents).detach())  # straight through
        commitment = self.config.commitment * (latents - codes).square().mean()
        figures, gradient = self._losses(pictures.detach().float(), images, step)

        optimizer = self.optimizers["vqgan"]
        optimizer.zero_grad()
        if fixed:
            pictures.backward(gradient.to(pictures.dtype))
        else:
            torch.autograd.backward([pictures, commitment], [gradient.to(pictures.dtype), None])
        average_gradients(self.fabric, self.vqgan)
        nn.utils.clip_grad_norm_(self.vqgan.parameters(), CLIP)
        optimizer.step()
        if fixed:
            return figures
        self._update_codes(latents.detach(), tokens, regions, rng)
        share = self.usage / self.usage.sum()
        return figures | {"commitment": commitment, "perplexity": torch.special.entr(share).sum().exp()}

    def _init(self) -> None:
        """Set the linear paths, the codes and their counts from the training images, alike in every process."""
        shares = torch.zeros_like(self.usage)
        if self.fabric.is_global_zero:
            images, _ = load(self.config.data, "train", self.config.init_images)
            rng = torch.Generator(self.fabric.device).manual_seed(self.config.loop.seed)
            shares = init_vqgan(self.vqgan, images, rng)
        for tensor in (shares, *self.vqgan.state_dict().values()):
            tensor.copy_(self.fabric.broadcast(tensor))
        size = self.config.window or self.config.data.size
        tokens = self.config.loop.batch * (size // FACTOR) ** 2  # a step
        self.usage.copy_((shares * tokens / (1 - DECAY)).clamp(min=NEW) * (shares > 0))

    def _losses(self, pictures: Tensor, images: Tensor, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of pictures (B, 3, H, W), and the gradient by them of what is to be minimised."""
        pictures.requires_grad_()
        loss = reconstruction = contrast_error(pictures, images, self.config.gradients)
        figures = {"reconstruction": reconstruction, "psnr": psnr(pictures.detach(), images)}
        if step >= self.config.perceptual_from:
            with self.fabric.autocast():
                figures["perceptual"] = self.perceptual(pictures, images)
            loss = loss + self.config.perceptual * figures["perceptual"]
        (gradient,) = torch.autograd.grad(loss, pictures)
        if step >= self.config.adversarial_from - self.config.discriminator_warmup:
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
        loss = LOSSES["relativistic"]
        of = loss.generator if whose == "generator" else loss.discriminator
        return of(real.float(), fake.float())

    @torch.no_grad()
    def _update_codes(self, latents: Tensor, tokens: Tensor, regions: Tensor, rng: torch.Generator) -> None:
        """Move each code to the mean of its latents (van den Oord et al. 2017, appendix A), and dead ones elsewhere.

        A dead code moves to a latent of its region in this batch, the likelier the worse the code of that latent suits.
        """
        points = latents.permute(0, 2, 3, 1).flatten(0, 2)  # (N, D)
        chosen = (self.config.vqgan.codes * regions + tokens).flatten()  # (N,), numbered over all regions
        points, chosen = gather_rows(self.fabric, points), gather_rows(self.fabric, chosen)
        counts, codes = self.usage.view(-1), self.vqgan.codebook.flatten(0, 1)
        error = points - codes[chosen]
        places = self.fabric.broadcast(torch.multinomial(error.square().sum(1) + 1e-9, RESTARTS, generator=rng))

        counts *= DECAY
        met, which, times = chosen.unique(return_inverse=True, return_counts=True)
        counts[met] += times
        codes[met] += torch.zeros_like(codes[met]).index_add_(0, which, error) / counts[met, None]
        for place in places.tolist():
            region = chosen[place] // self.config.vqgan.codes
            dead = (self.usage[region] < DEAD).nonzero()[:1, 0]
            self.vqgan.codebook[region, dead] = points[place]
            self.usage[region, dead] = NEW

    @torch.no_grad()
    def evaluate(self, network: VQGAN, images: Images) -> tuple[dict[str, float], Pixels]:
        """Reconstructions of held-out images: PSNR, feature distance, how many tokens they use; some are shown."""
        figures: dict[str, list[float]] = {"held_out_psnr": [], "held_out_perceptual": []}
        counts, codes = torch.zeros(self.usage.numel()), self.config.vqgan.codes
        shown = []
        for i in range(len(self.held_out)):
            pixels = torch.from_numpy(self.held_out[i][None])  # (1, H, W, 3)
            image = signed(pixels.to(self.fabric.device).permute(0, 3, 1, 2))
            tokens = network.encode(image)
            picture = network.decode(tokens).clamp(-1, 1)
            figures["held_out_psnr"].append(psnr(picture, image).item())
            figures["held_out_perceptual"].append(self.perceptual(picture, image).item())
            height, width = tokens.shape[1:]
            numbered = tokens.cpu() + codes * region_map(height, width, self.config.vqgan.regions)
            counts += torch.bincount(numbered.flatten(), minlength=len(counts))
            if i < SHOWN:
                pair = [pixels[0].numpy(), to_pixels(picture.cpu().numpy())[0]]
                shown.append(np.concatenate(pair, axis=1))  # [H, 2W, 3]
        usage = {
            "held_out_usage": (counts > 0).float().mean().item(),
            "held_out_perplexity": torch.special.entr(counts / counts.sum()).sum().exp().item(),
        }
        return {name: float(np.mean(values)) for name, values in figures.items()} | usage, np.stack(shown)


def windows(images: Tensor, side: int, regions: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random window of each image (B, C, H, W), where tokens begin, and the regions of its tokens.

    Returns images (B, C, side, side) and (B, side/32, side/32) int64; whole images where side is 0.
    """
    height, width = (n // FACTOR for n in images.shape[2:])
    regions_of_image = region_map(height, width, regions).to(images.device)
    if side == 0:
        return images, regions_of_image.expand(len(images), -1, -1)
    n = side // FACTOR
    parts = []
    for image in images:
        top, left = (int(torch.randint(m - n + 1, (), generator=rng, device=rng.device)) for m in (height, width))
        pixels = image[:, top * FACTOR : (top + n) * FACTOR, left * FACTOR : (left + n) * FACTOR]
        parts.append((pixels, regions_of_image[top : top + n, left : left + n]))
    crops, places = zip(*parts, strict=True)
    return torch.stack(crops), torch.stack(places)


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
