"""genfast/metrics/frechet.py against closed forms, numpy.cov and scipy's matrix square root."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from genfast.metrics import frechet
from genfast.metrics.frechet import Moments, frechet_distance


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    return Moments(1000, np.asarray(mean, np.float64), np.asarray(covariance, np.float64))


def random_covariance(rng: np.random.Generator, d: int) -> np.ndarray:
    a = rng.normal(size=(d, 2 * d))
    return a @ a.T / (2 * d)


def test_one_dimension() -> None:
    """(mu_p - mu_q)^2 + (sigma_p - sigma_q)^2."""
    assert frechet_distance(gaussian([1.0], [[4.0]]), gaussian([-2.0], [[25.0]])) == pytest.approx(9 + 9)


def test_diagonal_covariances() -> None:
    rng = np.random.default_rng(0)
    mean_p, mean_q, sigma_p, sigma_q = rng.uniform(0.1, 3, (4, 50))
    wanted = ((mean_p - mean_q) ** 2 + (sigma_p - sigma_q) ** 2).sum()
    got = frechet_distance(gaussian(mean_p, np.diag(sigma_p**2)), gaussian(mean_q, np.diag(sigma_q**2)))
    assert got == pytest.approx(wanted, rel=1e-12)


def test_commuting_covariances() -> None:
    """With common axes Q the distance is that of the diagonals; some of the variances are zero."""
    rng = np.random.default_rng(1)
    q, _ = np.linalg.qr(rng.normal(size=(40, 40)))
    sigma_p, sigma_q = rng.uniform(0, 3, (2, 40))
    sigma_p[:10] = 0
    got = frechet_distance(
        gaussian(np.zeros(40), q @ np.diag(sigma_p**2) @ q.T), gaussian(np.zeros(40), q @ np.diag(sigma_q**2) @ q.T)
    )
    assert got == pytest.approx(((sigma_p - sigma_q) ** 2).sum(), rel=1e-6)


def test_general_covariances_as_scipy_has_them() -> None:
    rng = np.random.default_rng(2)
    p = gaussian(rng.normal(size=30), random_covariance(rng, 30))
    q = gaussian(rng.normal(size=30), random_covariance(rng, 30))
    trace = np.trace(p.covariance + q.covariance - 2 * sqrtm(p.covariance @ q.covariance).real)
    assert frechet_distance(p, q) == pytest.approx(((p.mean - q.mean) ** 2).sum() + trace, rel=1e-9)
    assert frechet_distance(p, q) == pytest.approx(frechet_distance(q, p), rel=1e-9)


def test_to_itself_is_zero_even_where_the_covariance_is_singular() -> None:
    few = Moments.of(np.random.default_rng(3).normal(size=(20, 100)))  # rank 19 of 100
    assert 0 <= frechet_distance(few, few) < 1e-6


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.floats(-1e6, 1e6))
def test_merged_moments_are_those_of_the_whole(sizes: list[int], offset: float) -> None:
    """A large common offset would ruin sums of squares; the merge formula keeps what numpy.cov has."""
    rng = np.random.default_rng(len(sizes))
    parts = [rng.normal(size=(size, 3)) + offset for size in sizes]
    whole = np.concatenate(parts)
    merged = Moments.of(parts[0])
    for part in parts[1:]:
        merged += Moments.of(part)
    assert merged.n == len(whole)
    np.testing.assert_allclose(merged.mean, whole.mean(axis=0), rtol=1e-12, atol=1e-14 * abs(offset))
    if len(whole) > 1:
        np.testing.assert_allclose(merged.covariance, np.cov(whole, rowvar=False), rtol=1e-6, atol=1e-9)


def test_chunks_of_float32_features(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(4).gamma(2.0, size=(1000, 8)).astype(np.float32)
    monkeypatch.setattr(frechet, "CHUNK", 64)
    moments = Moments.of(features)
    np.testing.assert_allclose(moments.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-12)
    assert moments.covariance.dtype == np.float64


def test_the_distance_is_that_of_pytorch_fid() -> None:
    io = np.load(Path(__file__).parents[2] / "inception_io.npz")
    for name, tolerance in ("many", 1e-6), ("few", 1e-2):  # the covariance of few is singular
        moments = [Moments.of(io[f"fid_{name}_{side}"]) for side in "ab"]
        assert frechet_distance(*moments) == pytest.approx(float(io[f"fid_{name}_value"]), rel=tolerance)
