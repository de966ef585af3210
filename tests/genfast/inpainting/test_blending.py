import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from genfast.inpainting.blending import smooth


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 0.99))
def test_a_smooth_continuation_stays_within_what_is_known(seed: int, height: int, width: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    values, known = rng.random((height, width, 2), np.float32), rng.random((height, width)) < density
    result = smooth(values, known)
    assert np.array_equal(result[known], values[known])
    if known.any():
        assert (result >= values[known].min(0) - 1e-5).all() and (result <= values[known].max(0) + 1e-5).all()
    else:
        assert not result.any()


def test_a_smooth_continuation_is_harmonic() -> None:
    y, x = np.indices((65, 80), np.float32) / 40 - 1
    values = np.stack([2 * x - y, x * y, x**2 - y**2], axis=2)
    known = np.ones((65, 80), bool)
    known[10:50, 20:70] = False
    assert np.abs(smooth(values, known) - values).max() < 0.15  # of a range of 4
