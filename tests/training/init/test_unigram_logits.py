"""The start of a prior against plain counting."""

import numpy as np
import torch

from training.init.unigram_logits import init_unigram_logits
from training.nets.hourglass import Hourglass, HourglassConfig

CONFIG = HourglassConfig(
    tokens=4, vocabulary=6, classes=2, widths=(16, 16), heads=(1, 1), depths=(1, 1, 1), head=16, features=8,
    regions=2, codes=3, unigram_rank=6,
)  # fmt: skip


def test_a_new_prior_knows_how_often_tokens_are_met() -> None:
    torch.manual_seed(0)
    network = Hourglass(CONFIG)
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=2000)
    favourite = generator.integers(6, size=(2, 4, 4))  # by label and place
    grids = np.where(generator.random((2000, 4, 4)) < 0.7, favourite[labels], generator.integers(6, size=(2000, 4, 4)))
    init_unigram_logits(network, grids.astype(np.uint16), labels, seed=0)

    with torch.no_grad():
        found = network(torch.zeros(3, 16, dtype=torch.int64), torch.tensor([0, 1, 2])).softmax(2)  # (3, N, V)
    for label, which in enumerate([labels == 0, labels == 1, labels >= 0]):
        shares = np.stack([(grids[which].reshape(-1, 16) == token).mean(0) for token in range(6)], axis=1)
        np.testing.assert_allclose(found[label].numpy(), shares, atol=0.03)


def test_tokens_that_were_never_met_are_unlikely() -> None:
    network = Hourglass(CONFIG)
    labels = np.arange(100) % 2
    init_unigram_logits(network, np.full((100, 4, 4), 5), labels, seed=0)
    with torch.no_grad():
        logits = network(torch.zeros(1, 16, dtype=torch.int64), torch.tensor([1]))
    assert (logits.argmax(2) == 5).all() and logits.softmax(2)[..., 5].min() > 0.95
