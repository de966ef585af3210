"""Drafts for training: of each training picture as if its attributes had not been seen.

Else a network would trust drafts more than it can trust those of new pictures. training/init/drafts.py fits them.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch import Tensor

from genfast.attributes import Attribute, AttributeTable, Rows
from genfast.files import atomic
from genfast.models.drafts import Drafts
from genfast.types import Floats

FOLDS = 4  # of the training pictures: what a network learns from is drafted without the fold that it is in
FILE = "drafts.safetensors"  # in the folder of a token set
PRIME = 2**31 - 1


@dataclass(frozen=True)
class FoldedDrafts:
    """Drafts fitted to all pictures, and by fold projections [FOLDS, L, F, r] fitted to those of the other folds.

    `components` [C + 1, K] makes drafts of codes, from which the last row is taken away first.
    """

    whole: Drafts
    projections: Floats
    components: Floats

    def of(self, labels: Tensor, rows: Tensor, held_out: Tensor | None = None) -> Tensor:
        """Drafts (B, N, K) of pictures of labels (B,) and attributes (B, A), without their folds (B,) where given."""
        label, row = labels.cpu().numpy(), rows.cpu().numpy()
        if held_out is None:
            return torch.from_numpy(self.whole.of(label, row)).to(labels.device)
        drafts = np.empty((len(label), *self.whole.mean.shape[1:]), np.float32)
        for fold in held_out.unique().tolist():
            mine = (held_out == fold).numpy()
            drafts[mine] = replace(self.whole, projection=self.projections[fold]).of(label[mine], row[mine])
        return torch.from_numpy(drafts).to(labels.device)

    def save(self, folder: Path) -> None:
        """Keep them in the folder of their token set."""
        whole, table = self.whole, self.whole.table
        arrays: dict[str, npt.NDArray[Any]] = {
            "mean": whole.mean,
            "projection": whole.projection,
            "basis": whole.basis.astype(np.float16),
        }
        arrays |= {"projections": self.projections, "components": self.components}
        arrays |= {"rows": table.rows, "labels": table.labels}
        about = json.dumps([attribute.model_dump() for attribute in table.attributes])
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # others it would scramble
        with atomic(folder / FILE) as file:
            save_file(contiguous, file.name, {"attributes": about})

    @classmethod
    def load(cls, folder: Path) -> "FoldedDrafts | None":
        """Those of a token set; None where it has none."""
        path = folder / FILE
        if not path.exists():
            return None
        with safe_open(path, "np") as file:
            about = file.metadata()["attributes"]
        arrays = load_file(path)
        attributes = TypeAdapter(tuple[Attribute, ...]).validate_json(about)
        table = AttributeTable(attributes, arrays["rows"], arrays["labels"])
        basis = arrays["basis"].astype(np.float32)
        whole = Drafts(table, arrays["mean"], arrays["projection"], basis)
        return cls(whole, arrays["projections"], arrays["components"])


def folds(rows: Rows) -> Tensor:
    """The fold (B,) of pictures of attributes [B, A]: those that show the same are in the same."""
    mixed = np.zeros(len(rows), np.int64)
    for column in rows.T:
        mixed = (mixed * 31 + column) % PRIME
    return torch.from_numpy(mixed % FOLDS)
