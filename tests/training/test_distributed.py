"""What processes tell each other, where there is one; two of them: test_main.py."""

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from training.distributed import descend, gather_rows


@pytest.mark.parametrize(("clip", "rate"), [(None, 1.0), (100.0, 1.0), (3.0, 0.5)])
def test_a_step_goes_down_the_gradient_as_far_as_it_may(fabric: Fabric, clip: float | None, rate: float) -> None:
    network = nn.Linear(2, 3)  # 6 weights and no more, of a gradient of 1: but for the bias, which stays
    network.bias.requires_grad_(False)
    before = network.weight.detach().clone()
    for _ in range(2):  # gradients of the step before are forgotten
        loss = network(torch.ones(1, 2)).sum() * 6**0.5  # whose gradient has a norm of 6
        descend(fabric, network, loss, torch.optim.SGD(network.parameters(), lr=1.0), clip=clip)
    torch.testing.assert_close(network.weight.detach(), before - 2 * rate * 6**0.5)


def test_the_rows_of_one_process_are_all(fabric: Fabric) -> None:
    rows = torch.randn(5, 2)
    assert torch.equal(gather_rows(fabric, rows), rows)
