"""What processes tell each other, where there is one; two of them: test_main.py."""

import torch
from lightning_fabric import Fabric
from torch import nn

from training.distributed import average_gradients, gather_rows


def test_gradients_of_one_process_stay(fabric: Fabric) -> None:
    network = nn.Linear(2, 3)
    network(torch.ones(1, 2)).sum().backward()
    average_gradients(fabric, network)
    assert torch.equal(network.weight.grad, torch.ones(3, 2))


def test_the_rows_of_one_process_are_all(fabric: Fabric) -> None:
    rows = torch.randn(5, 2)
    assert torch.equal(gather_rows(fabric, rows), rows)
