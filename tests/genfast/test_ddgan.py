import math

import numpy as np

from genfast import bundle, ddgan
from genfast.noise import Purpose, normal
from genfast.session import Session

SEED, INDICES, SHAPE = 11, [*range(8), 2**40], (3, 6, 8)


def expected_of_tiny() -> np.ndarray:
    """The three steps of the bundle `tiny`, written out: [B, C, H, W] f64."""

    def latent(t: int, column: int) -> np.ndarray:
        return normal(SEED, INDICES, t, Purpose.LATENT, (2,))[:, column, None, None, None].astype(float)

    x_3 = normal(SEED, INDICES, 0, Purpose.PRIOR, SHAPE).astype(float)
    noise_3, noise_2 = (normal(SEED, INDICES, t, Purpose.POSTERIOR, SHAPE).astype(float) for t in (3, 2))
    return x_3 / 4 + noise_3 / 8 + noise_2 / 4 + 0.05 * latent(3, 1) + 0.1 * latent(2, 1) + 0.4 * latent(1, 0)


def test_samples_have_their_closed_form(tiny_bundle) -> None:
    session = Session(bundle.load(tiny_bundle).graph("step"))

    def step(x_t, t, z, noise):
        outputs = session.run(x_t=x_t, t=t, z=z, noise=noise)
        return outputs["x_prev"], outputs["x_0"]

    images = ddgan.sample(step, steps=3, latent=2, shape=SHAPE, seed=SEED, indices=INDICES)
    assert images.shape == (9, 6, 8, 3) and images.dtype == np.uint8
    expected = (expected_of_tiny().transpose(0, 2, 3, 1) + 1) * 127.5
    assert expected.min() < 0 and expected.max() > 255  # clipping is part of the test
    assert np.abs(images - expected.clip(0, 255)).max() < 0.5 + 1e-3


def test_denoising_goes_on_from_any_level() -> None:
    def halve(x_t, t, z, noise):
        return x_t / 2, x_t

    x_2 = np.full((1, 1, 2, 2), 0.8, np.float32)
    images = ddgan.denoise(halve, x_2, steps=2, latent=None, seed=0, indices=[0])
    assert images.ravel().tolist() == [153] * 4  # (0.8 / 2 / 2 + 1) * 127.5


def test_a_ddpm_gets_no_latent_and_the_last_step_no_noise() -> None:
    seen = []

    def step(x_t, t, z, noise):
        seen.append((t.tolist(), z, noise.any()))
        return x_t, x_t

    ddgan.sample(step, steps=2, latent=None, shape=(1, 2, 2), seed=0, indices=[0, 1])
    assert seen == [([2, 2], None, True), ([1, 1], None, False)]


def test_networks_of_different_step_counts_start_alike() -> None:
    def identity(x_t, t, z, noise):
        return x_t, x_t

    two, four = (
        ddgan.sample(identity, steps=steps, latent=None, shape=(1, 4, 4), seed=0, indices=[3]) for steps in (2, 4)
    )
    assert np.array_equal(two, four)


def test_pixels() -> None:
    x = np.array([-9, -1, -0.5, 0, 1, 9], np.float32).reshape(1, 2, 1, 3)  # [B, C, H, W]
    assert ddgan.to_pixels(x).tolist() == [[[[0, 128], [0, 255], [64, 255]]]]


LEVELS = (1.0, 0.8, 0.5, 0.2, 0.01)  # alpha_bar


def test_known_pixels_are_put_back_at_each_step_s_level_of_noise() -> None:
    rng = np.random.default_rng(0)
    x_0, hole = rng.standard_normal((2, 1, 3, 4), np.float32), rng.random((3, 4)) < 0.5
    seen = []

    def step(x_t, t, z, noise):
        seen.append((x_t, int(t[0])))
        return np.full_like(x_t, 0.1 * len(seen)), x_t

    ddgan.inpaint(step, x_0, hole, alpha_bar=LEVELS, latent=None, seed=3, indices=[5, 9], resample=2)
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
            ddgan.inpaint(
                step,
                np.full((400, 1, 1, 2), known),
                hole,
                alpha_bar=LEVELS,
                latent=1,
                seed=0,
                indices=range(400),
                resample=resample,
            )[..., 1, 0]
            - (known + 1) * 127.5
        ).mean()
        for resample in (1, 3, 10)
    ]
    assert distances[2] < 0.9 * distances[0] and distances[1] < distances[0]
