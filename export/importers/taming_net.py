"""The VQ-GAN of taming-transformers (Esser et al. 2021), under the names of its own checkpoints.

Group normalisation of 32 groups, swish, plain residual blocks, one head of attention. Attention lies where the nominal
resolution, halved level by level, is one that the configuration lists, whatever the size of the image.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32
EPSILON = 1e-6


class NetConfig(BaseModel):
    """`ddconfig` of a configuration. Unknown keys are refused: they might mean another network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ch: int = Field(gt=0, le=2**10, multiple_of=GROUPS)
    ch_mult: tuple[Annotated[int, Field(gt=0, le=64)], ...] = Field(min_length=2, max_length=8)
    num_res_blocks: int = Field(gt=0, le=16)
    attn_resolutions: tuple[int, ...]
    resolution: int = Field(gt=0, le=2**11)
    z_channels: int = Field(gt=0, le=2**14)
    in_channels: Literal[3] = 3
    out_ch: Literal[3] = 3
    double_z: Literal[False] = False
    dropout: float = 0.0  # of training
    resamp_with_conv: Literal[True] = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.resolution % self.factor:
            raise ValueError(f"a resolution of {self.resolution} cannot be halved {len(self.ch_mult) - 1} times")
        return self

    @property
    def factor(self) -> int:
        """Pixels along the side of a token."""
        return int(2 ** (len(self.ch_mult) - 1))

    def attends(self, level: int) -> bool:
        """Whether attention follows each block of a level, 0 being full size."""
        return self.resolution // 2**level in self.attn_resolutions


def normalise(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=EPSILON)


class Block(nn.Module):
    """Two 3x3 convolutions beside an identity, or beside a 1x1 convolution where widths differ."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = normalise(before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = normalise(after), nn.Conv2d(after, after, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        result: Tensor = h + (x if self.nin_shortcut is None else self.nin_shortcut(x))
        return result  # (B, C', H, W)


class Attention(nn.Module):
    """Self-attention of all places (B, C, H, W), one head of all channels, beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = normalise(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))  # (B, HW, C)
        weights = (q @ k.transpose(1, 2) * x.shape[1] ** -0.5).softmax(2)  # (B, HW, HW)
        added: Tensor = self.proj_out((weights @ v).transpose(1, 2).reshape(x.shape))
        return x + added


class Down(nn.Module):
    """Half the size: one row and one column of zeros at the right and the bottom, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return result


class Up(nn.Module):
    """Twice the size: every pixel four times, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return result


class Level(nn.Module):
    """The blocks of a level, each with its attention where the level has it, and a change of size."""

    def __init__(self, before: int, after: int, blocks: int, attends: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(Block(after if i else before, after) for i in range(blocks))
        self.attn = nn.ModuleList(Attention(after) for _ in range(blocks if attends else 0))
        self.downsample: Down | None = None
        self.upsample: Up | None = None

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        for resample in (self.downsample, self.upsample):
            x = x if resample is None else resample(x)
        return x


class Middle(nn.Module):
    """Block, attention, block (B, C, H, W) at the smallest size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = (Block(channels, channels) for _ in range(2))
        self.attn_1 = Attention(channels)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return result


class Encoder(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] to (B, z_channels, H / f, W / f)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        self.conv_in = nn.Conv2d(config.in_channels, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        for i, (before, after) in enumerate(zip([config.ch, *widths], widths, strict=False)):
            level = Level(before, after, config.num_res_blocks, config.attends(i))
            if i + 1 < len(widths):
                level.downsample = Down(after)
            self.down.append(level)
        self.mid = Middle(widths[-1])
        self.norm_out = normalise(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for level in self.down:
            x = level(x)
        result: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(x))))
        return result


class Decoder(nn.Module):
    """Latents (B, z_channels, h, w) to images (B, 3, f h, f w), about in [-1, 1]."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList()  # by level: the first is full size, and the last to be computed
        for i, (before, after) in enumerate(zip([*widths[1:], widths[-1]], widths, strict=True)):
            level = Level(before, after, config.num_res_blocks + 1, config.attends(i))
            if i:
                level.upsample = Up(after)
            self.up.append(level)
        self.norm_out = normalise(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.out_ch, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.mid(self.conv_in(latents))
        for level in reversed(self.up):
            x = level(x)
        result: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return result


class Nearest(nn.Module):
    """How far each code is from a latent, by Euclid."""

    def __init__(self, codes: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, length)

    @property
    def codebook(self) -> Tensor:
        """(V, D)."""
        return self.embedding.weight

    def keep(self, used: Tensor) -> None:
        """Keep the codes of these numbers (K,) alone."""
        self.embedding = nn.Embedding.from_pretrained(self.embedding.weight[used])

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, D, h, w) to (B, V, h * w): half the square of a distance, less what is the same for all codes."""
        # Points are transposed rather than codes: the exporter would store those once more, transposed.
        half_norms = 0.5 * self.codebook.square().sum(1)
        return half_norms[:, None] - self.codebook @ latents.flatten(2)


class Likeliest(nn.Module):
    """How unlikely each code is, of a network that was trained by Gumbel's noise, which is left out."""

    def __init__(self, codes: int, length: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(length, codes, 1)
        self.embed = nn.Embedding(codes, length)

    @property
    def codebook(self) -> Tensor:
        """(V, D)."""
        return self.embed.weight

    def keep(self, used: Tensor) -> None:
        """Keep the codes of these numbers (K,) alone."""
        assert self.proj.bias is not None
        weights = self.proj.weight[used], self.proj.bias[used]
        self.proj = nn.Conv2d(self.proj.in_channels, len(used), 1)
        self.proj.weight, self.proj.bias = map(nn.Parameter, weights)
        self.embed = nn.Embedding.from_pretrained(self.embed.weight[used])

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, D, h, w) to (B, V, h * w): logits, their sign turned."""
        logits: Tensor = self.proj(latents).flatten(2)
        return -logits


class TamingVQGAN(nn.Module):
    """Images to tokens and back, as the original in evaluation."""

    def __init__(self, config: NetConfig, codes: int, length: int, gumbel: bool) -> None:
        """`codes` of `length` numbers; `gumbel` for a network that says how likely each is."""
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize: Nearest | Likeliest = Likeliest(codes, length) if gumbel else Nearest(codes, length)
        self.quant_conv = nn.Conv2d(config.z_channels, length, 1)
        self.post_quant_conv = nn.Conv2d(length, config.z_channels, 1)
        self.config = config

    def latents(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to (B, D, H / f, W / f), before they become tokens."""
        result: Tensor = self.quant_conv(self.encoder(images))
        return result

    def distances(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to (B, V, N): how far each code is from each place, row by row."""
        result: Tensor = self.quantize(self.latents(images))
        return result

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to tokens (B, N), row by row."""
        return self.distances(images).argmin(1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens (B, h, w) to images (B, 3, f h, f w), about in [-1, 1]."""
        codes = F.embedding(tokens, self.quantize.codebook).permute(0, 3, 1, 2)  # (B, D, h, w)
        images: Tensor = self.decoder(self.post_quant_conv(codes))
        return images
