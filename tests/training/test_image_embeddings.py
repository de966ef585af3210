"""Embeddings of pictures that have a colour each: learned, read off a part, and kept to draw with."""

import numpy as np
import pytest
import torch

from training import image_embeddings
from training.nets.hourglass import IMAGE_EMBEDDINGS, Hourglass, HourglassConfig

CONFIG = HourglassConfig(
    tokens=4, vocabulary=8, classes=2, widths=(16, 16), heads=(1, 1), depths=(1, 1, 1), head=16, features=8,
    regions=2, codes=3, unigram_rank=2, image_embedding=4,
)  # fmt: skip
LABELS = np.arange(400) % 2


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Grids [400, 4, 4] of the four tokens of a colour, and the colours [400]: tokens 0 to 3, or 4 to 7."""
    rng = np.random.default_rng(0)
    colours = rng.integers(2, size=400)
    return (4 * colours[:, None, None] + rng.integers(4, size=(400, 4, 4))).astype(np.uint16), colours


@pytest.fixture
def network() -> Hourglass:
    network = Hourglass(CONFIG)
    network.token_head.set_codes(torch.randn_like(network.token_head.codes))
    return network


def learn(network: Hourglass, grids: np.ndarray) -> None:
    all_targets = torch.ones_like(network.token_head.bias)
    image_embeddings.init_image_embedder(network, grids, LABELS, all_targets, torch.Generator().manual_seed(0))


@pytest.mark.slow
def test_an_embedding_tells_which_tokens_are_drawn_everywhere(
    network: Hourglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_embeddings, "ROUNDS", 900)
    monkeypatch.setattr(image_embeddings, "RATE", 5e-3)
    grids, colours = pictures()
    before = {name: value.clone() for name, value in network.named_parameters()}
    learn(network, grids)
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert {name.removeprefix("token_head.").split(".")[0] for name in changed} == {"image_key", "image_embedder"}

    half = torch.arange(16) < 8
    z = torch.from_numpy(grids.reshape(400, 16).astype(np.int64))
    with torch.no_grad():
        embedding, _ = network.embed_image(z, half.expand(400, -1))
        noise, label = torch.randint(8, z.shape), torch.from_numpy(LABELS)
        embedded, without = (network(noise, label, given).softmax(2) for given in (embedding, None))
    own = torch.arange(8)[None] // 4 == torch.from_numpy(colours)[:, None]  # tokens of the picture's colour
    assert ((embedded * own[:, None]).sum(2) > 0.8).float().mean() > 0.9
    torch.testing.assert_close((without * own[:, None]).sum(2), torch.full((400, 16), 0.5), atol=0.1, rtol=0)


def test_embeddings_have_noise_in_training(network: Hourglass) -> None:
    z, known = torch.zeros(500, 16, dtype=torch.int64), torch.ones(500, 16, dtype=torch.bool)
    embedding, loss = image_embeddings.embed_noisily(
        network, z, known, torch.zeros(500, dtype=torch.int64), torch.Generator()
    )
    plain, _ = network.embed_image(z, known)
    assert embedding.shape == (500, 4) and loss > 0
    assert abs((embedding - plain).std() / image_embeddings.NOISE - 1) < 0.1


def test_embeddings_are_kept_by_class_and_repeated_where_there_are_few(network: Hourglass) -> None:
    grids, _ = pictures()
    grids[LABELS == 0] = 3
    image_embeddings.keep_image_embeddings(network, grids, LABELS)
    same, others = network.image_embeddings
    assert (same == same[0]).all() and len(others.unique(dim=0)) == 200
    assert torch.equal(others[:200], others[200:400]) and len(others) == IMAGE_EMBEDDINGS
    z = torch.from_numpy(grids[1].reshape(1, 16).astype(np.int64))
    torch.testing.assert_close(others[:1], network.embed_image(z, torch.ones(1, 16, dtype=torch.bool))[0])
