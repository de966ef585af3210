"""What is kept of a set of images as an extractor sees it: enough to measure any other set against it.

The file is an .npz without pickle:

    mean        f64 [D]
    covariance  f32 [D (D + 1) / 2], the upper triangle row by row; float32 moves an FID by less than 1e-6; a part: f64
    subset      f16 [K, D], the features of K images drawn once, for KID; of a part, what it has of those of the whole
    about       JSON text, the fields of About

Of inception-pytorch-fid, mean and covariance have the form that the package pytorch-fid reads and writes instead:

    mu          f64 [D]
    sigma       f64 [D, D]

A file of that package holds these two alone.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from genfast.errors import InputError
from genfast.files import atomic
from genfast.metrics.frechet import Moments, frechet_distance

_LARGEST = 2**26  # bytes, unpacked: enough for D = 2500
PYTORCH_FID, TORCH_FIDELITY = "inception-pytorch-fid", "inception-torch-fidelity"
_INCEPTION = 2048  # features
SUBSET = 2000  # KID between two sets of this size varies by about 0.002 where FID's floor is 17 (D = 1280)


class Drawn(BaseModel):
    """Which images of which model, and what they are to be measured against."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    bundle: str  # SHA-256 of its manifest
    steps: int
    loss: str | None = None
    guidance: float = 1.0
    seed: int
    attributes: tuple[tuple[str, str], ...] = ()  # that are set, and their values
    reference: str  # a data set, or empty


class Part(BaseModel):
    """Which images of a set were seen: `n` of About, from `start` on, of `images`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int = Field(ge=0)
    shards: int = Field(ge=1)
    start: int = Field(ge=0)
    images: int = Field(ge=1)
    drawn: Drawn | None = None  # None where they were read


class About(BaseModel):
    """Which images were seen, by which extractor, and what a reader needs to judge a distance to them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    dataset: str
    images_sha256: str  # of the pixels, in order
    n: int | None = Field(default=None, ge=1)  # None, as below, in a file of pytorch-fid, which does not say
    resize: str | None = None  # width, height and filter that images were made alike by
    extractor: str
    graph_sha256: str | None = None  # of the extractor's graph: equal graphs give equal features
    floor: float | None = None  # FID between two sets of real images of this kind, `floor_n` each
    floor_n: int | None = None
    yardsticks: dict[str, float] = {}  # FID of these images, damaged in a known way, to themselves
    part: Part | None = None  # of a set, where there are others


@dataclass(frozen=True)
class Statistics:
    """Moments and a subset [K, D] of the features of a set of images; of a file of pytorch-fid, K is 0."""

    about: About
    moments: Moments
    subset: npt.NDArray[np.floating]

    @classmethod
    def of(cls, features: npt.NDArray[np.float32], about: About) -> Self:
        """The statistics of `features` [N, D]; the subset is the same for equal N, and for parts of sets of that N."""
        start, images = (about.part.start, about.part.images) if about.part else (0, len(features))
        rows = chosen(images) - start
        return cls(about, Moments.of(features), features[rows[(0 <= rows) & (rows < len(features))]])

    def save(self, path: Path) -> None:
        """Write the file, replacing an older one."""
        mean, covariance = self.moments.mean, self.moments.covariance
        arrays: dict[str, npt.NDArray[Any]] = {
            "subset": self.subset.astype(np.float16),
            "about": np.array(self.about.model_dump_json(exclude_none=True)),
        }
        if self.about.extractor == PYTORCH_FID:
            arrays |= {"mu": mean, "sigma": covariance}
        else:
            kind = np.float64 if self.about.part else np.float32
            arrays |= {"mean": mean, "covariance": covariance[np.triu_indices(len(mean))].astype(kind)}
        with atomic(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path, part: bool = False) -> Self:
        """Read a file, of a `part` of a set or of the whole, that `save` wrote, or pytorch-fid by its protocol.

        Raises InputError where it is anything else.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                if sum(entry.file_size for entry in arrays.zip.infolist()) > _LARGEST:
                    raise ValueError("a bomb")
                mean, covariance = (
                    arrays[name if name in arrays else other].astype(np.float64)
                    for name, other in (("mean", "mu"), ("covariance", "sigma"))
                )
                if "about" in arrays or "mean" in arrays:
                    about = About.model_validate_json(str(arrays["about"]))
                    subset = arrays["subset"].astype(np.float32)
                else:
                    digest = hashlib.sha256(mean.tobytes() + covariance.tobytes()).hexdigest()
                    about = About(dataset=path.stem, images_sha256=digest, extractor=PYTORCH_FID)
                    subset = np.zeros((0, mean.size), np.float32)
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist") from error
        except Exception as error:  # zip, zlib and numpy raise all sorts
            cure = "write it again, with `genfast fid --save-stats` or --shard"
            raise InputError(f"{path} is not a statistics file, or is damaged; {cure}") from error
        d = mean.size
        n = about.n
        if part != (about.part is not None):
            what = "is no part of a set" if part else "knows a part of the images; give its folder to --merge"
            raise InputError(f"{path} {what}")
        if n is None and d != _INCEPTION:
            raise InputError(f"{path} holds moments of {d} features, not of the {_INCEPTION} of FID's Inception")
        form = (d, d) if about.extractor == PYTORCH_FID else (d * (d + 1) // 2,)
        finite = all(np.isfinite(array).all() for array in (mean, covariance, subset))
        fits = (mean.shape, covariance.shape, subset.shape[1:]) == ((d,), form, (d,))
        enough = not part if n is None else part or min(n, len(subset)) >= 2
        if not (fits and finite and enough):
            fault = "its arrays do not fit each other" if finite else "it holds what is no number"
            raise InputError(f"{path} is a damaged statistics file: {fault}")
        if covariance.ndim == 1:
            triangle, covariance = covariance, np.zeros((d, d))
            covariance[np.triu_indices(d)] = triangle
            covariance += np.triu(covariance, 1).T
        return cls(about, Moments(n or 0, mean, covariance), subset)

    def taken_as(self, extractor: str) -> Self:
        """The same as if seen by another protocol of FID's Inception, if the file does not say by which."""
        if self.about.graph_sha256 is None and extractor == TORCH_FIDELITY:
            return replace(self, about=self.about.model_copy(update={"extractor": extractor}))
        return self


def floor(features: npt.NDArray[np.float32]) -> float:
    """FID between two random halves of `features` [N, D], N >= 2: what only the number of images brings about."""
    order = _shuffled(len(features))
    half = len(features) // 2
    return frechet_distance(Moments.of(features, order[:half]), Moments.of(features, order[half:]))


def chosen(n: int) -> npt.NDArray[np.intp]:
    """Which of n images are in the subset, in its order."""
    return _shuffled(n)[:SUBSET]


def _shuffled(n: int) -> npt.NDArray[np.intp]:
    return np.random.default_rng(0).permutation(n)
