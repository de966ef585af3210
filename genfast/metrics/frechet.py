"""Moments of features and the Fréchet distance between two sets of them, in float64."""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Self

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
CHUNK = 4096  # rows that are held in float64 at a time


@dataclass(frozen=True)
class Moments:
    """Count, mean and covariance of D-dimensional features: all that the Fréchet distance knows of them."""

    n: int
    mean: Float64  # (D,)
    covariance: Float64  # (D, D), unbiased: divided by n - 1

    @classmethod
    def of(cls, features: npt.NDArray[np.floating], rows: npt.NDArray[np.intp] | None = None) -> Self:
        """Moments of `features` [N, D], N >= 1, or of those rows of them, gathered chunk by chunk.

        The covariance of a single row is zero.
        """
        n = len(features) if rows is None else len(rows)
        parts = (slice(start, start + CHUNK) for start in range(0, n, CHUNK))
        chunks = (features[part if rows is None else rows[part]].astype(np.float64) for part in parts)
        return reduce(add, map(cls._of_chunk, chunks))

    @classmethod
    def _of_chunk(cls, x: Float64) -> Self:
        mean = x.mean(axis=0)
        x -= mean
        return cls(len(x), mean, x.T @ x / max(1, len(x) - 1))

    def __add__(self, other: Self) -> Self:
        """Moments of both sets together, as exact as two passes over them (Chan, Golub and LeVeque 1979)."""
        n = self.n + other.n
        delta = other.mean - self.mean
        scatter = (self.n - 1) * self.covariance + (other.n - 1) * other.covariance
        scatter += self.n * other.n / n * np.outer(delta, delta)
        return type(self)(n, self.mean + other.n / n * delta, scatter / (n - 1))


def frechet_distance(p: Moments, q: Moments) -> float:
    """The squared Fréchet distance between two Gaussians, in squared units of the features: FID as it is reported.

    |mu_p - mu_q|^2 + tr(S_p + S_q - 2 (S_p^1/2 S_q S_p^1/2)^1/2)    (equation 28 of the paper on f-divergences)

    The matrix under the outer root is symmetric, so its eigenvalues are real and the trace of its root is the sum of
    their roots. What rounding makes negative counts as zero.
    """
    values, vectors = np.linalg.eigh(p.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T  # S_p^1/2
    cross = np.sqrt(np.linalg.eigvalsh(root @ q.covariance @ root).clip(min=0)).sum()
    delta = p.mean - q.mean
    distance = delta @ delta + np.trace(p.covariance) + np.trace(q.covariance) - 2 * cross
    return max(0.0, float(distance))
