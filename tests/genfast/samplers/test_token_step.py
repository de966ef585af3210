"""What all samplers of tokens share: each test here holds for every one of them."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genfast.samplers.noise import Purpose, uniform
from genfast.samplers.options import MaskGITOptions, SundaeOptions, TokenOptions
from genfast.samplers.token_step import TokenNetwork, largest, token_step
from genfast.samplers.tokens import sample
from tests.genfast.samplers.fakes import KINDS, SEED, N, V, batch_of, network, pass_on, pick

every_sampler = pytest.mark.parametrize("kind", KINDS)


def draw_from(distribution: np.ndarray) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """An output layer that knows one distribution [V] alone."""

    def draw(hidden, tokens, temperature, u):
        return pick(np.broadcast_to(distribution, (*tokens.shape, len(distribution))), u)

    return draw


def test_one_step_is_the_inverse_cdf_of_one_uniform_a_token() -> None:
    distribution = np.random.default_rng(0).dirichlet(np.ones(V))
    model, batch = network(pass_on, draw_from(distribution)), batch_of(range(500))
    z_0, everywhere = batch.initial(V), np.ones((500, N), bool)
    assert np.array_equal(z_0, (uniform(SEED, range(500), 0, Purpose.TOKENS, (N,)).astype(float) * V).astype(int))
    drawn, probability = token_step(
        model, batch, z_0, 1, known=~everywhere, update=everywhere, temperature=np.float32(1), return_prob=True
    )
    u = uniform(SEED, range(500), 1, Purpose.CATEGORY, (N,))
    assert np.array_equal(drawn, np.searchsorted(distribution.cumsum(), u, side="right").clip(max=V - 1))
    assert np.allclose(probability, distribution[drawn])
    counts = np.bincount(drawn.ravel(), minlength=V) / drawn.size
    assert abs(counts - distribution).max() < 4 * math.sqrt(0.25 / drawn.size)
    assert np.array_equal(sample(model, batch, MaskGITOptions(steps=1)), drawn)


@every_sampler
def test_an_image_depends_on_seed_and_index_alone(kind: type[TokenOptions]) -> None:
    def draw(hidden, tokens, temperature, u):
        near = np.exp(-abs(tokens.mean(1)[:, None, None] - np.arange(V)) * 2 / temperature[:, None, None])
        return pick(np.broadcast_to(near / near.sum(-1, keepdims=True), (*tokens.shape, V)), u)

    options = kind(steps=30).adjusted(
        {MaskGITOptions: {"choice_temperature": 1.0}, SundaeOptions: {"min_steps": 2}}.get(kind, {})
    )
    model = network(pass_on, draw)
    together = sample(model, batch_of(range(9)), options)
    alone = [sample(model, batch_of([i]), options)[0] for i in range(9)]
    assert np.array_equal(together, alone)
    assert len(np.unique(together, axis=0)) == 9


@every_sampler
def test_temperature_goes_from_start_to_end(kind: type[TokenOptions]) -> None:
    seen: list[np.ndarray] = []

    def draw(hidden, tokens, temperature, u):
        seen.append(temperature)
        return (tokens + 1) % V, u

    sample(network(pass_on, draw), batch_of([0, 1]), kind(steps=5, temperature=1.0, temperature_end=0.6))
    assert np.allclose(seen, np.array([1.0, 0.9, 0.8, 0.7, 0.6])[:, None] * np.ones(2))
    assert all(temperature.dtype == np.float32 for temperature in seen)


@every_sampler
def test_the_callback_sees_the_start_and_each_step_and_may_keep_it(kind: type[TokenOptions]) -> None:
    seen: list[np.ndarray] = []
    batch = batch_of([0, 1])
    final = sample(network(pass_on, lambda hidden, tokens, t, u: (tokens + 1, u)), batch, kind(steps=6), seen.append)
    assert len(seen) == 7 and np.array_equal(seen[0], batch.initial(V)) and np.array_equal(seen[-1], final)
    assert all((after >= before).all() and (after > before).any() for before, after in pairwise(seen))


@every_sampler
def test_fixed_tokens_stay_and_are_seen(kind: type[TokenOptions]) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((4, N)) < 0.5
    mask[0], mask[1] = True, False  # nothing to draw; everything
    inputs: list[np.ndarray] = []
    rows = slice(1, None) if kind is SundaeOptions else slice(None)  # an image with nothing to draw costs nothing

    def predict(tokens, label, draft, known):
        inputs.append(tokens.copy())
        assert known.all() if kind is SundaeOptions else known[mask].all()
        return pass_on(tokens, label, draft, known)

    def draw(hidden, tokens, temperature, u):
        return (u * V).astype(np.int64), u

    options = kind(steps=24)
    fixed = mask, np.full((4, N), 200)
    final = sample(network(predict, draw), batch_of(range(4), fixed=fixed), options)
    assert np.array_equal(final == 200, mask)
    for tokens in inputs:
        assert np.array_equal(tokens == 200, mask[rows])
    free = sample(network(pass_on, draw), batch_of(range(4)), options)
    assert np.array_equal(final[1], free[1])


@every_sampler
def test_what_pixels_say_of_tokens_is_given_to_draw_at_each_step(kind: type[TokenOptions]) -> None:
    """Each image's own, also where others have left the batch; and nothing, as one column, where there is none."""
    given: list[np.ndarray] = []
    bias = np.arange(3, dtype=np.float32)[:, None, None] + np.zeros((3, N, V), np.float32)
    mask = np.zeros((3, N), bool)
    mask[0] = True  # sundae drops this one

    def draw(hidden, tokens, update, temperature, u, return_prob, logit_bias):
        given.append(np.asarray(logit_bias))
        return np.where(update, tokens + 1, tokens), u

    model = TokenNetwork(pass_on, draw, V, 3)
    sample(model, batch_of(range(3), fixed=(mask, np.zeros((3, N), np.int64)), logit_bias=bias), kind(steps=4))
    assert len(given) == 4
    assert all(np.array_equal(some, bias[1:] if kind is SundaeOptions else bias) for some in given)
    given.clear()
    sample(model, batch_of(range(3)), kind(steps=4))
    assert all(some.shape == (3, N, 1) and some.dtype == np.float32 and not some.any() for some in given)


@every_sampler
def test_probabilities_are_asked_for_where_they_decide(kind: type[TokenOptions]) -> None:
    """A softmax at temperature 1 over the whole vocabulary costs time: maskgit alone needs it."""
    asked: list[bool] = []

    def draw(hidden, tokens, update, temperature, u, return_prob, logit_bias):
        assert return_prob.dtype == np.bool_ and return_prob.shape == (2,)
        asked.extend(return_prob.tolist())
        return np.where(update, tokens + 1, tokens), u

    sample(TokenNetwork(pass_on, draw, V, 3), batch_of([0, 1]), kind(steps=3))
    assert asked == [kind is MaskGITOptions] * 6


@pytest.mark.parametrize(("scale", "calls"), [(1.0, 1), (3.0, 2), (0.0, 2)])
def test_guidance_mixes_features(scale: float, calls: int) -> None:
    """hidden = label + 1 and, for no class, 4: the mix is 4 + s (label + 1 - 4)."""
    asked: list[list[int]] = []

    def predict(tokens, label, draft, known):
        asked.append(label.tolist())
        return (label[:, None, None] + 1).repeat(N, 1).astype(np.float32)

    def draw(hidden, tokens, temperature, u):
        assert hidden.dtype == np.float32
        assert hidden[:, 0, 0].tolist() == [4 + scale * (label - 3) for label in (2, 0)]
        return tokens, u

    options = MaskGITOptions(steps=1, guidance=scale)
    sample(network(predict, draw), batch_of([0, 1], np.array([2, 0])), options)
    assert asked == [[2, 0], [3, 3]][:calls]


@given(
    scores=st.lists(st.integers(0, 9), min_size=1, max_size=50),
    keep=st.randoms(use_true_random=False),
    tenths=st.integers(0, 10),
)
def test_the_largest_are_a_share_rounded_up_of_those_among_which_to_choose(
    scores: list[int], keep: Any, tenths: int
) -> None:
    among = np.array([[keep.random() < 0.7 for _ in scores]])
    values = np.array([scores], np.float32)
    found = largest(values, among, tenths / 10)
    assert not (found & ~among).any()
    assert found.sum() == -(-among.sum() * tenths // 10)
    if found.any() and (among & ~found).any():
        assert values[found].min() >= values[among & ~found].max()


def test_options_of_no_sampler_are_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="TokenOptions is of no sampler"):
        sample(network(pass_on, pass_on), batch_of([3]), TokenOptions())
