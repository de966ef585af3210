"""The cross-entropy of tokens, whose logits are many times as large as all else: they are held for a few at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from training.nets.token_head import ROWS, score

TINY = 1e-30  # probability that counts as least


class TokenCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy over the rows that are taken, in nats.

    Logits are held for ROWS rows at a time, and the gradient is taken at once (as Liger kernels do: Hsu et al. 2024).
    """

    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, bias: Tensor, hidden: Tensor, tokens: Tensor, targets: Tensor, taken: Tensor
    ) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        fixed = not ctx.needs_input_grad[0]
        d_keys = None if fixed else torch.zeros_like(keys, dtype=torch.float32)
        d_bias, d_hidden = torch.zeros_like(bias), torch.zeros_like(hidden)
        for region, own in enumerate(keys):  # (V, W)
            for rows in torch.nonzero(taken[region])[:, 0].split(ROWS):  # (m,)
                row, token, target = hidden[region, rows], tokens[region, rows], targets[region, rows, None]
                p = score(row, own, bias[region], token).softmax(1)  # (m, V)
                total -= p.gather(1, target).clamp(min=TINY).log().sum()
                if not any(ctx.needs_input_grad):
                    continue
                d_logits = p.scatter_add_(1, target, p.new_full(target.shape, -1))  # (m, V)
                d_bias[region] += d_logits.sum(0)
                d_bonus, d_logits = d_logits.gather(1, token[:, None]), d_logits.to(own.dtype)
                d_hidden[region, rows] = torch.cat([(d_logits @ own).float(), d_bonus], dim=1)
                if d_keys is not None:
                    d_keys[region] += d_logits.T @ row[:, :-1].to(own.dtype)
        n = taken.sum().clamp(min=1)
        ctx.save_for_backward(n, d_keys, d_bias, d_hidden)
        return total / n

    @staticmethod
    def backward(ctx: Any, *d_loss: Any) -> Any:
        n, *gradients = ctx.saved_tensors
        scaled = (None if gradient is None else gradient.mul_(d_loss[0] / n) for gradient in gradients)
        return *scaled, None, None, None


def token_cross_entropy(
    keys: Tensor, bias: Tensor, hidden: Tensor, tokens: Tensor, targets: Tensor, taken: Tensor
) -> Tensor:
    """Mean cross-entropy in nats, a scalar, of those targets that are taken; 0 where none is.

    For keys (R, V, W) and biases (R, V) of TokenHead, and rows by region: hidden (R, M, W + 1), the tokens that it was
    made of, targets and which of them are taken, all (R, M).
    """
    apply: Callable[..., Tensor] = TokenCrossEntropy.apply
    return apply(keys, bias, hidden, tokens, targets, taken)
