"""What attributes say of tokens, as arrays of a bundle: the basis of drafts is sparse, and takes little deflated."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from genfast.models.drafts import Drafts
from training.drafts import FoldedDrafts

STEP = 0.05  # that a place of a draft is rounded to, principal components being about 1 in size
FILES = {
    "attributes": "attributes.npz",
    "draft_mean": "draft_mean.npy",
    "draft_projection": "draft_projection.npz",
    "draft_basis": "draft_basis.npz",
    "draft_scale": "draft_scale.npy",
    "draft_components": "draft_components.npy",
}
TINY = 1e-3


def rounded(folded: FoldedDrafts) -> tuple[Drafts, dict[str, np.ndarray]]:
    """Drafts as they are stored, and the arrays that hold them; their components are for whoever trains on.

    Each component is rounded the finer the larger its coefficients are: all are off by as much in what is drafted.
    """
    drafts, table = folded.whole, folded.whole.table
    spread = np.empty(drafts.basis.shape[:2], np.float32)  # [L, r]
    for label, each in enumerate(spread):
        each[:] = np.std(drafts.coefficients(label, table.rows[table.labels == label]), axis=0)
    scale = np.maximum(STEP / np.maximum(spread, TINY), np.abs(drafts.basis).max(axis=(2, 3)) / 127)
    levels = np.rint(drafts.basis / scale[..., None, None]).astype(np.int8)
    arrays = {
        "attributes": np.column_stack([table.labels, table.rows]).astype(np.uint16),
        "draft_mean": drafts.mean.astype(np.float16),
        "draft_projection": drafts.projection.astype(np.float16),
        "draft_basis": levels,
        "draft_scale": scale,
        "draft_components": folded.components,
    }
    kept = replace(
        drafts,
        mean=arrays["draft_mean"].astype(np.float32),
        projection=arrays["draft_projection"].astype(np.float32),
        basis=levels * scale[..., None, None],
    )
    return kept, arrays


def store(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Write the arrays into a bundle's folder, each to its place in FILES."""
    for name, array in arrays.items():
        path = folder / FILES[name]
        if path.suffix == ".npz":
            np.savez_compressed(path, array)
        else:
            np.save(path, array, allow_pickle=False)
