"""VQ-GAN and images to a token set, and what attributes say of its tokens."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from genfast.attributes import AttributeTable
from genfast.progress import progress
from genfast.samplers.tokens import sample
from genfast.token_set import TokenSetInfo, Writer, about, check
from genfast.types import Split
from training import registry
from training.checkpoint import load_average, newest_checkpoint, saved
from training.codec import load_codec
from training.data.datasets import attributes, class_names, load
from training.data.folder import Folder
from training.data.tokens import read
from training.drafts import FoldedDrafts
from training.families.sundae import SundaeRecipe
from training.init.drafts import fit
from training.nets.hourglass import Hourglass
from training.sampling import token_batch, token_network

BATCH = 4  # images that are encoded at a time


def encode(vqgan: Path, out: Path, split: Split, count: int | None = None, data: Path | None = None) -> int:
    """Encode the data set that a VQ-GAN was trained on into the folder `out`, going on where it was interrupted.

    `count` and `data` are as in `load`: how many images, and where they lie. Returns how many there are.

    Raises:
        ValueError: `out` holds the tokens of another VQ-GAN, or `data` is missing for that of a bundle.
    """
    codec, source = load_codec(vqgan)
    source = dataclasses.replace(source, folder=data or source.folder)
    images, labels = load(source, split, count)
    known, rows = attributes(source, split, len(images))
    told = np.column_stack([labels, rows])  # [N, 1 + A]
    described = TokenSetInfo(
        vqgan=codec.identity,
        vocabulary=codec.codebook.shape[1],
        regions=codec.regions,
        data=source.name,
        classes=class_names(source),
        attributes=known,
    )
    writer = Writer(out, split, described, len(images))
    with progress(f"encoding {split} images", len(images)) as advance:
        advance(writer.done)
        for first in range(writer.done, len(images), BATCH):
            mine = range(first, min(first + BATCH, len(images)))
            batch = np.stack([images[i] for i in mine])
            if isinstance(images, Folder):
                told[[i for i in mine if images.is_replaced(i)], 1:] = 0  # of what took its place, all is unknown
            writer.add(codec.encode(batch.astype(np.uint8, copy=False)), told[first : first + len(batch)])
            advance(len(batch))
    return writer.done


def redraw(prior: Path, out: Path, count: int) -> int:
    """Draw the first `count` training pictures of a prior anew, by labels and attributes, into the token set `out`.

    It goes on where it was interrupted. Returns how many there are.

    Raises:
        ValueError: the run is none of a prior, its tokens are missing, or `out` holds those of another VQ-GAN.
    """
    checkpoint = newest_checkpoint(prior)
    recipe = registry.validate(saved(checkpoint)["recipe"])
    if not isinstance(recipe, SundaeRecipe) or recipe.data.folder is None:
        raise ValueError(f"{prior} is no run of a prior over a token set")
    network = load_average(checkpoint, Hourglass(recipe.hourglass)).eval()
    drafts = FoldedDrafts.load(recipe.data.folder) if recipe.hourglass.draft else None
    _, told = read(recipe.data.folder, "train", count)
    told = told.reshape(count, -1)  # [N, 1 + A]
    writer = Writer(out, "train", about(recipe.data.folder).model_copy(update={"done": {}}), count)
    with torch.no_grad(), progress("drawing tokens", count) as advance:
        tokens = token_network(network, network.token_head.keys(), Fabric(accelerator="cpu"))
        advance(writer.done)
        for index in range(writer.done, count):
            one = told[index : index + 1]  # [1, 1 + A]
            batch = token_batch(network, drafts.whole if drafts else None, [index], one[:, 0], one[:, 1:])
            writer.add(sample(tokens, batch, recipe.sampling).reshape(1, *batch.shape), one)
            advance(1)
    return writer.done


def fit_drafts(folder: Path, vqgan: Path, rank: int, channels: int, like: Path | None = None) -> None:
    """Fit what attributes say of the training tokens of a set, and keep it there: see training/drafts.py.

    `vqgan` is the VQ-GAN whose tokens these are. `like` is the run of a prior that has learned to read drafts.

    Raises:
        ValueError: the tokens are those of another VQ-GAN, or nothing is known of their pictures.
    """
    codec, described = load_codec(vqgan)[0], about(folder)
    check(folder, codec.identity)
    if not described.attributes:
        raise ValueError(f"{folder} has no attributes: nothing is known of its pictures")
    grids, told = read(folder, "train", described.done.get("train"))
    table = AttributeTable(described.attributes, told[:, 1:], told[:, 0], described.classes)
    tokens = torch.from_numpy(grids.reshape(len(grids), -1).astype(np.int64))
    known = load_file(newest_checkpoint(like) / "model.safetensors").get("components") if like else None
    if like and known is None:
        raise ValueError(f"{like} is no run of a prior that reads drafts")
    fit(table, tokens, codec.codebook, rank, channels, known).save(folder)
