"""SUNDAE (Savinov et al. 2022): a network that denoises tokens learns to do so from its own guesses too.

Tokens are those of a VQ-GAN (McKinney and Willcocks 2022), or the grey levels of small images.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from genfast import sundae
from genfast.ddgan import to_pixels
from genfast.images import shrink
from training import marginals, themes
from training.data import Images, load, tokens
from training.loop import average_gradients, gather, load_average, newest_checkpoint
from training.nets.hourglass import ROWS, Hourglass, HourglassConfig, score
from training.noise import corrupt, holes, shares
from training.recipe import DataConfig, LoopConfig, config

CLIP = 1.0  # norm of the gradient
WEIGHT_DECAY = 0.01  # of the linear layers
HIDDEN_RATE = 2  # rate of the hidden layers, which Muon (Jordan et al. 2024) updates, over that of all else
PERCENT = (50, 75, 90, 100)  # of held-out tokens that are hidden
TOLD = 0.75  # share of the pictures of which the network is told which tokens are known
TINY = 1e-30  # probability that counts as least
SHOWN = 128  # pixels along the side of a picture in the log


@config
class SundaeRecipe:
    name: str
    family: Literal["sundae"]
    loop: LoopConfig
    data: DataConfig
    hourglass: HourglassConfig = HourglassConfig()
    vqgan: Path | None = None  # run, or checkpoint, of the VQ-GAN whose tokens these are; without, grey levels
    start: Path | None = None  # run whose averaged weights are gone on from, with rates that rise anew
    lr: float = 5e-4
    unroll: int = 2  # guesses that follow each other; the loss is the mean of theirs
    unroll_from: int = 0  # step; before it, guesses are too poor to learn from, and one is made
    label_dropout: float = 0.1  # share of labels, and of themes, that are hidden: for guidance
    watched: int = 48  # held-out grids that figures of the log are of
    cap: float = 1.0  # a target whose share of its region's is larger is taken only as often as if it were this

    def __post_init__(self) -> None:
        of_vqgan = {self.vqgan is not None, self.hourglass.codes is not None, self.data.name == "tokens"}
        if len(of_vqgan) > 1:
            raise ValueError("vqgan, hourglass.codes and data of name tokens go together: give all three or none")


class SundaeTraining:
    name = "sundae"
    recipe = SundaeRecipe
    averaged = "hourglass"

    def __init__(self, recipe: SundaeRecipe, fabric: Fabric) -> None:
        self.fabric, self.config = fabric, recipe
        self.network = Hourglass(recipe.hourglass).to(fabric.device)
        self.networks = nn.ModuleDict({"hourglass": self.network})
        shares = self._shares()
        self.kept = (recipe.cap / shares).clamp(max=1)  # (R * R, V): chance of a target to be taken
        self.network.bias.data.copy_(shares.log())
        self.vqgan = None
        if recipe.vqgan is not None:
            self.vqgan = tokens.load_vqgan(recipe.vqgan)[0].to(fabric.device)
            tokens.check(recipe.data.folder, self.vqgan)
            self.network.set_codes(self.vqgan.codebook)
        if recipe.start is not None:
            load_average(newest_checkpoint(recipe.start), self.network)
        layers = [module.weight for module in self.network.modules() if isinstance(module, nn.Linear)]
        hidden = {p for part in self.network.trunk for p in part.parameters()}
        rest = [p for p in self.network.parameters() if p not in {*layers}]
        groups = [
            {"params": [p for p in layers if p not in hidden], "weight_decay": WEIGHT_DECAY},
            {"params": rest, "weight_decay": 0.0},
        ]
        muon = dict(lr=HIDDEN_RATE * recipe.lr, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
        self.optimizers = {
            "optimizer": torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98)),
            "muon": torch.optim.Muon([p for p in layers if p in hidden], **muon),
        }
        held_out, labels = load(recipe.data, "validation", recipe.watched)
        self.held_out = torch.from_numpy(np.stack([held_out[i] for i in range(len(held_out))])).flatten(1).long()
        self.labels = torch.from_numpy(labels)

    def _shares(self) -> Tensor:
        """How often each token is met in each region of the training data (R * R, V), as shares that are never zero.

        Raises:
            ValueError: the data are not what the network is made for.
        """
        config, regions = self.config.hourglass, self.network.regions.cpu().numpy()
        data, labels = load(self.config.data, "train")
        if labels.max() > max(config.classes - 1, 0):
            raise ValueError(f"hourglass.classes is {config.classes}, and the data have labels up to {labels.max()}")
        counts = np.zeros(self.network.bias.numel(), np.int64)
        for grid in data:
            if grid.size != regions.size or grid.max() >= config.vocabulary:
                raise ValueError(
                    f"hourglass wants {regions.size} tokens below {config.vocabulary}; "
                    f"the data have {grid.size}, up to {grid.max()}"
                )
            counts += np.bincount(grid.ravel() + config.vocabulary * regions, minlength=len(counts))
        smooth = torch.from_numpy(counts).view(-1, config.vocabulary).to(self.fabric.device) + 0.5
        return (smooth / smooth.sum(1, keepdim=True)).float()

    def _start(self) -> None:
        """Set the logits to how often tokens are met by label, place and theme, alike in every process."""
        network = self.network
        if self.fabric.is_global_zero:
            seed, data = self.config.loop.seed, load(self.config.data, "train")
            marginals.start(network, *data, seed)
            themes.start(network, *data, self.kept, torch.Generator(self.fabric.device).manual_seed(seed))
        for tensor in network.state_dict().values():
            tensor.copy_(self.fabric.broadcast(tensor))

    def step(self, batch: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        network, recipe = self.network, self.config
        unroll = recipe.unroll if step >= recipe.unroll_from else 1
        if step == 0 and recipe.hourglass.marginals and recipe.start is None:
            self._start()
        targets = batch.flatten(1).long()  # (B, N)

        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=rng, device=targets.device)

        hole = holes(len(targets), recipe.hourglass.tokens, rng)
        with self.fabric.autocast():
            theme, label_loss = themes.recognised(network, targets, ~hole, labels, rng)
        theme = torch.where(random(len(labels), 1) < recipe.label_dropout, 0, theme.float())
        labels = torch.where(random(len(labels)) < recipe.label_dropout, recipe.hourglass.classes, labels)
        told = random(len(labels), 1) < TOLD
        z = corrupt(targets, shares(hole, told, rng), recipe.hourglass.vocabulary, rng)
        known = ~told | (z == targets)
        kept = random(*targets.shape) < self.kept[network.regions, targets]
        losses = []
        with self.fabric.autocast():
            table = network.table()
            # A token that is taken as a target so rarely seems the rarer: its logit makes up for that.
            bias = network.bias + self.kept.log()
            for unrolled in range(unroll):
                hidden = network.predict(z, labels, theme, known).float()
                rows = (network.by_region(x) for x in (hidden, z, targets, kept))
                losses.append(CrossEntropy.apply(table, bias, *rows))
                if unrolled < unroll - 1:
                    everywhere, ones = torch.ones_like(z, dtype=torch.bool), torch.ones(len(z), device=z.device)
                    z, _ = network.draw(hidden, z, everywhere, ones, random(*z.shape), table=table)
                    known = ~told | (random(*z.shape) >= shares(hole, told, rng))
        loss = torch.stack(losses).mean()
        network.zero_grad()
        (loss + label_loss).backward()
        average_gradients(self.fabric, network)
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        for each in self.optimizers.values():
            each.step()
        return {"loss": loss, "loss_label": label_loss} | {f"loss_{i}": value for i, value in enumerate(losses, 1)}

    @torch.no_grad()
    def watch(self, network: Hourglass, data: Images) -> tuple[dict[str, float], np.ndarray]:
        """Cross-entropy in nats of held-out tokens, in shares or holes that are hidden, and samples, a row for a class.

        Themes are those of the pictures, or of what is around the hole. The ones to draw with are taken from the
        training data anew.
        """
        themes.keep(network, *load(self.config.data, "train"))
        self.network.themes.copy_(network.themes)  # as constants are, so that their average stays what it is
        mine = slice(self.fabric.global_rank, None, self.fabric.world_size)
        z, labels = (x[mine].to(self.fabric.device) for x in (self.held_out, self.labels))
        rng = torch.Generator(z.device).manual_seed(self.fabric.global_rank)
        with self.fabric.autocast():
            table = network.table()
        figures = {}
        everywhere = torch.ones_like(z, dtype=torch.bool)
        hole = holes(len(z), network.config.tokens, rng)
        # Percent that is hidden of a part, and what the theme is read off.
        hidings = {str(percent): (percent, everywhere, everywhere) for percent in PERCENT}
        hidings["hole"] = 100, hole, ~hole
        for name, (percent, part, told) in hidings.items():
            errors = []
            for targets, label, counted, around in zip(*(x.split(8) for x in (z, labels, part, told)), strict=True):
                known = ~counted | (torch.rand(targets.shape, generator=rng, device=z.device) >= percent / 100)
                with self.fabric.autocast():
                    theme, _ = network.recognise(targets, around)
                    hidden = network.predict(targets, label, theme, known).float()
                    rows = (network.by_region(x) for x in (hidden, targets, targets, counted))
                    errors.append(CrossEntropy.apply(table, network.bias, *rows) * counted.sum())
            error = torch.stack(errors).sum() / part.sum()
            figures[f"held_out_{name}"] = self.fabric.all_reduce(error).item()
        return figures, self._sample(network, table)

    def _sample(self, network: Hourglass, table: Tensor) -> np.ndarray:
        """Pictures [N, H, W, C] uint8, as users draw them, no more than are held out; processes share the work."""
        config, device = network.config, self.fabric.device
        side = min(10, max(5, config.classes))
        share = -(-min(side**2, len(self.held_out)) // self.fabric.world_size)
        mine = np.arange(share) + self.fabric.global_rank * share

        def predict(*arrays: np.ndarray) -> np.ndarray:
            with self.fabric.autocast():
                hidden = network.predict(*(torch.from_numpy(array).to(device) for array in arrays))
            return hidden.float().cpu().numpy()

        def draw(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
            with self.fabric.autocast():
                results = network.draw(*(torch.from_numpy(array).to(device) for array in arrays), table=table)
            return tuple(result.cpu().numpy() for result in results)

        labels = mine // side % max(config.classes, 1)
        z = sundae.sample(
            predict,
            draw,
            options=sundae.Options(),
            shape=(config.tokens, config.tokens),
            vocabulary=config.vocabulary,
            labels=labels,
            themes=sundae.choose_themes(network.themes.cpu().numpy(), labels, seed=0, indices=mine.tolist()),
            unlabelled=config.classes,
            seed=0,
            indices=mine.tolist(),
        )
        grids = z.reshape(-1, config.tokens, config.tokens)
        if self.vqgan is None:
            pictures = grids[..., None].astype(np.uint8)
        else:
            decoded = (self.vqgan.decode(torch.from_numpy(grid[None]).to(device)) for grid in grids)
            pictures = np.stack([shrink(to_pixels(picture.cpu().numpy())[0], SHOWN) for picture in decoded])
        return gather(self.fabric, torch.from_numpy(pictures).to(device))[: side**2].cpu().numpy()


class CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy over the rows that are kept, in nats.

    Logits are many times as large as all else: they are held for ROWS rows at a time, and the gradient is taken at once
    (as Liger kernels do: Hsu et al. 2024).
    """

    @staticmethod
    def forward(ctx, table, bias, hidden, tokens, targets, kept):  # type: ignore[no-untyped-def]
        """For keys (R, V, W), biases (R, V), and rows by region: hidden (R, M, W + 1) and (R, M) of all else."""
        total = torch.zeros((), device=hidden.device)
        d_table = torch.zeros_like(table, dtype=torch.float32)
        d_bias, d_hidden = torch.zeros_like(bias), torch.zeros_like(hidden)
        for region, keys in enumerate(table):
            for rows in torch.nonzero(kept[region])[:, 0].split(ROWS):
                row, token, target = hidden[region, rows], tokens[region, rows], targets[region, rows, None]
                p = score(row, keys, bias[region], token).softmax(1)  # (m, V)
                total -= p.gather(1, target).clamp(min=TINY).log().sum()
                if not any(ctx.needs_input_grad):
                    continue
                d_logits = p.scatter_add_(1, target, p.new_full(target.shape, -1))
                d_bias[region] += d_logits.sum(0)
                d_bonus, d_logits = d_logits.gather(1, token[:, None]), d_logits.to(keys.dtype)
                d_hidden[region, rows] = torch.cat([(d_logits @ keys).float(), d_bonus], dim=1)
                d_table[region] += d_logits.T @ row[:, :-1].to(keys.dtype)
        n = kept.sum().clamp(min=1)
        ctx.save_for_backward(n, d_table, d_bias, d_hidden)
        return total / n

    @staticmethod
    def backward(ctx, d_loss):  # type: ignore[no-untyped-def]
        n, *gradients = ctx.saved_tensors
        return *(gradient.mul_(d_loss / n) for gradient in gradients), None, None, None
