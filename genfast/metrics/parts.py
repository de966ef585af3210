"""Statistics of a set of images that several runs have seen a part each of: files that merge to those of the whole."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import add
from pathlib import Path

import numpy as np

from genfast.attributes import Settings
from genfast.errors import InputError, UsageError
from genfast.images.folder import Size, pictures
from genfast.metrics import folders
from genfast.metrics.evaluate import Score, compare, gather, images_of, look, references
from genfast.metrics.features import Embedder
from genfast.metrics.seen import Seen
from genfast.metrics.statistics import Drawn, Part, Statistics, chosen
from genfast.models.base import Model
from genfast.outputs import Existing, prepare
from genfast.samplers.options import Options
from genfast.shards import Shard


def path(folder: Path, part: Part, dataset: str, extractor: str) -> Path:
    """Where the statistics of a part belong."""
    drawn = part.drawn
    guided = f"guided-{drawn.guidance:g}" if drawn and drawn.guidance != 1 else None
    # Attributes by a hash of them: their names and values may not be those of files.
    settings = hashlib.sha256(repr(drawn.attributes).encode()).hexdigest()[:8] if drawn and drawn.attributes else None
    what = [drawn.model, drawn.loss, settings, guided, drawn.steps, drawn.seed] if drawn else [dataset]
    words = [str(word) for word in (*what, extractor) if word is not None]
    return folder / f"{'-'.join(words)}-{part.shard}-of-{part.shards}.npz"


@dataclass(frozen=True)
class Plan:
    """A part that is to be seen, by whom, and, when it is gone through, what is seen."""

    part: Part
    dataset: str
    embedders: Sequence[Embedder]
    seen: Iterable[Seen]
    resize: Size | None = None

    def paths(self, folder: Path) -> list[Path]:
        """Where the statistics belong, by extractor."""
        return [path(folder, self.part, self.dataset, embedder.name) for embedder in self.embedders]


def of(shard: Shard, images: int, drawn: Drawn | None = None) -> tuple[Part, range]:
    """The part that a shard has of so many images, and which they are. Raises UsageError where there are none."""
    rows = shard.of(range(images))
    if not rows:
        raise UsageError(f"shard {shard} has none of {images} images; give fewer shards")
    return Part(shard=shard.index, shards=shard.count, start=rows.start, images=images, drawn=drawn), rows


def drawn(
    model: Model, loss: str | None, seed: int, attributes: Settings | None = None, options: Options | None = None
) -> Drawn:
    """What draws a set."""
    return Drawn(
        model=model.name,
        bundle=model.bundle.sha256,
        steps=model.steps,
        loss=loss,
        guidance=getattr(options or model.options, "guidance", 1.0),
        seed=seed,
        attributes=tuple((attributes or {}).items()),
        reference=images_of(model),
    )


def judges(
    model: Model, features: str | None = None, *, device: str = "auto", threads: int | None = None
) -> list[Embedder]:
    """Who sees what a model draws: the extractor named, by default all that know its data set, else all that can."""
    size = model.image
    found = folders.able(features, [(size.height, size.width, size.channels)], device=device, threads=threads)
    return [each for each in found if images_of(model) in each.bundle.manifest.statistics] or found


def of_folder(
    folder: Path,
    shard: Shard,
    features: str | None = None,
    *,
    resize: Size | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Plan:
    """The part that a shard has of the images of a folder, for the extractor of that name, by default all that fit.

    Raises InputError as `pictures` does, and UsageError where there are fewer images than shards.
    """
    part, rows = of(shard, sum(1 for _ in pictures(folder)))
    able = folders.able(features, [folders.shape(folder, resize)], device=device, threads=threads)
    return Plan(part, folders.name(folder), able, look(folders.images(folder, able, resize, rows), able), resize)


def write(plans: Sequence[Plan], folder: Path, existing: Existing) -> list[Path]:
    """See what is planned, write the statistics into a folder, and say where.

    Raises UsageError for files in the way, and for those that are to be kept and are of something else.
    """
    prepare(folder)
    for plan in plans:
        for each, embedder in zip(plan.paths(folder), plan.embedders, strict=True):
            if existing == "overwrite" or not each.exists():
                continue
            if existing == "refuse":
                raise UsageError(f"{each} exists; give --overwrite, --skip-existing or another --out")
            about = Statistics.load(each, part=True).about
            if (about.part, about.graph_sha256) != (plan.part, embedder.graph_sha256):
                raise UsageError(f"{each} is of other images, or another extractor; give --overwrite or another --out")
    written = []
    for plan in plans:
        paths = plan.paths(folder)
        written += paths
        if existing == "skip" and all(path.exists() for path in paths):
            continue
        found = gather(plan.seen, plan.embedders, plan.dataset, resize=plan.resize, part=plan.part)
        for (statistics, _), each in zip(found, paths, strict=True):
            statistics.save(each)
    return written


@dataclass(frozen=True)
class Merged:
    """The statistics of a set, and what drew it, if anything did."""

    whole: Statistics
    drawn: Drawn | None


def measure(
    folder: Path,
    against: Path | None = None,
    features: str | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
) -> list[tuple[Merged, Score]]:
    """Measure each set whose parts lie in a folder, by default drawn ones against their data set.

    Others are measured against a folder of images, or a statistics file. `features` names the extractor of those sets
    that are measured. Raises InputError as `read` and folders.against do, and where it saw none of the sets, and
    UsageError where there is nothing to measure against.
    """

    @cache
    def reference(extractor: str, dataset: str, resize: str | None) -> Statistics:
        if against is None:
            return references(dataset, extractor, device=device, threads=threads)[0][1]
        if against.suffix == ".npz":
            return folders.read(against, extractor)
        return folders.against(against, extractor, resize=_size(resize), device=device, threads=threads)[0][1]

    sets, measured = read(folder), []
    wanted = Embedder.find(features, device, threads).graph_sha256 if features else None
    for found in sets:
        about, drawn = found.whole.about, found.drawn
        if wanted not in (None, about.graph_sha256):
            continue
        if not (against or drawn):
            raise UsageError(f"nothing to measure {about.dataset} against; give --against a folder or a .npz")
        known = reference(features or about.extractor, drawn.reference if drawn else "", about.resize)
        measured.append((found, compare(found.whole, known, 0.0)))
    if not measured:
        raise InputError(f"{folder} holds nothing that {features} saw; omit --features")
    return measured


def read(folder: Path) -> list[Merged]:
    """The statistics of each set whose parts lie in a folder. Raises InputError where they do not, or not all of them.

    Sets differ in the images, or in the extractor that saw them.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    sets: dict[tuple[object, ...], list[Statistics]] = {}
    for each in sorted(folder.glob("*.npz")):
        found = Statistics.load(each, part=True)
        about, part = found.about, found.about.part
        assert part
        key = (part.drawn, about.dataset, about.resize, about.extractor, about.graph_sha256, part.images, part.shards)
        sets.setdefault(key, []).append(found)
    if not sets:
        raise InputError(f"{folder} holds no parts; write them with `genfast fid --shard K/N --out {folder}`")
    return [Merged(merge(parts), _part(parts[0]).drawn) for parts in sets.values()]


def merge(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of a set from those of all its parts.

    Count, mean and covariance are those of the whole but for rounding in float64; the subset is that of the whole in
    float16; the hash is that of the parts' hashes. There is no floor. Raises InputError where a part is missing.
    """
    ordered = sorted(parts, key=lambda each: _part(each).shard)
    about, part = parts[0].about, _part(parts[0])
    missing = sorted({*range(part.shards)} - {_part(each).shard for each in ordered})
    moments = reduce(add, (each.moments for each in ordered))
    if missing or moments.n != part.images:
        name = path(Path(), part, about.dataset, about.extractor)
        raise InputError(
            f"{name} and its like are of {part.images} images in {part.shards} parts, of which there are "
            f"{part.shards - len(missing)}; shard {missing[0]}/{part.shards} of so many images is missing"
            if missing
            else f"{name} and its like know {moments.n} images of {part.images}"
        )
    if moments.n < 2:
        raise InputError(f"{about.dataset} has 1 image; a distance between distributions needs at least 2")
    rows = chosen(part.images)
    subset = np.empty((len(rows), len(moments.mean)), np.float32)
    for each in ordered:
        start = _part(each).start
        subset[(start <= rows) & (rows < start + each.moments.n)] = each.subset
    digest = hashlib.sha256("".join(each.about.images_sha256 for each in ordered).encode()).hexdigest()
    whole = about.model_copy(update={"n": moments.n, "part": None, "images_sha256": digest})
    return Statistics(whole, moments, subset)


def _size(resize: str | None) -> Size | None:
    """Width and height of what `describe` writes of them."""
    if resize is None:
        return None
    width, height = resize.partition("-")[0].split("x")
    return int(width), int(height)


def _part(statistics: Statistics) -> Part:
    assert statistics.about.part  # as `read` makes sure
    return statistics.about.part
