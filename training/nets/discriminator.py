"""The discriminator of a denoising diffusion GAN: half a U-Net over (x_s, x_t), conditioned on both levels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.nets.unet import LevelEmbedding
from training.recipe import config


@config
class DiscriminatorConfig:
    """Shape of the discriminator; `widths` are channels at half, quarter and eighth resolution."""

    widths: tuple[int, ...] = (48, 96, 192)
    embedding: int = 128


class Block(nn.Module):
    """Two 3x3 convolutions beside an identity, without norms (gradient penalties and norms fight).

    The second starts at 0.3 of its usual size, so that a deep stack starts near the identity.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift = nn.Linear(embedding, channels)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.first(F.leaky_relu(x, 0.2)) + self.shift(embedding)[:, :, None, None]
        added: Tensor = self.second(F.leaky_relu(h, 0.2))
        return x + added


class Discriminator(nn.Module):
    """V(x_s, x_t, t, s): large where x_s looks like a real step from x_t."""

    def __init__(self, config: DiscriminatorConfig, channels: int, classes: int = 0) -> None:
        super().__init__()
        widths = config.widths
        self.level, self.target = LevelEmbedding(config.embedding), LevelEmbedding(config.embedding)
        self.stem = nn.Conv2d(2 * channels * 4, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(Block(w, config.embedding) for w in widths)
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.last = nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1)
        self.head = nn.Linear(widths[-1], 1)
        self.label = nn.Embedding(classes + 1, widths[-1]) if classes else None
        if self.label is not None:
            nn.init.zeros_(self.label.weight)

    def forward(
        self, candidate: Tensor, x_t: Tensor, log_snr: Tensor, target: Tensor, label: Tensor | None = None
    ) -> Tensor:
        """Score candidates (B, C, H, W), of unit variance, given x_t (B, C, H, W) and both log-SNRs (B,): (B,).

        What a label (B,) adds is a projection (Miyato and Koyama 2018).
        """
        embedding = self.level(log_snr) + self.target(target)
        h: Tensor = self.stem(F.pixel_unshuffle(torch.cat([candidate, x_t], dim=1), 2))
        for i, block in enumerate(self.blocks):
            if i:
                h = self.widen[i - 1](F.avg_pool2d(h, 2, ceil_mode=True, count_include_pad=False))
            h = block(h, embedding)
        # How much the batch varies here (Karras et al. 2018): sameness gives a collapsing generator away.
        spread = h.float().var(dim=0, unbiased=False).add(1e-8).sqrt().mean().to(h.dtype)
        h = torch.cat([h, spread.expand(len(h), 1, *h.shape[2:])], dim=1)
        h = F.leaky_relu(self.last(F.leaky_relu(h, 0.2)), 0.2)
        # Two scores of one x_t differ by little of what they share: more digits than autocast's.
        with torch.autocast(h.device.type, enabled=False):
            h = h.float().sum((2, 3))  # (B, W)
            score: Tensor = self.head(h).squeeze(1)
            if self.label is not None:
                score = score + (self.label(label) * h).sum(1)
            return score
