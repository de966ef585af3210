"""The 2D-aware hourglass transformer of McKinney and Willcocks (section 3.2): what each token of a grid should be.

Not causal. Tokens are resampled by the square root of `shorten` along each axis, and attention knows where in the plane
they lie (rotary embeddings of both axes). Faces are aligned, so that absolute positions are learned beside it.

What enters for a token and what its logit is are functions of its code: see token_head.py. What all tokens of a picture
are to agree on is its image embedding: see set_encoder.py.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.nets.set_encoder import ImageEmbedder
from training.nets.token_head import TokenHead, perceptron
from training.recipe import config

IMAGE_EMBEDDINGS = 512  # of each class that are kept
FEW = 256  # tokens: up to so many, attention in parts is the faster to learn


@config
class HourglassConfig:
    """Widths, heads and layers by level; the outer level has layers before and after the inner one."""

    tokens: int = 32  # along a side of the grid
    vocabulary: int = 8192
    classes: int = 5
    widths: tuple[int, int] = (192, 384)  # outer, inner
    heads: tuple[int, int] = (3, 6)
    depths: tuple[int, int, int] = (1, 6, 1)
    head: int = 64  # channels
    shorten: int = 4  # tokens of the outer level that one of the inner level stands for
    features: int = 128  # of a token, which its key is multiplied by
    regions: int = 1  # of the codebook, along a side: see VQGANConfig
    codes: int | None = None  # length of the VQ-GAN's codes; learned without
    unigram_rank: int = 0  # of the logits to start from: how often a token is met by label and place
    image_embedding: int = 32  # numbers that an image embedding consists of

    def __post_init__(self) -> None:
        side = math.isqrt(self.shorten)
        if side**2 != self.shorten or self.tokens % side or self.tokens % self.regions:
            raise ValueError(f"a side of {self.tokens} tokens does not suit shorten = {self.shorten} and its regions")


class Attention(nn.Module):
    """Self-attention (B, N, C) -> (B, N, C), rotated by position."""

    def __init__(self, width: int, heads: int, head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head, bias=False)
        self.out = nn.Linear(heads * head, width)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        qkv: Tensor = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1))  # (B, N, 3, heads, head)
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


class Layers(nn.Module):
    """Pre-norm transformer layers on a square grid of tokens (B, N, C)."""

    rotation: Tensor  # (2, N, head / 2)

    def __init__(self, depth: int, width: int, heads: int, head: int, side: int) -> None:
        super().__init__()
        self.attention = nn.ModuleList(Attention(width, heads, head) for _ in range(depth))
        self.feed_forward = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, 4 * width),
                nn.GELU(),
                nn.Linear(4 * width, width),
            )
            for _ in range(depth)
        )
        self.register_buffer("rotation", axial_rotation(side, head), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        for attention, feed_forward in zip(self.attention, self.feed_forward, strict=True):
            x = x + attention(x, self.rotation)
            x = x + feed_forward(x)
        return x  # (B, N, C)


H = TypeVar("H", bound=TokenHead)


def token_head(kind: type[H], config: HourglassConfig) -> H:
    """The output layer of an Hourglass."""
    return kind(
        side=config.tokens,
        regions=config.regions,
        vocabulary=config.vocabulary,
        codes=config.codes,
        features=config.features,
        image_embedding=config.image_embedding,
        unigram_rank=config.unigram_rank,
    )


class Hourglass(nn.Module):
    """Tokens (B, N), known (B, N) in part, labels (B,) and image embeddings (B, K) to logits (B, N, V).

    In two parts: `predict` gives what logits are linear in, `token_head` the logits. An embedding of zeros is none.
    """

    unigram_queries: Tensor  # (classes + 1, N, unigram_rank): see training/init/unigram_logits.py
    image_embeddings: Tensor  # (L, IMAGE_EMBEDDINGS, K), to draw with

    def __init__(self, config: HourglassConfig) -> None:
        super().__init__()
        self.config = config
        outer, inner = config.widths
        self.token_head = token_head(TokenHead, config)
        codes = self.token_head.codes.shape[2]
        self.register_buffer("unigram_queries", torch.zeros(config.classes + 1, config.tokens**2, config.unigram_rank))
        self.token = perceptron(codes, outer)
        self.image_embedder = ImageEmbedder(codes, config.image_embedding, config.classes + 1)
        kept = torch.zeros(max(config.classes, 1), IMAGE_EMBEDDINGS, config.image_embedding)
        self.register_buffer("image_embeddings", kept)
        self.image_embedding_in = nn.Linear(config.image_embedding, outer, bias=False)
        self.label = nn.Embedding(config.classes + 1, outer)  # the last: no class
        self.position = nn.Parameter(0.02 * torch.randn(config.tokens**2, outer))
        self.hidden = nn.Parameter(torch.zeros(outer))  # in place of a token that is not known

        before, within, after = config.depths
        self.side = math.isqrt(config.shorten)
        self.before = Layers(before, outer, config.heads[0], config.head, config.tokens)
        self.within = Layers(within, inner, config.heads[1], config.head, config.tokens // self.side)
        self.after = Layers(after, outer, config.heads[0], config.head, config.tokens)
        self.down, self.up = nn.Linear(outer * config.shorten, inner), nn.Linear(inner, outer * config.shorten)
        self.norm = nn.LayerNorm(outer)
        self.out = nn.Linear(outer, config.features + 1)
        # At first, biases alone speak.
        for weights in (self.out.weight, self.out.bias, self.image_embedding_in.weight):
            nn.init.zeros_(weights)
        nn.init.zeros_(self.token_head.image_key[-1].get_parameter("weight"))

    @property
    def trunk(self) -> tuple[nn.Module, ...]:
        """What lies between the embeddings and the output layer."""
        return self.before, self.down, self.within, self.up, self.after

    @property
    def readers(self) -> tuple[nn.Module, ...]:
        """The linear layers that codes enter, but for those that make keys."""
        return self.token[0], self.image_embedder.each[0]

    def embed_image(self, tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding (B, K) of images, by those tokens (B, N) that are known (B, N), and logits of their labels.

        Logits are (B, classes + 1).
        """
        embedding, labels = self.image_embedder(self.token_head.codes_of(tokens), known)
        return embedding, labels

    def predict(
        self, tokens: Tensor, labels: Tensor, image_embedding: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """`hidden` (B, N, W + 1) of TokenHead, for tokens (B, N) of labels (B,), `classes` standing for none.

        Features, then the image embedding (B, K), then what is constant by label and place, then a bonus for leaving a
        token as it is. Tokens that are not `known` (B, N) are not looked at; without it, all are.
        """
        if image_embedding is None:
            image_embedding = torch.zeros(len(tokens), self.config.image_embedding, device=tokens.device)
        if known is None:
            known = torch.ones_like(tokens, dtype=torch.bool)
        x = self.token(self.token_head.codes_of(tokens))  # (B, N, C)
        x = torch.where(known[..., None], x, self.hidden.to(x.dtype))
        x = x + self.position + (self.label(labels) + self.image_embedding_in(image_embedding))[:, None]
        x = self.before(x)
        x = x + self._widen(self.up(self.within(self.down(self._shorten(x)))))
        features, bonus = self.out(self.norm(self.after(x))).split([self.config.features, 1], dim=2)
        bonus = bonus * known[..., None]
        everywhere = image_embedding[:, None].expand(-1, x.shape[1], -1)
        return torch.cat([features, everywhere.to(x.dtype), self.unigram_queries[labels].to(x.dtype), bonus], dim=2)

    def _shorten(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N / s^2, s^2 C)."""
        n, s = self.config.tokens // self.side, self.side
        squares: Tensor = x.unflatten(1, (n, s, n, s)).transpose(2, 3)  # (B, n, n, s, s, C)
        return squares.flatten(3).flatten(1, 2)

    def _widen(self, x: Tensor) -> Tensor:
        """(B, N / s^2, s^2 C) to (B, N, C)."""
        n, s = self.config.tokens // self.side, self.side
        squares: Tensor = x.unflatten(1, (n, n)).unflatten(3, (s, s, -1))  # (B, n, n, s, s, C)
        return squares.transpose(2, 3).flatten(1, 4)

    def forward(
        self, tokens: Tensor, labels: Tensor, image_embedding: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        return self.token_head.logits(self.predict(tokens, labels, image_embedding, known), tokens)
