import math

import numpy as np

from genfast.samplers.ddgan import to_pixels
from genfast.samplers.noise import Purpose, normal
from genfast.samplers.options import RePaintOptions
from genfast.samplers.repaint import repaint

LEVELS = (1.0, 0.8, 0.5, 0.2, 0.01)  # alpha_bar


def test_known_pixels_are_put_back_at_each_step_s_level_of_noise() -> None:
    rng = np.random.default_rng(0)
    x_0, hole = rng.standard_normal((2, 1, 3, 4), np.float32), rng.random((3, 4)) < 0.5
    seen = []

    def step(x_t, t, z, noise):
        seen.append((x_t, int(t[0])))
        return np.full_like(x_t, 0.1 * len(seen)), x_t

    repaint(step, x_0, hole, RePaintOptions(resample=2), alpha_bar=LEVELS, latent=None, seed=3, indices=[5, 9])
    assert [t for _, t in seen] == [4, 4, 3, 3, 2, 2, 1, 1]
    for call, (x_t, t) in enumerate(seen):
        signal, turn = LEVELS[t], call % 2
        noise = normal(3, [5, 9], t + 4 * turn, Purpose.KNOWN, (1, 3, 4))
        known = math.sqrt(signal) * x_0 + math.sqrt(1 - signal) * noise
        assert np.allclose(x_t[..., ~hole], known[..., ~hole], atol=1e-6)
        if turn:  # q(x_t | x_{t-1}) of what the step before gave
            left = signal / LEVELS[t - 1]
            renewal = normal(3, [5, 9], t, Purpose.RENEWAL, (1, 3, 4))
            again = math.sqrt(left) * 0.1 * call + math.sqrt(1 - left) * renewal
            assert np.allclose(x_t[..., hole], again[..., hole], atol=1e-6)
        elif call:
            assert np.allclose(x_t[..., hole], 0.1 * call)


def test_taking_steps_again_brings_together_what_is_drawn_and_what_is_known() -> None:
    """Images of two equal pixels, each half as large as a standard normal number, of which one is known."""

    def step(x_t, t, z, noise):
        """The exact posterior of x_0, which z draws from, and of x_{t-1} between it and x_t."""
        now, before = LEVELS[t[0]], LEVELS[t[0] - 1]
        precision = 4 + 2 * now / (1 - now)
        mean = math.sqrt(now) / (1 - now) * x_t.sum(3, keepdims=True) / precision
        x_0 = np.broadcast_to(mean + z[:, :, None, None] / math.sqrt(precision), x_t.shape)
        beta = 1 - now / before
        drift = math.sqrt(before) * beta * x_0 + math.sqrt(now / before) * (1 - before) * x_t
        return (drift / (1 - now) + math.sqrt(beta * (1 - before) / (1 - now)) * noise).astype(np.float32), x_0

    known = np.float32(0.6)
    hole = np.array([[False, True]])
    distances = [
        abs(
            repaint(
                step,
                np.full((400, 1, 1, 2), known),
                hole,
                RePaintOptions(resample=resample),
                alpha_bar=LEVELS,
                latent=1,
                seed=0,
                indices=range(400),
            )[..., 1, 0]
            - (known + 1) * 127.5
        ).mean()
        for resample in (1, 3, 10)
    ]
    assert distances[2] < 0.9 * distances[0] and distances[1] < distances[0]


def test_the_callback_sees_the_hole_and_then_what_each_step_predicts() -> None:
    x_0, hole = np.zeros((1, 1, 2, 2), np.float32), np.array([[True, False], [False, False]])
    predicted: list[np.ndarray] = []
    seen: list[np.ndarray] = []

    def step(x_t, t, z, noise):
        assert z is None and noise.any() == (t[0] > 1)
        predicted.append(np.full_like(x_t, len(predicted) / 8))
        return predicted[-1], predicted[-1]

    found = repaint(
        step,
        x_0,
        hole,
        RePaintOptions(),
        alpha_bar=LEVELS,
        latent=None,
        seed=3,
        indices=[5],
        callback=seen.append,
    )
    start = np.where(hole, normal(3, [5], 0, Purpose.PRIOR, (1, 2, 2)), x_0)
    assert np.array_equal(seen, [to_pixels(x) for x in (start, *predicted)])
    assert np.array_equal(found, to_pixels(predicted[-1]))  # whole pictures: known pixels are predicted too
