"""The 2D-aware hourglass transformer of McKinney and Willcocks (section 3.2): what each token of a grid should be.

Not causal. Tokens are resampled by the square root of `shorten` along each axis, and attention knows where in the plane
they lie (rotary embeddings of both axes). Faces are aligned, so that absolute positions are learned beside it.

A token is known by its code, the vector that it stands for in the VQ-GAN's codebook: both what enters for it and what
leaves as its key are functions of that vector. Tokens that look alike are likely together, without having been seen
together. Where tokens have no codes (grey levels), vectors are learned.

A theme is what the tokens of a picture have in common, wherever they lie, as a few numbers: the colours of skin, hair
and background. Tokens that are drawn at once do not know of each other; a theme tells all what they are to agree on.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.nets.vqgan import blocks, region_map, unblocks
from training.recipe import config

SET = 128  # width of what is averaged over all tokens
HIDDEN = 256  # width between a code and what is made of it
LEARNED = 64  # length of the codes of tokens that have none
THEMES = 512  # of each class that are kept
ROWS = 256  # logits of so many tokens are held at a time
FEW = 256  # tokens: up to so many, attention in parts is the faster to learn
BLOCK = 64  # tokens of the vocabulary among which one is looked for at a time


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
    marginals: int = 0  # rank of what logits start from: how often a token is met by label and place
    theme: int = 32  # numbers that a theme consists of

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
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, head)
        y = attend(rotate(q, rotation), rotate(k, rotation), v)
        return self.out(y.transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention (B, heads, N, head), in parts where PyTorch's fused one is slow to learn: few tokens on a CPU."""
    if not q.requires_grad or q.device.type != "cpu" or q.shape[2] > FEW:
        return F.scaled_dot_product_attention(q, k, v)
    return (q * q.shape[3] ** -0.5 @ k.transpose(2, 3)).softmax(3).to(v.dtype) @ v


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
        return x


def _perceptron(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width_out))


class Recognition(nn.Module):
    """Codes (B, N, D), known (B, N) in part, to the theme (B, K) of all, in -1 .. 1, and logits of labels (B, L).

    It is a function of the set of those that are known (as Zaheer et al. 2017, Deep Sets).
    """

    def __init__(self, codes: int, theme: int, labels: int) -> None:
        super().__init__()
        self.sizes = [theme, labels]
        self.each = nn.Sequential(nn.Linear(codes, SET), nn.ReLU(), nn.Linear(SET, SET), nn.ReLU())
        self.all = _perceptron(SET, theme + labels)

    def forward(self, codes: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        known = known[..., None].to(codes.dtype)
        mean = (self.each(codes) * known).sum(1) / known.sum(1).clamp(min=1)
        theme, labels = self.all(mean).split(self.sizes, dim=1)
        return theme.tanh(), labels


class Hourglass(nn.Module):
    """Tokens (B, N), known (B, N) in part, labels (B,) and themes (B, K) to logits (B, N, V) by `predict` and `logits`.

    `logits` is linear in what `predict` gives. A theme of zeros is none.
    """

    def __init__(self, config: HourglassConfig) -> None:
        super().__init__()
        self.config = config
        outer, inner = config.widths
        shape = (config.regions**2, config.vocabulary, config.codes or LEARNED)
        if config.codes:
            self.register_buffer("codes", torch.zeros(shape))
        else:
            self.codes = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(shape[:2]))  # (R * R, V)
        self.register_buffer("context", torch.zeros(*shape[:2], config.marginals))  # see training/marginals.py
        self.register_buffer("place", torch.zeros(config.classes + 1, config.tokens**2, config.marginals))
        self.register_buffer(
            "regions", region_map(config.tokens, config.tokens, config.regions).flatten(), persistent=False
        )
        self.token, self.key = _perceptron(shape[2], outer), _perceptron(shape[2], config.features)
        self.tint = _perceptron(shape[2], config.theme)  # the part of a key that a theme is multiplied by
        self.recognition = Recognition(shape[2], config.theme, config.classes + 1)
        self.register_buffer("themes", torch.zeros(max(config.classes, 1), THEMES, config.theme))  # to draw with
        self.theme = nn.Linear(config.theme, outer, bias=False)
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
        nn.init.zeros_(self.out.weight)  # at first, `bias` alone speaks
        nn.init.zeros_(self.out.bias)
        for layer in (self.theme, self.tint[-1]):
            nn.init.zeros_(layer.weight)

    def set_codes(self, codebook: Tensor) -> None:
        """Take over a VQ-GAN's codebook (R * R, V, D), at unit mean square. Raises ValueError where it does not fit."""
        if codebook.shape != self.codes.shape:
            raise ValueError(f"hourglass is made for codes {list(self.codes.shape)}, not {list(codebook.shape)}")
        self.codes.copy_(codebook / codebook.square().mean().sqrt())

    @property
    def trunk(self) -> tuple[nn.Module, ...]:
        """What lies between the embeddings and the output layer."""
        return self.before, self.down, self.within, self.up, self.after

    @property
    def readers(self) -> tuple[nn.Linear, ...]:
        """The layers that codes enter, but for those that make keys."""
        return self.token[0], self.recognition.each[0]

    def read(self, tokens: Tensor) -> Tensor:
        """The codes (B, N, D) of tokens (B, N)."""
        return F.embedding(tokens + self.config.vocabulary * self.regions, self.codes.flatten(0, 1))

    def recognise(self, tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The theme (B, K) and logits of the label (B, classes + 1), by those tokens (B, N) that are known (B, N)."""
        return self.recognition(self.read(tokens), known)

    def predict(
        self, tokens: Tensor, labels: Tensor, theme: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """What logits are made of (B, N, W + 1), for tokens (B, N) of labels (B,), `classes` standing for none.

        Features, then the theme (B, K), then what is constant by label and place, then a bonus for leaving a token as
        it is. Tokens that are not `known` (B, N) are not looked at; without it, all are.
        """
        if theme is None:
            theme = torch.zeros(len(tokens), self.config.theme, device=tokens.device)
        if known is None:
            known = torch.ones_like(tokens, dtype=torch.bool)
        x = self.token(self.read(tokens))
        x = torch.where(known[..., None], x, self.hidden.to(x.dtype))
        x = x + self.position + (self.label(labels) + self.theme(theme))[:, None]
        x = self.before(x)
        x = x + self._widen(self.up(self.within(self.down(self._shorten(x)))))
        features, bonus = self.out(self.norm(self.after(x))).split([self.config.features, 1], dim=2)
        bonus = bonus * known[..., None]
        everywhere = theme[:, None].expand(-1, x.shape[1], -1)
        return torch.cat([features, everywhere.to(x.dtype), self.place[labels].to(x.dtype), bonus], dim=2)

    def _shorten(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N / s^2, s^2 C)."""
        n, s = self.config.tokens // self.side, self.side
        return x.unflatten(1, (n, s, n, s)).transpose(2, 3).flatten(3).flatten(1, 2)

    def _widen(self, x: Tensor) -> Tensor:
        """(B, N / s^2, s^2 C) to (B, N, C)."""
        n, s = self.config.tokens // self.side, self.side
        return x.unflatten(1, (n, n)).unflatten(3, (s, s, -1)).transpose(2, 3).flatten(1, 4)

    def table(self) -> Tensor:
        """The key of each token in each region (R * R, V, W)."""
        keys = self.keys_of(self.codes)
        return torch.cat([keys, self.context.to(keys.dtype)], dim=2)

    def keys_of(self, codes: Tensor) -> Tensor:
        """What features and themes are multiplied by (..., W - marginals), for codes (..., D)."""
        return torch.cat([self.key(codes), self.tint(codes)], dim=-1)

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Logits (B, N, V) of what `predict` made of tokens (B, N); linear in it."""
        by_region = self.by_region(hidden[..., :-1])
        logits = torch.baddbmm(self.bias[:, None], by_region, self.table().transpose(1, 2))
        logits = unblocks(logits, len(tokens), self.config.tokens, self.config.tokens).flatten(1, 2)
        return logits.scatter_add(2, tokens[..., None], hidden[..., -1:].to(logits.dtype))

    def forward(
        self, tokens: Tensor, labels: Tensor, theme: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        return self.logits(self.predict(tokens, labels, theme, known), tokens)

    def by_region(self, x: Tensor) -> Tensor:
        """(B, N, ...) to (R * R, B * n, ...), n being the tokens of a region."""
        return blocks(x.unflatten(1, (self.config.tokens, self.config.tokens)), self.config.regions)

    @torch.no_grad()
    def draw(
        self,
        hidden: Tensor,
        tokens: Tensor,
        update: Tensor,
        temperature: Tensor,
        uniform: Tensor,
        judge: Tensor | None = None,
        evidence: Tensor | None = None,
        table: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw those tokens of (B, N) that `update` (B, N) says at temperatures (B,), from numbers (B, N) in [0, 1).

        By inverse CDF. Returns all tokens (B, N) and, if any image is to be judged (B,), the probability (B, N) that
        each had at temperature 1, which is 1 where none was drawn. `evidence` (B, N, V) is added to the logits, and
        `table` is what `table` gave.
        """
        drawn, chances, judged = tokens.clone(), torch.ones_like(uniform), judge is not None and judge.any()
        for region, (keys, bias) in enumerate(zip(self.table() if table is None else table, self.bias, strict=True)):
            for at in (update & (self.regions == region)).nonzero().split(ROWS):
                image, _ = rows = at.unbind(1)
                logits = score(hidden[rows].float(), keys, bias, tokens[rows])  # (M, V)
                if evidence is not None:
                    logits += evidence[rows]
                plain = logits.softmax(1) if judged else None
                chosen = pick(logits.div_(temperature[image, None]).softmax(1), uniform[rows])
                drawn[rows] = chosen
                if plain is not None:
                    chances[rows] = plain.gather(1, chosen[:, None])[:, 0]
        return drawn, chances


def score(hidden: Tensor, keys: Tensor, bias: Tensor, tokens: Tensor) -> Tensor:
    """Logits (M, V) float of a region's hidden (M, W + 1), keys (V, W), biases (V,) and tokens (M,)."""
    logits = (hidden[:, :-1].to(keys.dtype) @ keys.T).float().add_(bias)
    return logits.scatter_add_(1, tokens[:, None], hidden[:, -1:])


def pick(p: Tensor, uniform: Tensor) -> Tensor:
    """Draw from each distribution (M, V) by inverse CDF of a number in [0, 1): (M,).

    First a block of tokens, then one of its tokens: no cumulative sum is as long as the vocabulary.
    """
    size = math.gcd(p.shape[1], BLOCK)
    p = p.unflatten(1, (-1, size))  # (M, blocks, size)
    blocks = p.sum(2).cumsum(1)
    u = uniform[:, None] * blocks[:, -1:]
    block = torch.searchsorted(blocks, u, right=True).clamp_(max=p.shape[1] - 1)  # (M, 1)
    u = u - F.pad(blocks, (1, 0)).gather(1, block)
    within = p.take_along_dim(block[:, :, None], dim=1)[:, 0].cumsum(1)  # (M, size)
    return (block * size + torch.searchsorted(within, u, right=True).clamp_(max=size - 1))[:, 0]
