"""The prior of sundae-vqgan (McKinney and Willcocks 2022), as its code is, under the names of its own files.

Where it differs from the paper, and from our own hourglass:
- Rotary embeddings turn features before heads are split, and so the first head alone; not where there is a context.
- Tokens are shortened by squares, but resampling attends within runs of as many tokens, row by row.
- After the valley each token attends to a single one, whatever its query.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD = 64  # channels of a head, always


@dataclass(frozen=True)
class NetConfig:
    """Widths and depths. `side` is that of the grid of tokens; `classes` is 0 for a prior that is told none."""

    vocabulary: int
    dim: int
    heads: int
    depths: tuple[int, int, int]  # before, within and after the valley
    shorten: int  # tokens that one of the valley stands for
    side: int
    resampling: bool  # by attention, beside the linear one
    rotary: bool
    classes: int = 0


class Attention(nn.Module):
    """Attention of (B, N, C) to itself, or to a context (B, M, C), which is not normalised."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, heads * HEAD, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * HEAD, bias=False)
        self.to_out = nn.Linear(heads * HEAD, dim)

    def forward(self, x: Tensor, context: Tensor | None, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        q, (k, v) = self.to_q(x), self.to_kv(x if context is None else context).chunk(2, dim=2)
        if context is None and rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        q, k, v = (each.unflatten(2, (self.heads, HEAD)).transpose(1, 2) for each in (q, k, v))  # (B, heads, N, 64)
        weights = (q @ k.transpose(2, 3) * HEAD**-0.5).softmax(3)
        result: Tensor = self.to_out((weights @ v).transpose(1, 2).flatten(2))
        return result


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first features of x (B, N, C), pair by pair, by angles (N, 64) of which both of a pair are equal."""
    first, rest = x.split([cos.shape[1], x.shape[2] - cos.shape[1]], dim=2)
    a, b = first.unflatten(2, (-1, 2)).unbind(3)
    turned = torch.stack([-b, a], dim=3).flatten(2)
    return torch.cat([first * cos + turned * sin, rest], dim=2)


class Rotary(nn.Module):
    """Cosines and sines (side * side, 64) of a grid: 32 angles of each row, 32 of each column."""

    freqs: Tensor  # (16,)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.zeros(HEAD // 4))

    def forward(self, side: int) -> tuple[Tensor, Tensor]:
        angles = (torch.linspace(-1, 1, side)[:, None] * self.freqs).repeat_interleave(2, dim=1)  # (side, 32)
        shape = side, side, HEAD // 2
        both = torch.cat([angles[:, None].expand(shape), angles[None].expand(shape)], dim=2).flatten(0, 1)
        return both.cos(), both.sin()


class Residual(nn.Module):
    """A layer of what is normalised, beside an identity."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(dim), fn

    def forward(self, x: Tensor, *more: object) -> Tensor:
        result: Tensor = x + self.fn(self.norm(x), *more)
        return result


class Transformer(nn.Module):
    """Layers of attention and feed-forward nets, on a grid of tokens (B, N, C) of a side, or with a context."""

    def __init__(self, config: NetConfig, depth: int) -> None:
        super().__init__()
        dim = config.dim
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Residual(dim, Attention(dim, config.heads)),
                    Residual(
                        dim, nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Identity(), nn.Linear(4 * dim, dim))
                    ),
                ]
            )
            for _ in range(depth)
        )
        self.rotary_pos_emb = Rotary() if config.rotary else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        rotation = None
        if self.rotary_pos_emb is not None and context is None:
            rotation = self.rotary_pos_emb(math.isqrt(x.shape[1]))
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            attention, feed_forward = layer
            x = feed_forward(attention(x, context, rotation))
        return x


class Resample(nn.Module):
    """A linear layer between squares of tokens and one."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.proj = nn.Linear(before, after)


class Hourglass(nn.Module):
    """Embedded tokens (B, N, C) to features (B, N, C)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        before, within, after = config.depths
        self.downsample = Resample(config.dim * config.shorten, config.dim)
        self.upsample = Resample(config.dim, config.dim * config.shorten)
        self.valley_transformer = Transformer(config, within)
        self.attn_resampling_pre_valley = Transformer(config, 1) if config.resampling else None
        self.attn_resampling_post_valley = Transformer(config, 1) if config.resampling else None
        self.pre_transformer = Transformer(config, before)
        self.post_transformer = Transformer(config, after)
        self.norm_out = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor) -> Tensor:
        s = self.config.shorten
        x = self.pre_transformer(x)
        short = self.downsample.proj(self._squares(x))  # (B, N / s, C)
        if self.attn_resampling_pre_valley is not None:
            runs = x.reshape(-1, s, x.shape[2])  # (B * N / s, s, C)
            short = self.attn_resampling_pre_valley(short.reshape(-1, 1, x.shape[2]), runs).view(short.shape)
        short = self.valley_transformer(short)
        x = x + self._unsquare(self.upsample.proj(short))
        if self.attn_resampling_post_valley is not None:
            runs = x.reshape(-1, s, x.shape[2])
            x = self.attn_resampling_post_valley(runs, short.reshape(-1, 1, x.shape[2])).view(x.shape)
        result: Tensor = self.norm_out(self.post_transformer(x))
        return result

    def _squares(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N / s, C * s), features in the order of channel, row and column."""
        r = math.isqrt(self.config.shorten)
        n = self.config.side // r
        squares: Tensor = x.unflatten(1, (n, r, n, r)).permute(0, 1, 3, 5, 2, 4)  # (B, n, n, C, r, r)
        return squares.flatten(3).flatten(1, 2)

    def _unsquare(self, x: Tensor) -> Tensor:
        """The inverse of `_squares`."""
        r = math.isqrt(self.config.shorten)
        n = self.config.side // r
        squares: Tensor = x.unflatten(1, (n, n)).unflatten(3, (-1, r, r))  # (B, n, n, C, r, r)
        return squares.permute(0, 1, 4, 2, 5, 3).flatten(1, 4)


class SundaePrior(nn.Module):
    """Tokens (B, N), and labels (B,) where it has classes, the last standing for none, to logits (B, N, V)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.token_emb = nn.Embedding(config.vocabulary, config.dim)
        self.class_emb = nn.Embedding(config.classes, config.dim) if config.classes else None
        self.transformer = Hourglass(config)
        self.to_logits = nn.Linear(config.dim, config.vocabulary)

    def features(self, tokens: Tensor, label: Tensor | None = None) -> Tensor:
        """What logits are linear in (B, N, C)."""
        x = self.token_emb(tokens)
        if self.class_emb is not None:
            assert label is not None
            nothing = torch.zeros_like(self.class_emb.weight[:1])
            x = x + F.embedding(label, torch.cat([self.class_emb.weight, nothing]))[:, None]
        result: Tensor = self.transformer(x)
        return result

    def forward(self, tokens: Tensor, label: Tensor | None = None) -> Tensor:
        logits: Tensor = self.to_logits(self.features(tokens, label))
        return logits
