"""What the original networks gave for random weights: a part of it lies here, the whole in a folder beside the project.

`python -m tests.export.importers.reference FOLDER` cuts that part out again.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from export.importers.reading import read

PART = Path(__file__).parent / "fixtures" / "nv-celeba64.npz"
EVERY = 2  # of the pixels of the original's images, along each axis


def whole(name: str) -> Path:
    """The folder of an original's files. Skips the test where it is not there."""
    folder = Path(os.environ.get("GENFAST_REFERENCE", "")) / name
    if "GENFAST_REFERENCE" not in os.environ or not folder.is_dir():
        pytest.skip("GENFAST_REFERENCE names no folder of what the originals gave")
    return folder


def write_weights(path: Path) -> Path:
    """The weights of the part as the original writes them."""
    part = np.load(PART)
    names = str(part["names"]).split("\n")
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes(part)])
    pieces = np.split(part["weights"], ends[:-1])
    state = {
        name: torch.from_numpy(piece.reshape(shape))
        for name, piece, shape in zip(names, pieces, shapes(part), strict=True)
    }
    torch.save(state, path)
    return path


def shapes(part: np.lib.npyio.NpzFile) -> list[tuple[int, ...]]:
    return [tuple(map(int, line.split())) for line in str(part["shapes"]).split("\n")]


def cut(folder: Path) -> None:
    state = read(folder / "nv-celeba" / "netG_550.pth")
    given, schedules = np.load(folder / "nv-celeba" / "io64.npz"), np.load(folder / "nv-celeba" / "schedules.npz")
    images = {"y", "s2_final", "s4_final"}
    np.savez_compressed(
        PART,
        names="\n".join(state),
        shapes="\n".join(" ".join(map(str, tensor.shape)) for tensor in state.values()),
        weights=np.concatenate([tensor.numpy().ravel() for tensor in state.values()]),
        args=(folder / "nv-celeba" / "args64.json").read_text(),
        **{
            name: given[name][..., ::EVERY, ::EVERY] if name in images else given[name]
            for name in given
            if not name.endswith("_x")
        },
        **{f"schedule_{name}": schedules[name] for name in schedules},
    )


if __name__ == "__main__":
    cut(Path(sys.argv[1]))
