"""The graph that says what a draft says of tokens, in nats: the nearer its code, the likelier a token.

A prior reads drafts, but relies on them too little, and is too sure of itself, where it has learned from few pictures.
How far a draft errs differs from place to place: log-likelihoods fall with the logarithm of the distance, which has no
scale (as Student's does of a small one, Gelman et al. 2013, section 2.8).

Written in ONNX's own language: a loop over the regions of the codebook holds the codes of one at a time as floats.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.graph import Array, parity, relative, write
from export.prior import HIDDEN, Draft, predict_inputs
from export.weights import Rounded
from training.nets.hourglass import Hourglass
from training.nets.vqgan import unblocks

NEAR = 0.02  # squared distance to a draft, of codes of unit mean square, below which all are alike

# B images, N tokens, M of them in a region of V codes of length D; K numbers of a draft.
DRAFT_LIKELIHOOD = """
<ir_version: 10, opset_import: ["": 20]>
draft_likelihood (float[B, N, K] draft) => (float[B, N, V] logit_bias) <int64[1] last = {1}>
{
    grid = Reshape (draft, by_region)
    sorted = Transpose <perm = [1, 3, 0, 2, 4, 5]> (grid)
    expected = Reshape (sorted, rows)
    to_draft = Cast <to = 1> (components)
    of_levels = Mul (scale, to_draft)

    logs = Scan <num_scan_inputs = 2, body = of_region (float[M, K] x, int8[V, D] levels) => (float[M, V] log) {
        numbers = Cast <to = 1> (levels)
        projected = MatMul (numbers, of_levels)
        codes = Sub (projected, mean)
        of_codes = ReduceSumSquare <keepdims = 0> (codes, last)
        of_x = ReduceSumSquare (x, last)
        beyond = Gemm <alpha = -2.0, transB = 1> (x, codes, of_codes)
        distance = Add (beyond, of_x)
        bounded = Max (distance, near)
        nats = Log (bounded)
        log = Mul (nats, weight)
    }> (expected, codebook)

    by_place = Reshape (logs, regions)
    back = Transpose <perm = [2, 0, 3, 1, 4, 5]> (by_place)
    logit_bias = Reshape (back, places)
}
"""


class DraftLikelihood(nn.Module):
    """What the graph computes, in PyTorch."""

    def __init__(self, network: Hourglass, weight: float) -> None:
        super().__init__()
        self.of_tokens, self.head, self.weight = Draft(network), network.token_head, weight

    def forward(self, draft: Tensor) -> Tensor:
        """Drafts (B, N, K) to `logit_bias` (B, N, V)."""
        codes = self.head.codes @ self.of_tokens.components - self.of_tokens.mean  # (R * R, V, K)
        expected = self.head.by_region(draft)  # (R * R, M, K)
        # |x - c|^2 as |c|^2 - 2 x c + |x|^2, as fast as can be: benchmarks.megapixel times it.
        beyond = torch.baddbmm(codes.square().sum(2)[:, None], expected, codes.transpose(1, 2), alpha=-2)
        distance = beyond + expected.square().sum(2, keepdim=True)  # (R * R, M, V)
        logs = -self.weight * distance.clamp(min=NEAR).log()
        return unblocks(logs, len(draft), self.head.side, self.head.side).flatten(1, 2)


def export_draft_likelihood(network: Hourglass, weight: float, codes: Rounded, folder: Path) -> dict[str, float]:
    """Write draft_likelihood.onnx, of what drafts say by this weight; returns its parity, by batch size.

    It reads the codebook, and the components of a draft, as other graphs of the bundle hold them.
    """
    module, path = DraftLikelihood(network, weight), folder / "draft_likelihood.onnx"
    along, side, vocabulary = math.isqrt(len(codes.levels)), network.config.tokens, network.config.vocabulary
    constants: dict[str, Array] = {
        "codebook": codes.levels,
        "scale": codes.scale[:, None],
        "components": module.of_tokens.components.half().numpy(),
        "mean": module.of_tokens.mean.numpy(),
        "near": np.array([NEAR], np.float32),
        "weight": np.array([-weight], np.float32),
        "by_region": np.array([-1, along, side // along, along, side // along, network.config.draft]),
        "rows": np.array([along**2, -1, network.config.draft]),
        "regions": np.array([along, along, -1, side // along, side // along, vocabulary]),
        "places": np.array([-1, side**2, vocabulary]),
    }
    write(DRAFT_LIKELIHOOD, constants, path)

    def draft(batch: int) -> dict[str, Tensor]:
        return {"draft": predict_inputs(network, batch)["draft"]}

    return parity(module, path, draft, HIDDEN, relative)
