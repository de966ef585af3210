"""genfast/metrics/kid.py against the definition, pair by pair."""

import numpy as np
import pytest

from genfast.metrics.kid import kernel_distance


def test_is_the_definition() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 5)), rng.normal(0.5, size=(9, 5))

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(u * v for u, v in zip(a, b, strict=True)) / 5 + 1) ** 3

    wanted = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / (7 * 6)
    wanted += sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / (9 * 8)
    wanted -= 2 * sum(k(a, b) for a in x for b in y) / (7 * 9)
    assert kernel_distance(x, y) == pytest.approx(wanted, rel=1e-12)


def test_is_unbiased() -> None:
    """Between draws of one distribution it averages to zero: small sets do not raise it, as they raise FID."""
    rng = np.random.default_rng(1)
    values = [kernel_distance(rng.normal(size=(10, 4)), rng.normal(size=(10, 4))) for _ in range(2000)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert min(values) < 0 < max(values)


def test_half_precision_rows_count_as_float64() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 300, (2, 50, 16)).astype(np.float16)
    assert kernel_distance(x, y) == kernel_distance(x.astype(np.float64), y.astype(np.float64))
