"""Drafts against their definition; arrays of a bundle that do not fit."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genfast.bundles import bundle
from genfast.errors import ModelError
from genfast.models import drafts


def rewritten(folder: Path) -> bundle.Bundle:
    """The bundle of a folder whose files were changed, their hashes being right."""
    return bundle.write(folder, **bundle.read(folder).manifest.model_dump(exclude={"format", "files"}))


def test_a_draft_is_linear_in_the_features_of_its_class(attribute_bundle: Path) -> None:
    loaded = bundle.load(attribute_bundle)
    found = drafts.read(loaded)
    labels, rows = np.array([2, 0, 2, 1]), np.array([[1, 2, 2], [2, 3, 0], [0, 0, 1], [3, 0, 0]])
    made = found.of(labels, rows)
    assert made.shape == (4, 6, 2) and made.dtype == np.float32
    mean, projection, scale = (
        np.load(attribute_bundle / f"draft_{name}.npy") for name in ("mean", "projection", "scale")
    )
    basis = np.load(attribute_bundle / "draft_basis.npz")["arr_0"] * scale[..., None, None]
    for label, row, draft in zip(labels, rows, made, strict=True):
        features = found.table.features(label, row[None])[0]
        own = projection[label, : len(features)]
        expected = mean[label] + np.einsum("f,fr,rnk->nk", features, own, basis[label])
        np.testing.assert_allclose(draft, expected, atol=1e-4)


def test_nothing_is_said_where_nothing_is_told(attribute_bundle: Path) -> None:
    found = drafts.read(bundle.load(attribute_bundle))
    made = found.of(np.array([1, 3, 1]), np.array([[0, 0, 0], [1, 1, 1], [2, 0, 0]]))
    assert not made[:2].any() and made[2].all()


def test_a_bundle_without_attributes_has_drafts_of_nothing(token_bundle: Path) -> None:
    found = drafts.read(bundle.load(token_bundle))
    assert found.of(np.array([0, 3]), np.zeros((2, 0), np.int64)).shape == (2, 6, 0)
    assert found.table.choose(np.array([2]), seed=0, indices=[5]).shape == (1, 0)


def replace(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (path,) = folder.glob(f"{name}.np?")
        loaded = np.load(path)
        changed = change(loaded["arr_0"] if path.suffix == ".npz" else loaded)
        np.savez(path, changed) if path.suffix == ".npz" else np.save(path, changed)

    return damage


def put(place: tuple[int, ...], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.int16 if array.dtype == np.uint8 else array.dtype)
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("attributes", put((0, 0), 3)),  # there are three classes
        ("attributes", put((5, 1), 4)),  # and three values
        ("attributes", put((5, 3), -1)),
        ("attributes", lambda rows: rows[:, :3]),
        ("attributes", lambda rows: rows[rows[:, 0] < 2]),  # none of the last class
        ("attributes", lambda rows: rows[0]),
        ("draft_mean", put((0, 0, 0), np.nan)),
        ("draft_mean", lambda mean: mean[:, :5]),
        ("draft_mean", lambda mean: mean[:2]),
        ("draft_projection", lambda projection: projection[:, :20]),  # fewer than there are features
        ("draft_projection", lambda projection: projection[..., :3]),
        ("draft_projection", lambda projection: projection[0]),
        ("draft_basis", lambda basis: basis[..., :1]),
        ("draft_basis", lambda basis: basis[0, 0, 0, 0]),
        ("draft_scale", put((1, 1), np.inf)),
        ("draft_scale", lambda scale: scale[0]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    attribute_bundle: Path, tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    folder = shutil.copytree(attribute_bundle, tmp_path / "dolls")
    replace(name, change)(folder)
    with pytest.raises(ModelError, match=r"draft_\w+.np[yz] is damaged: |attributes.npy is damaged: ") as refused:
        drafts.read(rewritten(folder))
    assert "\n" not in str(refused.value)
