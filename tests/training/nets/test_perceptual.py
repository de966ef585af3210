import pytest
import torch

from training.data import avatars
from training.nets.perceptual import Perceptual


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    return Perceptual()


def face(index: int) -> torch.Tensor:
    return torch.from_numpy(avatars.draw(index, 64)).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_a_distance(perceptual: Perceptual) -> None:
    a, b = face(0), face(1)
    assert perceptual(a, a) == 0 < perceptual(a, a + 0.05 * torch.randn_like(a)) < perceptual(a, b)
    torch.testing.assert_close(perceptual(a, b), perceptual(b, a))


def test_gradients_flow_to_the_first_image_alone(perceptual: Perceptual) -> None:
    a, b = face(0).requires_grad_(), face(1).requires_grad_()
    perceptual(a, b).backward()
    assert a.grad.abs().sum() > 0 and b.grad is None
    assert not any(parameter.requires_grad for parameter in perceptual.parameters())
