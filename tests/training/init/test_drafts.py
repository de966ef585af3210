"""Drafts are ridge regression: against numpy's closed form, place by place; folds are really left out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from genfast.attributes import Attribute, AttributeTable
from training.drafts import FOLDS, FoldedDrafts, folds
from training.init import drafts
from training.init.drafts import RIDGE, fit, principal_components
from training.nets.vqgan import region_map

SIDE, CODES, CHANNELS = 4, 60, 3
HAT = Attribute(name="hat", values=("beret", "none", "top"))
INK = Attribute(name="ink", values=("#ff0000", "#00ff00", "#0000ff"), colour=True)


def pictures(count: int = 90) -> tuple[AttributeTable, Tensor]:
    """Two classes of pictures whose tokens depend on hat and ink, and on chance."""
    rng = np.random.default_rng(0)
    rows, labels = rng.integers(1, 4, (count, 2)), np.arange(count) % 2
    plain = 7 * rows[:, :1] + 13 * rows[:, 1:] * (np.arange(SIDE**2) % 3 == 0) + 5 * labels[:, None]
    tokens = (plain + rng.integers(0, 6, (count, SIDE**2))) % CODES
    return AttributeTable((HAT, INK), rows, labels), torch.from_numpy(tokens)


@pytest.fixture(scope="module")
def codebook() -> Tensor:
    return torch.randn(4, CODES, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9) / 3


def reduced(fitted: FoldedDrafts, tokens: Tensor, codebook: Tensor) -> np.ndarray:
    """What drafts are of (M, N, K), by the definition."""
    regions = region_map(SIDE, SIDE, 2).flatten()
    codes = (codebook / codebook.square().mean().sqrt())[regions, tokens].numpy()
    return codes @ fitted.components[:-1] - fitted.components[-1]


def ridge(features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Weights [F, D] of the ridge regression of wanted [M, D] on features [M, F]."""
    gram = features.T @ features + RIDGE * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ wanted)


@pytest.fixture(scope="module")
def fitted(codebook: Tensor) -> FoldedDrafts:
    return fit(*pictures(), codebook, rank=45, channels=CHANNELS)


@pytest.mark.parametrize("label", [0, 1])
def test_at_full_rank_a_draft_is_the_ridge_regression(fitted: FoldedDrafts, codebook: Tensor, label: int) -> None:
    table, tokens = pictures()
    mine = table.labels == label
    features = table.features(label, table.rows[mine]).astype(np.float64)
    wanted = reduced(fitted, tokens, codebook)[mine].reshape(mine.sum(), -1)
    weights = ridge(features, wanted - wanted.mean(0))
    new = np.array([[1, 3], [3, 2], [2, 0], [0, 1]])
    expected = wanted.mean(0) + table.features(label, new) @ weights
    found = fitted.whole.of(np.full(4, label), new).reshape(4, -1)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_fold_is_drafted_by_the_others_alone(fitted: FoldedDrafts, codebook: Tensor, fold: int) -> None:
    """By the ridge regression of the rest, in the basis of all: a picture's own tokens do not tell of it."""
    table, tokens = pictures()
    mine, held_out = table.labels == 0, folds(table.rows).numpy()
    rest = mine & (held_out != fold)
    wanted = reduced(fitted, tokens, codebook).reshape(len(tokens), -1)
    centred = wanted - wanted[mine].mean(0)
    basis = fitted.whole.basis[0].reshape(45, -1)
    weights = ridge(table.features(0, table.rows[rest]).astype(np.float64), centred[rest] @ basis.T)
    left = np.flatnonzero(mine & (held_out == fold))
    expected = wanted[mine].mean(0) + table.features(0, table.rows[left]) @ weights @ basis
    labels, rows = torch.zeros(len(left), dtype=torch.int64), torch.from_numpy(table.rows[left])
    found = fitted.of(labels, rows, torch.full((len(left),), fold)).flatten(1)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_low_rank_keeps_what_varies_most(codebook: Tensor) -> None:
    table, tokens = pictures()
    full, low = (fit(table, tokens, codebook, rank=rank, channels=CHANNELS) for rank in (45, 2))
    assert low.whole.basis.shape == (2, 2, SIDE**2, CHANNELS) and low.projections.shape[0] == FOLDS
    for label in 0, 1:
        basis = low.whole.basis[label].reshape(2, -1)
        np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-4)  # orthonormal
        rows = table.rows[table.labels == label]
        labels = np.full(len(rows), label)
        drafted, kept = (each.whole.of(labels, rows).reshape(len(rows), -1) for each in (full, low))
        centred = drafted - full.whole.mean[label].ravel()
        singular = np.linalg.svd(centred, compute_uv=False)
        error = np.square(kept - drafted).sum()
        assert error == pytest.approx(np.square(singular[2:]).sum(), rel=0.02, abs=1e-3)


def test_components_are_those_of_the_codes() -> None:
    codes = torch.randn(500, 6) @ torch.randn(6, 6)
    *components, offset = principal_components(codes, 4)
    components = torch.stack(components)
    values, vectors = np.linalg.eigh(np.cov(codes.numpy().T, bias=True))
    spread = np.sqrt(values[::-1][:4])
    projected = (codes @ components - offset).numpy()
    np.testing.assert_allclose(projected.mean(0), 0, atol=1e-4)
    covariance = np.cov(projected.T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(spread / spread.mean()), atol=1e-3)  # about 1, the lesser less so
    alike = np.abs(np.sum(vectors[:, ::-1][:, :4] * (components / components.norm(dim=0)).numpy(), axis=0))
    np.testing.assert_allclose(alike, 1, atol=1e-3)


def test_many_codes_are_sampled(codebook: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(drafts, "SAMPLE", 100)
    monkeypatch.setattr(
        drafts, "principal_components", lambda codes, n: seen.append(len(codes)) or principal_components(codes, n)
    )
    fit(*pictures(), codebook, rank=4, channels=CHANNELS)
    assert 100 <= seen[0] < 110


def test_components_that_a_network_reads_already_stay(fitted: FoldedDrafts, codebook: Tensor) -> None:
    """So that more pictures may sharpen drafts of the same numbers."""
    table, tokens = pictures(60)
    again = fit(table, tokens, codebook, rank=4, channels=CHANNELS, components=torch.from_numpy(fitted.components))
    assert np.array_equal(again.components, fitted.components)
    wanted = reduced(fitted, tokens, codebook)
    for label in 0, 1:
        np.testing.assert_allclose(again.whole.mean[label], wanted[table.labels == label].mean(0), atol=1e-4)
