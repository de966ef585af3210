"""`genfast inpaint`: repaint what masks mark."""

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genfast.cli.options import (
    OUTPUT,
    AsJson,
    Collect,
    Devices,
    Given,
    History,
    ModelName,
    Overwrite,
    Ray,
    Set,
    Share,
    SkipExisting,
    Threads,
    chosen,
    delivery,
    said,
    said_of,
    sampler_options,
    settings,
    shard,
)
from genfast.cli.output import Json, Spooled, one_line, print_json
from genfast.errors import InputError, UsageError
from genfast.progress import progress
from genfast.samplers.options import RePaintOptions

if TYPE_CHECKING:
    from genfast.tasks.inpaint import Filled, Painted


@sampler_options(RePaintOptions)
def inpaint(
    image: Annotated[Path, typer.Argument(help="An image, a folder of images, or - to read from standard input.")],
    mask: Annotated[
        Path | None,
        typer.Argument(
            help="White repaints. A mask for all images, or a folder with one for each; without, what is transparent."
        ),
    ] = None,
    model: ModelName = "avatars1024",
    n: Annotated[int, typer.Option("-n", min=1, max=100_000, help="How many fills, the likeliest first.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Each seed is an endless row of fills.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(help="How many steps: fewer are faster. A DDGAN needs weights that were trained for it."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="What the image shows; its surroundings tell if not given.")
    ] = None,
    set: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A .png, .webp or .jpg file, a folder, or - for standard output; "
            "by default, beside the image: NAME.inpainted.png."
        ),
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Black repaints.")] = False,
    grow: Annotated[int, typer.Option(min=0, metavar="PX", help="Repaint so much around the mask, too.")] = 0,
    feather: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="PX", help="Width over which a fill fades in, from the mask's edge inwards; 4 at 1024x1024."
        ),
    ] = None,
    context: Annotated[
        int,
        typer.Option(
            min=0, metavar="PX", help="What the model must see around the mask; the image is scaled down for it."
        ),
    ] = 0,
    format: Annotated[
        Literal["png", "webp", "jpeg"] | None,
        typer.Option(
            help="Of the files, as --out names it or else png; jpeg keeps the blocks of most JPEGs "
            "that the mask does not touch, and says where it does not.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    history: History = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    device: Devices = "auto",
    threads: Threads = None,
    ray: Ray = None,
    collect: Collect = False,
    share: Share = None,
    *,
    given: Given,
) -> None:
    """Fill holes in images and print the paths of what is written, equal to the image outside the mask.

    A model fills pictures of the kind that it was trained on: cartoon faces, unless another is named.

    In a folder, an image and its mask have the same path but for the suffix.
    """
    from genfast import api, outputs
    from genfast.inpainting.picture import Repaint, drawn_by
    from genfast.jobs import STDIN
    from genfast.tasks.delivery import Delivery, write
    from genfast.tasks.inpaint import Paint

    existing = outputs.existing(overwrite, skip_existing)
    part = shard(share, ray)
    piped = out == STDIN or (image == STDIN and out is None)
    if piped and image.is_dir():
        raise UsageError(f"standard output takes one image, and {image} is a folder; name a folder with --out")
    if piped and (n > 1 or history or as_json):
        raise UsageError("standard output takes one image alone; give --out, or omit -n, --history and --json")
    if invert and mask is None:
        raise UsageError("--invert is about a mask; give one, or omit it")
    if piped and sys.stdout.name == os.devnull:
        raise UsageError("standard output is closed; name a file with --out")
    if ray and image == STDIN:
        raise UsageError("--ray takes files that all machines can read, not standard input")
    if piped:
        out, existing = None, "overwrite"  # nothing
    jobs = outputs.InpaintFiles(image, mask, out, n=n, format=format, history=history, existing=existing, shard=part)
    if not piped:
        jobs.prepare()
    painter = api.load(model, steps=steps, device=device, threads=threads, ray=ray)
    if n > 1 and not painter.varied:
        raise UsageError(f"{painter.name} has one fill for a hole, not {n}; omit -n")
    if seed and not painter.varied:
        print(f"genfast: {painter.name} has one fill for a hole, whatever the seed", file=sys.stderr)
    asked = settings(set)
    repaint = Repaint(
        drawn_by=drawn_by(painter, n, seed),
        label=label,
        attributes=asked,
        grow=grow,
        feather=feather,
        context=context,
        invert=invert,
        history=history,
        format=jobs.format,
        options=chosen(painter, painter.fill_options, given),
        said={**said_of(asked), **said(given, painter.fill_options)},
    )
    paint = Paint(Delivery(collect=True), repaint, mask)
    for job in jobs.kept():
        paint.check_kept(job)
    listed, failed = Spooled(), False

    def finish(painted: "Painted") -> "Painted":
        for line in painted.said:
            print("genfast:", line, file=sys.stderr)
        if painted.error and not image.is_dir():
            raise InputError(painted.error)
        if piped:
            ((_, content),) = painted.contents
            sys.stdout.buffer.write(content)
        else:
            write(painted.contents)
        if not (alone and painted.fills):
            advance(n)
        return replace(painted, contents=[])

    alone = painter.places == 1  # then each fill is told of when it is done
    delivered = nullcontext(paint.delivery) if piped else delivery(jobs.folder, ray, collect)
    with progress("inpainting", len(jobs) * n) as advance, delivered as how:
        paint = replace(paint, delivery=how, advance=advance if alone else None)
        todo, ahead = tee(jobs)
        paintings = painter.map(paint, (job.absolute() if ray else job for job in ahead), finish)
        for job, painted in zip(todo, paintings, strict=True):
            told: Json = {"image": str(job.image), "mask": job.mask and str(job.mask)}
            if painted.error:
                print("genfast:", one_line(painted.error), file=sys.stderr)
                listed.append(told | {"error": painted.error})
                failed = True
                continue
            cards = [_card(*pair) for pair in zip(painted.fills, job.outputs, strict=True)]
            if as_json:
                listed.append(told | {"fills": cards})
            elif not piped:
                print(*(path for card in cards for path in _paths(card)), sep="\n", flush=True)

    if as_json:
        print_json({"model": painter.name, "images": listed})
    if failed:
        raise typer.Exit(1)


def _card(fill: "Filled", paths: list[Path]) -> Json:
    """What --json says of a fill."""
    named = dict(zip(["path", "history", "strip"], map(str, paths if fill.has_history else paths[:1]), strict=False))
    told = {"score": fill.score, "class": fill.label, "attributes": fill.attributes or None}
    return named | {"index": fill.index} | {name: value for name, value in told.items() if value is not None}


def _paths(card: Json) -> Iterator[str]:
    return (card[name] for name in ("path", "history", "strip") if name in card)
