"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, MIT licence): 60,000 + 10,000 images, 28x28 grey, ten classes."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pooch

from genfast.types import Pixels
from training.data.images import Labels

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where the package dataset-fashion-mnist puts it
HOME = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

# Of the decompressed files: re-compressed copies (Debian's, for one) differ in their gzip headers only.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load(split: Literal["train", "test"], folder: Path | None = None) -> tuple[Pixels, Labels]:
    """Read one split as images [N, 28, 28, 1] uint8 and labels [N] int64.

    Files come from `folder`, else from Debian's package, else from a download that is kept in the user's cache.

    Raises:
        FileNotFoundError: `folder` was given and lacks a file.
        ValueError: a file is not the published one.
    """
    prefix = {"train": "train", "test": "t10k"}[split]
    images = _read(f"{prefix}-images-idx3-ubyte", folder)[16:].reshape(-1, 28, 28, 1)
    labels = _read(f"{prefix}-labels-idx1-ubyte", folder)[8:].astype(np.int64)
    return images, labels


def _read(name: str, folder: Path | None) -> Pixels:
    path = _find(f"{name}.gz", folder)
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged; remove it and fetch it again") from error
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise ValueError(f"{path} is not Fashion-MNIST's: its checksum differs; remove it and fetch it again")
    return np.frombuffer(bytearray(content), dtype=np.uint8)  # writable, as torch wants it


def _find(name: str, folder: Path | None) -> Path:
    if folder is not None:
        return folder / name
    if (DEBIAN / name).exists():
        return DEBIAN / name
    cache = pooch.os_cache("genfast") / "fashion-mnist"
    return Path(pooch.retrieve(HOME + name, known_hash=None, fname=name, path=cache))
