"""export/prior.py: the graphs of a prior say what the network says, but for weights that were rounded."""

from pathlib import Path

import numpy as np
import pytest
import torch

import genfast
from export.draft_likelihood import NEAR
from export.precision import DIVERGENCE
from export.prior import freeze
from genfast.bundles import bundle
from genfast.runtime.session import Session
from tests.export.tiny import CODES, SIDE, random_drafts
from training.nets.hourglass import Hourglass
from training.nets.vqgan import VQGAN


def test_predictions_are_those_of_the_prior(exported: Path, networks: tuple[Hourglass, VQGAN]) -> None:
    """Of weights in eight bits: so near that the distributions are the same to hundredths of a nat."""
    network, _ = networks
    z, label, draft = torch.randint(CODES, (3, SIDE**2)), torch.tensor([0, 4, 5]), torch.randn(3, SIDE**2, 12)
    draft[2] = 0  # nothing is told
    known = torch.rand(z.shape) < 0.7
    loaded = bundle.load(exported)
    given = {"tokens": z, "label": label, "draft": draft, "known": known}
    arrays = {name: value.numpy() for name, value in given.items()}
    with torch.inference_mode():
        exact = network(*given.values()).log_softmax(2)
        for device in ("cpu", "cuda"):
            hidden = Session(loaded.graph("predict", device), "cpu").run(**arrays)["hidden"]
            stored = network.token_head.logits(torch.from_numpy(hidden), z).log_softmax(2)
            apart, others = ((exact.exp() * (exact - x)).sum(2).mean() for x in (stored, stored.roll(1, 0)))
            assert apart < min(0.03, others / 100)
    assert exact.exp().max(2).values.mean() > 0.2  # else any two would be near


def test_drafts_are_those_of_the_token_set(
    exported: Path, checkpoints: tuple[Path, Path], networks: tuple[Hourglass, VQGAN]
) -> None:
    """Rounded, but drawn with by the model that users load."""
    wanted = random_drafts(networks[1]).whole
    found = genfast.load(str(exported), device="cpu").drafts()
    rows, labels = wanted.table.rows[:10], wanted.table.labels[:10]
    np.testing.assert_array_equal(found.table.rows, wanted.table.rows)
    error = found.of(labels, rows) - wanted.of(labels, rows)
    assert error.std() < 0.1 * wanted.of(labels, rows).std()


def test_drafts_say_the_more_of_a_token_the_nearer_its_code(exported: Path, networks: tuple[Hourglass, VQGAN]) -> None:
    """Four nats for each factor e of squared distance, as recipes have it, from the codes as `draft` gives them."""
    run = {role: Session(bundle.load(exported).graph(role), "cpu").run for role in ("draft", "draft_likelihood")}
    draft = np.random.default_rng(0).standard_normal((2, SIDE**2, 12)).astype(np.float32)
    tokens = np.random.default_rng(1).integers(CODES, size=(2, SIDE**2))
    draft[1, 3] = run["draft"](tokens=tokens)["draft"][1, 3]  # as near as can be
    said = run["draft_likelihood"](draft=draft)["logit_bias"]
    assert said.shape == (2, SIDE**2, CODES)
    distance = np.square(run["draft"](tokens=tokens)["draft"] - draft).sum(2)
    got = np.take_along_axis(said, tokens[..., None], 2)[..., 0]
    np.testing.assert_allclose(got, -4 * np.log(distance.clip(NEAR)), rtol=1e-4, atol=1e-4)
    assert got[1, 3] == said[1, 3].max() == pytest.approx(-4 * np.log(NEAR))


def test_freezing_changes_little(networks: tuple[Hourglass, VQGAN]) -> None:
    network, codec = networks
    z, label = torch.randint(CODES, (2, SIDE**2)), torch.tensor([1, 5])
    with torch.inference_mode():
        frozen = freeze(network, codec)
        exact, stored = network(z, label).log_softmax(2), frozen(z, label).log_softmax(2)
    # Logits of this network spread over dozens of nats: the keys of a trained prior cost 0.005 in six bits.
    assert (exact.exp() * (exact - stored)).sum(2).mean() < 16 * DIVERGENCE
    assert torch.equal(frozen.token_head.codes, codec.codebook)
