"""VQ-GAN and images to a token set."""

import dataclasses
from pathlib import Path

import numpy as np

from genfast.progress import progress
from genfast.token_set import About, Writer
from genfast.types import Split
from training.codec import load_codec
from training.data.datasets import class_names, load

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
    described = About(
        vqgan=codec.identity,
        vocabulary=codec.codebook.shape[1],
        regions=codec.regions,
        data=source.name,
        classes=class_names(source),
    )
    writer = Writer(out, split, described, len(images))
    with progress(f"encoding {split} images", len(images)) as advance:
        advance(writer.done)
        for first in range(writer.done, len(images), BATCH):
            batch = np.stack([images[i] for i in range(first, min(first + BATCH, len(images)))])
            writer.add(codec.encode(batch.astype(np.uint8, copy=False)), labels[first : first + len(batch)])
            advance(len(batch))
    return writer.done
