"""`genfast fid`: how far images lie from real ones."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genfast.cli import scores
from genfast.cli.options import (
    MACHINES,
    AsJson,
    Devices,
    Given,
    Ray,
    Set,
    Share,
    Threads,
    chosen,
    numbers,
    settings,
    shard,
)
from genfast.cli.output import Json, print_json
from genfast.errors import UsageError
from genfast.progress import progress

if TYPE_CHECKING:
    from genfast.metrics.seen import Seen
    from genfast.metrics.statistics import Drawn
    from genfast.models.base import Model

# Options that folders do not take.
_DRAWING = ("model", "against", "steps", "loss", "guidance", "set", "samples", "seed", "seeds", "batch", "plot")
_MOST_PIXELS = 16 * 10**6  # of an image that is resized

Result = Json  # what was drawn, and its score


def fid(
    context: typer.Context,
    a: Annotated[
        Path | None, typer.Argument(metavar="A", help="Instead of a model: a folder of images, or its statistics.")
    ] = None,
    b: Annotated[
        Path | None, typer.Argument(metavar="B", help="What A is measured against: a folder, or its statistics.")
    ] = None,
    model: Annotated[str, typer.Option(help="A model by name (see genfast models), or a folder.")] = "fashion28",
    against: Annotated[
        Path | None,
        typer.Option(help="A folder of real images, or its statistics; by default the model's own test images."),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="How many steps the model takes; several to compare: 1,2,4,8.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="Use the weights trained by this loss.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Above 1, more typical of the class, for up to twice the time.")
    ] = None,
    set: Set = None,
    samples: Annotated[int, typer.Option(min=2, help="How many images to draw.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Each seed is an endless row of images.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Measure so many seeds, from --seed on, for their spread.")] = 1,
    batch: Annotated[int | None, typer.Option(min=1, help="Images drawn at once; changes speed, not images.")] = None,
    features: Annotated[str, typer.Option(help="An extractor by name, or a folder, or all that fit.")] = "all",
    resize: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of folders: make all images RGB of this size, as in 256x256.")
    ] = None,
    device: Devices = "auto",
    threads: Threads = None,
    save_stats: Annotated[
        Path | None, typer.Option(help="Write the statistics of A to this .npz, by efficientnet-lite0 unless named.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw FID over the number of steps to this .png.")] = None,
    ray: Ray = None,
    share: Share = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="With --shard: where all shards write what they saw.", rich_help_panel=MACHINES
        ),
    ] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="With --shard: keep what it wrote.", rich_help_panel=MACHINES)
    ] = False,
    merge: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Measure what shards wrote there. Where shards read a folder, also give --against.",
            rich_help_panel=MACHINES,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the .npz or .png if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how far a model's images lie from real ones (FID and KID), or the images of folder A from those of B.

    Beside FID stand its floor, which is that of real images, and yardsticks: what blur and noise would cost them.
    Precision is the share of images that look real, recall the share of real ones that are covered.
    Figures compare only where their protocols are equal: with published FIDs, those of --features inception alone
    (genfast pull inception), which are as pytorch-fid computes them; inception-torch-fidelity resizes otherwise.
    Statistics may be files of pytorch-fid.

    Quote FID with n beside its floor: it falls as images get more. KID does not, and lies about 0 where images are as
    good as real ones, a little below as often as above.
    """
    from genfast import outputs
    from genfast.metrics import evaluate, folders, parts
    from genfast.metrics.seen import Timed
    from genfast.tasks.embed import embed

    given = [name for name in _DRAWING if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    known = merge or a
    if merge and given == ["against"]:
        given = []
    if a and not b and given == ["against"]:
        raise UsageError(f"to measure {a} against images, name these second: genfast fid {a} {against}")
    if known and given:
        raise UsageError(f"--{given[0]} is about images to draw, but {known} is given; omit one of them")
    extractor = None if features == "all" else features
    seeing: Json = {"device": "cpu" if ray else device.split(",")[0], "threads": threads}
    reading: Json = {**seeing, "resize": _size(resize)}
    if resize and not a:
        raise UsageError("--resize is about the images of folders; omit it")
    part = shard(share, ray)
    if ray and known:
        raise UsageError("--ray is about images to draw; omit it, or share a folder out by --shard")
    if (out is None) != (part is None) or (skip_existing and not part):
        raise UsageError("--shard, --out and --skip-existing go together: genfast fid --shard K/N --out FOLDER")
    if a and merge:
        raise UsageError(f"--merge measures what shards wrote, not {a}; give --against {a} to measure against it")
    if (part or merge) and (b or save_stats or plot or (part and (merge or against))):
        raise UsageError("--shard and --merge take no second folder, --save-stats or --plot, and --shard no --against")

    if save_stats:
        if a is None or b is not None:
            raise UsageError("--save-stats takes one folder: genfast fid --save-stats OUT.npz FOLDER")
        _check_target(save_stats, ".npz", overwrite)
        about = folders.save_statistics(a, save_stats, extractor, **reading)
        if as_json:
            print_json({"path": str(save_stats), **about.model_dump(exclude={"part"})})
        else:
            print(save_stats)
        return
    drawing = "model", "steps", "loss", "guidance", "seed", "attributes", "seconds_per_image"
    nothing: Json = dict.fromkeys(("dataset", *drawing))
    results: list[Result] = []
    plans: list[parts.Plan] = []
    if merge:
        for found, score in parts.measure(merge, against, extractor, **seeing):
            said = _said(found.drawn) if found.drawn else {"dataset": found.whole.about.dataset}
            results.append({**nothing, **said, **asdict(score)})
    elif a and part:
        plans.append(parts.of_folder(a, part, extractor, **reading))
    elif a:
        if b is None:
            raise UsageError(f"nothing to measure {a} against; give a second folder or a statistics file (.npz)")
        between = folders.between(a, b, extractor, **reading)
        results = [{**nothing, "dataset": folders.name(a), **asdict(score)} for score in between]
    else:
        if plot:
            _check_target(plot, ".png", overwrite)
            _check_matplotlib()
        asked = settings(set)
        models = _models(model, numbers("--steps", steps) or [None], loss, device, threads, ray)
        if part:
            references, embedders = [], parts.judges(models[0][0], extractor, **seeing)
        else:
            if against:
                references = folders.against(against, extractor, **seeing)
            else:
                references = evaluate.references(evaluate.images_of(models[0][0]), extractor, **seeing)
            embedders = [embedder for embedder, _ in references]
        guided: Given = {} if guidance is None else {"guidance": guidance}
        for sampler, known_loss in models:
            options = chosen(sampler, sampler.options, guided)
            for each in range(seed, seed + seeds):
                drawn = parts.drawn(sampler, known_loss, each, asked, options)
                rows = range(samples)
                if part:
                    plan, rows = parts.of(part, samples, drawn)
                places: Json = {"batch": batch, "threads": threads, "far": bool(ray)}
                seen = Timed(embed(sampler, embedders, rows, each, attributes=asked, options=options, **places))
                watched = _watched(seen, len(rows), f"{sampler.steps} steps, seed {each}")
                if part:
                    plans.append(parts.Plan(plan, "samples", embedders, watched))
                    continue
                measured = evaluate.score(watched, references)
                said = _said(drawn) | {"seconds_per_image": seen.seconds / seen.images}
                results += [{**nothing, **said, **asdict(score)} for score in measured]
    if out:
        written = parts.write(plans, out, outputs.existing(overwrite, skip_existing))
        if as_json:
            print_json({"parts": [str(path) for path in written]})
        else:
            print(*written, sep="\n")
        return

    unreliable = (f"{result['features']}: {warning}" for result in results for warning in result["warnings"])
    for line in dict.fromkeys(unreliable):
        print(f"genfast: unreliable: {line}", file=sys.stderr)
    if plot:
        from genfast.metrics.plot import plot as draw

        draw(results, plot, _baseline(model, results))
    cards = scores.cards(results)
    if as_json:
        spread = [scores.spread(column) for card in cards for column in scores.columns(card)] if seeds > 1 else []
        print_json({"results": results} | ({"spread": spread} if spread else {}))
    else:
        several = len(cards) > len({result["features"] for result in results})
        print("\n\n".join(scores.text(card, several) for card in cards))


def _models(
    name: str, steps: Sequence[int | None], loss: str | None, device: str, threads: int | None, ray: str | None
) -> list[tuple["Model", str | None]]:
    """Each model with the loss that it was trained by: all at once, so that what is missing is missed at the start."""
    from genfast import api
    from genfast.bundles import catalog

    entry = catalog.entries().get(name)
    return [
        (
            api.load(name, steps=number, loss=loss, device=device, threads=threads, stand_in=False, ray=ray),
            entry.variant(number, loss).loss if entry else None,
        )
        for number in steps
    ]


def _baseline(name: str, results: Sequence[Result]) -> dict[str, list[tuple[int, float]]]:
    """What the card of the model's baseline says by the same extractors, against the same images: (steps, FID) each."""
    from genfast.bundles import bundle, catalog, hub

    entry = catalog.entries().get(name)
    folder = hub.locate(entry.baseline) if entry and entry.baseline else None
    found: dict[str, list[tuple[int, float]]] = {}
    for figure in bundle.read(folder).manifest.figures if folder else ():
        for result in results:
            same = figure.protocol.partition("/n=")[0] == result["protocol"].partition("/n=")[0]
            said = re.fullmatch(rf"FID, {re.escape(result['features'])}, (\d+) steps", figure.name)
            if same and said:
                found.setdefault(result["features"], []).append((int(said[1]), figure.value))
    return {features: sorted({*points}) for features, points in found.items()}


def _size(text: str | None) -> tuple[int, int] | None:
    """Width and height of a text such as 256x256. Raises UsageError for another."""
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text):
        raise UsageError(f"--resize takes a width and a height in pixels, as in 256x256; not {text!r}")
    width, height = map(int, text.split("x"))
    if width * height > _MOST_PIXELS:
        raise UsageError(f"--resize takes at most {_MOST_PIXELS // 10**6} million pixels, not {text}")
    return width, height


def _check_target(path: Path, suffix: str, overwrite: bool) -> None:
    if path.suffix != suffix or not path.parent.is_dir():
        raise UsageError(f"cannot write {path}; give a name that ends in {suffix}, in a folder that exists")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; give --overwrite or another name")


def _check_matplotlib() -> None:
    """Now, rather than after an hour of drawing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError("--plot needs matplotlib; install genfast[plot], or omit it") from error


def _watched(batches: "Iterable[Seen]", total: int, label: str) -> "Iterator[Seen]":
    with progress(label, total) as advance:
        for seen in batches:
            yield seen
            advance(len(seen.features[0]))


def _said(drawn: "Drawn") -> Json:
    fields = {"model", "steps", "loss", "guidance", "seed"}
    return {**drawn.model_dump(include=fields), "attributes": dict(drawn.attributes)}
