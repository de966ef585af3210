"""The U-Net that predicts a clean image from a noisy one: DDPM's regressor and DDGAN's generator."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.nets.normalisation import AdaptiveGroupNorm
from training.recipe import config


@config
class UNetConfig:
    """Shape of a U-Net; `widths` are channels at full, half, quarter... resolution."""

    size: int = 28  # height and width of the image
    channels: int = 1
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1  # residual blocks a level, on the way down and again on the way up
    groups: int = 8
    heads: int = 4  # of the attention at the lowest resolution
    embedding: int = 128
    latent: int = 64  # length of z; 0 makes a deterministic regressor
    classes: int = 0  # that it can be told; one label more, the last, stands for none of them
    told_target: bool = False  # whether it is told the level that a step leads to
    told_start: bool = False  # whether it is told the picture that a step is from


class LevelEmbedding(nn.Module):
    """A noise level's log-SNR to a vector: Fourier features and a two-layer network."""

    frequencies: Tensor  # (16,)

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(math.log(0.1), math.log(3.0), 16))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, log_snr: Tensor) -> Tensor:
        angles = log_snr[:, None] * self.frequencies  # (B, 16)
        embedding: Tensor = self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))  # (B, E)
        return embedding

    def silence(self) -> None:
        """Start at zero, whatever the level."""
        for parameter in self.layers[2].parameters():
            nn.init.zeros_(parameter)


class Mapping(nn.Module):
    """The latent z to a vector: PixelNorm and a small network."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, z: Tensor) -> Tensor:
        embedding: Tensor = self.layers(z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8))  # (B, E)
        return embedding


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions beside an identity; `styles` lists the two norms' (scale, shift)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(AdaptiveGroupNorm(channels, groups) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor, styles: Iterator[Tensor]) -> Tensor:
        h = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            h = convolution(F.silu(norm(h, next(styles))))
        return x + h


class Attention(nn.Module):
    def __init__(self, channels: int, groups: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).unbind(1)
        weights = (q.transpose(2, 3) @ k * (c // self.heads) ** -0.5).softmax(-1)  # (B, heads, HW, HW)
        added: Tensor = self.out((v @ weights.transpose(2, 3)).reshape(b, c, h, w))
        return x + added


class UNet(nn.Module):
    """Predicts x_0 from x_t, through v: x_0 = signal x_t - noise v (Salimans and Ho 2022), so that detail passes by."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, groups = config.widths, config.groups
        neighbours = list(zip(widths[:-1], widths[1:], strict=True))
        self.level = LevelEmbedding(config.embedding)
        self.target = LevelEmbedding(config.embedding) if config.told_target else None
        if self.target is not None:
            self.target.silence()  # what it starts from is told none
        self.mapping = Mapping(config.latent, config.embedding) if config.latent else None
        self.label = nn.Embedding(config.classes + 1, config.embedding) if config.classes else None
        if self.label is not None:
            nn.init.zeros_(self.label.weight)  # what a generator starts from is told none
        self.stem = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.start = nn.Conv2d(config.channels, widths[0], 3, padding=1) if config.told_start else None
        if self.start is not None:
            for parameter in self.start.parameters():
                nn.init.zeros_(parameter)  # likewise
        self.encoder, self.decoder = (
            nn.ModuleList(nn.ModuleList(ResidualBlock(w, groups) for _ in range(config.blocks)) for w in widths)
            for _ in range(2)
        )
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in neighbours)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in neighbours)
        self.attention = Attention(widths[-1], groups, config.heads)
        self.head = nn.Conv2d(widths[0], config.channels, 3, padding=1)
        # One linear layer gives every norm's scale and shift, in the order in which forward meets them.
        self.split = [2 * w for w in (*widths, *widths[::-1]) for _ in range(2 * config.blocks)]
        self.styles = nn.Linear(config.embedding, sum(self.split))

    def forward(
        self,
        x_t: Tensor,
        log_snr: Tensor,
        target: Tensor | None = None,
        z: Tensor | None = None,
        label: Tensor | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Predict x_0 (B, C, H, W) from x_t (B, C, H, W), its log-SNR (B,), a latent z (B, L) and labels (B,).

        `target` (B,) is the log-SNR of the level that the step leads to, `start` (B, C, H, W) the picture it is from.
        """
        embedding: Tensor = self.level(log_snr)  # (B, E)
        for part, told in ((self.target, target), (self.mapping, z), (self.label, label)):
            if part is not None:
                embedding = embedding + part(told)
        styles = iter(self.styles(F.silu(embedding)).split(self.split, dim=1))
        h: Tensor = self.stem(x_t)
        if self.start is not None:
            h = h + self.start(start)
        skips = []
        for i, level in enumerate(self.encoder):
            if i:
                h = self.down[i - 1](h)
            for block in level.children():
                h = block(h, styles)
            skips.append(h)
        h = self.attention(h)
        for i in reversed(range(len(self.decoder))):
            if i < len(self.up):
                h = skips[i] + F.interpolate(self.up[i](h), scale_factor=2.0, mode="nearest")
            for block in self.decoder[i].children():
                h = block(h, styles)
        alpha_bar = log_snr.sigmoid()[:, None, None, None]
        v: Tensor = self.head(F.silu(h))
        return alpha_bar.sqrt() * x_t - (1 - alpha_bar).sqrt() * v
