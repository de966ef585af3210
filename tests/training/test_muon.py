"""training/muon.py does what PyTorch's Muon does in bfloat16."""

import pytest
import torch

from training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(6, 30), (30, 6), (12, 12)])
def test_steps_are_those_of_torch(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    mine, its = (torch.nn.Parameter(start.clone()) for _ in range(2))
    ours = Muon([mine], lr=0.1, weight_decay=0.2)
    theirs = torch.optim.Muon([its], lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        mine.grad = its.grad = torch.randn(shape)
        ours.step()
        theirs.step()
        assert (mine - its).norm() < 0.03 * (its - start).norm(), step
    ours.load_state_dict(ours.state_dict() | {"state": theirs.state_dict()["state"]})  # of a checkpoint of before
    ours.step()


def test_singular_vectors_stay_and_values_come_near_one() -> None:
    torch.manual_seed(1)
    matrix = torch.randn(8, 20)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = u.T @ orthogonal(matrix) @ v.T
    torch.testing.assert_close(values, values.diagonal().diag(), atol=1e-4, rtol=0)
    assert ((values.diagonal() > 0.6) & (values.diagonal() < 1.3)).all()
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))
