"""Data sets: which one a recipe names, and its images."""

from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from training.recipe import DataConfig

Split = Literal["train", "validation", "test"]


class Images(Protocol):
    """Images of one shape, in memory or not: an array [N, H, W, C] uint8 is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray:
        """One image [H, W, C] uint8."""


def signed(images: Tensor) -> Tensor:
    """Images (..., C, H, W) float in [-1, 1] of uint8 ones."""
    return images.float() / 127.5 - 1


def load(data: DataConfig, split: Split, count: int | None = None) -> tuple[Images, np.ndarray]:
    """Images of a split, and labels [N] int64; the first `count` alone where it is given.

    Fashion-MNIST has no validation images: its test images serve.

    Raises:
        ValueError: a folder of images is asked for, and none is named.
    """
    import pooch

    from training.data import avatars, fashion_mnist, tokens
    from training.data.folder import Folder

    if data.name == "avatars":
        return avatars.load(split, count or data.count, data.size, data.folder or pooch.os_cache("genfast") / "avatars")
    if data.name == "fashion-mnist":
        images, labels = fashion_mnist.load("train" if split == "train" else "test", data.folder)
        return images[:count], labels[:count]
    if data.folder is None:
        raise ValueError("which folder? name it with --data, or as `folder` in the recipe's [data]")
    if data.name == "tokens":
        return tokens.read(data.folder, split, count)
    folder = Folder(data.folder, data.size, split, count)
    return folder, np.zeros(len(folder), np.int64)


def class_names(data: DataConfig) -> tuple[str, ...]:
    """What the labels of a data set stand for, in their order; nothing where there are no classes."""
    from training.data import avatars, fashion_mnist, tokens

    if data.name == "tokens":
        return tokens.about(data.folder).classes
    return {"avatars": avatars.CLASSES, "fashion-mnist": fashion_mnist.CLASSES}.get(data.name, ())
