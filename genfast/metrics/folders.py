"""Folders of images and files of their statistics, measured against each other."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from genfast.bundles import catalog
from genfast.errors import InputError
from genfast.files import as_text
from genfast.images import io
from genfast.images.folder import Size, pictures, read_folder
from genfast.metrics.evaluate import Score, compare, describe, extractors
from genfast.metrics.features import Embedder
from genfast.metrics.statistics import About, Statistics
from genfast.types import Pixels

_log = logging.getLogger("genfast")


def between(
    a: Path,
    b: Path,
    features: str | None = None,
    *,
    resize: Size | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> list[Score]:
    """Measure the images `a` against the reference `b`, each a folder of images or a statistics file (.npz).

    `resize` makes images alike, as read_folder does, and is named in the protocol; a file is as it was made.
    `features` names an extractor. By default it is the one that made a file; between folders, every extractor of the
    catalogue that takes the images. Raises InputError where a folder or a file cannot be used, and where the extractor
    named is not that of both files.
    """
    held = x, y = [read(path, features) if path.suffix == ".npz" else None for path in (a, b)]
    if x and y:
        for path, side in (a, x), (b, y):
            if features and not _saw(features, side.about, device, threads):
                raise InputError(f"{path} was not seen by {features}; omit --features")
        return [compare(x, y, 0.0)]
    makers = [side.about.extractor for side in held if side]
    shapes = (shape(path, resize) for path in (a, b))
    embedders = able(features or next(iter(makers), None), shapes, device=device, threads=threads)
    samples, references = (
        [(side.taken_as(embedder.name), 0.0) for embedder in embedders]
        if side
        else _describe_folder(path, embedders, reference=path is b, resize=resize)
        for path, side in zip((a, b), held, strict=True)
    )
    pairs = zip(samples, references, strict=True)
    return [compare(sample, reference, s + t) for (sample, s), (reference, t) in pairs]


def against(
    path: Path,
    features: str | None = None,
    *,
    resize: Size | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> list[tuple[Embedder, Statistics]]:
    """Extractors with a reference of one's own: a folder of images or a statistics file (.npz).

    `features` and `resize` are as in `between`, and so is what is raised.
    """
    held = read(path, features) if path.suffix == ".npz" else None
    embedders = able(
        features or (held.about.extractor if held else None),
        (shape(each, resize) for each in [path]),  # of which a file has none
        device=device,
        threads=threads,
    )
    if held:
        return [(embedder, held.taken_as(embedder.name)) for embedder in embedders]
    described = _describe_folder(path, embedders, reference=True, resize=resize)
    return [(embedder, statistics) for embedder, (statistics, _) in zip(embedders, described, strict=True)]


def save_statistics(
    folder: Path,
    out: Path,
    features: str | None = None,
    *,
    resize: Size | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> About:
    """Write the statistics of a folder of images, to measure others against, to the file `out` (.npz).

    `features` names the extractor, by default the first of the catalogue. Raises InputError where the folder cannot be
    used.
    """
    embedder = Embedder.find(features or extractors()[0], device, threads)
    statistics, _ = _describe_folder(folder, [embedder], reference=True, resize=resize)[0]
    statistics.save(out)
    return statistics.about


def read(path: Path, features: str | None) -> Statistics:
    """A statistics file, to be measured by an extractor of that name, if by any.

    What is assumed of a file that does not tell is logged. Raises InputError as Statistics.load does.
    """
    found = Statistics.load(path)
    if found.about.graph_sha256 is None:
        found = found.taken_as(catalog.protocol(features or ""))
        _log.warning(
            "genfast: %s holds moments alone, and not what saw the images; taken as %s, without KID, precision, recall",
            path,
            found.about.extractor,
        )
    return found


def able(
    name: str | None, shapes: Iterable[tuple[int, ...]], *, device: str = "auto", threads: int | None = None
) -> list[Embedder]:
    """The extractor of a name; without one, all of the catalogue that ship and take images of all these shapes."""
    if name:
        return [Embedder.find(name, device, threads)]
    wanted = list(shapes)
    found = [Embedder.find(each, device, threads) for each in extractors()]
    return [embedder for embedder in found if all(map(embedder.takes, wanted))]


def shape(folder: Path, resize: Size | None = None) -> tuple[int, ...]:
    """That of the first image of a folder, once it is resized: [H, W, C]."""
    return (*reversed(resize), 3) if resize else io.read(next(pictures(folder))).shape


def images(
    folder: Path, embedders: Sequence[Embedder], resize: Size | None = None, rows: range | None = None
) -> Iterator[Pixels]:
    """What read_folder reads for extractors: images of several sizes where all of them see such."""
    return read_folder(folder, resize, rows, mixed=all(embedder.mixes for embedder in embedders))


def name(folder: Path) -> str:
    """What a set of the images of a folder is called."""
    return as_text(Path(folder.resolve().name))


def _saw(features: str, about: About, device: str, threads: int | None) -> bool:
    """Whether an extractor is the one that saw images."""
    if about.graph_sha256 is None:
        return catalog.protocol(features) == about.extractor
    return Embedder.find(features, device, threads).graph_sha256 == about.graph_sha256


def _describe_folder(
    folder: Path, embedders: Sequence[Embedder], *, reference: bool, resize: Size | None = None
) -> list[tuple[Statistics, float]]:
    """What `describe` makes of the images of a folder."""
    seen = images(folder, embedders, resize)
    return describe(seen, embedders, name(folder), reference=reference, resize=resize)
