"""export/graph.py: every batch size, and parity that can fail."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.graph import export, parity, relative, share_unequal


class Step(nn.Module):
    """The shape of a ddgan step: several inputs, one of them integers, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.out = nn.Conv2d(4, 1, 3, padding=1)
        self.level = nn.Embedding(5, 4)

    def forward(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.conv(x_t) + self.level(t)[:, :, None, None])  # (B, 4, H, W)
        x_0 = self.out(h)
        return x_t + x_0, x_0


def inputs(batch: int) -> dict[str, Tensor]:
    return {"x_t": torch.randn(batch, 1, 8, 8), "t": torch.randint(0, 5, (batch,))}


@pytest.fixture
def step(tmp_path: Path) -> tuple[Step, Path]:
    torch.manual_seed(0)
    module, path = Step(), tmp_path / "step.onnx"
    export(module, inputs(2), path, ["x_prev", "x_0"])
    return module, path


def test_one_file_serves_every_batch_size(step: tuple[Step, Path]) -> None:
    module, path = step
    assert [file.name for file in path.parent.iterdir()] == ["step.onnx"]  # no external data beside it
    differences = parity(module, path, inputs)
    assert list(differences) == ["1", "2", "7"]
    assert max(differences.values()) < 1e-5


def test_the_file_tells_nothing_of_the_machine(step: tuple[Step, Path]) -> None:
    _, path = step
    content = path.read_bytes()
    for place in (Path(__file__).parents[2], Path(torch.__file__).parent):
        assert str(place).encode() not in content


def test_parity_refuses_other_weights(step: tuple[Step, Path]) -> None:
    module, path = step
    with torch.no_grad():
        module.out.bias.add_(0.01)
    with pytest.raises(ValueError, match="differ by more than 0.0001"):
        parity(module, path, inputs)


def test_parity_refuses_nan(step: tuple[Step, Path]) -> None:
    module, path = step
    with torch.no_grad():
        module.out.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="nan"):
        parity(module, path, inputs)


def test_the_share_of_tokens_that_differ() -> None:
    one = np.arange(10)
    assert share_unequal([one, one], [one, np.where(one < 3, 0, one)]) == 0.2


def test_a_difference_as_a_share_of_the_largest_value() -> None:
    wanted = [np.array([2.0, -8.0]), np.array([4.0])]
    assert relative(wanted, [np.array([2.0, -8.0]), np.array([3.0])]) == 1 / 8
