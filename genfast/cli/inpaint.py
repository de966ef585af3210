"""`genfast inpaint`: repaint what masks mark."""

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genfast import __version__
from genfast.cli.options import Device, Threads
from genfast.cli.output import prepare, print_json
from genfast.cli.progress import progress
from genfast.errors import InputError, UsageError

if TYPE_CHECKING:
    from genfast.inpainting import Fill
    from genfast.photos import Photo

_MARK = ".inpainted"  # in the names of files that are written
_STDIN = Path("-")


@dataclass(frozen=True)
class _Job:
    """An image, its mask (None where it has none), and the files of each of its fills, the likeliest first."""

    image: Path
    mask: Path | None
    outputs: list[list[Path]]


def inpaint(
    image: Annotated[Path, typer.Argument(help="An image, a folder of images, or - to read from standard input.")],
    mask: Annotated[Path, typer.Argument(help="White repaints. A mask for all images, or a folder with one for each.")],
    model: Annotated[str, typer.Option(help="A model by name (see genfast models), or a folder.")] = "avatars1024",
    out: Annotated[
        Path | None,
        typer.Option(help="A .png or .webp file, or a folder; by default, beside the image: NAME.inpainted.png."),
    ] = None,
    format: Annotated[
        Literal["png", "webp"] | None,
        typer.Option(help="Of the files, as --out names it or else png. JPEG would not keep every pixel."),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many fills, the likeliest first.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Each seed is an endless row of fills.")] = 0,
    steps: Annotated[
        int | None, typer.Option(help="How many steps; but for models of tokens, there must be weights for it.")
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Black repaints.")] = False,
    grow: Annotated[int, typer.Option(min=0, metavar="PX", help="Repaint so much around the mask, too.")] = 0,
    feather: Annotated[
        int | None, typer.Option(min=0, metavar="PX", help="Fade in so softly from the mask's edge on; 4 at 1024x1024.")
    ] = None,
    context: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Let the model see so much around the mask, even if smaller.")
    ] = 0,
    history: Annotated[
        bool, typer.Option("--history", help="Write how each fill comes about, as an animated PNG and as a strip.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of paths.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out images whose files all exist.")
    ] = False,
    rule: Annotated[
        Literal["any", "all"] | None,
        typer.Option(
            help="Repaint tokens that the mask touches anywhere, the default, or that it covers wholly.",
            rich_help_panel="Models of tokens",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Of the first step: lower is safer and less diverse.", rich_help_panel="Models of tokens"),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--class", help="What the image shows; its surroundings tell if not given."),
    ] = None,
    resample: Annotated[
        int | None,
        typer.Option(min=1, help="How often each step is taken.", rich_help_panel="Diffusion models"),
    ] = None,
) -> None:
    """Fill holes in images and print the paths of what is written, equal to the image outside the mask.

    In a folder, an image and its mask have the same path but for the suffix.
    """
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other; give one")
    piped = image == _STDIN and out is None
    if piped and (n > 1 or history or as_json):
        raise UsageError("standard output takes one image alone; give --out, or leave -n, --history and --json away")
    format = format or _named(out) or "png"
    parts = {"": format} | ({"-history": "png", "-strip": format} if history else {})
    jobs = _jobs(image, mask, out, n, parts)
    if not piped:
        jobs = _prepared(jobs, overwrite, skip_existing)

    from genfast import api, images, inpainting, masks, photos
    from genfast.files import atomic

    given: dict[str, Any] = {"rule": rule, "temperature": temperature, "label": label, "resample": resample}
    options = {name: value for name, value in given.items() if value is not None}
    edge: dict[str, Any] = {"grow": grow, "feather": feather, "context": context}
    painter = api.load(model, steps=steps, device=device, threads=threads)

    def fills(job: _Job, advance: Callable[[int], None]) -> "tuple[Photo, list[Fill]]":
        if job.mask is None:
            raise InputError(f"{job.image} has no mask: there is no {job.image.stem}.* at its place in {mask}")
        photo = photos.read(io.BytesIO(sys.stdin.buffer.read()) if job.image == _STDIN else job.image)
        if not photos.fits(photo, format):
            raise InputError(f"{job.image} has more bits or pixels than {format} holds; give --format png")
        hole = masks.read(job.mask, photo.colours.shape[:2], invert=invert)
        if not hole.any():
            print(f"genfast: {job.mask} repaints nothing; {job.image} comes out as it is", file=sys.stderr)
        settings: dict[str, Any] = {"n": n, "seed": seed, "history": history, "advance": advance}
        return photo, inpainting.inpaint(painter, photo.colours, hole, **settings, **edge, **options)

    def recipe(job: _Job, index: int) -> images.Recipe:
        assert job.mask
        said = {name: value for name, value in {**edge, "invert": invert, "history": history}.items() if value}
        said |= {} if format == "png" else {"format": format}
        said |= {} if feather is None else {"feather": feather}
        said |= {"class" if name == "label" else name: value for name, value in options.items()}
        return images.Recipe(
            model=painter.name,
            bundle=painter.bundle.sha256,
            steps=painter.filling_steps,
            seed=seed,
            index=index,
            n=n,
            options=said,
            inpainted=_names(job.image, job.mask),
            version=__version__,
        )

    listed: list[dict[str, Any]] = []
    with progress("inpainting", len(jobs) * n) as advance:
        for job in jobs:
            about: dict[str, Any] = {"image": str(job.image), "mask": job.mask and str(job.mask)}
            try:
                photo, found = fills(job, advance)
            except InputError as error:
                if not image.is_dir():
                    raise
                print("genfast:", " ".join(str(error).split()), file=sys.stderr)
                listed.append(about | {"error": str(error)})
                advance(n)
                continue
            if piped:
                photos.write(sys.stdout.buffer, replace(photo, colours=found[0].image), recipe(job, 0), format)
                return
            for fill, paths in zip(found, job.outputs, strict=True):
                with atomic(paths[0]) as file:
                    photos.write(file, replace(photo, colours=fill.image), recipe(job, fill.index), format)
                if history and fill.history:
                    images.write_animation(paths[1], fill.history, recipe(job, fill.index))
                    images.write(paths[2], images.strip(fill.history), recipe(job, fill.index))
            listed.append(about | {"fills": [_card(*pair) for pair in zip(found, job.outputs, strict=True)]})

    if as_json:
        print_json({"model": painter.name, "images": listed})
    else:
        print(*(path for one in listed for fill in one.get("fills", ()) for path in _paths(fill)), sep="\n")
    if any("error" in one for one in listed):
        raise typer.Exit(1)


def _names(image: Path, mask: Path) -> tuple[str, str]:
    """The names of two files, with their folders where these are equal, as text, which on Linux they need not be."""
    paths = [Path(path.parent.name if image.name == mask.name else "", path.name) for path in (image, mask)]
    first, second = (os.fsencode(path).decode(errors="replace") for path in paths)
    return first, second


def _card(fill: "Fill", paths: list[Path]) -> dict[str, Any]:
    """What --json says of a fill. An image that nothing is repainted in has no history."""
    named = dict(zip(["path", "history", "strip"], map(str, paths if fill.history else paths[:1]), strict=False))
    return named | {"index": fill.index} | ({} if fill.score is None else {"score": fill.score})


def _paths(card: dict[str, Any]) -> Iterator[str]:
    return (card[name] for name in ("path", "history", "strip") if name in card)


def _named(out: Path | None) -> Literal["png", "webp"] | None:
    """The format that the name of a file says, None for a folder."""
    suffix = out.suffix.lower() if out and not out.is_dir() else ""
    return "png" if suffix == ".png" else "webp" if suffix == ".webp" else None


def _jobs(image: Path, mask: Path, out: Path | None, n: int, parts: Mapping[str, str]) -> list[_Job]:
    """An image, or all in a folder, with their masks and files to write, whose names end in `parts`, each of a format.

    Raises UsageError where the name of a file says another format.
    """
    from genfast import images

    endings = {part: f".{format}" for part, format in parts.items()}
    if out and _named(out) and not image.is_dir():
        endings[""] = out.suffix  # as it is written there

    def outputs(base: Path) -> list[list[Path]]:
        numbers = [""] if n == 1 else [f"-{i}" for i in range(1, n + 1)]
        return [
            [base.with_name(f"{base.name}{number}{part}{ending}") for part, ending in endings.items()]
            for number in numbers
        ]

    if not image.is_dir():
        if image != _STDIN and not image.exists():
            raise InputError(f"{image} does not exist")
        name = f"{'stdin' if image == _STDIN else image.stem}{_MARK}"
        if out is None:
            base = image.with_name(name)
        elif _named(out) == parts[""]:
            base = out.with_suffix("")
        elif _named(out):
            raise UsageError(f"{out} and --format {parts['']} contradict each other; leave --format away")
        elif out.suffix.lower() in images.SUFFIXES and not out.is_dir():
            raise UsageError(f"{out} would not keep every pixel; give a name that ends in .png or .webp")
        else:
            base = out / name
        return [_Job(image, mask, outputs(base))]

    if mask.is_dir() and mask.samefile(image):
        raise UsageError(f"{image} cannot hold both the images and their masks; give two folders")
    here = mask.resolve()
    found = [p for p in images.find(image) if _MARK not in p.name and not p.resolve().is_relative_to(here)]
    if not found:
        raise InputError(f"{image} holds nothing to inpaint")
    pairs = {p.relative_to(mask).with_suffix(""): p for p in images.find(mask)} if mask.is_dir() else None
    jobs = []
    for path in found:
        relative = path.relative_to(image)
        base = (out or image) / relative.with_name(f"{path.stem}{_MARK}")
        jobs.append(_Job(path, pairs.get(relative.with_suffix("")) if pairs else mask, outputs(base)))
    return jobs


def _prepared(jobs: list[_Job], overwrite: bool, skip_existing: bool) -> list[_Job]:
    """The jobs that are to be done, with folders to write to. Raises UsageError for files in the way."""
    owners: dict[Path, Path] = {}
    existing = []
    for job in jobs:
        for path in (path for paths in job.outputs for path in paths):
            if other := owners.get(path):
                raise UsageError(f"{other} and {job.image} would both become {path}; rename one of them")
            owners[path] = job.image
            if path.exists():
                if any(source and source.exists() and path.samefile(source) for source in (job.image, job.mask)):
                    raise UsageError(f"{path} is not to be written over; give another --out")
                existing.append(path)
    if existing and not (overwrite or skip_existing):
        raise UsageError(
            f"{min(existing)} exists (files in the way: {len(existing)}); "
            "give --overwrite, --skip-existing, or another --out"
        )
    for folder in sorted({path.parent for path in owners}):
        prepare(folder)
    if skip_existing:
        return [job for job in jobs if not {path for paths in job.outputs for path in paths} <= set(existing)]
    return jobs
