"""Extractors: networks that turn images into the features in which distances are measured."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from genfast.bundles import bundle, external_data, hub
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

    def __init__(
        self, bundle: Bundle, device: str = "auto", threads: int | None = None, protocol: str | None = None
    ) -> None:
        manifest = bundle.manifest
        if manifest.family != "features":
            raise UsageError(f"{manifest.name} is not an extractor: its family is {manifest.family}, not features")
        self.bundle = bundle
        ways = manifest.protocols or {manifest.name: "embed"}
        self.name = protocol or next(iter(ways))
        if self.name not in ways:
            raise UsageError(f"{manifest.name} has no protocol {self.name}, only: {', '.join(ways)}")
        self.mixes = bool(manifest.protocols)  # images of several sizes: the protocol says how each is resized
        self._session = Session(partial(bundle.graph, ways[self.name]), device, threads)
        self.graph_sha256 = _fingerprint(bundle, self._session.path)

    @classmethod
    def find(cls, name_or_path: str, device: str = "auto", threads: int | None = None) -> Self:
        """The extractor of that name or in that folder, or, behind the folder's path, one of its protocols.

        Also raises what hub.find and bundle.load raise.
        """
        folder, _, protocol = name_or_path.rpartition("/")
        if folder and not Path(name_or_path).exists() and Path(folder).is_dir():
            return cls(bundle.load(Path(folder)), device, threads, protocol)
        loaded = bundle.load(hub.find(name_or_path))
        return cls(loaded, device, threads, name_or_path if name_or_path in loaded.manifest.protocols else None)

    def reference(self, dataset: str) -> Statistics:
        """The statistics of a data set that the bundle holds. Raises UsageError where it holds none of that name."""
        held = self.bundle.manifest.statistics
        if dataset not in held:
            raise UsageError(
                f"{self.name} holds no statistics of {dataset or 'an unnamed data set'}, only of: "
                f"{', '.join(held) or 'none'}; give --against a folder, or compare folders with genfast fid A B"
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


def _fingerprint(bundle: Bundle, graph: Path) -> str:
    """The SHA-256 of a graph, or of its and those of the files that it reads."""
    hashes = {bundle.directory / file.path: file.sha256 for file in bundle.manifest.files}
    outside = [hashes[graph.parent / name] for name in sorted(external_data.files(graph))]
    return hashlib.sha256("".join([hashes[graph], *outside]).encode()).hexdigest() if outside else hashes[graph]
