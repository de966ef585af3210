"""The kernel inception distance (Bińkowski et al., Demystifying MMD GANs, 2018)."""

import numpy as np
import numpy.typing as npt

from genfast.metrics.frechet import Float64


def kernel_distance(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> float:
    """Unbiased squared maximum mean discrepancy of features `x` [N, D] and `y` [M, D], N, M >= 2 (their equation 4).

    The kernel is (x.y / D + 1)^3. The value is given as it is (others often print it times 1000); being unbiased, it
    may fall below zero for sets of one distribution.
    """
    a, b = x.astype(np.float64), y.astype(np.float64)
    return _mean_of_pairs(_kernel(a, a)) + _mean_of_pairs(_kernel(b, b)) - 2 * float(_kernel(a, b).mean())


def _kernel(a: Float64, b: Float64) -> Float64:
    k: Float64 = (a @ b.T / a.shape[1] + 1) ** 3
    return k  # (N, M)


def _mean_of_pairs(k: Float64) -> float:
    """The mean over pairs of different rows: without the diagonal."""
    return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))
