"""A VQ-GAN as graphs: pictures to tokens, tokens to pictures, and what part of a picture says of its tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.graph import export, parity, relative, share_unequal
from export.int8 import PRODUCTS, SMALLEST, round_linear, store_int8
from export.ort_ops import fused
from export.weights import Rounded, store_half
from training.data.images import signed
from training.nets.vqgan import FACTOR, VQGAN, blocks, unblocks

ROLES = ("encode", "decode", "pixel_likelihood")  # of its graphs

LEVELS = 1.0  # of 255, by which a pixel may differ: rounding
TIES = 2e-3  # share of tokens that may differ where two codes are as near

CELL = 4  # pixels along the side of what is compared: of 4, two thirds of cut tokens are told, of 8, half
SPREAD = 0.03  # error of a cell that its token's code says well, in a range of 2
TINY = 1e-3
ALIKE = 8  # errors that say no more than one, being those of neighbours


class Encode(nn.Module):
    """Pictures (B, H, W, 3) uint8 to tokens (B, N). Each region is compared with its codes in one product."""

    half_norms: Tensor  # (R * R, V)

    def __init__(self, network: VQGAN) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("half_norms", 0.5 * network.codebook.square().sum(2))

    def forward(self, image: Tensor) -> Tensor:
        latents = self.network.encoder(signed(image.permute(0, 3, 1, 2)))  # (B, D, h, w)
        points = blocks(latents.permute(0, 2, 3, 1), self.network.config.regions)  # (R * R, M, D)
        # |x - c|^2 / 2 without |x|^2 / 2, which is the same for all codes. Points are transposed rather than codes: the
        # exporter would store those once more, transposed.
        distance = self.half_norms[:, :, None] - self.network.codebook @ points.transpose(1, 2)  # (R * R, V, M)
        return unblocks(distance.argmin(1), image.shape[0], *latents.shape[2:]).flatten(1)


class Decoding(Protocol):
    """A VQ-GAN, ours or another's."""

    def decode(self, tokens: Tensor) -> Tensor:
        """Images (B, 3, H, W), about in [-1, 1], of tokens (B, h, w)."""


class Decode(nn.Module):
    """Tokens (B, N) of square grids to pictures (B, H, W, 3) uint8."""

    def __init__(self, network: Decoding, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, tokens: Tensor) -> Tensor:
        pictures = self.network.decode(tokens.unflatten(1, (self.side, self.side)))  # (B, 3, H, W)
        levels = (pictures * 127.5 + 128).clamp(0, 255)  # of which the whole part is the nearest level
        return levels.to(torch.uint8).permute(0, 2, 3, 1)


class PixelLikelihood(nn.Module):
    """What the known pixels of a picture say of its tokens, in nats, to be added to their logits.

    The logarithm of the likelihood of what is known, under each code, but for what is the same for all codes. What is
    compared is the mean of each known cell with that of what the decoder's linear path draws there. This path does not
    draw all patches equally well: errors are normal, but of a variance that is not known, so that their likelihood is
    Student's (Gelman et al. 2013, section 2.8). It is 0 for a token of which nothing is known.
    """

    codebook: Tensor  # (R * R, V, D)
    cells: Tensor  # (D, 3 * c * c): what a code draws, as means of cells
    background: Tensor  # (3, 1, 1)

    def __init__(self, network: VQGAN) -> None:
        super().__init__()
        linear, self.regions = network.patch, network.config.regions
        assert linear.bias is not None
        self.register_buffer("codebook", network.codebook)
        cells = F.avg_pool2d(linear.weight, CELL).flatten(1)
        self.register_buffer("cells", cells.half().float())  # as a bundle holds them
        self.register_buffer("background", linear.bias[:, None, None].detach())

    def forward(self, image: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
        """Image (B, H, W, 3) uint8, known (B, H, W), and `wanted` (B, N) tokens to `logit_bias` (B, N, V).

        Regions without a wanted token are left out: what is said of their tokens is void.
        """
        side = image.shape[1] // FACTOR, image.shape[2] // FACTOR
        asked = blocks(wanted.unflatten(1, side), self.regions).any(1)  # (R * R,)
        asked = torch.cat([torch.ones_like(asked[:1]), asked[1:]])  # one at least
        pixels = signed(image.permute(0, 3, 1, 2)) - self.background
        whole = (F.avg_pool2d(known[:, None].float(), CELL) == 1).float()  # (B, 1, H / CELL, W / CELL)
        here, given = self._rows(whole), self._rows(F.avg_pool2d(pixels, CELL) * whole)
        which = asked.nonzero()[:, 0]  # r of them
        codes, here, given = (x.index_select(0, which) for x in (self.codebook, here, given))
        # |x - y|^2 / 2 over known cells, y being what a code draws.
        red, green, blue = (codes @ colour for colour in self.cells.chunk(3, dim=1))  # (r, V, c * c) each
        energy = red * red + green * green + blue * blue
        product = codes @ (self.cells @ given.transpose(1, 2))  # (r, V, M)
        given_energy = given.square().sum(2)[:, None]  # (r, 1, M)
        error = 0.5 * (energy @ here.transpose(1, 2) + given_energy) - product
        half = 1.5 * here.sum(2)[:, None]  # the number of errors, of three channels, by two
        logs = -(1 + half / ALIKE) * torch.log1p(error.clamp(min=0) / (half * SPREAD**2 + TINY))
        logs = logs.index_select(0, asked.cumsum(0) - 1)  # (R * R, V, M)
        return unblocks(logs.transpose(1, 2), image.shape[0], *side).flatten(1, 2)

    def _rows(self, x: Tensor) -> Tensor:
        """Cells (B, C, H, W) by region and token (R * R, M, C * c * c)."""
        x = F.pixel_unshuffle(x, FACTOR // CELL)  # (B, C * c * c, h, w)
        return blocks(x.permute(0, 2, 3, 1), self.regions)


@torch.no_grad()
def round_vqgan(network: VQGAN) -> list[Rounded]:
    """Round the weights of a VQ-GAN to what a bundle holds, in place; returns those that it holds in eight bits.

    Codes, convolutions and the decoder's transformer in eight bits, all else in half precision: a linear path of least
    squares, whose weights nearly cancel, would draw blocks.
    """
    codes = Rounded.of(network.codebook.numpy())
    convolutions = network.encoder, network.decoder.network, network.decoder.refiner
    filters = [layer for part in convolutions if part for layer in part.modules() if isinstance(layer, nn.Conv2d)]
    large = [layer.weight for layer in filters if layer.weight.numel() >= SMALLEST]
    stored = [Rounded.filters(weight.numpy()) for weight in large]
    network.half().float()
    for weight, each in zip([network.codebook, *large], [codes, *stored], strict=True):
        weight.copy_(torch.from_numpy(each.values))
    if network.dequantiser is not None:
        round_linear(*network.dequantiser.trunk)
    return [codes, *stored]


def vqgan(network: VQGAN, side: int, folder: Path, rounded: Sequence[Rounded] = ()) -> dict[str, dict[str, float]]:
    """Write encode.onnx, decode.onnx and so on, a graph for each of ROLES, for grids of side * side tokens.

    Returns the parity of each, by batch size: of `encode` the share of tokens that differ, of `decode` the largest
    difference in levels of 255, of the others that as a share of the largest. The network is to be one whose weights
    float16 holds, or `rounded`.

    Raises:
        ValueError: a graph does not compute what the network computes.
    """
    vocabulary = network.codebook.shape[1]

    def tokens(batch: int) -> dict[str, Tensor]:
        return {"tokens": torch.randint(vocabulary, (batch, side**2))}

    def pictures(batch: int) -> dict[str, Tensor]:
        return {"image": torch.randint(256, (batch, side * FACTOR, side * FACTOR, 3), dtype=torch.uint8)}

    def encoded(image: Tensor) -> Tensor:
        return network.encode(signed(image.permute(0, 3, 1, 2))).flatten(1)

    def partly(batch: int) -> dict[str, Tensor]:
        known = torch.rand(batch, 1, side * FACTOR).expand(-1, side * FACTOR, -1) < 0.9
        return pictures(batch) | {"known": known, "wanted": torch.rand(batch, side**2) < 1 / side**2}

    paths = {role: folder / f"{role}.onnx" for role in ROLES}
    decode, pixel_likelihood = Decode(network, side), PixelLikelihood(network)
    export(Encode(network), pictures(2), paths["encode"], ["tokens"])
    with fused(network):
        export(decode, tokens(2), paths["decode"], ["image"])
    export(pixel_likelihood, partly(2), paths["pixel_likelihood"], ["logit_bias"])
    for path in paths.values():
        store_half(path, rounded)
    store_int8(paths["decode"], paths["decode"], PRODUCTS["fp32"])
    return {
        "encode": parity(encoded, paths["encode"], pictures, TIES, share_unequal),
        "decode": parity(decode, paths["decode"], tokens, LEVELS),
        "pixel_likelihood": parity(pixel_likelihood, paths["pixel_likelihood"], partly, compare=relative),
    }
