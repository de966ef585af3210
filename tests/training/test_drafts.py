"""Drafts of training pictures: without the fold that they are in, and kept in a folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genfast.attributes import Attribute, AttributeTable
from genfast.models.drafts import Drafts
from training.drafts import FOLDS, FoldedDrafts, folds


@pytest.fixture
def drafts() -> FoldedDrafts:
    """Of two classes, four places, three numbers each, rank two, at random."""
    rng = np.random.default_rng(0)
    hair, ink = (
        Attribute(name="hair", values=("bun", "long")),
        Attribute(name="ink", values=("#000000", "#ff0000"), colour=True),
    )
    told = np.column_stack([np.arange(40) % 2, rng.integers(1, 3, (40, 2))])  # as a token set has it: parts of an array
    rows, labels = told[:, 1:], told[:, 0]
    arrays = {"mean": (2, 4, 3), "projection": (2, 13, 2), "basis": (2, 2, 4, 3)}
    parts = {name: rng.standard_normal(shape).astype(np.float16).astype(np.float32) for name, shape in arrays.items()}
    whole = Drafts(AttributeTable((hair, ink), rows, labels), **parts)
    projections = rng.standard_normal((FOLDS, 2, 13, 2)).astype(np.float32)
    return FoldedDrafts(whole, projections, rng.random((6, 3), np.float32))


def test_a_draft_is_that_of_the_fold_that_is_left_out(drafts: FoldedDrafts) -> None:
    labels, rows = torch.tensor([0, 1, 0, 1, 2]), torch.tensor([[1, 2], [2, 1], [0, 0], [2, 0], [1, 1]])
    held_out = torch.tensor([3, 0, 1, 3, 2])
    found = drafts.of(labels, rows, held_out)
    whole = drafts.of(labels, rows)
    assert found.shape == whole.shape == (5, 4, 3) and found.dtype == torch.float32
    for i, fold in enumerate(held_out.tolist()):
        if not rows[i].any() or labels[i] == 2:  # nothing is told, or no class
            assert not found[i].any() and not whole[i].any()
            continue
        label = int(labels[i])
        features = drafts.whole.table.features(label, rows[i : i + 1].numpy())[0]
        for draft, projection in (found, drafts.projections[fold]), (whole, drafts.whole.projection):
            coefficients = features @ projection[label, : len(features)]
            expected = drafts.whole.mean[label] + np.einsum("r,rnk->nk", coefficients, drafts.whole.basis[label])
            np.testing.assert_allclose(draft[i], expected, atol=1e-4)


def test_they_are_kept_with_their_token_set(drafts: FoldedDrafts, tmp_path: Path) -> None:
    assert FoldedDrafts.load(tmp_path) is None
    drafts.save(tmp_path)
    again = FoldedDrafts.load(tmp_path)
    assert again is not None and again.whole.table.attributes == drafts.whole.table.attributes
    labels, rows, held_out = torch.tensor([0, 1]), torch.tensor([[1, 2], [2, 1]]), torch.tensor([0, 3])
    for fold in None, held_out:
        torch.testing.assert_close(again.of(labels, rows, fold), drafts.of(labels, rows, fold))
    assert np.array_equal(again.components, drafts.components)
    for kept, own in (
        (again.whole.table.rows, drafts.whole.table.rows),
        (again.whole.table.labels, drafts.whole.table.labels),
    ):
        assert np.array_equal(kept, own)


def test_pictures_that_show_the_same_are_in_one_fold_and_folds_are_as_large() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 9, (4000, 12))
    found = folds(np.concatenate([rows, rows]))
    assert torch.equal(found[:4000], found[4000:])
    shares = found.bincount(minlength=FOLDS) / len(found)
    assert len(shares) == FOLDS and (shares - 1 / FOLDS).abs().max() < 0.03
    assert folds(np.zeros((3, 0), np.int64)).tolist() == [0, 0, 0]
