"""export/prior.py: the graphs of a prior say what the network says, but for weights that were rounded."""

from pathlib import Path

import numpy as np
import torch

from export.precision import DIVERGENCE
from export.prior import freeze
from genfast.bundles import bundle
from genfast.runtime.session import Session
from tests.export.tiny import CODES, SIDE
from training.nets.hourglass import Hourglass
from training.nets.vqgan import VQGAN


def test_predictions_are_those_of_the_prior(exported: Path, networks: tuple[Hourglass, VQGAN]) -> None:
    """Of weights in eight bits: so near that the distributions are the same to a hundredth of a nat."""
    network, _ = networks
    z, label, embedding = torch.randint(CODES, (3, SIDE**2)), torch.tensor([0, 4, 5]), network.image_embeddings[0, :3]
    known = torch.rand(z.shape) < 0.7
    loaded = bundle.load(exported)
    given = {"tokens": z, "label": label, "image_embedding": embedding, "known": known}
    arrays = {name: value.numpy() for name, value in given.items()}
    with torch.inference_mode():
        exact = network(*given.values()).log_softmax(2)
        for device in ("cpu", "cuda"):
            hidden = Session(loaded.graph("predict", device), "cpu").run(**arrays)["hidden"]
            stored = network.token_head.logits(torch.from_numpy(hidden), z).log_softmax(2)
            assert (exact.exp() * (exact - stored)).sum(2).mean() < 0.01
    assert exact.exp().max(2).values.mean() > 0.2  # else any two would be near


def test_image_embeddings_are_those_of_the_prior(exported: Path, networks: tuple[Hourglass, VQGAN]) -> None:
    network, _ = networks
    loaded = bundle.load(exported)
    np.testing.assert_allclose(loaded.array("image_embeddings"), network.image_embeddings, rtol=1e-3, atol=1e-6)
    z, known = torch.randint(CODES, (3, SIDE**2)), torch.rand(3, SIDE**2) < 0.5
    told = Session(loaded.graph("embed"), "cpu").run(tokens=z.numpy(), known=known.numpy())
    with torch.inference_mode():
        embedding, label = network.embed_image(z, known)
    assert embedding.std(0).mean() > 0.01
    np.testing.assert_allclose(told["image_embedding"], embedding, atol=0.01)
    np.testing.assert_allclose(told["label"], label, atol=0.02)


def test_freezing_changes_little(networks: tuple[Hourglass, VQGAN]) -> None:
    network, codec = networks
    z, label = torch.randint(CODES, (2, SIDE**2)), torch.tensor([1, 5])
    with torch.inference_mode():
        frozen = freeze(network, codec)
        exact, stored = network(z, label).log_softmax(2), frozen(z, label).log_softmax(2)
    # Logits of this network spread over dozens of nats: the keys of a trained prior cost 0.005 in six bits.
    assert (exact.exp() * (exact - stored)).sum(2).mean() < 16 * DIVERGENCE
    assert torch.equal(frozen.token_head.codes, codec.codebook)
