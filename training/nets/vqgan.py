"""VQ-GAN (Esser et al. 2021) with f = 32: an image of 1024x1024 pixels is 32x32 tokens. Fully convolutional.

Beside its network, encoder and decoder each have a linear path from and to patches of 32x32 pixels. The linear paths
start as principal components and the codes as k-means of them (training/init/pca_kmeans.py), so that training starts
from recognisable faces; the networks start at zero and learn what the linear paths miss. No norms: they cost more than
they bring here, and running on windows or whole images cannot change their statistics.

The codebook may be positional: the grid of tokens is cut into regions x regions equal blocks, each with codes of its
own, so that one token stands for something else at the chin than in the hair. For aligned faces that is worth 2 dB, and
costs no token.

The decoder may read all tokens of a picture before it convolves: see dequantiser.py.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.nets.dequantiser import Dequantiser, DequantiserConfig
from training.nets.postfilter import postfilter
from training.recipe import config

FACTOR = 32  # pixels along the side of a token
FINEST = 4  # pixels along the side of what the refiner's finest level has one place for


@config
class VQGANConfig:
    """Channels and residual blocks by level, in the order that an image, or its tokens, pass them."""

    codes: int = 8192
    latent: int = 64
    regions: int = 1  # blocks with codes of their own, along each side of an image
    encoder: tuple[int, int, int] = (64, 128, 256)  # channels at 1/8, 1/16 and 1/32 of the image's side
    encoder_blocks: tuple[int, int, int] = (1, 2, 3)
    decoder: tuple[int, ...] = (256, 128, 64, 48)  # channels at 1/32, 1/16, 1/8 and 1/4; none: the linear path alone
    decoder_blocks: tuple[int, ...] = (4, 2, 2, 1)
    dequantiser: DequantiserConfig | None = None  # reads all tokens before the decoder; none: codes are decoded
    lapped: int = 0  # rank of the decoder's linear path from 3x3 latents each; 0: from one
    refiner: tuple[int, ...] = ()  # channels at 1/4, 1/8, 1/16 and 1/32 of what mends the picture; none: nothing does
    postfilter: bool = False  # whether pictures pass filters for drawings at last: see postfilter.py
    attention: bool = False  # at 1/16, in both: what a window gives is then no longer what the whole image gives

    def __post_init__(self) -> None:
        if len(self.decoder) not in (0, 4) or len(self.decoder) != len(self.decoder_blocks):
            raise ValueError("vqgan.decoder and vqgan.decoder_blocks have four numbers each, or none")
        if len(self.refiner) not in (0, 4):
            raise ValueError("vqgan.refiner has four widths, or none")


class Block(nn.Module):
    """Two 3x3 convolutions beside an identity; the second starts small, so that a deep stack starts near identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))
        return x + added


class Attention(nn.Module):
    """Self-attention of all places (B, C, H, W) beside an identity; it starts silent."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        normal = F.normalize(x, dim=1) * x.shape[1] ** 0.5  # the only norm: products grow with the square of their size
        q, k, v = self.qkv(normal).flatten(2).transpose(1, 2)[:, None].chunk(3, dim=3)  # (B, 1, HW, C): one head
        y = F.scaled_dot_product_attention(q, k, v)
        added: Tensor = self.out(y.transpose(2, 3).reshape(x.shape))
        return x + added


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Encoder(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] to latents (B, D, H/32, W/32)."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, config.latent, FACTOR, stride=FACTOR)
        layers: list[nn.Module] = [nn.PixelUnshuffle(8), nn.Conv2d(3 * 8**2, config.encoder[0], 3, padding=1)]
        for level, (width, blocks) in enumerate(zip(config.encoder, config.encoder_blocks, strict=True)):
            if level:
                layers.append(nn.Conv2d(config.encoder[level - 1], width, 2, stride=2))
            layers += [Block(width) for _ in range(blocks)]
            if config.attention and level == 1:
                layers.append(Attention(width))
        self.network = nn.Sequential(*layers, nn.LeakyReLU(0.2), _zero(nn.Conv2d(width, config.latent, 1)))

    def forward(self, images: Tensor) -> Tensor:
        latents: Tensor = self.linear(images) + self.network(images)  # (B, D, H/32, W/32)
        return latents


def lapped(width: int, rank: int) -> nn.Sequential:
    """A linear path from 3x3 latents each: neighbours know of each other, and their patches meet without a step.

    Latents (B, C, h, w) to images (B, 3, 32h, 32w). In closed form: see training/init/lapped.py.
    """
    around = nn.Conv2d(width, rank, 3, padding=1, padding_mode="replicate", bias=False)
    return nn.Sequential(around, nn.Conv2d(rank, 3 * FACTOR**2, 1), nn.PixelShuffle(FACTOR))


class Decoder(nn.Module):
    """Latents (B, D, h, w), with features of a dequantiser if any, to images (B, 3, 32h, 32w), about in [-1, 1]."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        width_in = config.latent + (config.dequantiser.widths[0] if config.dequantiser else 0)
        self.linear = (
            lapped(width_in, config.lapped) if config.lapped else nn.ConvTranspose2d(width_in, 3, FACTOR, stride=FACTOR)
        )
        self.network = _convolutions(width_in, config) if config.decoder else None
        self.refiner = Refiner(config.refiner, width_in) if config.refiner else None
        self.postfilter = config.postfilter

    def forward(self, latents: Tensor) -> Tensor:
        return self.mend(self.draw(latents), latents)

    def draw(self, latents: Tensor) -> Tensor:
        """Images (B, 3, 32h, 32w) as they are before they are mended."""
        images: Tensor = self.linear(latents)
        return images if self.network is None else images + self.network(latents)

    def mend(self, images: Tensor, latents: Tensor) -> Tensor:
        """Mend images (B, 3, 32h, 32w) that were drawn of these latents (B, D, h, w)."""
        mended: Tensor = images if self.refiner is None else self.refiner(images, latents)
        return postfilter(mended, FACTOR) if self.postfilter else mended


def _convolutions(width_in: int, config: VQGANConfig) -> nn.Sequential:
    """Latents (B, C, h, w) to what a linear path misses of images (B, 3, 32h, 32w): zeros at first."""
    layers: list[nn.Module] = [nn.Conv2d(width_in, config.decoder[0], 3, padding=1)]
    for level, (width, blocks) in enumerate(zip(config.decoder, config.decoder_blocks, strict=True)):
        if level:
            layers += [nn.Conv2d(config.decoder[level - 1], width * 2**2, 1), nn.PixelShuffle(2)]
        layers += [Block(width) for _ in range(blocks)]
        if config.attention and level == 1:
            layers.append(Attention(width))
    last = _zero(nn.Conv2d(width, 3 * 4**2, 3, padding=1))
    return nn.Sequential(*layers, nn.LeakyReLU(0.2), last, nn.PixelShuffle(4))


class Refiner(nn.Module):
    """A U-Net that mends a picture which was drawn patch by patch: grain, steps between patches, and colours.

    Silent at first.
    """

    def __init__(self, widths: Sequence[int], width_in: int) -> None:
        super().__init__()
        pixels, steps = 3 * FINEST**2, list(itertools.pairwise(widths))
        self.enter = nn.Conv2d(3, widths[0], 3 * FINEST, stride=FINEST, padding=FINEST)
        self.read = nn.Conv2d(width_in, widths[-1], 1)
        self.encoder = nn.ModuleList(Block(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.decoder = nn.ModuleList(Block(width) for width in widths[:-1])
        self.leave = _zero(nn.Conv2d(widths[0], pixels, 3, padding=1))

    def forward(self, images: Tensor, latents: Tensor) -> Tensor:
        """Mend images (B, 3, 32h, 32w) of latents (B, D, h, w)."""
        h: Tensor = self.enter(images)
        skips = []
        for block, down in zip(self.encoder, self.down, strict=False):
            skips.append(block(h))
            h = down(skips[-1])
        h = self.encoder[-1](h + self.read(latents))
        for block, up, skip in reversed(list(zip(self.decoder, self.up, skips, strict=True))):
            h = block(skip + F.interpolate(up(h), scale_factor=2.0, mode="nearest"))
        return images + F.pixel_shuffle(self.leave(F.leaky_relu(h, 0.2)), FINEST)


class VQGAN(nn.Module):
    """Encoder, codebook and decoder, for R * R regions, row by row."""

    codebook: Tensor  # (R * R, V, D)

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.config = config
        self.dequantiser = Dequantiser(config.dequantiser, config.latent) if config.dequantiser else None
        # What a code draws by itself, where the decoder does not say so.
        self.alone = nn.ConvTranspose2d(config.latent, 3, FACTOR, stride=FACTOR) if config.dequantiser else None
        self.register_buffer("codebook", torch.randn(config.regions**2, config.codes, config.latent))

    def regions_of(self, grid: Tensor) -> Tensor:
        """The regions (h, w) of latents (B, D, h, w), or of tokens (B, h, w), of whole images."""
        height, width = grid.shape[-2:]
        return region_map(height, width, self.config.regions).to(grid.device)

    def quantise(self, latents: Tensor, regions: Tensor) -> Tensor:
        """The nearest code of each latent (B, D, h, w) among those of its region, as for `embed`: tokens (B, h, w)."""
        points = latents.permute(0, 2, 3, 1)  # (B, h, w, D)
        regions = regions.expand(points.shape[:3])
        tokens = torch.empty_like(regions)
        for region in regions.unique().tolist():
            here = regions == region
            tokens[here] = nearest(points[here], self.codebook[region])
        return tokens

    def embed(self, tokens: Tensor, regions: Tensor) -> Tensor:
        """The codes (B, D, h, w) of tokens (B, h, w) in regions (B, h, w), or in those of whole images (h, w)."""
        return F.embedding(tokens + len(self.codebook[0]) * regions, self.codebook.flatten(0, 1)).permute(0, 3, 1, 2)

    def encode(self, images: Tensor) -> Tensor:
        """Tokens (B, H/32, W/32) of whole images (B, 3, H, W) in [-1, 1]."""
        latents: Tensor = self.encoder(images)
        return self.quantise(latents, self.regions_of(latents))

    def decode(self, tokens: Tensor) -> Tensor:
        """Whole images (B, 3, 32h, 32w) of tokens (B, h, w)."""
        images: Tensor = self.decoder(self.dequantise(self.embed(tokens, self.regions_of(tokens))))
        return images

    @property
    def patch(self) -> nn.ConvTranspose2d:
        """The linear path from one code to its patch of pixels."""
        path = self.decoder.linear if self.alone is None else self.alone
        assert isinstance(path, nn.ConvTranspose2d)
        return path

    def dequantise(self, codes: Tensor) -> Tensor:
        """What the decoder reads (B, C, h, w), for codes (B, D, h, w) of whole images."""
        read: Tensor = codes if self.dequantiser is None else self.dequantiser(codes)
        return read


def region_map(height: int, width: int, regions: int) -> Tensor:
    """The region of each place of a grid of tokens: (height, width) int64.

    Raises:
        ValueError: the grid cannot be cut into so many equal blocks.
    """
    if height % regions or width % regions:
        raise ValueError(f"a grid of {height}x{width} tokens cannot be cut into {regions}x{regions} equal regions")
    rows, columns = (torch.arange(n) // (n // regions) for n in (height, width))
    return rows[:, None] * regions + columns


def blocks(x: Tensor, regions: int) -> Tensor:
    """A grid (B, h, w, ...) by region: (R * R, B * h/R * w/R, ...)."""
    batch, height, width, *rest = x.shape
    x = x.reshape(batch, regions, height // regions, regions, width // regions, *rest)
    return x.movedim((1, 3), (0, 1)).reshape(regions**2, -1, *rest)


def unblocks(x: Tensor, batch: int, height: int, width: int) -> Tensor:
    """The inverse of `blocks`: (R * R, B * h/R * w/R, ...) to (B, h, w, ...)."""
    regions = round(len(x) ** 0.5)
    x = x.reshape(regions, regions, batch, height // regions, width // regions, *x.shape[2:])
    return x.movedim((0, 1), (1, 3)).reshape(batch, height, width, *x.shape[5:])


def nearest(points: Tensor, codes: Tensor) -> Tensor:
    """Which of the codes (V, D) is nearest to each of the points (..., D): (...)."""
    # |x - c|^2 / 2 without |x|^2 / 2, which is the same for all codes.
    return (
        torch.addmm(0.5 * codes.square().sum(1), points.float().flatten(0, -2), codes.T, alpha=-1)
        .argmin(1)
        .view(points.shape[:-1])
    )


class PatchDiscriminator(nn.Module):
    """Scores (B, 1, H/16, W/16) of images (B, 3, H, W): how real each neighbourhood looks (Isola et al. 2017).

    Only differences of scores count, so that the last layer has no bias.
    """

    def __init__(self, widths: tuple[int, int, int] = (64, 128, 128)) -> None:
        super().__init__()
        a, b, c = widths
        layers = [
            *(nn.PixelUnshuffle(4), nn.Conv2d(3 * 4**2, a, 3, padding=1), Block(a)),
            *(nn.Conv2d(a, b, 2, stride=2), Block(b)),
            *(nn.Conv2d(b, c, 2, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(c, 1, 3, padding=1, bias=False)),
        ]
        self.network = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images)
        return scores
