import numpy as np

from genfast.bundles import bundle
from genfast.runtime.session import Session
from genfast.samplers import ddgan
from genfast.samplers.noise import Purpose, normal

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


def test_a_guided_step_is_that_of_the_guided_prediction() -> None:
    """q(x_s | x_t, x_0) has the mean c_0 x_0 + c_t x_t: with the x_0 that guidance makes in place of the one told."""
    rng, here, there = np.random.default_rng(0), 0.3, 0.7
    told, untold, rest = rng.uniform(-1, 1, (3, 2, 1, 4, 4)).astype(np.float32)
    c_0 = np.sqrt(there) * (1 - here / there) / (1 - here)
    x_s, x_0 = ddgan.guide(c_0 * told + rest, told, untold, 3.0, here, there)
    wanted = (3 * told - 2 * untold).clip(-1, 1)
    assert (np.abs(wanted) == 1).any()  # clipping is part of the test
    np.testing.assert_allclose(x_0, wanted, atol=1e-5)
    np.testing.assert_allclose(x_s, c_0 * wanted + rest, atol=1e-5)


def test_guidance_is_between_two_levels_of_noise() -> None:
    log_snrs = np.array([-6, -1.01, -0.99, 0, 2.99, 3.01, 8])
    assert [ddgan.is_guided(1 / (1 + np.exp(-x))) for x in log_snrs] == [False, False, True, True, True, False, False]


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
