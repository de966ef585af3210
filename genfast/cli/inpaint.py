"""`genfast inpaint`: repaint what masks mark."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
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
from genfast.cli.output import Json, Spooled, one_line, print_json
from genfast.errors import InputError, UsageError
from genfast.progress import progress
from genfast.samplers.options import RePaintOptions

if TYPE_CHECKING:
    from genfast.images.photo import Photo
    from genfast.inpainting.fill import Fill
    from genfast.outputs import Job
    from genfast.types import Mask


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
        int | None, typer.Option(min=0, metavar="PX", help="Fade in so softly from the mask's edge on; 4 at 1024x1024.")
    ] = None,
    context: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Let the model see so much around the mask, even if smaller.")
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
    device: Device = "auto",
    threads: Threads = None,
    *,
    given: Given,
) -> None:
    """Fill holes in images and print the paths of what is written, equal to the image outside the mask.

    A model fills pictures of the kind that it was trained on: cartoon faces, unless another is named.

    In a folder, an image and its mask have the same path but for the suffix.
    """
    from genfast import api, outputs
    from genfast.bundles import catalog
    from genfast.files import atomic
    from genfast.images import io, params, photo, sheets
    from genfast.images.jpeg import repainted
    from genfast.inpainting import fill, masks

    existing = outputs.existing(overwrite, skip_existing)
    piped = out == outputs.STDIN or (image == outputs.STDIN and out is None)
    if piped and image.is_dir():
        raise UsageError(f"standard output takes one image, and {image} is a folder; name a folder with --out")
    if piped and (n > 1 or history or as_json):
        raise UsageError("standard output takes one image alone; give --out, or leave -n, --history and --json away")
    if invert and mask is None:
        raise UsageError("--invert is about a mask; give one, or leave it away")
    if piped and sys.stdout.name == os.devnull:
        raise UsageError("standard output is closed; name a file with --out")
    if piped:
        out, existing = None, "overwrite"  # nothing
    jobs = outputs.InpaintFiles(image, mask, out, n=n, format=format, history=history, existing=existing)
    if not piped:
        jobs.prepare()
    edge: Json = {"grow": grow, "feather": feather, "context": context}
    painter = api.load(model, steps=steps, device=device, threads=threads)
    options = chosen(painter, painter.fill_options, given)
    if n > 1 and not painter.varied:
        raise UsageError(f"{painter.name} has one fill for a hole, not {n}; leave -n away")

    def say(line: str) -> None:
        print("genfast:", line, file=sys.stderr)

    if seed and not painter.varied:
        say(f"{painter.name} has one fill for a hole, whatever the seed")

    def hole_of(job: "Job", picture: "Photo", name: str) -> "tuple[Photo, Mask]":
        """What is to be filled, and the picture that it is a hole of."""
        if mask is None:
            return photo.opaque(picture, name)
        if job.mask is None:
            raise InputError(f"{job.image} has no mask: there is no {job.image.stem}.* at its place in {mask}")
        return picture, masks.read(job.mask, picture.colours.shape[:2], invert=invert)

    def fills(job: "Job", source: "BytesIO | Path", advance: Callable[[int], None]) -> "tuple[Photo, Mask, list[Fill]]":
        name = io.name(source)
        picture, hole = hole_of(job, photo.read(source), name)
        if not photo.fits(picture, jobs.format):
            what = "bits or pixels" if picture.alpha is None else "bits, pixels or transparency"
            raise InputError(f"{name} has more {what} than {jobs.format} holds; give --format png")
        if photo.loses_meaning(picture, jobs.format):
            say(f"{jobs.format} does not hold what {name} says of its colours, which may look different")
        if not hole.any():
            say(f"{job.mask or name} repaints nothing; {name} comes out as it is")
        settings: Json = {"n": n, "seed": seed, "history": history, "advance": advance}
        settings |= {"label": label, "options": options, **edge}
        found = fill.inpaint(painter, picture.colours, hole, **settings)
        entry = catalog.entries().get(painter.name)
        near = found[0].psnr_around
        if entry and entry.familiar_psnr and near is not None and near < entry.familiar_psnr:
            known = f"what {painter.name} was trained on ({entry.summary})"
            say(f"{name} is unlike {known}: its fill may not suit it")
        return picture, masks.grown(hole, grow), found

    def encoded(job: "Job", source: "BytesIO | Path", picture: "Photo", hole: "Mask", comment: str) -> bytes:
        """The file of a filled picture."""
        if jobs.format == "jpeg":
            old = source.getvalue() if isinstance(source, BytesIO) else source.read_bytes()
            if kept := repainted(old, picture, hole, comment):
                return kept
            say(f"{io.name(source)} is encoded anew as JPEG: what is outside the mask keeps its looks, not its bits")
        file = BytesIO()
        photo.write(file, picture, comment, jobs.format)
        return file.getvalue()

    def about(job: "Job", index: int) -> params.GenerationParams:
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
        )

    for job in jobs.kept():
        for paths in job.outputs:
            params.check_kept(paths[0], partial(about, job))
    listed, failed = Spooled(), False
    with progress("inpainting", len(jobs) * n) as advance:
        for job in jobs:
            source = _standard_input() if job.image == outputs.STDIN else job.image
            told: Json = {"image": str(job.image), "mask": job.mask and str(job.mask)}
            try:
                picture, hole, found = fills(job, source, advance)
            except InputError as error:
                if not image.is_dir():
                    raise
                say(one_line(str(error)))
                listed.append(told | {"error": str(error)})
                failed = True
                advance(n)
                continue
            if piped:
                filled = replace(picture, colours=found[0].image)
                sys.stdout.buffer.write(encoded(job, source, filled, hole, about(job, 0).comment()))
                return
            for one, paths in zip(found, job.outputs, strict=True):
                comment = about(job, one.index).comment()
                with atomic(paths[0]) as file:
                    file.write(encoded(job, source, replace(picture, colours=one.image), hole, comment))
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


def _standard_input() -> BytesIO:
    try:
        return BytesIO(sys.stdin.buffer.read())
    except OSError as error:
        raise InputError(f"standard input cannot be read: {error.strerror or error}") from error


def _names(image: Path, mask: Path | None) -> tuple[str, ...]:
    """The names of two files, with their folders where these are equal, as text, which on Linux they need not be."""
    files = [path for path in (image, mask) if path]
    paths = [Path(path.parent.name if mask and image.name == mask.name else "", path.name) for path in files]
    return tuple(os.fsencode(path).decode(errors="replace") for path in paths)


def _card(fill: "Fill", paths: list[Path]) -> Json:
    """What --json says of a fill. An image that nothing is repainted in has no history."""
    named = dict(zip(["path", "history", "strip"], map(str, paths if fill.history else paths[:1]), strict=False))
    return named | {"index": fill.index} | ({} if fill.score is None else {"score": fill.score})


def _paths(card: Json) -> Iterator[str]:
    return (card[name] for name in ("path", "history", "strip") if name in card)
