"""VQ-GAN (Esser et al. 2021): tokens that a picture can be drawn from again, at 1/32 of its side."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from genfast.metrics.blocks import ratio
from genfast.samplers.ddgan import to_pixels
from genfast.token_set import check
from genfast.types import Pixels
from training.checkpoint import load_average, newest_checkpoint, saved
from training.codec import load_codec
from training.corruption import corrupt_some, count
from training.data.datasets import load
from training.data.images import Images, signed
from training.data.tokens import read
from training.distributed import descend, gather_rows, reduce
from training.families.dequantiser import optimizers
from training.init.lapped import fit_lapped
from training.init.pca_kmeans import init_vqgan
from training.nets.layout import channels_last
from training.nets.vqgan import FACTOR, VQGAN, PatchDiscriminator, VQGANConfig
from training.pixel_losses import PixelLossConfig, PixelLosses, psnr
from training.recipe import DataConfig, LoopConfig, config
from training.threads import every_core
from training.windows import windows, windows_of

EVAL_IMAGES = 40  # held-out images that a figure of the log is taken from
SHOWN = 10  # of these, side by side with their reconstructions
REDRAWN = 0.5  # share of the images that a prior has drawn anew, which are seen as it drew them
WINDOWS = 4  # of each image, where a dequantiser reads it whole
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
    frozen_from: Path | None = None  # run whose encoder and codes are kept: what draws of tokens learns on
    corrupted: float = 0.0  # with a dequantiser: share of the pictures of which some tokens are wrong
    most_corrupted: float = 0.25  # share of the tokens that are wrong at most
    redrawn: Path | None = None  # token set: what a prior draws of the first images, seen in place of half of these
    window: int = 0  # side in pixels of the random windows of images that are drawn again; 0: whole images
    init_images: int = 400  # images whose patches the linear paths and the codes start from
    lr: float = 5e-4  # of the decoder
    lr_encoder: float = 5e-5  # codes must follow what it does: the decoder's rate diverged
    lr_linear: float = 4e-6  # of the linear paths, which start at their optimum
    lr_dequantiser: float = 0.0  # 0: it stays as it is
    commitment: float = 0.1
    losses: PixelLossConfig = PixelLossConfig()

    def __post_init__(self) -> None:
        if self.data.size % FACTOR or self.window % FACTOR or self.window > self.data.size:
            raise ValueError(f"size and window are multiples of {FACTOR}, and a window is no larger than an image")
        if self.data.name in ("fashion-mnist", "tokens"):
            raise ValueError(f"a VQ-GAN learns from pictures in colour: set data.name, which is {self.data.name}")
        network = self.vqgan
        if self.frozen_from is None and (network.dequantiser or network.lapped or self.redrawn):
            raise ValueError("vqgan.dequantiser, vqgan.lapped and redrawn are of a decoder alone: set frozen_from")
        if self.redrawn and not network.dequantiser:
            raise ValueError("what is redrawn is read by a dequantiser: set vqgan.dequantiser")


class VQGANTraining:
    averaged = "vqgan"

    def __init__(self, recipe: VQGANRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        self.vqgan, self.discriminator = VQGAN(recipe.vqgan), PatchDiscriminator()
        self.fitted = False  # whether the decoder's linear path has learned already
        if recipe.frozen_from is not None:
            self._start(newest_checkpoint(recipe.frozen_from))
        self.networks = nn.ModuleDict({"vqgan": self.vqgan, "discriminator": self.discriminator})
        # How many tokens each code has lately stood for, a sum that forgets: saved with the networks.
        self.networks.register_buffer("usage", torch.zeros(recipe.vqgan.regions**2, recipe.vqgan.codes))
        channels_last(self.networks, fabric.device)
        self.losses = PixelLosses(recipe.losses, self.discriminator, fabric)
        linear = [self.vqgan.encoder.linear, self.vqgan.decoder.linear]
        decoder = self.vqgan.decoder
        convolutions = nn.ModuleList(part for part in (decoder.network, decoder.refiner) if part is not None)
        groups = [
            {"params": convolutions.parameters(), "lr": recipe.lr},
            {"params": self.vqgan.encoder.network.parameters(), "lr": recipe.lr_encoder},
            {"params": nn.ModuleList(linear).parameters(), "lr": recipe.lr_linear},
        ]
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "vqgan": torch.optim.Adam(groups, betas=(0.9, 0.99)),
            "discriminator": self.losses.optimizer,
        }
        if self.vqgan.dequantiser is not None and recipe.lr_dequantiser:
            self.optimizers |= optimizers(self.vqgan.dequantiser, recipe.lr_dequantiser)
        self.redrawn: npt.NDArray[np.uint16] = np.zeros((0, 1, 1), np.uint16)  # [M, h, w]
        if recipe.redrawn and recipe.frozen_from:
            check(recipe.redrawn, load_codec(recipe.frozen_from)[0].identity)
            self.redrawn, _ = read(recipe.redrawn, "train")
        self.held_out, _ = load(recipe.data, "validation", EVAL_IMAGES)

    def _start(self, checkpoint: Path) -> None:
        """Keep the encoder and the codes of a checkpoint, and go on from what it has of the decoder."""
        load_average(checkpoint, self.vqgan, lacks=lambda name: name.startswith("decoder.refiner."))
        self.fitted = saved(checkpoint)["recipe"]["family"] == "vqgan"  # its linear path, too
        self.vqgan.requires_grad_(False)
        self.vqgan.decoder.requires_grad_(True)
        if self.vqgan.dequantiser is not None and self.config.lr_dequantiser:
            self.vqgan.dequantiser.requires_grad_(True)

    @property
    def usage(self) -> Tensor:
        return self.networks.get_buffer("usage")

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        fixed = self.config.frozen_from is not None
        if step == 0 and not fixed:
            self._init()
        if self.vqgan.dequantiser is not None:
            return self._step_decoder(signed(images), labels, rng, step)
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
        figures, loss = self.losses(pictures, images, step)
        descend(self.fabric, self.vqgan, loss + commitment, self.optimizers["vqgan"], clip=CLIP)
        if fixed:
            return figures
        self._update_codes(latents.detach(), tokens, regions, rng)
        share = self.usage / self.usage.sum()
        return figures | {"commitment": commitment, "perplexity": torch.special.entr(share).sum().exp()}

    def _step_decoder(self, images: Tensor, places: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        """A step of the decoder, on windows of what a dequantiser makes of whole images; this may learn on, too.

        Images (B, 3, H, W) lie at `places` (B,) of the data set.
        """
        if step == 0 and self.config.vqgan.lapped and not self.fitted:
            self._init_lapped(rng)
        decoder, recipe = self.vqgan.decoder, self.config
        with torch.set_grad_enabled(recipe.lr_dequantiser > 0), self.fabric.autocast():
            read = self._read(images, rng, places).float()
        with torch.set_grad_enabled(recipe.lr_dequantiser + recipe.lr_linear > 0 or decoder.network is not None):
            drawn = decoder.draw(read)
        count = WINDOWS if recipe.window else 1
        parts = [windows_of(recipe.window, rng, drawn, read, images) for _ in range(count)]
        drawn, read, images = (torch.cat(each) for each in zip(*parts, strict=True))
        with self.fabric.autocast():
            pictures = decoder.mend(drawn, read)
        figures, loss = self.losses(pictures, images, step)
        mine = (optimizer for name, optimizer in self.optimizers.items() if name != "discriminator")
        descend(self.fabric, self.vqgan, loss, *mine, clip=CLIP)
        return figures

    def _read(self, images: Tensor, rng: torch.Generator, places: Tensor | None = None) -> Tensor:
        """What the decoder reads of images, some of whose tokens are wrong: (B, C, h, w).

        With their `places` (B,), half of those that have been drawn anew have the tokens that were drawn.
        """
        tokens = self.vqgan.encode(images)
        regions = self.vqgan.regions_of(tokens)
        met = count(tokens, regions, self.usage)
        self.usage.add_(met if places is None else reduce(self.fabric, met, "sum"))  # None: one process works
        tokens = corrupt_some(tokens, self.config.corrupted, self.config.most_corrupted, self.usage, regions, rng)
        if places is not None:
            chance = torch.rand(len(places), generator=rng, device=tokens.device)
            for row in ((chance < REDRAWN) & (places < len(self.redrawn))).nonzero()[:, 0].tolist():
                tokens[row] = torch.from_numpy(self.redrawn[places[row]].astype(np.int64))
        return self.vqgan.dequantise(self.vqgan.embed(tokens, regions))

    @torch.no_grad()
    def _init_lapped(self, rng: torch.Generator) -> None:
        images, _ = load(self.config.data, "train", self.config.init_images)
        device = self.fabric.device

        path = self.vqgan.decoder.linear
        assert isinstance(path, nn.Sequential)

        def pairs() -> Iterator[tuple[Tensor, Tensor]]:
            for i in range(len(images)):
                image = signed(torch.from_numpy(images[i][None].copy()).to(device).permute(0, 3, 1, 2))
                with self.fabric.autocast():
                    read = self._read(image, rng)
                    left = image + path(read) - self.vqgan.decoder.draw(read)
                yield read.float().cpu(), left.float().cpu()

        if self.fabric.is_global_zero:
            fitted = copy.deepcopy(path).cpu()
            with every_core():
                fit_lapped(fitted, pairs())
            path.load_state_dict(fitted.state_dict())
        for tensor in (self.usage, *path.state_dict().values()):
            tensor.copy_(self.fabric.broadcast(tensor))

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
        restarts = min(RESTARTS, len(points))
        places = self.fabric.broadcast(torch.multinomial(error.square().sum(1) + 1e-9, restarts, generator=rng))

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
        """Reconstructions of held-out images: PSNR, blocks, distance in features, tokens in use; some are shown."""
        figures: dict[str, list[float]] = {"held_out_psnr": [], "held_out_perceptual": []}
        counts = torch.zeros_like(self.usage)
        drawn, shown = [], []
        for i in range(len(self.held_out)):
            pixels = torch.from_numpy(self.held_out[i][None].copy())  # (1, H, W, 3)
            image = signed(pixels.to(self.fabric.device).permute(0, 3, 1, 2))
            tokens = network.encode(image)
            picture = network.decode(tokens).clamp(-1, 1)
            figures["held_out_psnr"].append(psnr(picture, image).item())
            figures["held_out_perceptual"].append(self.losses.perceptual(picture, image).item())
            counts += count(tokens, network.regions_of(tokens), counts)
            drawn.append(to_pixels(picture.cpu().numpy())[0])
            if i < SHOWN:
                shown.append(np.concatenate([pixels[0].numpy(), drawn[-1]], axis=1))  # [H, 2W, 3]
        usage = {
            "held_out_blocks": ratio(drawn, FACTOR),
            "held_out_usage": (counts > 0).float().mean().item(),
            "held_out_perplexity": torch.special.entr(counts / counts.sum()).sum().exp().item(),
        }
        return {name: float(np.mean(values)) for name, values in figures.items()} | usage, np.stack(shown)
