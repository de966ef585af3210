"""Adaptive group normalisation with its own backward pass, against torch's."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.nets.normalisation import EPSILON, AdaptiveGroupNorm, _Normalise, normalise


def inputs(dtype: torch.dtype = torch.float32, *, channels_last: bool = False) -> list[Tensor]:
    x = 2 * torch.randn(3, 8, 5, 7, dtype=dtype) + 0.5
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    return [tensor.requires_grad_() for tensor in (x, torch.randn(3, 8, dtype=dtype), torch.randn(3, 8, dtype=dtype))]


def reference(x: Tensor, scale: Tensor, shift: Tensor, groups: int) -> Tensor:
    return F.group_norm(x, groups, eps=EPSILON) * scale[:, :, None, None] + shift[:, :, None, None]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_forward_and_gradients_are_torchs(groups: int, channels_last: bool) -> None:
    arguments = inputs(channels_last=channels_last)
    got, wanted = _Normalise.apply(*arguments, groups), reference(*arguments, groups)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    grad = torch.randn_like(wanted)
    for ours, theirs in zip(*(torch.autograd.grad(y, arguments, grad) for y in (got, wanted)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_gradients_are_the_differences() -> None:
    assert torch.autograd.gradcheck(lambda *tensors: _Normalise.apply(*tensors, 4), inputs(torch.float64))


def test_without_gradients_the_same_comes_out() -> None:
    module, x, style = AdaptiveGroupNorm(8, 4), torch.randn(3, 8, 5, 7), torch.randn(3, 16)
    trained = module(x, style)
    with torch.no_grad():
        used = module(x, style)
    assert torch.equal(trained, used)


def test_style_is_scale_less_one_and_shift() -> None:
    x, style = torch.randn(3, 8, 5, 7), torch.randn(3, 16)
    module = AdaptiveGroupNorm(8, 4)
    scale, shift = style[:, :8], style[:, 8:]
    torch.testing.assert_close(module(x, style), reference(x, 1 + scale, shift, 4), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module(x, torch.zeros(3, 16)), F.group_norm(x, 4), atol=1e-5, rtol=1e-5)


def test_a_flat_image_gives_no_infinity() -> None:
    x = torch.full((2, 4, 3, 3), 7.0, requires_grad=True)
    y = _Normalise.apply(x, torch.ones(2, 4), torch.zeros(2, 4), 2)
    y.square().sum().backward()
    assert y.abs().max() < 1e-2 and x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("grad", [True, False])
def test_autocast_leaves_it_in_float32(grad: bool) -> None:
    x, style = torch.randn(3, 8, 5, 7).bfloat16(), torch.randn(3, 16).bfloat16()
    module = AdaptiveGroupNorm(8, 4)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
        got = module(x.requires_grad_(grad), style)
    assert got.dtype == torch.float32
    scale, shift = style.float().chunk(2, dim=1)
    torch.testing.assert_close(got, normalise(x.float(), 1 + scale, shift, 4))
    if grad:
        got.sum().backward()
        assert x.grad is not None and x.grad.dtype == torch.bfloat16
