"""A VQ-GAN as graphs: pictures to tokens, tokens to pictures, and what part of a picture says of its tokens."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.graph import Arrays, Rounded, export, largest_difference, let_broadcast, parity, share_unequal, store_half
from training.data import signed
from training.nets.vqgan import FACTOR, VQGAN, blocks, region_map, unblocks

ROLES = ("encode", "decode", "evidence", "borders", "seams")  # of its graphs

LEVELS = 1.0  # of 255, by which a pixel may differ: rounding
TIES = 2e-3  # share of tokens that may differ where two codes are as near

CELL = 4  # pixels along the side of what is compared: of 4, two thirds of cut tokens are told, of 8, half
SPREAD = 0.03  # error of a cell that its token's code says well, in a range of 2
TINY = 1e-3
ALIKE = 8  # errors that say no more than one, being those of neighbours
DEGREES = 2  # of the error along an edge, halved: by edges alone, true neighbours tell half of all tokens


class Encode(nn.Module):
    """Pictures (B, H, W, 3) uint8 to tokens (B, N). Each region is compared with its codes in one product."""

    def __init__(self, network: VQGAN) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("half_norms", 0.5 * network.codebook.square().sum(2))  # (R * R, V)

    def forward(self, image: Tensor) -> Tensor:
        latents = self.network.encoder(signed(image.permute(0, 3, 1, 2)))  # (B, D, h, w)
        points = blocks(latents.permute(0, 2, 3, 1), self.network.config.regions)  # (R * R, M, D)
        # |x - c|^2 / 2 without |x|^2 / 2, which is the same for all codes. Points are transposed rather than codes: the
        # exporter would store those once more, transposed.
        distance = self.half_norms[:, :, None] - self.network.codebook @ points.transpose(1, 2)  # (R * R, V, M)
        return unblocks(distance.argmin(1), image.shape[0], *latents.shape[2:]).flatten(1)


class Decode(nn.Module):
    """Tokens (B, N) of square grids to pictures (B, H, W, 3) uint8."""

    def __init__(self, network: VQGAN, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, tokens: Tensor) -> Tensor:
        pictures = self.network.decode(tokens.unflatten(1, (self.side, self.side)))  # (B, 3, H, W)
        return ((pictures.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class Evidence(nn.Module):
    """Pictures (B, H, W, 3) uint8, known (B, H, W) in part, to what that says of each token (B, N, V), in nats.

    Of those that are `wanted` (B, N), that is: regions without one are left out, and what is said of these is void.

    The logarithm of the likelihood of what is known, under each code, but for what is the same for all codes. What is
    compared is the mean of each known cell with that of what the decoder's linear path draws there. This path does not
    draw all patches equally well: errors are normal, but of a variance that is not known, so that their likelihood is
    Student's (Gelman et al. 2013, section 2.8). It is 0 for a token of which nothing is known.
    """

    def __init__(self, network: VQGAN) -> None:
        super().__init__()
        linear, self.regions = network.decoder.linear, network.config.regions
        assert linear.bias is not None
        self.register_buffer("codebook", network.codebook)  # (R * R, V, D)
        self.register_buffer("cells", F.avg_pool2d(linear.weight, CELL).flatten(1))  # (D, 3 * c * c)
        self.register_buffer("background", linear.bias[:, None, None].detach())

    def forward(self, image: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
        side = image.shape[1] // FACTOR, image.shape[2] // FACTOR
        asked = blocks(wanted.unflatten(1, side), self.regions).any(1)  # (R * R,)
        asked = torch.cat([torch.ones_like(asked[:1]), asked[1:]])  # one at least
        pixels = signed(image.permute(0, 3, 1, 2)) - self.background
        whole = (F.avg_pool2d(known[:, None].float(), CELL) == 1).float()  # (B, 1, H / CELL, W / CELL)
        here, given = self._rows(whole), self._rows(F.avg_pool2d(pixels, CELL) * whole)
        which = asked.nonzero()[:, 0]  # r of them
        codes, here, given = (x.index_select(0, which) for x in (self.codebook, here, given))
        # |x - y|^2 / 2 over known cells, y being what a code draws.
        energy = sum(x * x for x in (codes @ colour for colour in self.cells.chunk(3, dim=1)))  # (r, V, c * c)
        product = codes @ (self.cells @ given.transpose(1, 2))  # (r, V, M)
        given_energy = given.square().sum(2)[:, None]  # (r, 1, M)
        error = 0.5 * (energy @ here.transpose(1, 2) + given_energy) - product
        half = 1.5 * here.sum(2)[:, None]  # the number of errors, of three channels, by two
        said = -(1 + half / ALIKE) * torch.log1p(error.clamp(min=0) / (half * SPREAD**2 + TINY))
        said = said.index_select(0, asked.cumsum(0) - 1)  # (R * R, V, M)
        return unblocks(said.transpose(1, 2), image.shape[0], *side).flatten(1, 2)

    def _rows(self, x: Tensor) -> Tensor:
        """Cells (B, C, H, W) by region and token (R * R, M, C * c * c)."""
        x = F.pixel_unshuffle(x, FACTOR // CELL)  # (B, C * c * c, h, w)
        return blocks(x.permute(0, 2, 3, 1), self.regions)


class Borders(nn.Module):
    """What each code draws along its patch's top, bottom, left and right: four of (R * R, V, C + 2), for `Seams`.

    It is the outermost row of pixels, in means of CELL, as the decoder's linear path draws it: C numbers, then the sum
    of their squares, and 1. A graph of its own, since it is the same for all pictures.
    """

    NAMES = ("top", "bottom", "left", "right")

    def __init__(self, network: VQGAN) -> None:
        super().__init__()
        weight = network.decoder.linear.weight.detach()  # (D, 3, F, F); the bias is the same for all codes
        rows = weight[..., 0, :], weight[..., -1, :], weight[..., 0], weight[..., -1]
        self.register_buffer("codebook", network.codebook)  # (R * R, V, D)
        self.register_buffer("rows", torch.stack([F.avg_pool1d(row, CELL).flatten(1) for row in rows]))  # (4, D, C)

    def forward(self) -> tuple[Tensor, ...]:
        drawn = (self.codebook @ row for row in self.rows)
        return tuple(F.pad(torch.cat([x, x.square().sum(2, keepdim=True)], dim=2), (0, 1), value=1.0) for x in drawn)


class Seams(nn.Module):
    """Tokens (B, N) to what their neighbours, where known (B, N), say of each (B, N, V), in nats times a weight (B,).

    That is added to what is `said` of tokens already, (B, N, V) or (B, N, 1).

    Pictures go on across the edges of tokens: what both draw there is alike, but where an outline lies just between
    them. So errors have heavy tails, and their likelihood is Student's, as for Evidence.
    """

    def __init__(self, regions: int, side: int) -> None:
        super().__init__()
        self.regions, self.side = regions, side
        self.register_buffer("places", region_map(side, side, regions).flatten(), persistent=False)

    def forward(
        self,
        tokens: Tensor,
        known: Tensor,
        weight: Tensor,
        said: Tensor,
        top: Tensor,
        bottom: Tensor,
        left: Tensor,
        right: Tensor,
    ) -> Tensor:
        index = tokens + top.shape[1] * self.places
        scale = (top.shape[2] - 2) * SPREAD**2
        errors = 1.0
        sides = (top, bottom, 1, 0), (bottom, top, -1, 0), (left, right, 0, 1), (right, left, 0, -1)
        for own, beside, down_by, right_by in sides:
            drawn, square, one = F.embedding(index, beside.flatten(0, 1)).split([top.shape[2] - 2, 1, 1], dim=2)
            # 1 + |x - y|^2 / scale is the product of (x, |x|^2, 1) with this.
            factor = torch.cat([-2 * drawn, one, square], dim=2) * (known[..., None] / scale)
            factor = factor.unflatten(1, (self.side, self.side))
            factor = F.pad(factor, (0, 0, right_by, -right_by, down_by, -down_by))  # zeros where there is no neighbour
            factor = torch.cat([factor[..., :-1], factor[..., -1:] + 1], dim=3)
            errors = errors * (blocks(factor, self.regions) @ own.transpose(1, 2))  # (R * R, M, V)
        logs = unblocks(errors.log(), tokens.shape[0], self.side, self.side).flatten(1, 2)
        return logs * (-DEGREES * weight[:, None, None]) + said


def vqgan(network: VQGAN, side: int, folder: Path, codes: Rounded | None = None) -> dict[str, dict[str, float]]:
    """Write encode.onnx, decode.onnx and so on, a graph for each of ROLES, for grids of side * side tokens.

    Returns the parity of each, by batch size: of `encode` the share of tokens that differ, of `decode` the largest
    difference in levels of 255, of the others that as a share of the largest. The network is to be one whose weights
    float16 holds, and its codebook `codes`, if these are given.

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

    def neighbours(batch: int) -> dict[str, Tensor]:
        z = tokens(batch)["tokens"]
        said = {"weight": torch.rand(batch), "said": torch.randn(*z.shape, 1 if batch == 1 else vocabulary)}
        same = dict(zip(Borders.NAMES, borders(), strict=True))
        return {"tokens": z, "known": torch.rand(z.shape) < 0.9} | said | same

    paths = {role: folder / f"{role}.onnx" for role in ROLES}
    decode, evidence = Decode(network, side), Evidence(network)
    borders, seams = Borders(network), Seams(network.config.regions, side)
    export(Encode(network), pictures(2), paths["encode"], ["tokens"])
    export(decode, tokens(2), paths["decode"], ["image"])
    export(evidence, partly(2), paths["evidence"], ["evidence"])
    export(borders, {}, paths["borders"], Borders.NAMES)
    export(seams, neighbours(2), paths["seams"], ["evidence"], fixed=Borders.NAMES)
    let_broadcast(paths["seams"], "said")
    for path in paths.values():
        store_half(path, () if codes is None else [codes])
    return {
        "encode": parity(encoded, paths["encode"], pictures, TIES, share_unequal),
        "decode": parity(decode, paths["decode"], tokens, LEVELS),
        "evidence": parity(evidence, paths["evidence"], partly, compare=relative),
        "borders": parity(borders, paths["borders"], lambda _: {}, compare=relative),
        "seams": parity(seams, paths["seams"], neighbours, compare=relative),
    }


def relative(wanted: Arrays, got: Arrays) -> float:
    """The largest difference between two lists of arrays, as a share of the largest value."""
    return largest_difference(wanted, got) / max(float(np.abs(w).max()) for w in wanted)
