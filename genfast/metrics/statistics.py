"""What is kept of a set of images as an extractor sees it: enough to measure any other set against it.

The file is an .npz without pickle:

    mean        f64 [D]
    covariance  f32 [D (D + 1) / 2], the upper triangle row by row; float32 moves an FID by less than 1e-6
    subset      f16 [K, D], the features of K images drawn once, for KID
    about       JSON text, the fields of About
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from genfast.errors import InputError
from genfast.files import atomic
from genfast.metrics.frechet import Moments, frechet_distance

_LARGEST = 2**26  # bytes, unpacked: enough for D = 4000
SUBSET = 2000  # KID between two sets of this size varies by about 0.002 where FID's floor is 17 (D = 1280)


class About(BaseModel):
    """Which images were seen, by which extractor, and what a reader needs to judge a distance to them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    dataset: str
    images_sha256: str  # of the pixels, in order
    n: int = Field(ge=2)
    resize: str | None = None  # width, height and filter that images were made alike by
    extractor: str
    graph_sha256: str  # of the extractor's graph: equal graphs give equal features
    floor: float | None = None  # FID between two sets of real images of this kind, `floor_n` each
    floor_n: int | None = None
    yardsticks: dict[str, float] = {}  # FID of these images, damaged in a known way, to themselves


@dataclass(frozen=True)
class Statistics:
    """Moments and a subset [K, D] of the features of a set of images."""

    about: About
    moments: Moments
    subset: npt.NDArray[np.floating]

    @classmethod
    def of(cls, features: npt.NDArray[np.float32], about: About) -> Self:
        """The statistics of `features` [N, D]; the subset is the same for equal N."""
        return cls(about, Moments.of(features), features[_shuffled(len(features))[:SUBSET]])

    def save(self, path: Path) -> None:
        """Write the file, replacing an older one."""
        with atomic(path) as file:
            np.savez_compressed(
                file,
                mean=self.moments.mean,
                covariance=self.moments.covariance[np.triu_indices(len(self.moments.mean))].astype(np.float32),
                subset=self.subset.astype(np.float16),
                about=np.array(self.about.model_dump_json()),
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` wrote. Raises InputError where it is anything else."""
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                if sum(entry.file_size for entry in arrays.zip.infolist()) > _LARGEST:
                    raise ValueError("a bomb")
                about = About.model_validate_json(str(arrays["about"]))
                mean = arrays["mean"].astype(np.float64)
                triangle = arrays["covariance"].astype(np.float64)
                subset = arrays["subset"].astype(np.float32)
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist") from error
        except Exception as error:  # zip, zlib and numpy raise all sorts
            raise InputError(f"{path} is not a statistics file; write one with `genfast fid --save-stats`") from error
        d = mean.size
        shapes = (mean.shape, triangle.shape, subset.shape[1:])
        finite = all(np.isfinite(array).all() for array in (mean, triangle, subset))
        if shapes != ((d,), (d * (d + 1) // 2,), (d,)) or len(subset) < 2 or not finite:
            raise InputError(f"{path} is a damaged statistics file: its arrays do not fit each other")
        covariance = np.zeros((d, d))
        covariance[np.triu_indices(d)] = triangle
        covariance += np.triu(covariance, 1).T
        return cls(about, Moments(about.n, mean, covariance), subset)


def floor(features: npt.NDArray[np.float32]) -> float:
    """FID between two random halves of `features` [N, D], N >= 2: what only the number of images brings about."""
    order = _shuffled(len(features))
    half = len(features) // 2
    return frechet_distance(Moments.of(features, order[:half]), Moments.of(features, order[half:]))


def _shuffled(n: int) -> npt.NDArray[np.intp]:
    return np.random.default_rng(0).permutation(n)
