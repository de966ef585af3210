"""Distribution matching distillation (Yin et al. 2024): what a DDPM draws in many steps, drawn in a few.

A generator descends the reverse KL divergence, on all scales of noise, of its pictures from those of the DDPM. What
that takes are the scores of both (eq. 7). The DDPM has the one. A critic has the other: it is a DDPM, too, and learns
on what the generator draws, told which step drew it, since one step errs otherwise than eight. The generator goes its
own way from noise on, so that it learns to mend what its earlier steps did (Yin et al. 2024, improved, section 4.4).

For half of the pictures we match p(x_0 | x_t), x_t being the input of the step, instead of p(x_0): a step is to draw
what x_t leaves open, in all its variety, and not just some picture. The DDPM's score of p(x_0 | x_t) needs no learning:
x_t and a picture at another scale are two noisy views of x_0, which are joined to one of less noise. The critic is
conditioned on x_t.
"""

import math
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from genfast.types import Pixels
from training.checkpoint import load_average, newest_checkpoint
from training.corruption import hide_labels
from training.data.datasets import check_garments
from training.data.images import Images
from training.diffusion import ReverseStep, ScheduleConfig, joined, noised
from training.distributed import descend
from training.families.ddpm import regression_loss
from training.few_steps import fid_by_steps, load_initial, optimizers
from training.nets.layout import channels_last
from training.nets.unet import UNet, UNetConfig
from training.recipe import DataConfig, LoopConfig, config

GIVEN = 0.5  # share of pictures of which distributions are those given x_t
UNTOLD = 0.1  # share of pictures whose class is not told, where classes are
SMALLEST = 0.01  # of what a direction is divided by
CLEAREST = 6.0  # log-SNR at most of what scores are compared of: of less noise they tell little but the noise
COARSER = 3.0  # ... and at least, below that of the picture that a step is from: it cannot change what is coarser


@config
class DMDRecipe:
    name: str
    family: Literal["dmd"]
    loop: LoopConfig
    unet: UNetConfig  # of the generator; those of teacher and critic are the same but for what they are told
    schedule: ScheduleConfig
    teacher: Path  # run of a DDPM
    init_from: Path | None = None  # run of a generator; without, it starts from the teacher
    data: DataConfig = DataConfig()  # of which only labels are looked at
    shares: dict[PositiveInt, PositiveFloat] = field(default_factory=dict)
    # how often a number of steps is trained for, against 1 of the others
    guidance: float = 1.0  # of the teacher, towards the class; 1 is none
    guidance_interval: tuple[float, float] = (-math.inf, math.inf)  # log-SNRs that it acts between
    critic_warmup: int = 100  # steps in which the critic alone learns
    lr_generator: float = 1e-4
    lr_critic: float = 4e-4
    eval_images: int = 2000  # images that the FID in the log is taken from

    def __post_init__(self) -> None:
        if not self.unet.latent:
            raise ValueError("a generator needs a latent: set unet.latent")


class DMDTraining:
    averaged = "generator"

    def __init__(self, recipe: DMDRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        check_garments(recipe.data, recipe.unet.classes)
        self.schedule = recipe.schedule.build().to(fabric.device)
        generator = load_initial(UNet(recipe.unet), recipe.init_from or recipe.teacher)
        denoiser = replace(recipe.unet, latent=0, told_target=False, told_start=False)
        teacher = load_average(newest_checkpoint(recipe.teacher), UNet(denoiser))
        critic = load_initial(UNet(replace(denoiser, told_target=True, told_start=True)), recipe.teacher)
        self.teacher = channels_last(teacher.requires_grad_(False).eval(), fabric.device)
        self.networks = channels_last(nn.ModuleDict({"generator": generator, "critic": critic}), fabric.device)
        self.critic, self.reverse = critic, ReverseStep(generator, self.schedule)
        # Of each number of steps: its share, the number, and its levels, padded at the end.
        ways = self.schedule.paths
        self.shares = torch.tensor([recipe.shares.get(steps, 1.0) for steps in ways], device=fabric.device)
        self.counts = torch.tensor([*ways], device=fabric.device)
        self.paths = pad_sequence([torch.tensor(path) for path in ways.values()], batch_first=True).to(fabric.device)
        rates = {"generator": recipe.lr_generator, "critic": recipe.lr_critic}
        self.optimizers = optimizers(self.networks, rates, recipe.critic_warmup)

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        """Update the generator by a step somewhere on its way, and the critic by what it then draws."""
        label = hide_labels(labels, self.config.unet.classes, UNTOLD, rng)
        learning = step >= self.config.critic_warmup
        x_t, t, s = self._on_the_way(images.shape, label, rng)
        with torch.set_grad_enabled(learning):
            _, x_0 = self._step(x_t, t, s, label, rng)
        given = torch.rand(len(t), generator=rng, device=t.device) < GIVEN
        seen, level = x_t * given[:, None, None, None], self.schedule.log_snr[t]
        told = {"target": level, "label": label, "start": seen}  # the critic: by whose step, too

        def views() -> tuple[Tensor, Tensor]:
            """What x_0 with some noise, and what is given, tell together: pictures and their log-SNRs."""
            scales = self._scales(t, s, rng)
            return joined(noised(x_0.detach(), scales, rng), scales, seen, torch.where(given, level, -math.inf))

        figures = self._update_generator(x_0, *views(), told) if learning else {}
        x, log_snr = views()
        with self.fabric.autocast():
            error, loss = regression_loss(self.critic, x_0.detach(), x, log_snr, **told)
        descend(self.fabric, self.critic, loss, self.optimizers["critic"])
        return figures | {"loss_critic": loss, "error_critic": error}

    def _step(
        self, x_t: Tensor, t: Tensor, s: Tensor, label: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """x_s and x_0 of a step of the generator from x_t."""
        randn = partial(torch.randn, generator=rng, device=x_t.device)
        z = randn((len(x_t), self.config.unet.latent))
        with self.fabric.autocast():
            x_s, x_0 = self.reverse(x_t, t, s, randn(x_t.shape), z, label)
        return x_s.float(), x_0.float()

    @torch.no_grad()
    def _on_the_way(
        self, shape: torch.Size, label: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x_t of ways from noise that the generator goes in some number of steps each, and the levels t and s (B,)."""
        device = self.fabric.device
        which = torch.multinomial(self.shares, shape[0], replacement=True, generator=rng)
        count, paths = self.counts[which], self.paths[which]
        rest = (torch.rand(shape[:1], generator=rng, device=device) * count).long() + 1  # steps that are left
        x = torch.randn(shape, generator=rng, device=device)
        for k in range(int(count.max()), 1, -1):
            on = ((k <= count) & (k > rest)).nonzero()[:, 0]
            told = None if label is None else label[on]
            x[on], _ = self._step(x[on], paths[on, k], paths[on, k - 1], told, rng)
        every = torch.arange(len(x), device=device)
        return x, paths[every, rest], paths[every, rest - 1]

    def _scales(self, t: Tensor, s: Tensor, rng: torch.Generator) -> Tensor:
        """Log-SNRs (B,) of what steps from levels t to s (B,) are for: clearer pictures and coarser ones are not."""
        log_snr = self.schedule.log_snr
        low, high = (log_snr[t] - COARSER).clamp(min=log_snr[-1]), log_snr[s].clamp(max=CLEAREST)
        return low + (high - low) * torch.rand(len(s), generator=rng, device=s.device)

    def _update_generator(
        self, x_0: Tensor, x: Tensor, log_snr: Tensor, told: dict[str, Tensor | None]
    ) -> dict[str, Tensor]:
        """Move x_0 along the difference of the scores of x at log-SNRs (B,); `told` is what the critic is."""
        with torch.no_grad(), self.fabric.autocast():
            wanted, drawn = self._taught(x, log_snr, told["label"]), self.critic(x, log_snr, **told).float()
        # Eq. 7 and 8: in terms of denoised pictures, and in units of how far the teacher is from this one.
        size = (x_0.detach() - wanted).abs().mean((1, 2, 3), keepdim=True).clamp(min=SMALLEST)
        loss = ((drawn - wanted) / size * x_0).mean((1, 2, 3)).mean()
        descend(self.fabric, self.networks["generator"], loss, self.optimizers["generator"])
        return {"difference": (drawn - wanted).square().mean().sqrt()}

    def _taught(self, x: Tensor, log_snr: Tensor, label: Tensor | None) -> Tensor:
        """What the teacher takes x to be without its noise, guided (Ho and Salimans 2022).

        Of much noise guidance costs variety, of little it gains nothing (Kynkäänniemi et al. 2024).
        """
        told: Tensor = self.teacher(x, log_snr, label=label).float()
        if label is None or self.config.guidance == 1:
            return told
        low, high = self.config.guidance_interval
        here = ((low < log_snr) & (log_snr < high)).nonzero()[:, 0]
        nobody = torch.full_like(label[here], self.config.unet.classes)
        untold: Tensor = self.teacher(x[here], log_snr[here], label=nobody).float()
        told[here] = untold + self.config.guidance * (told[here] - untold)
        return told

    def evaluate(self, network: UNet, images: Images) -> tuple[dict[str, float], Pixels]:
        return fid_by_steps(network, self.schedule, self.config.eval_images, self.fabric)
