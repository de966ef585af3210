"""export/draw.py: the graph draws by inverse CDF, exactly, whatever the regions and the batch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from export.draw import draw, quantise_keys
from export.int8 import HALF
from export.prior import Frozen
from genfast.runtime.session import Session
from training.nets.hourglass import Hourglass, HourglassConfig

SIDE, WIDTH = 8, 12


def prior(vocabulary: int, regions: int) -> Hourglass:
    """Random keys that six bits hold."""
    torch.manual_seed(0)
    config = HourglassConfig(
        tokens=SIDE, vocabulary=vocabulary, regions=regions, features=WIDTH, widths=(16, 16), heads=(1, 1), head=16
    )
    network = Hourglass(config)
    torch.nn.init.normal_(network.token_head.bias)
    levels, scale = quantise_keys(torch.randn(regions**2, vocabulary, WIDTH).numpy())
    return Frozen(network, torch.from_numpy((levels * scale).swapaxes(1, 2)))


def session(network: Hourglass, path: Path) -> Session:
    with torch.no_grad():
        draw(network.token_head.keys().numpy(), network.token_head.bias.numpy(), SIDE, path)
    return Session(path, "cpu")


def inputs(vocabulary: int, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    return {
        "hidden": rng.standard_normal((batch, SIDE**2, WIDTH + 1), np.float32),
        "tokens": rng.integers(vocabulary, size=(batch, SIDE**2)),
        "update": np.ones((batch, SIDE**2), bool),
        "temperature": rng.uniform(0.3, 2, batch).astype(np.float32),
        "uniform": rng.random((batch, SIDE**2), np.float32),
        "return_prob": np.ones(batch, bool),
        "logit_bias": np.zeros((batch, SIDE**2, 1), np.float32),
    }


@pytest.mark.parametrize(("vocabulary", "regions"), [(512, 1), (512, 2), (30, 4), (31, 1)])
def test_draws_are_those_of_the_network(vocabulary: int, regions: int, tmp_path: Path) -> None:
    network = prior(vocabulary, regions)
    graph = session(network, tmp_path / "draw.onnx")
    for batch, share in ((1, 1.0), (2, 0.5), (7, 0.02), (3, 0.0)):
        given = inputs(vocabulary, batch)
        given["update"] = np.random.default_rng(batch).random(given["update"].shape) < share
        drawn, probability = network.token_head.draw(*map(torch.from_numpy, list(given.values())[:-1]))
        got = graph.run(**given)
        np.testing.assert_array_equal(got["drawn"], drawn)
        np.testing.assert_allclose(got["probability"], probability, atol=1e-6)
        still = ~given["update"]
        assert np.array_equal(got["drawn"][still], given["tokens"][still]) and (got["probability"][still] == 1).all()
        alone = graph.run(**{name: value[-1:] for name, value in given.items()})
        np.testing.assert_array_equal(alone["drawn"][0], got["drawn"][-1])
        np.testing.assert_allclose(alone["probability"][0], got["probability"][-1], rtol=1e-5)
        unasked = graph.run(**given | {"return_prob": np.zeros(batch, bool)})
        np.testing.assert_array_equal(unasked["drawn"], got["drawn"])
        assert (unasked["probability"] == 1).all()


def test_draws_in_half_precision_are_nearly_the_same(tmp_path: Path) -> None:
    network, given = prior(512, 2), inputs(512, 7)
    with torch.no_grad():
        draw(network.token_head.keys().numpy(), network.token_head.bias.numpy(), SIDE, tmp_path / "draw.onnx", HALF)
    # onnxruntime leaves out on the CPU what it does not need there: to round to half precision.
    got, p = ReferenceEvaluator(onnx.load(tmp_path / "draw.onnx")).run(None, given)
    drawn, probability = network.token_head.draw(*map(torch.from_numpy, list(given.values())[:-1]))
    same = got == drawn.numpy()
    assert 0.95 < same.mean() < 1
    assert 1e-5 < np.abs(p / probability.numpy() - 1)[same].max() < 0.02


def test_evenly_spaced_numbers_draw_each_token_as_often_as_its_probability_says(tmp_path: Path) -> None:
    """Independently of the network's own draw: counts against the softmax of logits, in float64."""
    vocabulary, batch, t = 300, 5000, 0.7
    network = prior(vocabulary, 1)
    given = {name: np.repeat(value, batch, axis=0) for name, value in inputs(vocabulary, 1).items()}
    given["temperature"][:] = t
    given["hidden"][:, :, -1] = np.linspace(-4, 4, SIDE**2)  # the bonus for the present token; it may be negative
    given["uniform"][:] = ((np.arange(batch) + 0.5) / batch)[:, None]
    logit_bias = np.random.default_rng(2).standard_normal((1, SIDE**2, vocabulary), np.float32)
    given["logit_bias"] = logit_bias.repeat(batch, axis=0)
    got = session(network, tmp_path / "draw.onnx").run(**given)
    with torch.no_grad():
        hidden, tokens = torch.from_numpy(given["hidden"][:1]), torch.from_numpy(given["tokens"][:1])
        logits = network.token_head.logits(hidden, tokens)[0].double() + torch.from_numpy(logit_bias[0])  # (N, V)
    for place in range(SIDE**2):
        drawn = got["drawn"][:, place]
        assert (np.diff(drawn) >= 0).all()  # the inverse of a CDF rises
        counts = np.bincount(drawn, minlength=vocabulary)
        np.testing.assert_allclose(counts / batch, (logits[place] / t).softmax(0), atol=1.1 / batch)
        np.testing.assert_allclose(got["probability"][:, place], logits[place].softmax(0)[drawn], rtol=1e-4)


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_impossible_tokens_are_never_drawn(number: float, tmp_path: Path) -> None:
    """At both ends of the range of numbers, with the first and the last blocks impossible."""
    network = prior(512, 1)
    with torch.no_grad():
        network.token_head.bias[:] = -1e4
        network.token_head.bias[:, 130:140] = 0
    given = inputs(512, 2)
    given["uniform"][:] = number
    got = session(network, tmp_path / "draw.onnx").run(**given)
    assert got["drawn"].min() >= 130 and got["drawn"].max() < 140 and got["probability"].min() > 0
    if number == 0:
        assert (got["drawn"] == 130).all()
