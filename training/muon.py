"""Muon (Jordan et al. 2024) for matrices of hidden layers, in float32.

PyTorch's computes in bfloat16, which takes fifty times as long on a processor that has none.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.775, 2.0315)  # as by Jordan: singular values of 0.01 to 1 come to 0.7 to 1.2
STEPS = 5  # of Newton and Schulz
RMS = 0.2  # of an update, as AdamW's (Liu et al. 2025)
TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """As torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`, whose states it reads. Every parameter is a matrix."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update each parameter that has a gradient; `closure` is not called."""
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - MOMENTUM)
                update = orthogonal(parameter.grad.lerp(momentum, MOMENTUM))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * RMS * max(parameter.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix of the same singular vectors, and singular values near 1.

    A polynomial p(x) = x q(x^2) of singular values is one of the matrix times q of its smaller Gram matrix: the
    iteration needs that alone.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=TINY)
    a, b, c = QUINTIC
    gram = wide @ wide.T
    total = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(STEPS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        gram = factor @ gram @ factor
        total = factor @ total
    near: Tensor = total @ wide
    return near if matrix.shape[0] <= matrix.shape[1] else near.T
