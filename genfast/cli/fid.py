"""`genfast fid`: how far images lie from real ones."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genfast.cli.progress import progress
from genfast.errors import UsageError

if TYPE_CHECKING:
    from genfast.images import Pixels
    from genfast.metrics.evaluate import Score

_DRAWING = ("model", "steps", "samples", "seed", "batch")  # options that say nothing about folders


def fid(
    context: typer.Context,
    a: Annotated[
        Path | None, typer.Argument(metavar="A", help="Instead of a model: a folder of images, or its statistics.")
    ] = None,
    b: Annotated[
        Path | None, typer.Argument(metavar="B", help="What A is measured against: a folder, or its statistics.")
    ] = None,
    model: Annotated[str, typer.Option(help="A model by name (see genfast models), or a folder.")] = "fashion28",
    steps: Annotated[int | None, typer.Option(help="Use the weights trained for so many steps.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="How many images to draw.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Each seed is an endless row of images.")] = 0,
    batch: Annotated[int | None, typer.Option(min=1, help="Images drawn at once; changes speed, not images.")] = None,
    features: Annotated[str, typer.Option(help="An extractor by name, or a folder, or all that fit.")] = "all",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on the CPU; by default one a core.")] = None,
    save_stats: Annotated[
        Path | None, typer.Option(help="Write the statistics of A to this .npz, by efficientnet-lite0 unless named.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the .npz if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Measure how far a model's images lie from real ones (FID and KID), or the images of folder A from those of B.

    Beside FID stand its floor, which is that of real images, and yardsticks: what blur and noise would cost them.
    Figures compare only where their protocols are equal.
    """
    from genfast import api
    from genfast.metrics import evaluate

    given = [name for name in _DRAWING if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if a and given:
        raise UsageError(f"--{given[0]} is about images to draw, but {a} is given; leave one of them away")
    extractor = None if features == "all" else features
    drawn: dict[str, str | int | None] = {"model": None, "steps": None, "seed": None}

    if save_stats:
        if a is None or b is not None:
            raise UsageError("--save-stats takes one folder: genfast fid --save-stats OUT.npz FOLDER")
        if save_stats.suffix != ".npz" or not save_stats.parent.is_dir():
            raise UsageError(f"cannot write {save_stats}; give a name that ends in .npz, in a folder that exists")
        if save_stats.exists() and not overwrite:
            raise UsageError(f"{save_stats} exists; give --overwrite or another name")
        about = evaluate.save_statistics(a, save_stats, extractor, device=device, threads=threads)
        print(json.dumps({"path": str(save_stats), **about.model_dump()}) if as_json else save_stats)
        return
    if a:
        if b is None:
            raise UsageError(f"nothing to measure {a} against; give a second folder or a statistics file (.npz)")
        scores = evaluate.between(a, b, extractor, device=device, threads=threads)
    else:
        sampler = api.load(model, steps=steps, device=device, threads=threads)
        drawn = {"model": sampler.name, "steps": sampler.steps, "seed": seed}
        dataset = f"{sampler.bundle.manifest.provenance.dataset}-test"
        judges = evaluate.judges(dataset, extractor, device=device, threads=threads)
        batches = sampler.batches(range(samples), seed=seed, batch=batch)
        scores = evaluate.evaluate(_watched(batches, samples), judges)

    for score in scores:
        for warning in score.warnings:
            print(f"genfast: unreliable: {score.features}: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps({"results": [{**drawn, **asdict(score)} for score in scores]}))
    else:
        print("\n\n".join(map(_card, scores)))


def _watched(batches: Iterable["Pixels"], total: int) -> Iterator["Pixels"]:
    with progress("drawing and embedding", total) as advance:
        for images in batches:
            yield images
            advance(len(images))


def _card(score: "Score") -> str:
    """A block of lines: a table would set figures of different extractors side by side."""
    squared = {"FID": score.fid, "floor": score.floor, **score.yardsticks}
    rows = {name: "-" if value is None else f"{value:.3f}" for name, value in squared.items()}
    rows |= {
        "KID": f"{score.kid:.5f}",
        "n": str(score.n),
        "seconds": f"{score.seconds:.1f}",
        "protocol": score.protocol,
    }
    return "\n".join([score.features, *(f"  {name:10}{value}" for name, value in rows.items())])
