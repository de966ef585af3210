"""The discriminator: what its score depends on, and the term that looks over the batch."""

import pytest
import torch
from torch import Tensor, nn

from training.nets.discriminator import Discriminator, DiscriminatorConfig


def discriminator(channels: int = 1, widths: tuple[int, ...] = (8, 16)) -> Discriminator:
    return Discriminator(DiscriminatorConfig(widths=widths, embedding=16), channels)


def inputs(channels: int = 1, size: int = 8, batch: int = 4) -> list[Tensor]:
    log_snr = torch.linspace(-4, 4, batch)
    return [*torch.randn(2, batch, channels, size, size), log_snr, log_snr + 2]


@pytest.mark.parametrize(
    ("channels", "size", "widths"), [(1, 8, (8, 16)), (3, 8, (8,)), (1, 28, (8, 16, 16)), (1, 28, (8, 8, 8, 8))]
)
def test_one_score_an_image_and_every_weight_learns(channels: int, size: int, widths: tuple[int, ...]) -> None:
    network = discriminator(channels, widths)
    scores = network(*inputs(channels, size))
    assert scores.shape == (4,)
    scores.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("which", range(4), ids=["candidate", "x_t", "log_snr", "target"])
def test_it_depends_on_each_of_its_inputs(which: int) -> None:
    network, given = discriminator(), inputs()
    changed = list(given)
    changed[which] = given[which] + 1
    assert not torch.isclose(network(*given), network(*changed)).any()


def test_a_label_moves_the_score_by_a_projection() -> None:
    network, given = Discriminator(DiscriminatorConfig(widths=(8, 16), embedding=16), 1, classes=3), inputs()
    assert torch.equal(*(network(*given, torch.full((4,), label)) for label in (0, 3)))  # until it has learned
    seen = []
    network.head.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    nn.init.normal_(network.label.weight)
    moved = network(*given, torch.tensor([0, 1, 2, 3])) - network.head(seen[0]).squeeze(1)
    torch.testing.assert_close(moved, (seen[0] * network.label.weight).sum(1))


def test_it_sees_how_much_a_batch_varies() -> None:
    network, (candidate, x_t, *_) = discriminator(), inputs()
    level = torch.zeros(4), torch.ones(4)
    seen = []
    network.last.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    varied = network(candidate, x_t, *level)
    same = network(*(x[:1].expand(4, -1, -1, -1) for x in (candidate, x_t)), *level)
    torch.testing.assert_close(same, same[:1].expand(4))
    assert not torch.isclose(varied[0], same[0], rtol=1e-3)
    (h, spread), (_, none) = (  # before `last`, whose input is past an activation that leaves positive numbers alone
        torch.tensor_split(arguments, [16], dim=1) for arguments in seen
    )
    h = torch.where(h > 0, h, h / 0.2)
    assert spread.unique().numel() == 1
    torch.testing.assert_close(spread[0, 0, 0, 0], h.std(0, correction=0).mean(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(none, torch.full_like(none, 1e-4))


def test_the_order_of_a_batch_does_not_matter() -> None:
    network, given = discriminator(), inputs()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(network(*(tensor[order] for tensor in given)), network(*given)[order])
