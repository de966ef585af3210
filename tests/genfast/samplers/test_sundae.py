import math

import numpy as np
import pytest
from scipy import stats

from genfast.samplers.options import SundaeOptions
from genfast.samplers.sundae import sundae
from tests.genfast.samplers.fakes import N, V, add_one, batch_of, network, pass_on, pick


def test_one_token_at_a_time_is_gibbs_sampling() -> None:
    """With exact conditionals, the sampler draws from the joint distribution."""
    joint = np.random.default_rng(1).dirichlet(np.ones(27)).reshape(3, 3, 3)

    def draw(hidden, tokens, temperature, u):
        a, b, c = tokens.T
        conditionals = np.stack([joint[:, b, c].T, joint[a, :, c], joint[a, b, :]], 1)  # [B, 3, V]
        return pick(conditionals / conditionals.sum(-1, keepdims=True), u)

    size = 4000
    options = SundaeOptions(steps=40, redraw_ratio=0.1, redraw_ratio_end=0.1, min_steps=40)  # a tenth of three is one
    batch = batch_of(range(size), np.zeros(size, np.int64), shape=(1, 3), seed=0)
    drawn = sundae(network(pass_on, draw, vocabulary=3), batch, options)
    counts = np.zeros((3, 3, 3))
    np.add.at(counts, tuple(drawn.T), 1)
    assert stats.chisquare(counts.ravel(), joint.ravel() * size).pvalue > 1e-3


@pytest.mark.parametrize(
    ("steps", "ratio", "expected"), [(20, (0.5, 0.5), [20] * 20), (25, (0.1, 0.9), None), (7, (1.0, 1.0), [N] * 7)]
)
def test_a_share_of_the_tokens_is_drawn_anew(
    steps: int, ratio: tuple[float, float], expected: list[int] | None
) -> None:
    seen: list[np.ndarray] = []
    options = SundaeOptions(steps=steps, redraw_ratio=ratio[0], redraw_ratio_end=ratio[1])
    sundae(network(pass_on, add_one), batch_of([0, 1]), options, seen.append)
    redrawn = np.diff(seen, axis=0).sum(2)  # [steps, B]
    expected = expected or [math.ceil(round(N * x, 9)) for x in np.linspace(*ratio, steps)]
    assert redrawn.T.tolist() == [expected, expected]
    assert seen[0].min() == 0 and seen[0].max() == V - 1
    if steps == 20:
        assert 0.4 < np.mean(np.diff(seen, axis=0)[1:] == np.diff(seen, axis=0)[:-1]) < 0.6  # a new choice each time


def test_finished_images_leave_the_batch_and_the_rest_goes_on() -> None:
    """Image i draws new tokens in its first 3 i steps, and the same from then on."""
    sizes: list[int] = []
    steps: dict[int, int] = {}

    def predict(tokens, label, draft, known):
        sizes.append(len(tokens))
        return label[:, None, None].repeat(N, 1).astype(np.float32)

    def draw(hidden, tokens, temperature, u):
        drawn = tokens.copy()
        for row, image in enumerate(hidden[:, 0, 0].astype(int)):
            steps[image] = steps.get(image, 0) + 1
            drawn[row] = min(steps[image], 3 * image + 1)
        return drawn, u

    seen: list[np.ndarray] = []
    every = {"steps": 19, "redraw_ratio": 1.0, "redraw_ratio_end": 1.0}
    batch = batch_of(range(4), np.arange(4))
    final = sundae(network(predict, draw), batch, SundaeOptions(**every, min_steps=2), seen.append)
    # Image i changes at step 3 i + 1 for the last time; one more step shows that it is done.
    assert steps == {0: 2, 1: 5, 2: 8, 3: 11}
    assert sizes == [4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1] and len(seen) == 12
    assert final[:, 0].tolist() == [1, 4, 7, 10]
    steps.clear()
    sundae(network(predict, draw), batch, SundaeOptions(**every, min_steps=15))
    assert set(steps.values()) == {15}


def test_with_half_of_the_tokens_redrawn_one_step_without_change_proves_nothing() -> None:
    """Only draws count: with a tenth of the tokens a step, ten such steps cover as many draws as there are tokens."""
    calls: list[int] = []

    def draw(hidden, tokens, temperature, u):
        calls.append(len(tokens))
        return tokens, u

    for ratio, expected in (0.5, 2), (0.1, 10), (1.0, 1):
        calls.clear()
        options = SundaeOptions(steps=50, redraw_ratio=ratio, redraw_ratio_end=ratio, min_steps=0)
        sundae(network(pass_on, draw), batch_of([0]), options)
        assert len(calls) == expected


def test_a_small_hole_is_not_finished_by_chance() -> None:
    """Of four free tokens two are redrawn a step: it takes four draws without change, however many are fixed."""
    mask = np.arange(N)[None] >= 4
    calls: list[int] = []

    def draw(hidden, tokens, temperature, u):
        calls.append(1)
        return tokens, u

    batch = batch_of([0], fixed=(mask, np.zeros((1, N), int)))
    sundae(network(pass_on, draw), batch, SundaeOptions(steps=30, min_steps=0))
    assert len(calls) == 2


def test_each_image_is_predicted_by_its_own_draft_and_guided_away_from_none() -> None:
    """Image i, of a draft of i, is finished after step i + 2."""
    asked: list[list[float]] = []

    def predict(tokens, label, draft, known):
        asked.append(draft[:, 0, 0].tolist())
        return draft[:, :, :1]

    def draw(hidden, tokens, temperature, u):
        assert np.allclose(hidden[:, 0, 0], [2 * x for x in asked[-2]])
        return np.minimum(len(asked) // 2, hidden[:, :, 0] / 2 + 1).astype(np.int64), u

    own = np.arange(3, dtype=np.float32)[:, None, None] + np.zeros((3, N, 2), np.float32)
    options = SundaeOptions(steps=9, min_steps=2, guidance=2.0, redraw_ratio=1.0, redraw_ratio_end=1.0)
    sundae(network(predict, draw), batch_of(range(3), draft=own), options)
    assert asked[::2] == [[0, 1, 2], [0, 1, 2], [1, 2], [2]] and all(not any(none) for none in asked[1::2])
