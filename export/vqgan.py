"""The two halves of a VQ-GAN as graphs: pictures to tokens, and tokens to pictures."""

from pathlib import Path

import torch
from torch import Tensor, nn

from export.graph import Rounded, export, parity, share_unequal, store_half
from training.data import signed
from training.nets.vqgan import FACTOR, VQGAN, blocks, unblocks

LEVELS = 1.0  # of 255, by which a pixel may differ: rounding
TIES = 2e-3  # share of tokens that may differ where two codes are as near


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


def vqgan(network: VQGAN, side: int, folder: Path, codes: Rounded | None = None) -> dict[str, dict[str, float]]:
    """Write encode.onnx and decode.onnx for grids of side * side tokens; returns the parity of each, by batch size.

    That of `encode` is the share of tokens that differ, that of `decode` the largest difference in levels of 255. The
    network is to be one whose weights float16 holds, and its codebook `codes`, if these are given.

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

    paths = {role: folder / f"{role}.onnx" for role in ("encode", "decode")}
    decode = Decode(network, side)
    export(Encode(network), pictures(2), paths["encode"], ["tokens"])
    export(decode, tokens(2), paths["decode"], ["image"])
    for path in paths.values():
        store_half(path, codes)
    return {
        "encode": parity(encoded, paths["encode"], pictures, TIES, share_unequal),
        "decode": parity(decode, paths["decode"], tokens, LEVELS),
    }
