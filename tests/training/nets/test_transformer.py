"""Positions against geometry, attention against torch's."""

import pytest
import torch
from torch.nn import functional as F

from training.nets.transformer import FEW, attend, axial_rotation, rotate


def test_rotation_tells_by_how_much_positions_differ() -> None:
    """Products of rotated vectors depend on the distance between two tokens in each axis, and on nothing else."""
    q, k = torch.randn(2, 16, dtype=torch.double)
    rotation = axial_rotation(8, 16).double()
    products = rotate(q.expand(64, -1), rotation) @ rotate(k.expand(64, -1), rotation).T
    products = products.view(8, 8, 8, 8)  # row and column of q, row and column of k
    torch.testing.assert_close(products[2, 3, 4, 1], products[5, 6, 7, 4], atol=1e-5, rtol=0)
    torch.testing.assert_close(products[3, 3, 3, 3], q @ k, atol=1e-5, rtol=0)
    assert abs(products[2, 3, 4, 1] - products[2, 3, 1, 4]) > 1e-3


@pytest.mark.parametrize("tokens", [16, FEW + 1])
def test_attention_is_the_same_in_parts(tokens: int) -> None:
    q, k, v, gradient = torch.randn(4, 2, 3, tokens, 8)
    fused, own = ([x.clone().requires_grad_() for x in (q, k, v)] for _ in range(2))
    F.scaled_dot_product_attention(*fused).backward(gradient)
    attend(*own).backward(gradient)
    torch.testing.assert_close(attend(q, k, v), attend(*own).detach())
    for a, b in zip(own, fused, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
