"""The loss of tokens against torch's."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from training import token_loss
from training.nets.hourglass import Hourglass
from training.recipe import Recipe
from training.token_loss import token_cross_entropy


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cross_entropy_and_its_gradients_are_those_of_torch(
    recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(token_loss, "ROWS", 7)
    network = Hourglass(recipe("sundae").hourglass)
    for parameter in (network.out.weight, network.out.bias, network.token_head.bias):
        torch.nn.init.normal_(parameter)
    z, targets = torch.randint(256, (2, 4, 64))
    labels, taken = torch.tensor([0, 3, 9, 10]), torch.rand(4, 64) < 0.4
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        hidden = network.predict(z, labels).float()
        ours = token_cross_entropy(
            network.token_head.keys(),
            network.token_head.bias,
            *(network.token_head.by_region(x) for x in (hidden, z, targets, taken)),
        )
        theirs = F.cross_entropy(network(z, labels).float()[taken], targets[taken])
    tolerance = {"atol": 2e-6, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 5e-2}
    torch.testing.assert_close(ours, theirs, **tolerance)
    for a, b in zip(*(torch.autograd.grad(loss, list(network.parameters())) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_keys_that_are_fixed_have_no_gradient_and_all_else_the_same() -> None:
    keys, bias, hidden = torch.randn(1, 8, 4), torch.randn(1, 8), torch.randn(1, 6, 5)
    z, targets = torch.randint(8, (2, 1, 6))
    gradients = []
    for learned in True, False:
        inputs = [x.clone().requires_grad_(need) for x, need in ((keys, learned), (bias, True), (hidden, True))]
        token_cross_entropy(*inputs, z, targets, targets >= 0).backward()
        gradients.append([x.grad for x in inputs])
    assert gradients[0][0].any() and gradients[1][0] is None
    torch.testing.assert_close(gradients[0][1:], gradients[1][1:])


def test_without_targets_there_is_nothing_to_learn() -> None:
    keys, bias = torch.randn(1, 8, 4, requires_grad=True), torch.randn(1, 8, requires_grad=True)
    z = torch.zeros(1, 6, dtype=torch.int64)
    loss = token_cross_entropy(keys, bias, torch.randn(1, 6, 5), z, z, z > 0)
    loss.backward()
    assert loss == 0 and not keys.grad.any() and not bias.grad.any()


def test_a_capped_target_stays_as_likely_as_it_is() -> None:
    """The frequencies of all targets are the optimum, though the frequent ones are taken the more rarely."""
    counts = torch.tensor([64, 16, 8, 8, 4])
    shares = counts / counts.sum()
    chance = (0.08 / shares).clamp(max=1)
    taken = torch.arange(5).repeat_interleave((counts * chance).round().int())[None]
    bias = shares.log()[None].requires_grad_()
    still, z = torch.zeros(1, taken.shape[1], 4), torch.zeros_like(taken)
    token_cross_entropy(torch.zeros(1, 5, 3), bias + chance.log(), still, z, taken, taken >= 0).backward()
    assert taken.shape[1] < 0.5 * counts.sum() and bias.grad.abs().max() < 1e-6
