"""Drafts: what the attributes of a picture say of its tokens, place by place, before any is drawn.

A draft is a grid of K numbers a token: the principal components of the codes that are expected there, by ridge
regression of the codes of training pictures on AttributeTable.features. It is of low rank: that takes little room.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genfast.attributes import AttributeTable, Rows
from genfast.bundles.bundle import Bundle
from genfast.errors import ModelError
from genfast.types import Floats, Tokens


@dataclass(frozen=True)
class Drafts:
    """mean + features @ projection @ basis, for L labels and up to F features.

    `mean` is [L, N, K], `projection` [L, F, r] and `basis` [L, r, N, K], of any type: in few bits, it takes little
    memory. K is 0 where nothing is known of attributes.
    """

    table: AttributeTable
    mean: Floats
    projection: Floats
    basis: npt.NDArray[Any]

    def of(self, labels: Tokens, rows: Rows) -> Floats:
        """Drafts [B, N, K] of pictures of labels [B] and attributes [B, A].

        Zeros, which say nothing, where no attribute is told, or no label: any from L on.
        """
        drafts = np.zeros((len(labels), *self.mean.shape[1:]), np.float32)
        told = rows.any(1) & (labels < len(self.mean))
        for label in np.unique(labels[told]).tolist():
            mine = np.flatnonzero(told & (labels == label))
            # Not by BLAS, whose threads would keep a core busy for a while after: the network runs next.
            of_basis = np.einsum(
                "br,rnk->bnk",
                self.coefficients(label, rows[mine]),
                self.basis[label],
                dtype=np.float32,
                casting="same_kind",
            )
            drafts[mine] = self.mean[label] + of_basis
        return drafts

    def coefficients(self, label: int, rows: Rows) -> Floats:
        """What the basis is to be multiplied with: [B, r] for rows [B, A] of one label."""
        features = self.table.features(label, rows)
        found: Floats = features @ self.projection[label, : features.shape[1]]
        return found


def read_table(bundle: Bundle) -> AttributeTable:
    """The attributes of a bundle, and those of the pictures that it learned from. Raises ModelError for damage."""
    manifest = bundle.manifest
    told = bundle.integers("attributes").astype(np.int64)  # [M, 1 + A]
    labels = max(len(manifest.classes), 1)
    most = [labels - 1, *(len(attribute.values) for attribute in manifest.attributes)]
    fits = told.ndim == 2 and told.shape[1] == len(most) and (told >= 0).all() and (told <= most).all()
    if not fits or len(np.unique(told[:, 0])) < labels:
        raise _damaged(bundle, "attributes")
    return AttributeTable(manifest.attributes, told[:, 1:], told[:, 0], manifest.classes)


def read(bundle: Bundle) -> Drafts:
    """The drafts of a bundle of tokens. Raises ModelError where its arrays are damaged or do not fit."""
    tokens, labels = bundle.manifest.tokens, max(len(bundle.manifest.classes), 1)
    assert tokens  # as every manifest of this family
    places = tokens.height * tokens.width  # N
    if not bundle.manifest.attributes:
        nothing = AttributeTable((), np.zeros((labels, 0), np.int64), np.arange(labels))
        shapes = (labels, places, 0), (labels, 0, 0), (labels, 0, places, 0)
        return Drafts(nothing, *(np.zeros(shape, np.float32) for shape in shapes))
    table = read_table(bundle)
    features = max(table.features(label, table.rows[:0]).shape[1] for label in range(labels))
    mean, projection, scale = (bundle.array(f"draft_{part}") for part in ("mean", "projection", "scale"))
    basis = bundle.integers("draft_basis")
    rank, numbers = scale.shape[-1:], mean.shape[-1:]  # r, K
    for name, array, shape in (
        ("mean", mean, (labels, places, *numbers)),
        ("projection", projection, (labels, max(features, *projection.shape[1:2], 0), *rank)),
        ("basis", basis, (labels, *rank, places, *numbers)),
        ("scale", scale, (labels, *rank)),
    ):
        if array.shape != shape or not np.isfinite(array).all():
            raise _damaged(bundle, f"draft_{name}")
    return Drafts(table, mean, projection * scale[:, None], basis)


def _damaged(bundle: Bundle, name: str) -> ModelError:
    path = bundle.directory / bundle.manifest.arrays[name]
    return ModelError(f"{path} is damaged: it does not fit the manifest and the other arrays; get the bundle again")
