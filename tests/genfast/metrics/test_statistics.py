from pathlib import Path

import numpy as np
import pytest

from genfast.errors import InputError
from genfast.metrics.frechet import Moments, frechet_distance
from genfast.metrics.statistics import SUBSET, About, Statistics, floor


def about(n: int) -> About:
    return About(dataset="dots", images_sha256="0" * 64, n=n, extractor="means", graph_sha256="1" * 64, floor=0.5)


def features(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.gamma(2.0, size=(n, d)) @ rng.normal(size=(d, d))).astype(np.float32)


def test_a_file_says_what_was_saved(tmp_path: Path) -> None:
    x = features(300, 20)
    saved = Statistics.of(x, about(300))
    saved.save(tmp_path / "dots.npz")
    loaded = Statistics.load(tmp_path / "dots.npz")
    assert loaded.about == saved.about
    assert loaded.moments.n == 300
    np.testing.assert_array_equal(loaded.moments.mean, saved.moments.mean)
    np.testing.assert_allclose(loaded.moments.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-5)
    np.testing.assert_array_equal(loaded.moments.covariance, loaded.moments.covariance.T)
    np.testing.assert_allclose(loaded.subset, saved.subset, rtol=1e-3)


def test_storage_in_float32_leaves_the_distance_alone(tmp_path: Path) -> None:
    Statistics.of(features(3000, 200), about(3000)).save(tmp_path / "dots.npz")
    stored = Statistics.load(tmp_path / "dots.npz").moments
    exact, other = Moments.of(features(3000, 200)), Moments.of(features(3000, 200, seed=1))
    assert frechet_distance(other, stored) == pytest.approx(frechet_distance(other, exact), rel=1e-6)
    assert frechet_distance(exact, stored) < 1e-3


def test_the_subset_is_drawn_from_all_rows_without_repeats() -> None:
    rows = np.arange(5000, dtype=np.float32)[:, None].repeat(2, axis=1)
    subset = Statistics.of(rows, about(5000)).subset
    assert len(np.unique(subset)) == SUBSET == len(subset)
    assert abs(subset.mean() - rows.mean()) < 100
    assert len(Statistics.of(rows[:10], about(10)).subset) == 10


def test_the_floor_is_that_of_halves_of_one_distribution() -> None:
    """In one dimension: two means differ by 2 / n, two standard deviations by 1 / n, squared and expected, n = 500."""
    x = np.random.default_rng(0).normal(size=(200, 1000))
    mean = np.mean([floor(row[:, None]) for row in x])
    assert mean == pytest.approx(3 / 500, rel=0.15)


@pytest.mark.parametrize(
    "damage", ["missing", "folder", "text", "truncated", "array", "pickle", "shapes", "nan", "about"]
)
def test_anything_else_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "dots.npz"
    Statistics.of(features(300, 20), about(300)).save(path)
    arrays = dict(np.load(path))
    if damage == "missing":
        path.unlink()
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "text":
        path.write_text("no archive")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "array":
        with open(path, "wb") as file:
            np.save(file, arrays["mean"])
    elif damage == "pickle":
        np.savez(path, **arrays | {"mean": np.array([object()])})
    elif damage == "shapes":
        np.savez(path, **arrays | {"mean": arrays["mean"][:-1]})
    elif damage == "nan":
        np.savez(path, **arrays | {"covariance": arrays["covariance"] * np.nan})
    elif damage == "about":
        np.savez(path, **arrays | {"about": np.array('{"format": 2}')})
    with pytest.raises(InputError, match="dots.npz"):
        Statistics.load(path)
