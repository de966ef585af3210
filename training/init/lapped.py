"""Where a lapped linear path starts: least squares of pixels on the latents of 3x3 tokens, in closed form."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.nets.vqgan import FACTOR

RIDGE = 1e-4  # times the mean square of what is read


@torch.no_grad()
def fit_lapped(path: nn.Sequential, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set a path of training.nets.vqgan.lapped from pairs of latents (1, C, h, w) and images (1, 3, 32h, 32w).

    Of all linear maps of its rank the one with the least squared error (reduced-rank regression: Izenman 1975).
    """
    around, out = path[0], path[1]
    assert isinstance(around, nn.Conv2d) and isinstance(out, nn.Conv2d) and out.bias is not None
    wide = around.in_channels * 9 + 1
    gram, product = torch.zeros(wide, wide), torch.zeros(wide, 3 * FACTOR**2)
    for latents, images in pairs:
        x = F.unfold(F.pad(latents.float(), (1, 1, 1, 1), mode="replicate"), 3)[0].T  # (h * w, 9 C)
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        y = F.pixel_unshuffle(images, FACTOR)[0].flatten(1).T  # (h * w, 3 * 32 * 32)
        gram += x.T @ x
        product += x.T @ y
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(wide)
    weights = torch.linalg.solve((gram + ridge).double(), product.double())  # (9 C + 1, 3 * 32 * 32)
    weights, bias = weights[:-1], weights[-1]
    # The principal axes of what is fitted, y = x @ weights, whose second moments are weights' gram weights.
    moments = weights.T @ gram[:-1, :-1].double() @ weights
    _, axes = torch.linalg.eigh(moments)
    axes = axes[:, -around.out_channels :]  # (3 * 32 * 32, r)
    around.weight.copy_((weights @ axes).T.reshape(around.weight.shape))
    out.weight.copy_(axes.reshape(out.weight.shape))
    out.bias.copy_(bias)
