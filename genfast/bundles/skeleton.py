"""Bundles whose weights others publish: their graphs ship, and the public file fills them, on the user's machine.

A skeleton is a folder with graphs whose weights lie outside, in a file that is not there, and skeleton.json, which says
where they come from and how they are laid out.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from genfast.bundles import bundle, mirror, torch_file
from genfast.bundles.bundle import Bundle
from genfast.bundles.download import download, part_of
from genfast.bundles.manifest import Name, Sha256
from genfast.errors import AbsentError, InputError
from genfast.files import atomic

INDEX = "skeleton.json"
WEIGHTS = "weights.bin"
Float64 = npt.NDArray[np.float64]

_OF_NORMALISATION = ("weight", "bias", "running_mean", "running_var")

_PACKAGE = Path(__file__).parents[1]
# In an installed wheel the first exists, in a checkout the second.
_SHIPPED = (_PACKAGE / "assets" / "skeletons", _PACKAGE.parent / "assets" / "skeletons")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(_Part):
    """The public file."""

    url: str
    size: int = Field(gt=0)  # bytes
    sha256: Sha256


class Unit(_Part):
    """A convolution without bias, NAME.conv, and the batch normalisation behind it, NAME.bn."""

    name: str
    shape: tuple[int, int, int, int]  # of its weight: out, in, height, width


class Skeleton(_Part):
    """What skeleton.json holds: of each unit, in order, WEIGHTS is to hold weight and bias, folded together."""

    format: Literal[1]
    name: Name
    source: Source
    epsilon: float  # of the normalisation
    units: tuple[Unit, ...] = Field(min_length=1)
    manifest: dict[str, Any]  # fields of the manifest, as bundle.write takes them


def locate(name: str) -> Path | None:
    """The folder of the skeleton of a bundle, None where there is none."""
    return next((place / name for place in _SHIPPED if (place / name / INDEX).is_file()), None)


def read(folder: Path) -> Skeleton:
    """The skeleton in a folder. Raises ModelError where it is damaged."""
    path = folder / INDEX
    return bundle.parse(Skeleton, path.read_bytes(), f"{path} is not a skeleton")


def address(skeleton: Skeleton) -> str:
    """Where its public file is: $GENFAST_INCEPTION_URL, for instance, or else where it was published."""
    return os.environ.get(f"GENFAST_{skeleton.name.upper()}_URL") or skeleton.source.url


def fetch(name: str, folder: Path) -> None:
    """Make `folder` the bundle of the skeleton of that name, with weights from those who publish them.

    Raises AbsentError where there is no such skeleton or fetching is forbidden, ModelError where it fails.
    """
    from genfast.progress import progress

    here = locate(name)
    if here is None:
        raise AbsentError(f"{name} has no weights here")
    skeleton = read(here)
    source, url = skeleton.source, address(skeleton)
    if mirror.offline():
        raise AbsentError(f"{name}'s weights are at {url}, and GENFAST_OFFLINE forbids fetching; set it to 0")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ".source"
    for stray in folder.iterdir():
        if stray not in (file, part_of(file)):  # of an attempt that was killed
            stray.unlink()
    with progress(f"fetching {name}", source.size) as advance:
        download(url, file, source.size, source.sha256, advance)
    fill(here, file, folder)
    file.unlink()


def fill(here: Path, file: Path, folder: Path) -> Bundle:
    """Make `folder` the bundle of the skeleton at `here`, with the weights of a file such as the public one.

    Raises InputError where the file holds another network.
    """
    skeleton = read(here)
    state = torch_file.read(file)
    with atomic(folder / WEIGHTS) as out:
        for unit in skeleton.units:
            for values in _folded(unit, state, skeleton.epsilon, f"{file} is not the file of {skeleton.name}"):
                out.write(values.astype("<f4").tobytes())
    for graph in here.glob("*.onnx"):
        shutil.copyfile(graph, folder / graph.name)
    return bundle.write(folder, **skeleton.manifest)


def _folded(
    unit: Unit, state: Mapping[str, torch_file.Array], epsilon: float, complaint: str
) -> tuple[Float64, Float64]:
    """Weight and bias of a convolution that does what a unit does. Raises InputError where a part is not there."""
    names = [f"{unit.name}.conv.weight", *(f"{unit.name}.bn.{part}" for part in _OF_NORMALISATION)]
    parts = []
    for name in names:
        shape = unit.shape if name.endswith("conv.weight") else unit.shape[:1]
        part = state.get(name)
        if part is None or part.shape != shape:
            found = "there is none" if part is None else f"it is {part.shape}"
            raise InputError(f"{complaint}: {name} should be {shape}, but {found}")
        parts.append(np.asarray(part, np.float64))
    weight, gain, bias, mean, variance = parts
    gain = gain / np.sqrt(variance + epsilon)
    return weight * gain[:, None, None, None], bias - mean * gain
