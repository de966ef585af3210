"""The generator of denoising diffusion GANs (Xiao et al. 2022): an NCSN++ (Song et al. 2021, appendix H) with a latent.

Written from what its options mean; names of weights and the order of `all_modules` are those of NVlabs' files.
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True)
class NCSNppConfig:
    """Sizes of the network, by the names of the original's options."""

    image_size: int
    num_channels: int
    num_channels_dae: int  # width of the finest level
    ch_mult: tuple[int, ...]  # width of each level, in multiples of the finest
    num_res_blocks: int
    attn_resolutions: tuple[int, ...]  # sizes in pixels of the levels with attention
    nz: int  # length of z
    z_emb_dim: int
    n_mlp: int
    fir: bool  # resample by the filter 1 3 3 1, rather than by repeating and averaging
    progressive_input: Literal["none", "residual"]  # the image comes in at the finest level alone, or at every one
    skip_rescale: bool = True  # sums of two are divided by sqrt(2)
    centered: bool = True  # the image comes in -1..1, not in 0..1
    not_use_tanh: bool = False


def groups(channels: int) -> int:
    return min(channels // 4, 32)


class AdaptiveGroupNorm(nn.Module):
    """GroupNorm whose scale and shift, per channel, are a linear function of the embedded z."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.groups = groups(channels)
        self.style = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        scale, shift = self.style(z)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1)
        y: Tensor = F.group_norm(x, self.groups, eps=EPSILON) * scale + shift
        return y


class Filter(nn.Module):
    """The filter 1 3 3 1 along both axes of (B, C, H, W), with zeros outside.

    `up` sets it between pixels, for twice the size; else each `stride`-th place is kept, from `padding` outside on.
    """

    weight: Tensor  # (1, 1, 4, 4)

    def __init__(self, up: bool = False, stride: int = 2, padding: int = 1) -> None:
        super().__init__()
        self.apply_to = F.conv_transpose2d if up else F.conv2d
        self.stride, self.padding = stride, padding
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4 if up else 8)
        self.register_buffer("weight", torch.outer(line, line)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        weight = self.weight.expand(channels, 1, 4, 4)
        return self.apply_to(x, weight, stride=self.stride, padding=self.padding, groups=channels)


def resample(config: NCSNppConfig, up: bool) -> nn.Module:
    """Twice or half the size."""
    if config.fir:
        return Filter(up)
    return nn.Upsample(scale_factor=2) if up else nn.AvgPool2d(2)


class ResidualBlock(nn.Module):
    """BigGAN's block (Brock et al. 2019), told z by its norms and t between its convolutions."""

    def __init__(self, config: NCSNppConfig, width: int, out: int, resample: nn.Module | None = None) -> None:
        super().__init__()
        self.resample = resample
        self.rescale = math.sqrt(0.5) if config.skip_rescale else 1.0
        self.GroupNorm_0 = AdaptiveGroupNorm(width, config.z_emb_dim)
        self.Conv_0 = nn.Conv2d(width, out, 3, padding=1)
        self.Dense_0 = nn.Linear(4 * config.num_channels_dae, out)
        self.GroupNorm_1 = AdaptiveGroupNorm(out, config.z_emb_dim)
        self.Conv_1 = nn.Conv2d(out, out, 3, padding=1)
        self.Conv_2 = nn.Conv2d(width, out, 1) if resample or width != out else None

    def forward(self, x: Tensor, level: Tensor, z: Tensor) -> Tensor:
        """x (B, C, H, W), the activated embedding of t (B, 4 nf), that of z (B, E) -> (B, C', H', W')."""
        h = F.silu(self.GroupNorm_0(x, z))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.Conv_0(h) + self.Dense_0(level)[:, :, None, None]
        h = self.Conv_1(F.silu(self.GroupNorm_1(h, z)))
        if self.Conv_2 is not None:
            x = self.Conv_2(x)
        y: Tensor = (x + h) * self.rescale
        return y


class NIN(nn.Module):
    """A linear layer on channels last; its weights lie as (in, out)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(channels, channels) / math.sqrt(channels))
        self.b = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.W + self.b


class Attention(nn.Module):
    """One head over all channels, among all places."""

    def __init__(self, config: NCSNppConfig, channels: int) -> None:
        super().__init__()
        self.rescale = math.sqrt(0.5) if config.skip_rescale else 1.0
        self.GroupNorm_0 = nn.GroupNorm(groups(channels), channels, eps=EPSILON)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (NIN(channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.GroupNorm_0(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        q, k, v = self.NIN_0(h), self.NIN_1(h), self.NIN_2(h)
        weights = (q @ k.transpose(1, 2) * x.shape[1] ** -0.5).softmax(-1)  # (B, HW, HW)
        h = self.NIN_3(weights @ v).transpose(1, 2).view_as(x)
        y: Tensor = (x + h) * self.rescale
        return y


class PyramidDown(nn.Module):
    """The image's way down beside the network: to half the size, and to the width of the level."""

    def __init__(self, config: NCSNppConfig, width: int, out: int) -> None:
        super().__init__()
        # Where the filter is off, one row and column of zeros behind the image make its size odd.
        self.filter = Filter(stride=1, padding=2) if config.fir else nn.ZeroPad2d((0, 1, 0, 1))
        self.name = "Conv2d_0" if config.fir else "Conv_0"
        self.add_module(self.name, nn.Conv2d(width, out, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.get_submodule(self.name)(self.filter(x))
        return result


def embed_time(t: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of integers t (B,), at frequencies from 1 down to 1/10000: (B, width)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class PixelNorm(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()


class NCSNpp(nn.Module):
    """Predicts x_0 from x_t, the number of the step, and z.

    `all_modules` holds the weights in the order in which they are used; beside it, plain lists say what is used where.
    """

    def __init__(self, config: NCSNppConfig) -> None:
        super().__init__()
        self.config = config
        self.rescale = math.sqrt(0.5) if config.skip_rescale else 1.0
        self.all_modules = nn.ModuleList()
        nf, blocks = config.num_channels_dae, config.num_res_blocks
        block, attention = partial(ResidualBlock, config), partial(Attention, config)
        self._add(nn.Linear(nf, 4 * nf))
        self._add(nn.Linear(4 * nf, 4 * nf))
        self._add(nn.Conv2d(config.num_channels, nf, 3, padding=1))
        width, pyramid, skips = nf, config.num_channels, [nf]
        stages = [(nf * m, config.image_size >> i in config.attn_resolutions) for i, m in enumerate(config.ch_mult)]
        self.encoder: list[list[tuple[ResidualBlock, Attention | None]]] = []
        self.downs: list[tuple[ResidualBlock, PyramidDown | None]] = []
        for out, attends in stages:
            self.encoder.append([])
            for _ in range(blocks):
                added = self._add(block(width, out))
                self.encoder[-1].append((added, self._add(attention(out)) if attends else None))
                width = out
                skips.append(width)
            if len(self.encoder) < len(stages):
                down = self._add(block(width, width, resample(config, up=False)))
                residual = config.progressive_input == "residual"
                self.downs.append((down, self._add(PyramidDown(config, pyramid, width)) if residual else None))
                pyramid = width
                skips.append(width)
        self.middle = self._add(block(width, width)), self._add(attention(width)), self._add(block(width, width))
        self.decoder: list[tuple[list[ResidualBlock], Attention | None]] = []
        self.ups: list[ResidualBlock] = []
        for out, attends in reversed(stages):
            first = self._add(block(width + skips.pop(), out))
            others = [self._add(block(out + skips.pop(), out)) for _ in range(blocks)]
            self.decoder.append(([first, *others], self._add(attention(out)) if attends else None))
            width = out
            if skips:
                self.ups.append(self._add(block(width, width, resample(config, up=True))))
        self._add(nn.GroupNorm(groups(width), width, eps=EPSILON))
        self._add(nn.Conv2d(width, config.num_channels, 3, padding=1))
        sizes = [config.nz, *[config.z_emb_dim] * (config.n_mlp + 1)]
        layers = [nn.Sequential(nn.Linear(*pair), nn.SiLU()) for pair in pairwise(sizes)]
        self.z_transform = nn.Sequential(PixelNorm(), *chain(*layers))

    def _add(self, module: _Module) -> _Module:
        self.all_modules.append(module)
        return module

    def forward(self, x_t: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Predict x_0 (B, C, H, W) from x_t (B, C, H, W) at t (B,) in 0..T-1, and z (B, nz)."""
        dense_0, dense_1, conv_in = self.all_modules[:3]
        norm, conv_out = self.all_modules[-2:]
        level = F.silu(dense_1(F.silu(dense_0(embed_time(t, self.config.num_channels_dae)))))  # (B, 4 nf)
        z = self.z_transform(z)  # (B, E)
        pyramid = x_t if self.config.centered else 2 * x_t - 1
        h: Tensor = conv_in(pyramid)
        skips = [h]
        for i, stage in enumerate(self.encoder):
            for block, attention in stage:
                h = block(h, level, z)
                if attention is not None:
                    h = attention(h)
                skips.append(h)
            if i < len(self.downs):
                down, beside = self.downs[i]
                h = down(h, level, z)
                if beside is not None:
                    h = pyramid = (beside(pyramid) + h) * self.rescale
                skips.append(h)
        first, attend, second = self.middle
        h = second(attend(first(h, level, z)), level, z)
        for i, (blocks, attention) in enumerate(self.decoder):
            for block in blocks:
                h = block(torch.cat([h, skips.pop()], dim=1), level, z)
            if attention is not None:
                h = attention(h)
            if i < len(self.ups):
                h = self.ups[i](h, level, z)
        h = conv_out(F.silu(norm(h)))
        return h if self.config.not_use_tanh else h.tanh()
