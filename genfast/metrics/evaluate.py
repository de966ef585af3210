"""Sets of images measured against each other, by one extractor or by several that see each image once."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from genfast.bundles import catalog
from genfast.errors import InputError
from genfast.images.folder import Size
from genfast.metrics.features import Embedder
from genfast.metrics.frechet import frechet_distance
from genfast.metrics.kid import kernel_distance
from genfast.metrics.precision_recall import precision_recall
from genfast.metrics.seen import Seen, Spool, see
from genfast.metrics.statistics import About, Part, Statistics, floor
from genfast.models.base import Model
from genfast.types import Pixels


@dataclass(frozen=True)
class Score:
    """How far a set of images lies from a reference, as one extractor sees them.

    FID, its floor and its yardsticks are squared distances between features, KID is a squared discrepancy, precision
    and recall are shares: they compare with figures of the same `protocol` and with nothing else.
    """

    features: str  # the extractor's name
    fid: float
    floor: float | None  # FID between two sets of real images
    yardsticks: dict[str, float]  # FID of real images that were damaged in a known way
    kid: float | None  # like precision and recall of the subsets that statistics keep; None where one keeps none
    precision: float | None  # share of the images that look real
    recall: float | None  # share of real images that are covered
    n: int | None  # images; None where a file does not say
    seconds: float  # drawing or reading the images, and embedding them
    protocol: str
    warnings: tuple[str, ...]  # what makes the figures unreliable


def evaluate(batches: Iterable[Pixels], references: Sequence[tuple[Embedder, Statistics]]) -> list[Score]:
    """Measure images, uint8 [B, H, W, C] a batch, against each extractor's reference.

    Raises InputError for fewer than two images, for images of a size that an extractor does not take, and where a
    reference was made by another extractor.

    >>> model = genfast.load("fashion28", steps=4)
    >>> [score.fid for score in evaluate(model.batches(range(10_000)), references("fashion-mnist-test"))]
    """
    return score(look(batches, [embedder for embedder, _ in references]), references)


def score(seen: Iterable[Seen], references: Sequence[tuple[Embedder, Statistics]]) -> list[Score]:
    """As `evaluate`, of images that the extractors have seen already."""
    described = gather(seen, [embedder for embedder, _ in references], "samples")
    pairs = zip(described, references, strict=True)
    return [compare(samples, reference, seconds) for (samples, seconds), (_, reference) in pairs]


def images_of(model: Model) -> str:
    """The name of the images that a model is measured against; empty where it does not say what it was trained on."""
    dataset = model.bundle.manifest.provenance.dataset
    return f"{dataset}-test" if dataset else ""


def references(
    dataset: str, features: str | None = None, *, device: str = "auto", threads: int | None = None
) -> list[tuple[Embedder, Statistics]]:
    """Extractors with their reference for a data set: the one named, by default every one of the catalogue that has it.

    Raises UsageError where there is none.
    """
    found = [Embedder.find(name, device, threads) for name in ([features] if features else extractors())]
    able = [embedder for embedder in found if dataset in embedder.bundle.manifest.statistics]
    return [(embedder, embedder.reference(dataset)) for embedder in able or found]


def extractors() -> list[str]:
    """The extractors that are asked where none is named; where only one can be, the first.

    Those with protocols are left out: whoever wants the figures of papers says so.
    """
    return [name for name, entry in catalog.entries().items() if entry.family == "features" and not entry.protocols]


def describe(
    batches: Iterable[Pixels],
    embedders: Sequence[Embedder],
    dataset: str,
    *,
    reference: bool = False,
    resize: Size | None = None,
) -> list[tuple[Statistics, float]]:
    """Embed images, uint8 [B, H, W, C] a batch, by each extractor; `dataset` names them.

    Gives, for each extractor, statistics and the seconds that drawing and its own embedding took. A `reference` gets a
    floor: the distance between its two halves. Raises InputError for fewer than two images, and for images of a size
    that an extractor does not take.
    """
    return gather(look(batches, embedders), embedders, dataset, reference=reference, resize=resize)


def look(batches: Iterable[Pixels], embedders: Sequence[Embedder]) -> Iterator[Seen]:
    """What extractors see in images, uint8 [B, H, W, C] a batch, when it is asked for."""
    begun = time.perf_counter()
    for batch in batches:
        yield see(batch, embedders, time.perf_counter() - begun)
        begun = time.perf_counter()


def gather(
    batches: Iterable[Seen],
    embedders: Sequence[Embedder],
    dataset: str,
    *,
    reference: bool = False,
    resize: Size | None = None,
    part: Part | None = None,
) -> list[tuple[Statistics, float]]:
    """As `describe`, of images that the extractors have seen already; of a part of a set, one image is enough."""
    digest = hashlib.sha256()
    seen = [Spool() for _ in embedders]
    drawing, seconds = 0.0, np.zeros(len(embedders))
    for batch in batches:
        digest.update(batch.digested)
        for spool, features in zip(seen, batch.features, strict=True):
            spool.append(features)
        drawing, seconds = drawing + batch.drawing, seconds + batch.embedding
    described = []
    for embedder, spool, embedding in zip(embedders, seen, seconds, strict=True):
        n = spool.n
        if n < (1 if part else 2):
            raise InputError(f"{dataset} has {n} image; a distance between distributions needs at least 2")
        features = spool.features()
        about = About(
            dataset=dataset,
            images_sha256=digest.hexdigest(),
            n=n,
            resize=resize and f"{resize[0]}x{resize[1]}-bicubic",
            extractor=embedder.name,
            graph_sha256=embedder.graph_sha256,
            floor=floor(features) if reference else None,
            floor_n=n // 2 if reference else None,
            part=part,
        )
        described.append((Statistics.of(features, about), drawing + float(embedding)))
    return described


def compare(samples: Statistics, reference: Statistics, seconds: float) -> Score:
    """Measure one set of images against another. Raises InputError where different extractors saw them."""
    a, b = samples.about, reference.about
    known = a.graph_sha256 and b.graph_sha256
    d = len(samples.moments.mean)
    same = a.graph_sha256 == b.graph_sha256 if known else a.extractor == b.extractor
    if not same or d != len(reference.moments.mean):
        raise InputError(
            f"{a.dataset} was seen by {_extractor(a)}, {b.dataset} by {_extractor(b)}; name one extractor for both"
        )
    if known and a.resize != b.resize:
        one, other = (about.resize or "no size" for about in (a, b))
        raise InputError(f"{a.dataset} was resized to {one}, {b.dataset} to {other}; make both alike")
    warnings = [
        f"{about.dataset}: {about.n} images do not exceed the {d} features of {about.extractor}: "
        "the covariance is singular and FID too high"
        for about in (a, b)
        if about.n is not None and about.n <= d
    ]
    if b.floor_n is not None and a.n is not None and a.n < b.floor_n:
        warnings.append(
            f"FID rises as images get fewer: {a.n} do not compare with floor and yardsticks, measured with {b.floor_n}"
        )
    kid = precision = recall = None
    if len(samples.subset) and len(reference.subset):
        kid = kernel_distance(samples.subset, reference.subset)
        precision, recall = precision_recall(samples.subset, reference.subset)
    return Score(
        features=a.extractor,
        fid=frechet_distance(samples.moments, reference.moments),
        floor=b.floor,
        yardsticks=b.yardsticks,
        kid=kid,
        precision=precision,
        recall=recall,
        n=a.n,
        seconds=seconds,
        protocol=f"{_extractor(a)}/{b.dataset}@{b.images_sha256[:8]}:{b.n or '?'}/n={a.n or '?'}"
        + (f"/kid={len(samples.subset)}" if kid is not None else "")
        + (f"/resize={a.resize}" if a.resize else ""),
        warnings=tuple(warnings),
    )


def _extractor(about: About) -> str:
    return f"{about.extractor}@{about.graph_sha256[:8]}" if about.graph_sha256 else about.extractor
