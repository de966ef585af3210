"""VQ-GAN and images to a token set, which training/data/tokens.py reads."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter

from genfast.files import atomic
from genfast.progress import progress
from training.checkpoint import load_average, newest_checkpoint, saved
from training.data.datasets import class_names, load
from training.data.images import Split, signed
from training.data.tokens import FILE, About, about, check
from training.families.vqgan import VQGANRecipe
from training.nets.vqgan import VQGAN
from training.recipe import DataConfig

BATCH = 4  # images that are encoded at a time

Grids = npt.NDArray[Any]  # [B, h, w]


def load_vqgan(path: Path) -> tuple[VQGAN, DataConfig]:
    """The VQ-GAN of a checkpoint, or of the newest one of a run, and the data set that it was trained on.

    Raises:
        FileNotFoundError: it is a run without a checkpoint.
        ValueError: it is of another family.
    """
    checkpoint = path if (path / "model.safetensors").exists() else newest_checkpoint(path)
    table = saved(checkpoint)["recipe"]
    if table["family"] != "vqgan":
        raise ValueError(f"{checkpoint} is a {table['family']}, not a vqgan")
    recipe = TypeAdapter(VQGANRecipe).validate_python(table)
    return load_average(checkpoint, VQGAN(recipe.vqgan)).eval().requires_grad_(False), recipe.data


def identity(network: VQGAN) -> str:
    """A hash of what makes tokens: the encoder and the codes. A decoder that learned on leaves it as it is."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if not name.startswith("decoder."):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def encode(checkpoint: Path, out: Path, split: Split, count: int | None = None, data: Path | None = None) -> int:
    """Encode the data set that a VQ-GAN was trained on into the folder `out`, going on where it was interrupted.

    `count` and `data` are as in `load`: how many images, and where they lie. Returns how many there are.

    Raises:
        ValueError: `out` holds the tokens of another VQ-GAN.
    """
    network, source = load_vqgan(checkpoint)
    source = dataclasses.replace(source, folder=data or source.folder)
    images, labels = load(source, split, count)
    out.mkdir(parents=True, exist_ok=True)
    described = About(
        vqgan=identity(network),
        vocabulary=network.config.codes,
        regions=network.config.regions,
        data=source.name,
        classes=class_names(source),
        done={},
    )
    if (out / FILE).exists():
        check(out, described.vqgan)
        described = about(out)
    done = described.done.get(split, 0)
    if done >= len(images):
        return done
    with atomic(out / f"{split}-labels.npy") as file:
        np.save(file, labels)
    grids = _room(out / f"{split}.npy", done, len(images), _encode(network, images[0]).shape[1:])
    with progress(f"encoding {split} images", len(images)) as advance:
        advance(done)
        for first in range(done, len(images), BATCH):
            batch = np.stack([images[i] for i in range(first, min(first + BATCH, len(images)))])
            grids[first : first + len(batch)] = _encode(network, batch)
            grids.flush()  # before the count, so that what counts as done is done
            if (out / FILE).exists():
                described = about(out)  # other splits may be encoded meanwhile
            described = dataclasses.replace(described, done=described.done | {split: first + len(batch)})
            with atomic(out / FILE) as file:
                file.write(json.dumps(dataclasses.asdict(described), indent=2).encode())
            advance(len(batch))
    return len(images)


def _encode(network: VQGAN, images: npt.NDArray[np.uint8 | np.uint16]) -> Grids:
    """Tokens [B, h, w] of images [B, H, W, 3] uint8, or of one [H, W, 3]."""
    pixels = torch.from_numpy(images.copy()).view(-1, *images.shape[-3:]).permute(0, 3, 1, 2)  # (B, 3, H, W)
    return network.encode(signed(pixels)).numpy()


def _room(path: Path, done: int, count: int, shape: tuple[int, ...]) -> "np.memmap[Any, Any]":
    """A file of `count` grids at `path`, the first `done` of which are those that lie there."""
    old = np.load(path, mmap_mode="r+", allow_pickle=False) if done else None
    if isinstance(old, np.memmap) and len(old) == count:
        return old
    partial = path.with_suffix(".partial.npy")
    new = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint16, shape=(count, *shape))
    if old is not None:
        new[:done] = old[:done]
    new.flush()
    partial.replace(path)
    return new
