"""Extractors: networks that turn images into the features in which distances are measured."""

from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt

from genfast.bundles import bundle, hub
from genfast.bundles.bundle import Bundle
from genfast.errors import InputError, UsageError
from genfast.metrics.statistics import Statistics
from genfast.runtime.session import Session
from genfast.types import Pixels

Features = npt.NDArray[np.float32]


class Embedder:
    """A bundle of family `features`, loaded on a device. Resize and normalisation lie inside its graph.

    A bundle that names an image size takes images of that size alone. One that names none takes any size; its graph
    sees three channels, and grey images are repeated to three here. Raises UsageError for a bundle of another family,
    and what Session raises.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", threads: int | None = None) -> None:
        manifest = bundle.manifest
        if manifest.family != "features":
            raise UsageError(f"{manifest.name} is not an extractor: its family is {manifest.family}, not features")
        self.bundle, self.name = bundle, manifest.name
        self._session = Session(partial(bundle.graph, "embed"), device, threads)
        graph = self._session.path
        self.graph_sha256 = next(file.sha256 for file in manifest.files if bundle.directory / file.path == graph)

    @classmethod
    def find(cls, name_or_path: str, device: str = "auto", threads: int | None = None) -> Self:
        """The extractor of that name or in that folder. Also raises what hub.find and bundle.load raise."""
        return cls(bundle.load(hub.find(name_or_path)), device, threads)

    def reference(self, dataset: str) -> Statistics:
        """The statistics of a data set that the bundle holds. Raises UsageError where it holds none of that name."""
        held = self.bundle.manifest.statistics
        if dataset not in held:
            raise UsageError(
                f"{self.name} holds no statistics of {dataset or 'an unnamed data set'}, only of: "
                f"{', '.join(held) or 'none'}; compare folders with genfast fid A B"
            )
        return Statistics.load(self.bundle.directory / held[dataset])

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether images of this shape [..., H, W, C] can be embedded."""
        size = self.bundle.manifest.image
        return size is None or shape[-3:] == (size.height, size.width, size.channels)

    def __call__(self, images: Pixels) -> Features:
        """Features f32 [N, D] of images, uint8 [N, H, W, C]. Raises InputError where `takes` says no."""
        if not self.takes(images.shape):
            size = self.bundle.manifest.image
            assert size is not None
            raise InputError(
                f"{self.name} takes images of {size.width}x{size.height} with {size.channels} channel(s), "
                f"not {images.shape[2]}x{images.shape[1]} with {images.shape[3]}"
            )
        grey = self.bundle.manifest.image is None and images.shape[3] == 1
        batch = self.bundle.manifest.sampling.batch
        chunks = (images[start : start + batch] for start in range(0, len(images), batch))
        seen = (chunk.repeat(3, axis=3) if grey else chunk for chunk in chunks)
        return np.concatenate([self._session.run(image=chunk)["features"] for chunk in seen])
