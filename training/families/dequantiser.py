"""What a VQ-GAN's decoder reads before it convolves: latents as they were before quantising, wrong ones mended.

No pixel is drawn: the error of latents counts as what it is in pixels by the decoder's linear path.
"""

from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from pydantic import TypeAdapter
from torch import Tensor, nn

from training.checkpoint import load_average, newest_checkpoint, saved
from training.codec import load_vqgan
from training.corruption import corrupt_by_frequency, corrupt_some, count
from training.data.datasets import load
from training.data.images import Images, signed
from training.distributed import descend, reduce
from training.muon import Muon
from training.nets.dequantiser import Dequantiser, latent_error, pixel_metric
from training.nets.hourglass import Hourglass, HourglassConfig
from training.nets.layout import channels_last
from training.nets.vqgan import VQGAN, VQGANConfig
from training.pixel_losses import decibels
from training.recipe import DataConfig, LoopConfig, config

CLIP = 1.0  # norm of the gradient
HIDDEN_RATE = 2  # rate of the hidden layers, which Muon updates, over that of all else
WEIGHT_DECAY = 0.01
TINY = 1e-4  # squared error below which a token counts as right
SPOILED = (0.0, 0.1)  # shares of held-out tokens that are wrong in figures of the log


@config
class DequantiserRecipe:
    name: str
    family: Literal["dequantiser"]
    loop: LoopConfig
    data: DataConfig
    vqgan: VQGANConfig
    frozen_from: Path  # run of a VQ-GAN of the same codes, but for its decoder
    init_from: Path | None = None  # run of a prior, whose layers the transformer starts from
    lr: float = 1e-3
    corrupted: float = 0.4  # share of the pictures of which some tokens are wrong
    most_corrupted: float = 0.25  # share of the tokens that are wrong at most
    eval_images: int = 40

    def __post_init__(self) -> None:
        if self.vqgan.dequantiser is None:
            raise ValueError("a recipe of family dequantiser needs [vqgan.dequantiser]")


class DequantiserTraining:
    averaged = "vqgan"

    def __init__(self, recipe: DequantiserRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        source, _ = load_vqgan(recipe.frozen_from)
        self.vqgan = VQGAN(recipe.vqgan)
        try:
            self.vqgan.encoder.load_state_dict(source.encoder.state_dict(), strict=True)
            self.vqgan.patch.load_state_dict(source.patch.state_dict())
            self.vqgan.codebook.copy_(source.codebook)
        except RuntimeError as error:
            raise ValueError(f"{recipe.frozen_from} has an encoder or codes of another shape") from error
        self.vqgan.requires_grad_(False)
        assert self.vqgan.dequantiser is not None
        self.dequantiser = self.vqgan.dequantiser.requires_grad_(True)
        self.dequantiser.size.copy_(source.codebook.square().mean().sqrt())
        if recipe.init_from is not None:
            try:
                init_dequantiser(self.dequantiser, load_prior(recipe.init_from))
            except (KeyError, RuntimeError) as error:
                raise ValueError(f"{recipe.init_from} has other layers than vqgan.dequantiser") from error
        self.networks = nn.ModuleDict({"vqgan": self.vqgan})
        # How often tokens are met in each region, by which random ones are drawn.
        self.networks.register_buffer("counts", torch.ones(recipe.vqgan.regions**2, recipe.vqgan.codes))
        channels_last(self.networks, fabric.device)
        self.metric = pixel_metric(source.patch).to(fabric.device)
        self.optimizers = optimizers(self.dequantiser, recipe.lr)
        self.held_out, _ = load(recipe.data, "validation", recipe.eval_images)

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        latents, tokens, regions = self._encode(images)
        counts = self.networks.get_buffer("counts")
        counts += reduce(self.fabric, count(tokens, regions, counts), "sum")
        given = corrupt_some(tokens, self.config.corrupted, self.config.most_corrupted, counts, regions, rng)
        error = self._error(self.vqgan, given, latents)
        loss = (error + TINY).sqrt().mean()
        descend(self.fabric, self.dequantiser, loss, *self.optimizers.values(), clip=CLIP)
        return {"loss": loss, "psnr": decibels(error.detach())}

    @torch.no_grad()
    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, D, h, w) of images, their tokens (B, h, w), and the regions of these (h, w)."""
        latents: Tensor = self.vqgan.encoder(signed(images))
        regions = self.vqgan.regions_of(latents)
        return latents, self.vqgan.quantise(latents, regions), regions

    def _error(self, network: VQGAN, tokens: Tensor, latents: Tensor) -> Tensor:
        """Mean squared error (B, h, w) of what tokens become, in pixels of a range of 2."""
        with self.fabric.autocast():
            guess = network.dequantise(network.embed(tokens, network.regions_of(tokens)))[:, : latents.shape[1]]
        return latent_error(guess.float(), latents, self.metric)

    @torch.no_grad()
    def evaluate(self, network: VQGAN, images: Images) -> tuple[dict[str, float], None]:
        """PSNR of held-out latents, counted in pixels, where a share of the tokens is wrong."""
        errors: dict[float, list[Tensor]] = {share: [] for share in SPOILED}
        rng = torch.Generator(self.fabric.device).manual_seed(0)
        for i in range(len(self.held_out)):
            image = torch.from_numpy(self.held_out[i][None].copy()).to(self.fabric.device).permute(0, 3, 1, 2)
            latents, tokens, regions = self._encode(image)
            for share, found in errors.items():
                part = torch.full((1, 1, 1), share, device=tokens.device)
                wrong = corrupt_by_frequency(tokens, part, self.networks.get_buffer("counts"), regions, rng)
                found.append(self._error(network, wrong, latents).mean())
        figures = {share: decibels(torch.stack(found)).item() for share, found in errors.items()}
        return {f"held_out_psnr_{share:.0%}": figure for share, figure in figures.items()}, None


def optimizers(dequantiser: Dequantiser, lr: float) -> dict[str, torch.optim.Optimizer]:
    """Muon for the hidden layers, and AdamW for all else."""
    hidden = [p for part in dequantiser.trunk for p in part.parameters() if p.ndim == 2]  # in an order that lasts
    rest = [p for p in dequantiser.parameters() if p not in {*hidden}]
    return {
        "adamw": torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY),
        "muon": Muon(hidden, lr=HIDDEN_RATE * lr, weight_decay=WEIGHT_DECAY),
    }


def load_prior(run: Path) -> Hourglass:
    """The averaged network of the newest checkpoint of a prior's run."""
    checkpoint = newest_checkpoint(run)
    recipe = saved(checkpoint)["recipe"]
    if "hourglass" not in recipe:
        raise ValueError(f"{run} is no run of a prior")
    config = TypeAdapter(HourglassConfig).validate_python(recipe["hourglass"])
    return load_average(checkpoint, Hourglass(config))


@torch.no_grad()
def init_dequantiser(dequantiser: Dequantiser, prior: Hourglass) -> None:
    """Start from a prior, which knows what tokens go together: its first layers, and what it makes of codes."""
    for mine, its in zip(dequantiser.trunk, prior.trunk, strict=True):
        mine.load_state_dict({name: its.state_dict()[name] for name in mine.state_dict()}, strict=True)
    dequantiser.token.load_state_dict(prior.token.state_dict())
    dequantiser.norm.load_state_dict(prior.norm.state_dict())
    dequantiser.position.copy_(prior.position + prior.label.weight[-1])
