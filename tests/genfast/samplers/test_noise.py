import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator, Philox
from scipy import stats

from genfast.samplers.noise import Purpose, normal, uniform

WORD = st.integers(0, 2**64 - 1)


@given(seed=WORD, index=WORD, step=st.integers(0, 1000), purpose=st.sampled_from(Purpose))
def test_an_address_is_a_philox_counter(seed: int, index: int, step: int, purpose: Purpose) -> None:
    philox = Philox(key=seed, counter=index << 64 | step << 128 | purpose << 192)
    expected = Generator(philox).standard_normal((2, 3), dtype=np.float32)
    assert np.array_equal(normal(seed, [index], step, purpose, (2, 3))[0], expected)
    philox = Philox(key=seed, counter=index << 64 | step << 128 | purpose << 192)
    assert np.array_equal(uniform(seed, [index], step, purpose, (4,))[0], Generator(philox).random(4, np.float32))


@given(indices=st.lists(WORD, min_size=1, max_size=5), others=st.lists(WORD, max_size=5))
def test_an_image_is_drawn_alike_in_any_company(indices: list[int], others: list[int]) -> None:
    for draw in normal, uniform:
        alone = draw(3, indices, 1, Purpose.LATENT, (4,))
        together = draw(3, others + indices, 1, Purpose.LATENT, (4,))
        assert np.array_equal(together[len(others) :], alone)


def test_uniform_numbers_are_uniform() -> None:
    draws = uniform(0, range(20), 1, Purpose.CATEGORY, (1000,))
    assert draws.dtype == np.float32 and draws.min() >= 0 and draws.max() < 1
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 1e-3


def test_neighbouring_addresses_are_independent_standard_normals() -> None:
    rows = [
        normal(seed, [index], step, purpose, (5000,))[0]
        for seed in (0, 1)
        for index in (0, 1)
        for step in (1, 2)
        for purpose in Purpose
    ]
    assert stats.kstest(np.concatenate(rows), "norm").pvalue > 1e-3
    correlations = np.corrcoef(rows)[~np.eye(len(rows), dtype=bool)]
    assert abs(correlations).max() < 5 / np.sqrt(5000)


def test_what_a_seed_means_does_not_change() -> None:
    """Fails where numpy changes its normal distribution: say so in the release notes, and renew the numbers."""
    draws = normal(7, [50], 2, Purpose.PRIOR, (4,))
    assert draws.dtype == np.float32
    assert uniform(7, [50], 2, Purpose.TOKENS, (2,)).tolist() == [[0.750464677810669, 0.6326861381530762]]
    assert draws.tolist() == [[0.36495891213417053, -0.21620705723762512, -1.6851857900619507, -0.5083183646202087]]
