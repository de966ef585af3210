import numpy as np
import pytest

from genfast.samplers.maskgit import maskgit
from genfast.samplers.options import MaskGITOptions
from tests.genfast.samplers.fakes import SHAPE, N, add_one, batch_of, known_after, network, pass_on


@pytest.mark.parametrize(("power", "refine"), [(2.0, 0.0), (2.0, 0.25), (4.0, 0.25)])
def test_the_surest_alone_are_shown(power: float, refine: float) -> None:
    """Token n draws 100 + n with a confidence that grows with n: the network sees the last ones, more at each step.

    While it refines, it sees them all.
    """
    shown: list[list[bool]] = []

    def predict(tokens, label, draft, known):
        assert (tokens[known] >= 100).all()
        shown.append(known[0].tolist())
        return pass_on(tokens, label, draft, known)

    def draw(hidden, tokens, temperature, u):
        confidence = np.linspace(0.1, 0.9, N, dtype=np.float32)
        return np.broadcast_to(np.arange(N) + 100, tokens.shape), np.broadcast_to(confidence, tokens.shape)

    seen: list[np.ndarray] = []
    options = MaskGITOptions(steps=8, power=power, refine=refine)
    final = maskgit(network(predict, draw), batch_of([0]), options, seen.append)
    assert final.tolist() == [[*range(100, 100 + N)]]
    assert len(shown) == 8
    for step, known in enumerate(shown):
        kept = known_after(step, 8, power, refine)
        assert known == [False] * (N - kept) + [True] * kept
    assert len(seen) == 9 and all(np.array_equal(tokens, final) for tokens in seen[1:])


def test_while_it_refines_neighbours_change_in_turn() -> None:
    seen: list[np.ndarray] = []
    maskgit(network(pass_on, add_one), batch_of([0, 1]), MaskGITOptions(steps=8, refine=0.5), seen.append)
    colours = np.indices(SHAPE).sum(0).ravel() % 2
    for step in range(5, 9):
        assert np.array_equal(seen[step] - seen[step - 1], [colours == step % 2] * 2)


def test_noise_in_the_choice_of_what_is_kept_fades_out() -> None:
    shown: list[np.ndarray] = []

    def predict(tokens, label, draft, known):
        shown.append(known)
        return pass_on(tokens, label, draft, known)

    def draw(hidden, tokens, temperature, u):
        confidence = np.exp(np.arange(N, dtype=np.float32) / 4 - 10)
        return np.full_like(tokens, 100), np.broadcast_to(confidence, tokens.shape)

    maskgit(network(predict, draw), batch_of(range(200)), MaskGITOptions(steps=16, choice_temperature=4.0))
    places = [np.nonzero(some)[1].mean() - (N - some.sum(1).mean() / 2) for some in shown[1:]]
    assert places[2] < -5 and abs(places[-1]) < 2  # far from the surest at first, near them at last
