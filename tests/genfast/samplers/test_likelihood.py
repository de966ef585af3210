import math
from typing import Any

import numpy as np
from scipy import special

from genfast.samplers.likelihood import pseudo_log_likelihood
from tests.genfast.samplers.fakes import N, V, batch_of, network, pick


def read_off(hidden: np.ndarray, tokens: np.ndarray, temperature: np.ndarray, u: np.ndarray) -> Any:
    """An output layer whose logits are the features as they are, computed in float32."""
    logits = hidden[..., :-1].copy()
    at = tokens[..., None]
    np.put_along_axis(logits, at, np.take_along_axis(logits, at, 2) + hidden[..., -1:], 2)
    chances = [special.softmax(x, axis=2) for x in (logits / temperature[:, None, None], logits)]
    drawn, _ = pick(chances[0], u)
    return drawn, np.take_along_axis(chances[1], drawn[..., None], 2)[..., 0]


def test_the_likelihood_of_tokens_is_read_off_the_draw() -> None:
    rng = np.random.default_rng(2)
    logits = (4 * rng.standard_normal((N, V))).astype(np.float32)
    logits[0] = [30, *[0] * (V - 1)]
    tokens = rng.integers(0, V, (9, N))
    tokens[:5, 0] = 0  # all but sure, and all but impossible in the others
    free = rng.random((9, N)) < 0.7

    def predict(tokens, label, draft, known):
        return np.broadcast_to(np.pad(logits, ((0, 0), (0, 1)), constant_values=7), (len(tokens), N, V + 1))

    batch = batch_of(range(9), seed=1, fixed=(~free, tokens))
    found = pseudo_log_likelihood(network(predict, read_off), batch, tokens)
    exact = special.log_softmax(logits.astype(float), axis=1)[np.arange(N), tokens]
    assert not found[~free].any()
    lowest = special.log_softmax(logits.astype(float), axis=1).max(1) - 10
    high, low = free & (exact > lowest + 0.1), free & (exact <= lowest + 0.1)
    assert high.sum() > 100 and low.sum() > 10
    assert np.abs(found - exact)[high].max() < 2e-3
    assert np.abs(found - lowest)[low].max() < 0.8  # log 2, and the tenth


def test_tokens_are_judged_by_halves_that_are_hidden() -> None:
    tokens, free = np.full((3, N), 5), np.arange(3 * N).reshape(3, N) % 4 != 0
    hidden = []

    def predict(tokens, label, draft, known):
        hidden.append(~known)
        return np.zeros((3, N, V + 1), np.float32)

    model, fixed = network(predict, read_off), (~free, tokens)
    found = pseudo_log_likelihood(model, batch_of(range(3), seed=1, fixed=fixed), tokens)
    first, second = hidden
    assert np.array_equal(first ^ second, free) and not (first & second).any()
    assert 0.3 < first.sum() / free.sum() < 0.7
    assert np.allclose(found[free], -math.log(V), atol=1e-3)
    hidden.clear()
    pseudo_log_likelihood(model, batch_of([7, 8, 9], seed=1, fixed=fixed), tokens)
    assert np.array_equal(hidden, [first, second])  # all images are judged alike


def test_what_pixels_say_of_tokens_does_not_count() -> None:
    """The score of a fill is how well the prior likes it: the same bias would be in each."""
    tokens = np.full((2, N), 5)

    def predict(tokens, label, draft, known):
        return np.zeros((2, N, V + 1), np.float32)

    bias = np.random.default_rng(0).standard_normal((2, N, V)).astype(np.float32)
    plain, told = (
        pseudo_log_likelihood(network(predict, read_off), batch_of([0, 1], logit_bias=some), tokens)
        for some in (None, bias)
    )
    assert np.array_equal(plain, told)
