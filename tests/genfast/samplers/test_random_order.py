import numpy as np
import pytest

from genfast.samplers.options import RandomOrderOptions
from genfast.samplers.random_order import random_order
from genfast.samplers.token_step import TokenNetwork
from tests.genfast.samplers.fakes import SHAPE, N, V, batch_of, known_after, pass_on


@pytest.mark.parametrize(("power", "refine"), [(2.0, 0.0), (2.0, 0.25), (4.0, 0.25)])
def test_what_will_be_shown_is_drawn_by_lot(power: float, refine: float) -> None:
    shown: list[np.ndarray] = []
    asked: list[np.ndarray] = []

    def predict(tokens, label, draft, known):
        assert (tokens[known] >= 100).all()
        shown.append(known)
        return pass_on(tokens, label, draft, known)

    def draw(hidden, tokens, update, temperature, u, return_prob, logit_bias):
        asked.append(update)
        return np.where(update, 100 + len(asked), tokens), np.ones_like(u)

    steps = 8
    options = RandomOrderOptions(steps=steps, power=power, refine=refine)
    final = random_order(TokenNetwork(predict, draw, V, 3), batch_of(range(50)), options)
    assert (final >= 100).all() and len(shown) == steps
    colours = np.indices(SHAPE).sum(0).ravel() % 2
    for step, (known, update) in enumerate(zip(shown, asked, strict=True)):
        kept = known_after(step, steps, power, refine)
        assert (known.sum(1) == kept).all()
        if kept < N:
            assert step + 1 == steps or np.array_equal(update, shown[step + 1])
        else:
            assert np.array_equal(update, [colours == (step + 1) % 2] * 50)
        if N / 4 < kept < 3 * N / 4:
            assert 0 < abs(known.mean(0) - kept / N).max() < 0.25 and len(np.unique(known, axis=0)) == 50
    early = [step for step in range(1, steps - 1) if 0.1 < shown[step].mean() < 0.8]
    assert any((shown[step] & ~shown[step + 1]).any() for step in early)  # anew at each step


def test_all_is_drawn_once_and_then_refined_to_the_last_step() -> None:
    """Also where nothing that is drawn ever changes."""
    calls: list[int] = []

    def draw(hidden, tokens, update, temperature, u, return_prob, logit_bias):
        calls.append(int(update.sum()))
        return tokens, u

    random_order(TokenNetwork(pass_on, draw, V, 3), batch_of([0]), RandomOrderOptions(steps=20, refine=0.5))
    assert len(calls) == 20 and max(calls[:9]) < N and calls[9:] == [N, *[N // 2] * 10]
