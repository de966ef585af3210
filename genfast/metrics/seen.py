"""What extractors see in batches of images, on its way to statistics."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from genfast.metrics.features import Embedder, Features
from genfast.types import Pixels


@dataclass(frozen=True)
class Seen:
    """What extractors see in a batch of images, and the seconds that it takes."""

    features: list[Features]  # [B, D] of each extractor
    digested: bytes | memoryview  # of the images: what the hash of the set is made of
    drawing: float
    embedding: list[float]


class Timed:
    """Hands batches on, and counts the images and the seconds that it takes to make them."""

    def __init__(self, seen: Iterable[Seen]) -> None:
        self._seen, self.images, self.seconds = seen, 0, 0.0

    def __iter__(self) -> Iterator[Seen]:
        for batch in self._seen:
            self.images += len(batch.features[0])
            self.seconds += batch.drawing
            yield batch


def see(
    images: Pixels, embedders: Sequence[Embedder], drawing: float, digested: bytes | memoryview | None = None
) -> Seen:
    """Embed images, uint8 [B, H, W, C], that took so many seconds to make. The hash is by default of the pixels.

    Raises InputError for images of a size that an extractor does not take.
    """
    features, seconds = [], []
    for embedder in embedders:
        begun = time.perf_counter()
        features.append(embedder(images))
        seconds.append(time.perf_counter() - begun)
    return Seen(features, digested or np.ascontiguousarray(images).data, drawing, seconds)


class Spool:
    """Features [N, D] of any number of images, on disk rather than in memory."""

    def __init__(self) -> None:
        self.n, self._file = 0, tempfile.TemporaryFile()

    def __del__(self) -> None:
        self._file.close()

    def append(self, features: Features) -> None:
        self.n += len(features)
        self._file.write(np.ascontiguousarray(features, np.float32).data)

    def features(self) -> Features:
        self._file.flush()
        return np.memmap(self._file, np.float32, "r").reshape(self.n, -1)
