"""`genfast inpaint`: repaint what masks mark."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genfast import __version__
from genfast.cli.options import (
    OUTPUT,
    AsJson,
    Device,
    Given,
    History,
    ModelName,
    Overwrite,
    SkipExisting,
    Threads,
    chosen,
    said,
    sampler_options,
)
from genfast.cli.output import Json, Spooled, print_json
from genfast.errors import InputError, UsageError
from genfast.progress import progress
from genfast.samplers.options import RePaintOptions

if TYPE_CHECKING:
    from genfast.images.photo import Photo
    from genfast.inpainting.fill import Fill
    from genfast.outputs import Job


@sampler_options(RePaintOptions)
def inpaint(
    image: Annotated[Path, typer.Argument(help="An image, a folder of images, or - to read from standard input.")],
    mask: Annotated[Path, typer.Argument(help="White repaints. A mask for all images, or a folder with one for each.")],
    model: ModelName = "avatars1024",
    n: Annotated[int, typer.Option("-n", min=1, help="How many fills, the likeliest first.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Each seed is an endless row of fills.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(help="How many steps: fewer are faster. A DDGAN needs weights that were trained for it."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="What the image shows; its surroundings tell if not given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A .png or .webp file, or a folder; by default, beside the image: NAME.inpainted.png."),
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Black repaints.")] = False,
    grow: Annotated[int, typer.Option(min=0, metavar="PX", help="Repaint so much around the mask, too.")] = 0,
    feather: Annotated[
        int | None, typer.Option(min=0, metavar="PX", help="Fade in so softly from the mask's edge on; 4 at 1024x1024.")
    ] = None,
    context: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Let the model see so much around the mask, even if smaller.")
    ] = 0,
    format: Annotated[
        Literal["png", "webp"] | None,
        typer.Option(
            help="Of the files, as --out names it or else png. JPEG would not keep every pixel.", rich_help_panel=OUTPUT
        ),
    ] = None,
    history: History = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    device: Device = "auto",
    threads: Threads = None,
    *,
    given: Given,
) -> None:
    """Fill holes in images and print the paths of what is written, equal to the image outside the mask.

    In a folder, an image and its mask have the same path but for the suffix.
    """
    from genfast import api, outputs
    from genfast.files import atomic
    from genfast.images import io, params, photo, sheets
    from genfast.inpainting import fill, masks

    existing = outputs.existing(overwrite, skip_existing)
    piped = image == outputs.STDIN and out is None
    if piped and (n > 1 or history or as_json):
        raise UsageError("standard output takes one image alone; give --out, or leave -n, --history and --json away")
    jobs = outputs.InpaintFiles(image, mask, out, n=n, format=format, history=history, existing=existing)
    if not piped:
        jobs.prepare()
    edge: Json = {"grow": grow, "feather": feather, "context": context}
    painter = api.load(model, steps=steps, device=device, threads=threads)
    options = chosen(painter, painter.fill_options, given)

    def fills(job: "Job", advance: Callable[[int], None]) -> "tuple[Photo, list[Fill]]":
        if job.mask is None:
            raise InputError(f"{job.image} has no mask: there is no {job.image.stem}.* at its place in {mask}")
        source = BytesIO(sys.stdin.buffer.read()) if job.image == outputs.STDIN else job.image
        picture = photo.read(source)
        if not photo.fits(picture, jobs.format):
            raise InputError(f"{job.image} has more bits or pixels than {jobs.format} holds; give --format png")
        hole = masks.read(job.mask, picture.colours.shape[:2], invert=invert)
        if not hole.any():
            print(f"genfast: {job.mask} repaints nothing; {job.image} comes out as it is", file=sys.stderr)
        settings: Json = {"n": n, "seed": seed, "history": history, "advance": advance}
        settings |= {"label": label, "options": options, **edge}
        return picture, fill.inpaint(painter, picture.colours, hole, **settings)

    def about(job: "Job", index: int) -> str:
        assert job.mask
        chosen = {name: value for name, value in {**edge, "invert": invert, "history": history}.items() if value}
        chosen |= {} if jobs.format == "png" else {"format": jobs.format}
        chosen |= {} if feather is None else {"feather": feather}
        chosen |= ({} if label is None else {"class": label}) | said(given)
        return params.GenerationParams(
            model=painter.name,
            bundle=painter.bundle.sha256,
            steps=painter.fill_steps,
            seed=seed,
            index=index,
            n=n,
            options=chosen,
            inpainted=_names(job.image, job.mask),
            version=__version__,
        ).comment()

    listed, failed = Spooled(), False
    with progress("inpainting", len(jobs) * n) as advance:
        for job in jobs:
            told: Json = {"image": str(job.image), "mask": job.mask and str(job.mask)}
            try:
                picture, found = fills(job, advance)
            except InputError as error:
                if not image.is_dir():
                    raise
                print("genfast:", " ".join(str(error).split()), file=sys.stderr)
                listed.append(told | {"error": str(error)})
                failed = True
                advance(n)
                continue
            if piped:
                photo.write(sys.stdout.buffer, replace(picture, colours=found[0].image), about(job, 0), jobs.format)
                return
            for one, paths in zip(found, job.outputs, strict=True):
                comment = about(job, one.index)
                with atomic(paths[0]) as file:
                    photo.write(file, replace(picture, colours=one.image), comment, jobs.format)
                if history and one.history:
                    io.write_animation(paths[1], one.history, comment)
                    io.write(paths[2], sheets.strip(one.history), comment)
            cards = [_card(*pair) for pair in zip(found, job.outputs, strict=True)]
            if as_json:
                listed.append(told | {"fills": cards})
            else:
                print(*(path for card in cards for path in _paths(card)), sep="\n", flush=True)

    if as_json:
        print_json({"model": painter.name, "images": listed})
    if failed:
        raise typer.Exit(1)


def _names(image: Path, mask: Path) -> tuple[str, str]:
    """The names of two files, with their folders where these are equal, as text, which on Linux they need not be."""
    paths = [Path(path.parent.name if image.name == mask.name else "", path.name) for path in (image, mask)]
    first, second = (os.fsencode(path).decode(errors="replace") for path in paths)
    return first, second


def _card(fill: "Fill", paths: list[Path]) -> Json:
    """What --json says of a fill. An image that nothing is repainted in has no history."""
    named = dict(zip(["path", "history", "strip"], map(str, paths if fill.history else paths[:1]), strict=False))
    return named | {"index": fill.index} | ({} if fill.score is None else {"score": fill.score})


def _paths(card: Json) -> Iterator[str]:
    return (card[name] for name in ("path", "history", "strip") if name in card)
