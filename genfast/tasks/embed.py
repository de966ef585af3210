"""The work of `genfast fid` on images that a model draws."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from genfast.attributes import Settings
from genfast.bundles import catalog, hub
from genfast.errors import ModelError
from genfast.metrics.features import Embedder
from genfast.metrics.seen import Seen, see
from genfast.models.base import Model
from genfast.runtime.cpu import cores
from genfast.samplers.options import Options


@dataclass(frozen=True)
class Embed:
    """Draws images of a seed, at most `batch` at once, and says what extractors see in them.

    Extractors are named, with the SHA-256 of their graphs, and opened where the work is done, for so many threads,
    unless they are `here`. Raises ModelError where another graph is found under a name.
    """

    extractors: tuple[tuple[str, str], ...]
    seed: int
    batch: int
    threads: int | None
    attributes: Settings | None = None
    options: Options | None = None
    here: Sequence[Embedder] = ()

    def __call__(self, model: Model, indices: list[int]) -> Seen:
        begun = time.perf_counter()
        asked: dict[str, Any] = {"attributes": self.attributes, "options": self.options}
        images = next(model.batches(indices, seed=self.seed, batch=self.batch, **asked))
        drawing = time.perf_counter() - begun
        embedders = self.here or [_open(*names, model.device, self.threads) for names in self.extractors]
        return see(images, embedders, drawing, b"".join(hashlib.sha256(image.tobytes()).digest() for image in images))


def embed(
    model: Model,
    embedders: Sequence[Embedder],
    indices: range,
    seed: int,
    *,
    batch: int | None = None,
    threads: int | None = None,
    attributes: Settings | None = None,
    options: Options | None = None,
    far: bool = False,
) -> Iterator[Seen]:
    """What extractors see in images of a seed, wherever the model draws them: in the order of indices.

    Places that are `far` have cores of their own; others share those of this machine. Raises what Model.map raises.
    """
    threads = threads or (1 if far else max(1, cores() // model.places))
    here = () if far or model.places > 1 else embedders
    work = Embed(tuple(map(_named, embedders)), seed, model.batch_size(batch), threads, attributes, options, here)
    return model.map(work, model.chunks(indices, batch), _as_it_is)


def _as_it_is(seen: Seen) -> Seen:
    return seen


def _named(embedder: Embedder) -> tuple[str, str]:
    """How another process, or machine, finds an extractor."""
    folder, name = embedder.bundle.directory, embedder.name
    path = folder.resolve() / name if embedder.bundle.manifest.protocols else folder.resolve()
    with suppress(ModelError):  # no model of the catalogue
        if hub.locate(catalog.entry(name).variant().bundle) == folder:
            return name, embedder.graph_sha256
    return str(path), embedder.graph_sha256


@cache
def _open(name: str, graph_sha256: str, device: str, threads: int | None) -> Embedder:
    embedder = Embedder.find(name, device, threads)
    if embedder.graph_sha256 != graph_sha256:
        raise ModelError(f"{name} is not the same extractor everywhere; fetch the same on all machines")
    return embedder
