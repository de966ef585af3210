"""SUNDAE (Savinov et al. 2022): a network that denoises tokens learns to do so from its own guesses too.

Tokens are those of a VQ-GAN (McKinney and Willcocks 2022), or the grey levels of small images.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from genfast.images.sheets import shrink
from genfast.samplers.options import MaskGITOptions, RandomOrderOptions
from genfast.samplers.tokens import AnyTokenOptions
from genfast.samplers.tokens import sample as sample_tokens
from genfast.token_set import check
from genfast.types import Pixels
from training.checkpoint import load_average, newest_checkpoint
from training.codec import load_codec
from training.corruption import corrupt, holes, noise_ratios
from training.data.datasets import load
from training.data.images import Images
from training.distributed import average_gradients, gather_rows, reduce
from training.image_embeddings import embed_noisily, init_image_embedder, keep_image_embeddings
from training.init.unigram_logits import flat, init_unigram_logits
from training.nets.hourglass import Hourglass, HourglassConfig
from training.recipe import DataConfig, LoopConfig, config
from training.sampling import token_batch, token_network
from training.token_loss import token_cross_entropy

CLIP = 1.0  # norm of the gradient
WEIGHT_DECAY = 0.01  # of the linear layers
HIDDEN_RATE = 2  # rate of the hidden layers, which Muon (Jordan et al. 2024) updates, over that of all else
PERCENT = (50, 75, 90, 100)  # of held-out tokens that are hidden
TOLD = 0.75  # share of the pictures of which the network is told which tokens are known
SHOWN = 128  # pixels along the side of a picture in the log


@config
class SundaeRecipe:
    name: str
    family: Literal["sundae"]
    loop: LoopConfig
    data: DataConfig
    hourglass: HourglassConfig = HourglassConfig()
    vqgan: Path | None = None  # run, checkpoint or bundle of the VQ-GAN whose tokens these are; without, grey levels
    init_from: Path | None = None  # run whose averaged weights are gone on from, with rates that rise anew
    lr: float = 5e-4
    unroll: int = 2  # guesses that follow each other; the loss is the mean of theirs
    unroll_from: int = 0  # step; before it, guesses are too poor to learn from, and one is made
    label_dropout: float = 0.1  # share of labels, and of image embeddings, that are hidden: for guidance
    target_cap: float = 1.0  # a target whose share of its region's is larger is taken as often as if it were this
    eval_images: int = 48  # held-out grids that figures of the log are of
    # How users draw unless they say otherwise, and so how samples of the log are drawn.
    sampling: AnyTokenOptions = RandomOrderOptions(temperature_end=0.4, refine=0.4)
    # Of a hole, whose surroundings say much: fewer steps and less chance are nearer to what was there.
    inpainting: AnyTokenOptions = MaskGITOptions(
        steps=7, temperature=0.6, temperature_end=0.3, power=3.0, choice_temperature=1.0, refine=0.4
    )

    def __post_init__(self) -> None:
        of_vqgan = {self.vqgan is not None, self.hourglass.codes is not None, self.data.name == "tokens"}
        if len(of_vqgan) > 1:
            raise ValueError("vqgan, hourglass.codes and data of name tokens go together: give all three or none")


class SundaeTraining:
    averaged = "hourglass"

    def __init__(self, recipe: SundaeRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        self.network = Hourglass(recipe.hourglass).to(fabric.device)
        self.networks = nn.ModuleDict({"hourglass": self.network})
        head, frequencies = self.network.token_head, self._frequencies()
        self.target_ratio = (recipe.target_cap / frequencies).clamp(max=1)  # (R * R, V): chance of being taken
        head.bias.data.copy_(frequencies.log())
        self.codec = None
        if recipe.vqgan is not None and recipe.data.folder is not None:
            self.codec, _ = load_codec(recipe.vqgan, fabric.device)
            check(recipe.data.folder, self.codec.identity)
            head.set_codes(self.codec.codebook)
        if recipe.init_from is not None:
            load_average(newest_checkpoint(recipe.init_from), self.network)
        self.optimizers = self._optimizers()
        held_out, labels = load(recipe.data, "validation", recipe.eval_images)
        self.held_out, self.labels = flat(held_out, range(len(held_out))), torch.from_numpy(labels)

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        layers = [module.weight for module in self.network.modules() if isinstance(module, nn.Linear)]
        hidden = {p for part in self.network.trunk for p in part.parameters()}
        rest = [p for p in self.network.parameters() if p not in {*layers}]
        groups = [
            {"params": [p for p in layers if p not in hidden], "weight_decay": WEIGHT_DECAY},
            {"params": rest, "weight_decay": 0.0},
        ]
        lr = self.config.lr
        muon = [p for p in layers if p in hidden]
        return {
            "optimizer": torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98)),
            "muon": torch.optim.Muon(
                muon, lr=HIDDEN_RATE * lr, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
            ),
        }

    def _frequencies(self) -> Tensor:
        """How often each token is met in each region of the training data (R * R, V), as shares that are never zero.

        Raises:
            ValueError: the data are not what the network is made for.
        """
        config, head = self.config.hourglass, self.network.token_head
        regions = head.regions.cpu().numpy()  # [N]
        data, labels = load(self.config.data, "train")
        if labels.max() > max(config.classes - 1, 0):
            raise ValueError(f"hourglass.classes is {config.classes}, and the data have labels up to {labels.max()}")
        counts = np.zeros(head.bias.numel(), np.int64)
        for grid in (data[i] for i in range(len(data))):
            if grid.size != regions.size or grid.max() >= config.vocabulary:
                raise ValueError(
                    f"hourglass wants {regions.size} tokens below {config.vocabulary}; "
                    f"the data have {grid.size}, up to {grid.max()}"
                )
            counts += np.bincount(grid.ravel() + config.vocabulary * regions, minlength=len(counts))
        smooth = torch.from_numpy(counts).view(-1, config.vocabulary).to(self.fabric.device) + 0.5
        return (smooth / smooth.sum(1, keepdim=True)).float()

    def _init(self) -> None:
        """Set the logits to how often tokens are met by label, place and image embedding, alike in every process."""
        network = self.network
        if self.fabric.is_global_zero:
            seed, data = self.config.loop.seed, load(self.config.data, "train")
            init_unigram_logits(network, *data, seed)
            rng = torch.Generator(self.fabric.device).manual_seed(seed)
            init_image_embedder(network, *data, self.target_ratio, rng)
        for tensor in network.state_dict().values():
            tensor.copy_(self.fabric.broadcast(tensor))

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        network, head, recipe = self.network, self.network.token_head, self.config
        unroll = recipe.unroll if step >= recipe.unroll_from else 1
        if step == 0 and recipe.hourglass.unigram_rank and recipe.init_from is None:
            self._init()
        targets = images.flatten(1).long()  # (B, N)

        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=rng, device=targets.device)

        hole = holes(len(targets), recipe.hourglass.tokens, rng)  # (B, N)
        with self.fabric.autocast():
            embedding, label_loss = embed_noisily(network, targets, ~hole, labels, rng)
        embedding = torch.where(random(len(labels), 1) < recipe.label_dropout, 0, embedding.float())  # (B, K)
        labels = torch.where(random(len(labels)) < recipe.label_dropout, recipe.hourglass.classes, labels)
        told = random(len(labels), 1) < TOLD
        z = corrupt(targets, noise_ratios(hole, told, rng), recipe.hourglass.vocabulary, rng)  # (B, N)
        known = ~told | (z == targets)
        taken = random(*targets.shape) < self.target_ratio[head.regions, targets]
        losses = []
        with self.fabric.autocast():
            keys = head.keys()
            # A token that is taken as a target so rarely seems the rarer: its logit makes up for that.
            bias = head.bias + self.target_ratio.log()
            for unrolled in range(unroll):
                hidden = network.predict(z, labels, embedding, known).float()  # (B, N, W + 1)
                rows = (head.by_region(x) for x in (hidden, z, targets, taken))
                losses.append(token_cross_entropy(keys, bias, *rows))
                if unrolled < unroll - 1:
                    everywhere, ones = torch.ones_like(z, dtype=torch.bool), torch.ones(len(z), device=z.device)
                    z, _ = head.draw(hidden, z, everywhere, ones, random(*z.shape), keys=keys)
                    known = ~told | (random(*z.shape) >= noise_ratios(hole, told, rng))
        loss = torch.stack(losses).mean()
        network.zero_grad()
        (loss + label_loss).backward()
        average_gradients(self.fabric, network)
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        for each in self.optimizers.values():
            each.step()
        return {"loss": loss, "loss_label": label_loss} | {f"loss_{i}": value for i, value in enumerate(losses, 1)}

    @torch.no_grad()
    def evaluate(self, network: Hourglass, images: Images) -> tuple[dict[str, float], Pixels]:
        """Cross-entropy in nats of held-out tokens, in shares or holes that are hidden, and samples, a row for a class.

        Embeddings are those of the pictures, or of what is around the hole. The ones to draw with are taken from the
        training data anew.
        """
        keep_image_embeddings(network, *load(self.config.data, "train"))
        # As constants are, so that their average stays what it is.
        self.network.image_embeddings.copy_(network.image_embeddings)
        mine = slice(self.fabric.global_rank, None, self.fabric.world_size)
        z, labels = (x[mine].to(self.fabric.device) for x in (self.held_out, self.labels))
        rng = torch.Generator(z.device).manual_seed(self.fabric.global_rank)
        head = network.token_head
        with self.fabric.autocast():
            keys = head.keys()
        figures = {}
        everywhere = torch.ones_like(z, dtype=torch.bool)
        hole = holes(len(z), network.config.tokens, rng)
        # Percent that is hidden of a part, and what the embedding is read off.
        hidings = {str(percent): (percent, everywhere, everywhere) for percent in PERCENT}
        hidings["hole"] = 100, hole, ~hole
        for name, (percent, part, told) in hidings.items():
            errors = []
            for targets, label, counted, around in zip(*(x.split(8) for x in (z, labels, part, told)), strict=True):
                known = ~counted | (torch.rand(targets.shape, generator=rng, device=z.device) >= percent / 100)
                with self.fabric.autocast():
                    embedding, _ = network.embed_image(targets, around)
                    hidden = network.predict(targets, label, embedding, known).float()
                    rows = (head.by_region(x) for x in (hidden, targets, targets, counted))
                    errors.append(token_cross_entropy(keys, head.bias, *rows) * counted.sum())
            error = torch.stack(errors).sum() / part.sum()
            figures[f"held_out_{name}"] = reduce(self.fabric, error, "mean").item()
        return figures, self._sample(network, keys)

    def _sample(self, network: Hourglass, keys: Tensor) -> Pixels:
        """Pictures [N, H, W, C] uint8, as users draw them, no more than are held out; processes share the work."""
        config, device = network.config, self.fabric.device
        side = min(10, max(5, config.classes))
        share = -(-min(side**2, len(self.held_out)) // self.fabric.world_size)
        mine = np.arange(share) + self.fabric.global_rank * share
        batch = token_batch(network, mine.tolist(), mine // side % max(config.classes, 1))
        z = sample_tokens(token_network(network, keys, self.fabric), batch, self.config.sampling)  # [B, N]
        grids = z.reshape(-1, config.tokens, config.tokens)
        if self.codec is None:
            pictures = grids[..., None].astype(np.uint8)
        else:
            pictures = np.stack([shrink(self.codec.decode(grid[None])[0], SHOWN) for grid in grids])
        shown: Pixels = gather_rows(self.fabric, torch.from_numpy(pictures).to(device))[: side**2].cpu().numpy()
        return shown
