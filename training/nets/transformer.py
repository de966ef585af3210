"""Transformer layers that know where in a square grid a token lies, and a trunk of two levels of them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 256  # width between a code and what is made of it
FEW = 256  # tokens: up to so many, attention in parts is the faster to learn


Shifts = tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]  # before, within, after and for the last norm


def perceptron(width_in: int, width_out: int) -> nn.Sequential:
    """What makes something of a code."""
    return nn.Sequential(nn.Linear(width_in, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width_out))


class Attention(nn.Module):
    """Self-attention (B, N, C) -> (B, N, C), rotated by position."""

    def __init__(self, width: int, heads: int, head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head, bias=False)
        self.out = nn.Linear(heads * head, width)

    def forward(self, x: Tensor, rotation: Tensor, shift: Tensor | None = None) -> Tensor:
        normal = self.norm(x) if shift is None else self.norm(x) + shift
        qkv: Tensor = self.qkv(normal).unflatten(2, (3, self.heads, -1))  # (B, N, 3, heads, head)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, head)
        y = attend(rotate(q, rotation), rotate(k, rotation), v)
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))  # (B, N, C)
        return result


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention (B, heads, N, head), in parts where PyTorch's fused one is slow to learn: few tokens on a CPU."""
    if not q.requires_grad or q.device.type != "cpu" or q.shape[2] > FEW:
        return F.scaled_dot_product_attention(q, k, v)
    weights = (q * q.shape[3] ** -0.5 @ k.transpose(2, 3)).softmax(3)  # (B, heads, N, N)
    mixed: Tensor = weights.to(v.dtype) @ v
    return mixed


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn pairs of channels of x (..., N, C) by the angles whose cosines and sines are `rotation` (2, N, C/2)."""
    cos, sin = rotation.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def axial_rotation(side: int, head: int) -> Tensor:
    """Cosines and sines (2, side * side, head / 2) for positions -1 to 1 along each axis.

    Half of the angles are of each axis; the highest frequency turns by about pi from a token to the next.
    """
    frequencies = torch.linspace(1, side / 2, head // 4) * math.pi
    angles = torch.linspace(-1, 1, side)[:, None] * frequencies  # (side, head / 4)
    shape = (side, side, head // 4)
    both = torch.cat([angles[:, None].expand(shape), angles[None].expand(shape)], dim=-1).flatten(0, 1)
    return torch.stack([both.cos(), both.sin()])


class FeedForward(nn.Sequential):
    """Norm, and two layers around a GELU, (B, N, C) -> (B, N, C)."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        norm, *layers = self
        x = norm(x) if shift is None else norm(x) + shift
        for layer in layers:
            x = layer(x)
        return x


class Layers(nn.Module):
    """Pre-norm transformer layers on a square grid of tokens (B, N, C).

    What leaves a norm may be shifted: by (B, N, C) for each of the two norms of each layer.
    """

    rotation: Tensor  # (2, N, head / 2)

    def __init__(self, depth: int, width: int, heads: int, head: int, side: int) -> None:
        super().__init__()
        self.attention = nn.ModuleList(Attention(width, heads, head) for _ in range(depth))
        self.feed_forward = nn.ModuleList(FeedForward(width) for _ in range(depth))
        self.register_buffer("rotation", axial_rotation(side, head), persistent=False)

    def forward(self, x: Tensor, shifts: Sequence[Tensor | None] | None = None) -> Tensor:
        each = iter(shifts or [None] * (2 * len(self.attention)))
        for attention, feed_forward in zip(self.attention, self.feed_forward, strict=True):
            x = x + attention(x, self.rotation, next(each))
            x = x + feed_forward(x, next(each))
        return x  # (B, N, C)


class Trunk(nn.Module):
    """The hourglass of McKinney and Willcocks (section 3.2): layers at full size around layers of a smaller grid.

    Tokens are resampled by the square root of `shorten` along each axis.
    """

    def __init__(
        self,
        tokens: int,
        widths: tuple[int, int],
        heads: tuple[int, int],
        depths: tuple[int, int, int],
        head: int,
        shorten: int,
    ) -> None:
        """`tokens` lie along a side; `widths` and `heads` are of the outer and the inner level, `head` is channels.

        `depths` are of the layers before, within and after the smaller grid.
        """
        super().__init__()
        (outer, inner), (before, within, after) = widths, depths
        self.side, self.smaller = math.isqrt(shorten), tokens // math.isqrt(shorten)
        self.before = Layers(before, outer, heads[0], head, tokens)
        self.within = Layers(within, inner, heads[1], head, self.smaller)
        self.after = Layers(after, outer, heads[0], head, tokens)
        self.down, self.up = nn.Linear(outer * shorten, inner), nn.Linear(inner, outer * shorten)
        self.norm = nn.LayerNorm(outer)

    @property
    def trunk(self) -> tuple[nn.Module, ...]:
        """What lies between the embeddings and the output layer."""
        return self.before, self.down, self.within, self.up, self.after

    def run(self, x: Tensor, shifts: Shifts | None = None) -> Tensor:
        """(B, N, C) to (B, N, C), normalised; what leaves each norm may be shifted."""
        before, within, after = shifts or (None, None, None)
        x = self.before(x, before)
        x = x + self.widen(self.up(self.within(self.down(self.shorten(x)), within)))
        x = self.norm(self.after(x, after))
        return x if after is None else x + after[-1]

    def shorten(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N / s^2, s^2 C)."""
        n, s = self.smaller, self.side
        squares: Tensor = x.unflatten(1, (n, s, n, s)).transpose(2, 3)  # (B, n, n, s, s, C)
        return squares.flatten(3).flatten(1, 2)

    def widen(self, x: Tensor) -> Tensor:
        """(B, N / s^2, s^2 C) to (B, N, C)."""
        n, s = self.smaller, self.side
        squares: Tensor = x.unflatten(1, (n, n)).unflatten(3, (s, s, -1))  # (B, n, n, s, s, C)
        return squares.transpose(2, 3).flatten(1, 4)
