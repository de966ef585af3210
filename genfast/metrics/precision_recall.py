"""Precision and recall of a generator (Kynkäänniemi et al., Improved Precision and Recall Metric, 2019)."""

import numpy as np
import numpy.typing as npt

from genfast.metrics.frechet import Float64

K = 3  # the neighbour whose distance is the radius of a ball


def precision_recall(samples: npt.NDArray[np.floating], real: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Shares in [0, 1] of features `samples` [N, D] that look real, and of `real` [M, D] that are covered; N, M >= 2.

    A point looks like a set where it lies in the ball of one of its points, which reaches to that point's third
    nearest neighbour (equations 1 and 2 there). Both fall with fewer points, so compare at equal counts.
    """
    a, b = samples.astype(np.float64), real.astype(np.float64)
    between = _squared_distances(a, b)  # (N, M)
    precision = (between <= _squared_radii(b)).any(axis=1).mean()
    recall = (between.T <= _squared_radii(a)).any(axis=1).mean()
    return float(precision), float(recall)


def _squared_distances(a: Float64, b: Float64) -> Float64:
    distances: Float64 = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return distances


def _squared_radii(x: Float64) -> Float64:
    """To the K-th nearest other point, or to the farthest where there are fewer."""
    k = min(K, len(x) - 1)
    distances = _squared_distances(x, x)
    np.fill_diagonal(distances, -1)  # each point comes first among its own neighbours
    radii: Float64 = np.partition(distances, k, axis=1)[:, k]
    return radii
