"""Token sets as data sets: see genfast/token_set.py."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from genfast.token_set import about
from training.data.images import Labels, Split


def read(folder: Path, split: Split, count: int | None = None) -> tuple[npt.NDArray[np.uint16], Labels]:
    """Tokens [N, h, w] uint16, mapped from disk, and labels [N] or [N, 1 + A] int64 of a split.

    The first `count` where that is given.

    Raises:
        ValueError: there are none, or too few, or they are damaged.
    """
    described = about(folder)
    try:
        grids = np.load(folder / f"{split}.npy", mmap_mode="c", allow_pickle=False)
        labels = np.load(folder / f"{split}-labels.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{folder} has no {split} tokens that can be read: {error}") from error
    done, wanted = described.done.get(split, 0), count or len(grids)
    if len(labels) != len(grids):
        raise ValueError(f"{folder} is damaged: it has {len(grids)} {split} grids, and {len(labels)} labels")
    if min(done, len(grids)) < wanted:
        raise ValueError(f"{folder} holds {done} of {wanted} {split} grids; the command that made these makes the rest")
    if grids.dtype != np.uint16 or grids.ndim != 3 or grids[:done].max() >= described.vocabulary:
        raise ValueError(f"{folder / split}.npy is damaged: not all are grids of tokens below {described.vocabulary}")
    return grids[:wanted], labels[:wanted]
