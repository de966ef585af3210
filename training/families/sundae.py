"""SUNDAE (Savinov et al. 2022): a network that denoises tokens learns to do so from its own guesses too.

Tokens are those of a VQ-GAN (McKinney and Willcocks 2022), or the grey levels of small images.
"""

from functools import cached_property
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
from training.corruption import corrupt, hide_attributes, holes, noise_ratios
from training.data.datasets import load
from training.data.images import Images
from training.distributed import descend, gather_rows, reduce
from training.drafts import FoldedDrafts, folds
from training.init.unigram_logits import flat, init_unigram_logits
from training.muon import Muon
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
    label_dropout: float = 0.1  # share of labels that are hidden, and all attributes with them: for guidance
    frozen_head: bool = False  # the output layer stays as it is: half of the time of a step
    target_cap: float = 1.0  # tokens more frequent than this share of their region are subsampled to it as targets
    blank: float = 0.0  # share of pictures of which nothing is known
    blank_target_cap: float = 1.0  # as target_cap, for these: plain areas are what is drawn first
    eval_images: int = 48  # held-out grids that figures of the log are of
    draft_weight: float = 4.0  # of what drafts say in drawing, in nats for each factor e of distance; 0: nothing
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
        # (R * R, V): the chance of being taken, in pictures of which something or nothing is known
        self.target_ratios = [(cap / frequencies).clamp(max=1) for cap in (recipe.target_cap, recipe.blank_target_cap)]
        head.bias.data.copy_(frequencies.log())
        self.drafts = FoldedDrafts.load(recipe.data.folder) if recipe.hourglass.draft and recipe.data.folder else None
        self.codec = None
        if recipe.vqgan is not None and recipe.data.folder is not None:
            self.codec, _ = load_codec(recipe.vqgan, fabric.device)
            check(recipe.data.folder, self.codec.identity)
            head.set_codes(self.codec.codebook)
        if recipe.init_from is not None:
            load_average(newest_checkpoint(recipe.init_from), self.network)
        if recipe.hourglass.draft:
            read = self.network.components
            if self.drafts is None or self.drafts.components.shape != read.shape:
                how = f"python -m training drafts, with --channels {recipe.hourglass.draft}, fits them"
                raise ValueError(f"{recipe.data.folder} has no drafts of {recipe.hourglass.draft} numbers; {how}")
            made = torch.from_numpy(self.drafts.components).to(fabric.device)
            if read.any() and not torch.allclose(read, made, atol=1e-3):
                raise ValueError(f"{recipe.data.folder} has other drafts than {recipe.init_from} reads; fit them anew")
            read.copy_(made)
        if recipe.frozen_head:
            head.requires_grad_(False)
        self.optimizers = self._optimizers()
        held_out, labels = load(recipe.data, "validation", recipe.eval_images)
        self.held_out = flat(held_out, range(len(held_out)))
        self.told = torch.from_numpy(labels).view(len(labels), -1)  # (M, 1 + A)

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
            "muon": Muon(muon, lr=HIDDEN_RATE * lr, weight_decay=WEIGHT_DECAY),
        }

    def _frequencies(self) -> Tensor:
        """How often each token is met in each region of the training data (R * R, V), as shares that are never zero.

        Raises:
            ValueError: the data are not what the network is made for.
        """
        config, head = self.config.hourglass, self.network.token_head
        regions = head.regions.cpu().numpy()  # [N]
        data, labels = load(self.config.data, "train")
        if (most := labels.reshape(len(labels), -1)[:, 0].max()) > max(config.classes - 1, 0):
            raise ValueError(f"hourglass.classes is {config.classes}, and the data have labels up to {most}")
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
        """Set the logits to how often tokens are met by label and place, alike in every process."""
        if self.fabric.is_global_zero:
            data, labels = load(self.config.data, "train")
            init_unigram_logits(self.network, data, labels.reshape(len(labels), -1)[:, 0], self.config.loop.seed)
        for tensor in self.network.state_dict().values():
            tensor.copy_(self.fabric.broadcast(tensor))

    @cached_property
    def _frozen_keys(self) -> Tensor:
        with torch.no_grad(), self.fabric.autocast():
            return self.network.token_head.keys().contiguous()

    def _draft(self, labels: Tensor, rows: Tensor, held_out: Tensor | None = None) -> Tensor | None:
        """What attributes (B, A) of pictures of labels (B,) tell of their tokens: (B, N, K)."""
        return None if self.drafts is None else self.drafts.of(labels, rows, held_out)

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        network, head, recipe = self.network, self.network.token_head, self.config
        unroll = recipe.unroll if step >= recipe.unroll_from else 1
        if step == 0 and recipe.hourglass.unigram_rank and recipe.init_from is None:
            self._init()
        targets = images.flatten(1).long()  # (B, N)
        labels, rows = labels.view(len(labels), -1).split([1, labels[:1].numel() - 1], dim=1)  # (B, 1), (B, A)

        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=rng, device=targets.device)

        fold = folds(rows.cpu().numpy())
        labels = torch.where(random(len(labels)) < recipe.label_dropout, recipe.hourglass.classes, labels[:, 0])
        draft = self._draft(labels, hide_attributes(rows, rng), fold)
        blank = random(len(labels), 1) < recipe.blank
        hole = holes(len(targets), recipe.hourglass.tokens, rng) | blank  # (B, N)
        told = (random(len(labels), 1) < TOLD) | blank
        ratio = torch.where(blank, 1, noise_ratios(hole, told, rng))
        z = corrupt(targets, ratio, recipe.hourglass.vocabulary, rng)  # (B, N)
        known = ~told | ((z == targets) & ~blank)
        some, none = (each[head.regions, targets] for each in self.target_ratios)  # (B, N)
        taken = random(*targets.shape) < torch.where(blank, none, some)
        losses = []
        with self.fabric.autocast():
            keys = self._frozen_keys if recipe.frozen_head else head.keys()
            for unrolled in range(unroll):
                hidden = network.predict(z, labels, draft, known).float()  # (B, N, W + 1)
                losses.append(self._loss(keys, hidden, z, targets, taken, blank))
                if unrolled < unroll - 1:
                    everywhere, ones = torch.ones_like(z, dtype=torch.bool), torch.ones(len(z), device=z.device)
                    z, _ = head.draw(hidden, z, everywhere, ones, random(*z.shape), keys=keys)
                    known = ~told | (random(*z.shape) >= noise_ratios(hole, told, rng))
        loss = torch.stack(losses).mean()
        descend(self.fabric, network, loss, *self.optimizers.values(), clip=CLIP)
        return {"loss": loss} | {f"loss_{i}": value for i, value in enumerate(losses, 1)}

    def _loss(self, keys: Tensor, hidden: Tensor, z: Tensor, targets: Tensor, taken: Tensor, blank: Tensor) -> Tensor:
        """Cross-entropy of those targets (B, N) that are taken, of pictures of which something or nothing is known."""
        head = self.network.token_head
        total, count = hidden.new_zeros(()), taken.sum().clamp(min=1)
        for ratio, which in zip(self.target_ratios, (~blank, blank), strict=True):
            if not which.any():
                continue
            # A token that is taken as a target so rarely seems the rarer: its logit makes up for that.
            bias = head.bias + ratio.log()
            mine = taken & which
            rows = (head.by_region(x) for x in (hidden, z, targets, mine))
            total = total + token_cross_entropy(keys, bias, *rows) * mine.sum()
        return total / count

    @torch.no_grad()
    def evaluate(self, network: Hourglass, images: Images) -> tuple[dict[str, float], Pixels]:
        """Cross-entropy in nats of held-out tokens, in shares or holes that are hidden; samples, classes in turn.

        With all attributes told (`held_out_told_...`), where the data have some, and with none.
        """
        mine = slice(self.fabric.global_rank, None, self.fabric.world_size)
        z, told = (x[mine].to(self.fabric.device) for x in (self.held_out, self.told))
        head = network.token_head
        with self.fabric.autocast():
            keys = head.keys()
        figures: dict[str, float] = {}
        for rows in (torch.zeros_like(told[:, 1:]), told[:, 1:]):
            if rows.any() or not figures:
                about = "told_" if rows.any() else ""
                errors = self._errors(network, keys, z, told[:, 0], rows)
                figures |= {f"held_out_{about}{name}": error for name, error in errors.items()}
        return figures, self._sample(network, keys)

    def _errors(self, network: Hourglass, keys: Tensor, z: Tensor, labels: Tensor, rows: Tensor) -> dict[str, float]:
        """Cross-entropy in nats of tokens (M, N) of which a percentage, or a hole, is hidden; of attributes (M, A)."""
        head = network.token_head
        rng = torch.Generator(z.device).manual_seed(self.fabric.global_rank)
        everywhere = torch.ones_like(z, dtype=torch.bool)
        hidings = {str(percent): (percent, everywhere) for percent in PERCENT}
        hidings["hole"] = 100, holes(len(z), network.config.tokens, rng)
        found = {}
        for name, (percent, part) in hidings.items():
            errors = []
            for targets, label, row, counted in zip(*(x.split(8) for x in (z, labels, rows, part)), strict=True):
                known = ~counted | (torch.rand(targets.shape, generator=rng, device=z.device) >= percent / 100)
                with self.fabric.autocast():
                    hidden = network.predict(targets, label, self._draft(label, row), known).float()
                    by_region = (head.by_region(x) for x in (hidden, targets, targets, counted))
                    errors.append(token_cross_entropy(keys, head.bias, *by_region) * counted.sum())
            error = torch.stack(errors).sum() / part.sum()
            found[name] = reduce(self.fabric, error, "mean").item()
        return found

    def _sample(self, network: Hourglass, keys: Tensor) -> Pixels:
        """Pictures [N, H, W, C] uint8, as users draw them, no more than are held out; processes share the work."""
        config, device = network.config, self.fabric.device
        side = min(10, max(5, config.classes))
        share = -(-min(side**2, len(self.held_out)) // self.fabric.world_size)
        mine = np.arange(share) + self.fabric.global_rank * share
        labels = mine % max(config.classes, 1)
        batch = token_batch(network, self.drafts.whole if self.drafts else None, mine.tolist(), labels)
        z = sample_tokens(token_network(network, keys, self.fabric), batch, self.config.sampling)  # [B, N]
        grids = z.reshape(-1, config.tokens, config.tokens)
        if self.codec is None:
            pictures = grids[..., None].astype(np.uint8)
        else:
            pictures = np.stack([shrink(self.codec.decode(grid[None])[0], SHOWN) for grid in grids])
        shown: Pixels = gather_rows(self.fabric, torch.from_numpy(pictures).to(device))[: side**2].cpu().numpy()
        return shown
