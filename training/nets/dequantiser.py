"""What a decoder reads before it convolves: all tokens of a picture at once.

A code holds a patch's shape, often in a neighbouring picture's colours; the right ones are known from the patches
around. And tokens that a prior drew are not all right: what does not fit is repaired.
"""

import torch
from torch import Tensor, nn

from training.nets.transformer import Trunk, perceptron
from training.recipe import config


@config
class DequantiserConfig:
    """As HourglassConfig; of latents of a grid of side * side tokens."""

    tokens: int = 32
    widths: tuple[int, int] = (192, 384)
    heads: tuple[int, int] = (3, 6)
    depths: tuple[int, int, int] = (1, 3, 1)
    head: int = 64
    shorten: int = 4


class Dequantiser(Trunk):
    """Codes (B, D, h, w) to the latents that they were before they were quantised, and to features (B, C, h, w).

    Returns both, (B, D + C, h, w). Latents are residual to the codes, and are these at first.
    """

    size: Tensor  # (), of codes: what they are divided by

    def __init__(self, config: DequantiserConfig, latent: int) -> None:
        super().__init__(config.tokens, config.widths, config.heads, config.depths, config.head, config.shorten)
        outer = config.widths[0]
        self.token = perceptron(latent, outer)
        self.position = nn.Parameter(0.02 * torch.randn(config.tokens**2, outer))
        self.leave = nn.Linear(outer, latent)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("size", torch.ones(()))

    def forward(self, codes: Tensor) -> Tensor:
        side = codes.shape[2:]
        flat = codes.flatten(2).transpose(1, 2) / self.size  # (B, N, D)
        features = self.run(self.token(flat) + self.position)  # (B, N, C)
        latents = (flat + self.leave(features)) * self.size
        both = torch.cat([latents, features.to(latents.dtype)], dim=2)  # (B, N, D + C)
        read: Tensor = both.transpose(1, 2).unflatten(2, side)
        return read


def pixel_metric(linear: nn.ConvTranspose2d) -> Tensor:
    """A root M (D, D) of what an error of latents is in pixels: |M' e|^2 is the mean squared error of a patch.

    By a decoder's linear path (D, 3, k, k).
    """
    weight = linear.weight.detach().flatten(1).double()
    gram = weight @ weight.T / weight.shape[1]
    root: Tensor = torch.linalg.cholesky(gram + 1e-9 * torch.eye(len(gram), device=gram.device))
    return root.float()


def latent_error(latents: Tensor, wanted: Tensor, metric: Tensor) -> Tensor:
    """Mean squared error in pixels, in a range of 2, of each token of latents (B, D, h, w): (B, h, w)."""
    error: Tensor = ((latents - wanted).movedim(1, -1) @ metric).square().sum(-1)
    return error
