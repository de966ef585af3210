"""Which data set a recipe names."""

import numpy as np
import pooch

from genfast.attributes import Attribute, Rows
from genfast.token_set import about
from training.data import avatars, fashion_mnist, tokens
from training.data.folder import Folder
from training.data.images import Images, Labels, Split
from training.recipe import DataConfig


def load(data: DataConfig, split: Split, count: int | None = None) -> tuple[Images, Labels]:
    """Images of a split, and labels [N] int64; the first `count` alone where it is given.

    Fashion-MNIST has no validation images: its test images serve.

    Raises:
        ValueError: a folder of images is asked for, and none is named.
    """
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


def attributes(data: DataConfig, split: Split, count: int) -> tuple[tuple[Attribute, ...], Rows]:
    """What is known of the first `count` images of a split: attributes, none where nothing is, and rows [N, A]."""
    if data.name == "avatars":
        return avatars.attributes(split, count)
    if data.name == "folder" and data.folder is not None:
        return Folder(data.folder, data.size, split, count).attributes()
    return (), np.zeros((count, 0), np.int64)


def check_garments(data: DataConfig, classes: int) -> None:
    """Raise ValueError unless these are garments, and a network is told so many classes, or none.

    Diffusion models learn nothing else: their figures and their bundles are of garments.
    """
    if data.name != "fashion-mnist":
        raise ValueError(f"diffusion models learn fashion-mnist, not {data.name}; a vqgan and a prior learn others")
    if classes not in (0, len(fashion_mnist.CLASSES)):
        raise ValueError(f"unet.classes is {classes}: garments have {len(fashion_mnist.CLASSES)}, or say 0")


def class_names(data: DataConfig) -> tuple[str, ...]:
    """What the labels of a data set stand for, in their order; nothing where there are no classes.

    Raises:
        ValueError: a token set is asked for, and it is none.
    """
    if data.name == "tokens":
        if data.folder is None:
            raise ValueError("which token set? name it as `folder` in the recipe's [data]")
        return about(data.folder).classes
    return {"avatars": avatars.CLASSES, "fashion-mnist": fashion_mnist.CLASSES}.get(data.name, ())
