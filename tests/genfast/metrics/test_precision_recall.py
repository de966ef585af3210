import numpy as np
import pytest
from scipy.spatial import cKDTree

from genfast.metrics.precision_recall import precision_recall

rng = np.random.default_rng(0)


def by_trees(samples: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """The same by SciPy's nearest neighbours."""

    def covered(points: np.ndarray, centres: np.ndarray) -> float:
        radii = cKDTree(centres).query(centres, k=4)[0][:, 3]
        return np.mean([(np.linalg.norm(centres - point, axis=1) <= radii).any() for point in points])

    return covered(samples, real), covered(real, samples)


def test_against_nearest_neighbours() -> None:
    samples, real = rng.standard_normal((300, 5)), rng.standard_normal((400, 5)) * 1.2 + 0.5
    assert precision_recall(samples, real) == pytest.approx(by_trees(samples, real))
    assert precision_recall(real, samples) == pytest.approx(by_trees(samples, real)[::-1])


def test_on_a_line() -> None:
    """Radii are 3 at 0 and 10, and 2 between; a ball holds its own border."""
    real = np.array([[0.0], [1], [2], [3], [10], [11], [12], [13]])
    samples = np.array([[-3.0], [-3.1], [6.0], [6.5], [16.0]])
    precision, _ = precision_recall(samples, real)
    assert precision == 3 / 5


def test_a_set_and_itself() -> None:
    x = rng.standard_normal((200, 8)).astype(np.float32)
    assert precision_recall(x, x) == (1, 1)


def test_one_mode_is_precise_and_recalls_little() -> None:
    modes = np.concatenate([rng.standard_normal((200, 4)) + centre for centre in (0, 100)])
    precision, recall = precision_recall(rng.standard_normal((400, 4)), modes)
    assert precision > 0.8 and 0.4 < recall <= 0.5


def test_strangers_share_nothing() -> None:
    assert precision_recall(rng.standard_normal((50, 4)), rng.standard_normal((50, 4)) + 100) == (0, 0)


def test_two_points_are_enough() -> None:
    assert precision_recall(np.zeros((2, 3)), np.ones((2, 3))) == (0, 0)
    assert precision_recall(np.eye(2), np.eye(2)) == (1, 1)
