"""Token sets: what a VQ-GAN made of a data set (training/token_set.py), as a folder of its own.

tokens.json          which VQ-GAN, of what, how many are done
train.npy            [N, h, w] uint16, mapped from disk; likewise validation.npy, test.npy
train-labels.npy     [N] int64
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from training.data.images import Labels, Split
from training.recipe import config

FILE = "tokens.json"


@config
class About:
    """What tokens.json says."""

    vqgan: str  # its identity: see training/token_set.py
    vocabulary: int
    regions: int
    data: str  # name of the data set
    classes: tuple[str, ...]  # names of the labels
    done: dict[Split, int]  # grids that have been written


def about(folder: Path) -> About:
    """Read a token set's description; raises ValueError where it is none."""
    try:
        return TypeAdapter(About).validate_json((folder / FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is no token set; make one with `python -m training tokens`") from error


def check(folder: Path, vqgan: str) -> None:
    """Raise ValueError where the tokens of a folder are not those of the VQ-GAN of this identity."""
    if about(folder).vqgan != vqgan:
        raise ValueError(f"{folder} holds the tokens of another VQ-GAN; encode the data set again")


def read(folder: Path, split: Split, count: int | None = None) -> tuple[npt.NDArray[np.uint16], Labels]:
    """Tokens [N, h, w] uint16, mapped from disk, and labels [N] int64 of a split, the first `count` if that is given.

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
        raise ValueError(f"{folder} holds {done} of {wanted} {split} grids; `python -m training tokens` makes the rest")
    if grids.dtype != np.uint16 or grids.ndim != 3 or grids[:done].max() >= described.vocabulary:
        raise ValueError(f"{folder / split}.npy is damaged: not all are grids of tokens below {described.vocabulary}")
    return grids[:wanted], labels[:wanted]
