"""Token sets: what a VQ-GAN makes of a data set, as a folder of its own.

tokens.json          which VQ-GAN, of what, how many are done
train.npy            [N, h, w] uint16, mapped from disk; likewise validation.npy, test.npy
train-labels.npy     [N] int64
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter

from genfast.cli.progress import progress
from genfast.files import atomic
from training.data import Split, class_names, load, signed
from training.loop import load_average, newest_checkpoint
from training.nets.vqgan import VQGAN
from training.recipe import DataConfig, config, validate

BATCH = 4  # images that are encoded at a time
FILE = "tokens.json"


@config
class About:
    """What tokens.json says."""

    vqgan: str  # `identity`
    vocabulary: int
    regions: int
    data: str  # name of the data set
    classes: tuple[str, ...]  # names of the labels
    done: dict[Split, int]  # grids that have been written


def load_vqgan(path: Path) -> tuple[VQGAN, DataConfig]:
    """The VQ-GAN of a checkpoint, or of the newest one of a run, and the data set that it was trained on."""
    checkpoint = path if (path / "model.safetensors").exists() else newest_checkpoint(path)
    recipe = validate(json.loads((checkpoint / "recipe.json").read_text())["recipe"])
    if recipe.family != "vqgan":
        raise ValueError(f"{checkpoint} is a {recipe.family}, not a vqgan")
    return load_average(checkpoint, VQGAN(recipe.vqgan)).eval().requires_grad_(False), recipe.data


def identity(network: VQGAN) -> str:
    """A hash of what makes tokens: the encoder and the codes. A decoder that learned on leaves it as it is."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if not name.startswith("decoder."):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def about(folder: Path) -> About:
    """Read a token set's description; raises ValueError where it is none."""
    try:
        return TypeAdapter(About).validate_json((folder / FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is no token set; make one with `python -m training tokens`") from error


def check(folder: Path, network: VQGAN) -> None:
    """Raise ValueError where the tokens of a folder are not those of this VQ-GAN."""
    if about(folder).vqgan != identity(network):
        raise ValueError(f"{folder} holds the tokens of another VQ-GAN; encode the data set again")


def read(folder: Path, split: Split, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
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
        check(out, network)
        described = about(out)
    start = described.done.get(split, 0)
    if start >= len(images):
        return start
    with atomic(out / f"{split}-labels.npy") as file:
        np.save(file, labels)
    grids = _room(out / f"{split}.npy", start, len(images), _encode(network, images[0]).shape[1:])
    with progress(f"encoding {split} images", len(images)) as advance:
        advance(start)
        for first in range(start, len(images), BATCH):
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


def _encode(network: VQGAN, images: np.ndarray) -> np.ndarray:
    """Tokens [B, h, w] of images [B, H, W, 3] uint8, or of one [H, W, 3]."""
    pixels = torch.from_numpy(images.copy()).view(-1, *images.shape[-3:]).permute(0, 3, 1, 2)
    return network.encode(signed(pixels)).numpy()


def _room(path: Path, done: int, count: int, shape: tuple[int, ...]) -> np.memmap:
    """A file of `count` grids at `path`, the first `done` of which are those that lie there."""
    old = np.load(path, mmap_mode="r+") if done else None
    if old is not None and len(old) == count:
        return old
    partial = path.with_suffix(".partial.npy")
    new = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint16, shape=(count, *shape))
    if old is not None:
        new[:done] = old[:done]
    new.flush()
    partial.replace(path)
    return new
