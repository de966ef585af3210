import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from genfast import sundae
from genfast.errors import UsageError
from genfast.noise import Purpose, uniform
from genfast.sundae import Options, choose_themes, likelihood

N, V = 40, 16
COMMON: dict[str, Any] = dict(shape=(5, N // 5), vocabulary=V, unlabelled=3, seed=5)


def labels(batch: int) -> np.ndarray:
    return np.arange(batch) % 3


def themes(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).random((batch, 2), np.float32)


def updating(draw: Callable[..., tuple[np.ndarray, np.ndarray]]) -> sundae.Draw:
    """An output layer that draws what it is to draw, by one that draws all."""

    def some(hidden, tokens, update, temperature, u, judge, *more):
        drawn, probability = draw(hidden, tokens, temperature, u, *more)
        return np.where(update, drawn, tokens), np.where(update & judge[:, None], probability, 1)

    return some


def sample(predict: Any, draw: Any, *, labels: np.ndarray, **options: Any) -> np.ndarray:
    return sundae.sample(predict, updating(draw), labels=labels, **{"themes": themes(len(labels)), **options})


def pass_on(tokens: np.ndarray, label: np.ndarray, theme: np.ndarray, known: np.ndarray) -> np.ndarray:
    return tokens[..., None].astype(np.float32)


def pick(distribution: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse CDF of [B, N, V], and the probability of what was drawn."""
    drawn = (distribution.cumsum(-1) <= u[..., None]).sum(-1).clip(max=distribution.shape[-1] - 1)
    return drawn, np.take_along_axis(distribution, drawn[..., None], -1)[..., 0].astype(np.float32)


def draw_from(distribution: np.ndarray) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """An output layer that knows one distribution [V] alone."""

    def draw(hidden, tokens, temperature, u):
        return pick(np.broadcast_to(distribution, (*tokens.shape, len(distribution))), u)

    return draw


def test_one_step_is_the_inverse_cdf_of_one_uniform_a_token() -> None:
    distribution = np.random.default_rng(0).dirichlet(np.ones(V))
    drawn = sample(
        pass_on, draw_from(distribution), options=Options(steps=1), labels=labels(500), indices=range(500), **COMMON
    )
    u = uniform(5, range(500), 1, Purpose.CATEGORY, (N,))
    assert np.array_equal(drawn, np.searchsorted(distribution.cumsum(), u, side="right").clip(max=V - 1))
    counts = np.bincount(drawn.ravel(), minlength=V) / drawn.size
    assert abs(counts - distribution).max() < 4 * math.sqrt(0.25 / drawn.size)


def test_one_token_at_a_time_is_gibbs_sampling() -> None:
    """With exact conditionals, the order of the paper draws from the joint distribution."""
    joint = np.random.default_rng(1).dirichlet(np.ones(27)).reshape(3, 3, 3)

    def draw(hidden, tokens, temperature, u):
        a, b, c = tokens.T
        conditionals = np.stack([joint[:, b, c].T, joint[a, :, c], joint[a, b, :]], 1)  # [B, 3, V]
        return pick(conditionals / conditionals.sum(-1, keepdims=True), u)

    size = 4000
    options = Options(order="random", steps=40, share=0.1, share_end=0.1, min_steps=40)  # a tenth of three is one
    drawn = sample(
        pass_on,
        draw,
        options=options,
        shape=(1, 3),
        vocabulary=3,
        labels=np.zeros(size, np.int64),
        unlabelled=1,
        seed=0,
        indices=range(size),
    )
    counts = np.zeros((3, 3, 3))
    np.add.at(counts, tuple(drawn.T), 1)
    assert stats.chisquare(counts.ravel(), joint.ravel() * size).pvalue > 1e-3


@pytest.mark.parametrize("order", ["random", "confidence", "chance"])
def test_an_image_depends_on_seed_and_index_alone(order: Any) -> None:
    def draw(hidden, tokens, temperature, u):
        near = np.exp(-abs(tokens.mean(1)[:, None, None] - np.arange(V)) * 2 / temperature[:, None, None])
        return pick(np.broadcast_to(near / near.sum(-1, keepdims=True), (*tokens.shape, V)), u)

    options = Options(order=order, steps=30, min_steps=2, choice_temperature=1.0)
    together = sample(pass_on, draw, options=options, labels=labels(9), indices=range(9), **COMMON)
    alone = [sample(pass_on, draw, options=options, labels=labels(1), indices=[i], **COMMON)[0] for i in range(9)]
    assert np.array_equal(together, alone)
    assert len(np.unique(together, axis=0)) == 9


@pytest.mark.parametrize(
    ("steps", "share", "expected"),
    [(20, (0.5, 0.5), [20] * 20), (25, (0.1, 0.9), None), (19, (0.5, 0.5), [N] * 19)],
)
def test_order_random_redraws_a_share_and_all_tokens_in_few_steps(
    steps: int, share: tuple[float, float], expected: list[int] | None
) -> None:
    """Every draw adds one, so that what was redrawn is what changed."""
    seen: list[np.ndarray] = []
    sample(
        pass_on,
        lambda hidden, tokens, temperature, u: (tokens + 1, u),
        options=Options(order="random", steps=steps, share=share[0], share_end=share[1]),
        labels=labels(2),
        indices=[0, 1],
        watch=seen.append,
        **COMMON,
    )
    redrawn = np.diff(seen, axis=0).sum(2)  # [steps, B]
    expected = expected or [math.ceil(round(N * x, 9)) for x in np.linspace(*share, steps)]
    assert redrawn.T.tolist() == [expected, expected]
    assert seen[0].min() == 0 and seen[0].max() == V - 1
    if steps == 20:
        assert 0.4 < np.mean(np.diff(seen, axis=0)[1:] == np.diff(seen, axis=0)[:-1]) < 0.6  # a new choice each time


@pytest.mark.parametrize(("growth", "settle"), [(2.0, 0.0), (2.0, 0.25), (4.0, 0.25)])
def test_order_confidence_shows_the_surest_alone(growth: float, settle: float) -> None:
    """Token n draws 100 + n with a confidence that grows with n: the network sees the last ones, more at each step.

    While it settles, it sees them all.
    """
    shown: list[list[bool]] = []

    def predict(tokens, label, theme, known):
        assert (tokens[known] >= 100).all()
        shown.append(known[0].tolist())
        return pass_on(tokens, label, theme, known)

    def draw(hidden, tokens, temperature, u):
        confidence = np.linspace(0.1, 0.9, N, dtype=np.float32)
        return np.broadcast_to(np.arange(N) + 100, tokens.shape), np.broadcast_to(confidence, tokens.shape)

    steps, seen = 8, []
    options = Options(steps=steps, min_steps=steps, growth=growth, settle=settle)
    final = sample(predict, draw, options=options, labels=labels(1), indices=[0], watch=seen.append, **COMMON)
    assert final.tolist() == [[*range(100, 100 + N)]]
    for step, known in enumerate(shown):
        kept = math.ceil(N * min(1, step / (steps - settle * steps)) ** growth - 1e-9)
        assert known == [False] * (N - kept) + [True] * kept
    assert len(seen) == steps + 1 and all(np.array_equal(tokens, final) for tokens in seen[1:])


def test_while_it_settles_neighbours_change_in_turn() -> None:
    """Every draw adds one, so that what was redrawn is what changed."""
    seen: list[np.ndarray] = []
    sample(
        pass_on,
        lambda hidden, tokens, temperature, u: (tokens + 1, u),
        options=Options(steps=8, settle=0.5),
        labels=labels(2),
        indices=[0, 1],
        watch=seen.append,
        **COMMON,
    )
    colours = np.indices(COMMON["shape"]).sum(0).ravel() % 2
    for step in range(5, 9):
        assert np.array_equal(seen[step] - seen[step - 1], [colours == step % 2] * 2)


@pytest.mark.parametrize("order", ["random", "confidence", "chance"])
def test_evidence_is_asked_of_what_is_drawn_and_given_to_draw(order: Any) -> None:
    """Those that are fixed are known too."""
    fixed = np.zeros((2, N), bool)
    fixed[:, ::4] = True
    shares: list[float] = []

    def evidence(tokens: np.ndarray, known: np.ndarray) -> np.ndarray:
        assert known[fixed].all() and (tokens[known & ~fixed] == 100).all()
        shares.append(known.mean())
        return np.full((*tokens.shape, 1), len(shares), np.float32)

    def draw(hidden, tokens, temperature, u, more):
        assert more.shape == (2, N, 1) and (more == len(shares)).all()
        return np.full_like(tokens, 100), u

    options = Options(order=order, steps=6, settle=0.5)
    common = COMMON | {"labels": labels(2), "indices": [0, 1], "fixed": (fixed, np.ones((2, N), np.int64))}
    sample(pass_on, draw, options=options, evidence=evidence, **common)
    assert len(shares) == 6 and shares[0] == 0.25 and shares[-1] == (0.25 if order == "random" else 1)


@pytest.mark.parametrize(("growth", "settle"), [(2.0, 0.0), (2.0, 0.25), (4.0, 0.25)])
def test_order_chance_draws_what_it_will_show_by_lot(growth: float, settle: float) -> None:
    shown: list[np.ndarray] = []
    asked: list[np.ndarray] = []

    def predict(tokens, label, theme, known):
        assert (tokens[known] >= 100).all()
        shown.append(known)
        return pass_on(tokens, label, theme, known)

    def draw(hidden, tokens, update, temperature, u, judge):
        asked.append(update)
        return np.where(update, 100 + len(asked), tokens), np.ones_like(u)

    steps = 8
    options = Options(order="chance", steps=steps, min_steps=0, growth=growth, settle=settle)
    common = COMMON | {"labels": labels(50), "themes": themes(50)}
    final = sundae.sample(predict, draw, options=options, indices=range(50), **common)
    assert (final >= 100).all() and len(shown) == steps
    colours = np.indices(COMMON["shape"]).sum(0).ravel() % 2
    for step, (known, update) in enumerate(zip(shown, asked, strict=True)):
        kept = math.ceil(N * min(1, step / (steps - settle * steps)) ** growth - 1e-9)
        assert (known.sum(1) == kept).all()
        if kept < N:
            assert step + 1 == steps or np.array_equal(update, shown[step + 1])
        else:
            assert np.array_equal(update, [colours == (step + 1) % 2] * 50)
        if N / 4 < kept < 3 * N / 4:
            assert 0 < abs(known.mean(0) - kept / N).max() < 0.25 and len(np.unique(known, axis=0)) == 50
    early = [step for step in range(1, steps - 1) if 0.1 < shown[step].mean() < 0.8]
    assert any((shown[step] & ~shown[step + 1]).any() for step in early)  # anew at each step


def test_order_chance_goes_on_until_all_is_drawn() -> None:
    """Nothing that is drawn ever changes: an image is finished once it settles, not before."""
    calls: list[int] = []

    def draw(hidden, tokens, update, temperature, u, judge):
        calls.append(int(update.sum()))
        return tokens, u

    options = Options(order="chance", steps=20, min_steps=0, settle=0.5)
    sundae.sample(pass_on, draw, options=options, indices=[0], labels=labels(1), themes=themes(1), **COMMON)
    assert len(calls) == 12 and calls[9:] == [N, N // 2, N // 2]


def test_noise_in_the_choice_of_what_is_kept_fades_out() -> None:
    shown: list[np.ndarray] = []

    def predict(tokens, label, theme, known):
        shown.append(known)
        return pass_on(tokens, label, theme, known)

    def draw(hidden, tokens, temperature, u):
        confidence = np.exp(np.arange(N, dtype=np.float32) / 4 - 10)
        return np.full_like(tokens, 100), np.broadcast_to(confidence, tokens.shape)

    options = Options(steps=16, min_steps=16, choice_temperature=4.0)
    sample(predict, draw, options=options, labels=labels(200), indices=range(200), **COMMON)
    places = [np.nonzero(some)[1].mean() - (N - some.sum(1).mean() / 2) for some in shown[1:]]
    assert places[2] < -5 and abs(places[-1]) < 2  # far from the surest at first, near them at last


@pytest.mark.parametrize("order", ["random", "confidence", "chance"])
def test_temperature_goes_from_start_to_end(order: Any) -> None:
    seen: list[np.ndarray] = []

    def draw(hidden, tokens, temperature, u):
        seen.append(temperature)
        return (tokens + 1) % V, u

    options = Options(order=order, steps=5, temperature=1.0, temperature_end=0.6)
    sample(pass_on, draw, options=options, labels=labels(2), indices=[0, 1], **COMMON)
    assert np.allclose(seen, np.array([1.0, 0.9, 0.8, 0.7, 0.6])[:, None] * np.ones(2))
    assert all(temperature.dtype == np.float32 for temperature in seen)


def test_finished_images_leave_the_batch_and_the_rest_goes_on() -> None:
    """Image i draws new tokens in its first 3 i steps, and the same from then on."""
    sizes: list[int] = []
    steps: dict[int, int] = {}

    def predict(tokens, label, theme, known):
        sizes.append(len(tokens))
        return label[:, None, None].repeat(N, 1).astype(np.float32)

    def draw(hidden, tokens, temperature, u):
        drawn = tokens.copy()
        for row, image in enumerate(hidden[:, 0, 0].astype(int)):
            steps[image] = steps.get(image, 0) + 1
            drawn[row] = min(steps[image], 3 * image + 1)
        return drawn, u

    seen: list[np.ndarray] = []
    options = Options(order="random", steps=19, min_steps=2)
    final = sample(predict, draw, options=options, labels=np.arange(4), indices=range(4), watch=seen.append, **COMMON)
    # Image i changes at step 3 i + 1 for the last time; one more step shows that it is done.
    assert steps == {0: 2, 1: 5, 2: 8, 3: 11}
    assert sizes == [4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1] and len(seen) == 12
    assert final[:, 0].tolist() == [1, 4, 7, 10]
    late = Options(order="random", steps=19, min_steps=15)
    steps.clear()
    sample(predict, draw, options=late, labels=np.arange(4), indices=range(4), **COMMON)
    assert set(steps.values()) == {15}


def test_with_half_of_the_tokens_redrawn_one_calm_step_proves_nothing() -> None:
    """Only draws count: with a tenth of the tokens a step, ten calm steps cover as many draws as there are tokens."""
    calls: list[int] = []

    def draw(hidden, tokens, temperature, u):
        calls.append(len(tokens))
        return tokens, u

    for share, expected in (0.5, 2), (0.1, 10), (1.0, 1):
        calls.clear()
        options = Options(order="random", steps=50, share=share, share_end=share, min_steps=0)
        sample(pass_on, draw, options=options, labels=labels(1), indices=[0], **COMMON)
        assert len(calls) == expected


@pytest.mark.parametrize("order", ["random", "confidence", "chance"])
def test_fixed_tokens_stay_and_are_seen(order: Any) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((4, N)) < 0.5
    mask[0], mask[1] = True, False  # nothing to draw; everything
    known = np.full((4, N), 200)
    inputs: list[np.ndarray] = []

    def predict(tokens, label, theme, known):
        inputs.append(tokens.copy())
        assert known.all() if order == "random" else known[mask[1:]].all()
        assert 3 not in label or len(label) == 3  # an image with nothing to draw costs nothing
        return pass_on(tokens, label, theme, known)

    def draw(hidden, tokens, temperature, u):
        return (u * V).astype(np.int64), u

    options = Options(order=order, steps=24)
    final = sample(predict, draw, options=options, labels=labels(4), indices=range(4), fixed=(mask, known), **COMMON)
    assert np.array_equal(final == 200, mask)
    for tokens in inputs:
        assert np.array_equal(tokens == 200, mask[1:])
    free = sample(pass_on, draw, options=options, labels=labels(4), indices=range(4), **COMMON)
    assert np.array_equal(final[1], free[1])


def test_a_small_hole_is_not_finished_by_chance() -> None:
    """Of four free tokens, order random redraws two a step: it takes four calm draws, however many are fixed."""
    mask = np.arange(N)[None] >= 4
    calls: list[int] = []

    def draw(hidden, tokens, temperature, u):
        calls.append(1)
        return tokens, u

    options = Options(order="random", steps=30, min_steps=0)
    sample(pass_on, draw, options=options, labels=labels(1), indices=[0], fixed=(mask, np.zeros((1, N), int)), **COMMON)
    assert len(calls) == 2


@pytest.mark.parametrize(("scale", "calls"), [(1.0, 1), (3.0, 2), (0.0, 2)])
def test_guidance_mixes_features(scale: float, calls: int) -> None:
    """hidden = label + 1 and, for no class, 4: the mix is 4 + s (label + 1 - 4)."""
    asked: list[list[int]] = []

    def predict(tokens, label, theme, known):
        asked.append(label.tolist())
        return (label[:, None, None] + 1).repeat(N, 1).astype(np.float32)

    def draw(hidden, tokens, temperature, u):
        assert hidden.dtype == np.float32
        assert hidden[:, 0, 0].tolist() == [4 + scale * (label - 3) for label in (2, 0)]
        return tokens, u

    options = Options(steps=1, guidance=scale)
    sample(predict, draw, options=options, labels=np.array([2, 0]), indices=[0, 1], **COMMON)
    assert asked == [[2, 0], [3, 3]][:calls]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", -1),
        ("steps", 1001),
        ("temperature", 0.0),
        ("temperature_end", -1.0),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("share", 0.0),
        ("share_end", 1.01),
        ("share", math.nan),
        ("min_steps", -1),
        ("all_below", -1),
        ("guidance", -0.1),
        ("guidance", math.inf),
        ("growth", 0.9),
        ("choice_temperature", -1.0),
        ("settle", 1.0),
        ("order", "raster"),
    ],
)
def test_options_that_make_no_sense_are_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{field.replace('_', '-')} must "):
        Options(**{field: value})


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

    def predict(tokens, label, theme, known):
        return np.broadcast_to(np.pad(logits, ((0, 0), (0, 1)), constant_values=7), (len(tokens), N, V + 1))

    found = likelihood(predict, updating(read_off), tokens, free, labels=labels(9), themes=themes(9), seed=1)
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

    def predict(tokens, label, theme, known):
        hidden.append(~known)
        return np.zeros((3, N, V + 1), np.float32)

    found = likelihood(predict, updating(read_off), tokens, free, labels=labels(3), themes=themes(3), seed=1)
    first, second = hidden
    assert np.array_equal(first ^ second, free) and not (first & second).any()
    assert 0.3 < first.sum() / free.sum() < 0.7
    assert np.allclose(found[free], -math.log(V), atol=1e-3)


def test_an_image_of_a_seed_has_one_of_the_themes_of_its_class() -> None:
    kept = np.arange(3 * 7 * 2, dtype=np.float32).reshape(3, 7, 2)
    chosen = choose_themes(kept, labels(3000), seed=5, indices=range(3000))
    assert chosen.dtype == np.float32 and np.array_equal(chosen[:, 0] // 14, labels(3000))
    which = (chosen[:, 0] % 14 / 2).astype(int)
    assert stats.chisquare(np.bincount(which, minlength=7)).pvalue > 1e-3
    assert np.array_equal(chosen[[4, 40]], choose_themes(kept, labels(3000)[[4, 40]], seed=5, indices=[4, 40]))
    assert not np.array_equal(chosen, choose_themes(kept, labels(3000), seed=6, indices=range(3000)))


def test_each_image_is_predicted_by_its_own_theme_and_guided_away_from_none() -> None:
    """Image i, of theme i, is finished after step i + 2."""
    asked: list[list[float]] = []

    def predict(tokens, label, theme, known):
        asked.append(theme[:, 0].tolist())
        return theme[:, :1, None].repeat(N, 1)

    def draw(hidden, tokens, temperature, u):
        assert np.allclose(hidden[:, 0, 0], [2 * x for x in asked[-2]])
        return np.minimum(len(asked) // 2, hidden[:, :, 0] / 2 + 1).astype(np.int64), u

    own = np.arange(3, dtype=np.float32)[:, None].repeat(2, 1)
    options = Options(order="random", steps=9, min_steps=2, guidance=2.0)
    sample(predict, draw, options=options, labels=labels(3), themes=own, indices=range(3), **COMMON)
    assert asked[::2] == [[0, 1, 2], [0, 1, 2], [1, 2], [2]] and all(not any(none) for none in asked[1::2])
