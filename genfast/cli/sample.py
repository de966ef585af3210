"""`genfast sample`: draw images into a folder."""

import math
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genfast import __version__
from genfast.cli.options import Device, Threads
from genfast.cli.output import prepare, print_json
from genfast.cli.progress import progress
from genfast.errors import InputError, UsageError

if TYPE_CHECKING:
    from genfast.images import Recipe

_SHEET_LIMIT = 400  # images
_SHEET_SIDE = 2048  # pixels: where images are large, a contact sheet shrinks them to about this in all


def _tokens(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Models of tokens")


def sample(
    model: Annotated[str, typer.Option(help="A model by name (see genfast models), or a folder.")] = "fashion28",
    steps: Annotated[
        int | None,
        typer.Option(help="How many steps; but for DDPMs and models of tokens, there must be weights for it."),
    ] = None,
    loss: Annotated[str | None, typer.Option(help="Use the weights trained by this loss.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Each seed is an endless row of images.")] = 0,
    n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 8,
    start: Annotated[int, typer.Option(min=0, help="Index of the first image in the seed's row.")] = 0,
    batch: Annotated[int | None, typer.Option(min=1, help="Images drawn at once; changes speed, not images.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    out: Annotated[Path, typer.Option(help="Folder to write to; made where it does not exist.")] = Path("."),
    format: Annotated[
        Literal["png", "webp", "jpeg"], typer.Option(help="Of the files: png and webp lose nothing.")
    ] = "png",
    grid: Annotated[bool, typer.Option(help="For n > 1, write a contact sheet of the first 400 as well.")] = True,
    history: Annotated[
        bool, typer.Option("--history", help="Write how each image comes about, as an animated PNG and as a strip.")
    ] = False,
    no_stand_in: Annotated[
        bool, typer.Option("--no-stand-in", help="Fail where weights are missing, rather than draw with another model.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of paths.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Keep files that exist.")] = False,
    label: Annotated[
        str | None,
        typer.Option("--class", help="Draw this class alone; by default, classes take turns."),
    ] = None,
    order: Annotated[
        Literal["confidence", "chance", "random"] | None,
        _tokens("A step keeps the surest tokens, or as many by lot, or all, of which it redraws a random share."),
    ] = None,
    temperature: Annotated[float | None, _tokens("Of the first step: lower is safer and less diverse.")] = None,
    temperature_end: Annotated[float | None, _tokens("Of the last step.")] = None,
    share: Annotated[float | None, _tokens("Of tokens redrawn in the first step, for --order random.")] = None,
    share_end: Annotated[float | None, _tokens("Of tokens redrawn in the last step, for --order random.")] = None,
    min_steps: Annotated[int | None, _tokens("Before an image that no longer changes is finished early.")] = None,
    guidance: Annotated[float | None, _tokens("Above 1, more typical of the class, for twice the time.")] = None,
    growth: Annotated[float | None, _tokens("Above 1, fewer are kept of the first steps; not in order random.")] = None,
    settle: Annotated[float | None, _tokens("Share of steps, the last, that mend what is drawn; as above.")] = None,
    seams: Annotated[float | None, _tokens("Weight of how well neighbours fit each other; as above.")] = None,
    choice_temperature: Annotated[float | None, _tokens("Chance in what is kept, for --order confidence.")] = None,
) -> None:
    """Draw images as MODEL-SEED-INDEX.FORMAT and print their paths.

    The same model, seed and index give the same image, however many are drawn at once.
    """
    from genfast import api, images

    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other; give one")
    sampler = api.load(model, steps=steps, loss=loss, device=device, threads=threads, stand_in=not no_stand_in)
    choices = {
        "label": label,
        "order": order,
        "temperature": temperature,
        "temperature_end": temperature_end,
        "share": share,
        "share_end": share_end,
        "min_steps": min_steps,
        "guidance": guidance,
        "growth": growth,
        "settle": settle,
        "seams": seams,
        "choice_temperature": choice_temperature,
    }
    options: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}

    def recipe(index: int, label: str | None, n: int = 1, history: bool = False) -> images.Recipe:
        chosen = {name.replace("_", "-"): value for name, value in options.items() if name != "label"}
        chosen |= ({} if label is None else {"class": label}) | ({"history": True} if history else {})
        chosen |= {} if loss is None else {"loss": loss}
        chosen |= {} if format == "png" else {"format": format}
        return images.Recipe(
            model=sampler.name,
            bundle=sampler.bundle.sha256,
            steps=sampler.steps,
            seed=seed,
            index=index,
            n=n,
            options=chosen,
            version=__version__,
        )

    parts = {"": format} | ({"-history": "png", "-strip": format} if history else {})
    files = {
        i: [out / f"{sampler.name}-{seed}-{i}{part}.{suffix}" for part, suffix in parts.items()]
        for i in range(start, start + n)
    }
    shown = [paths[0] for paths in files.values()][:_SHEET_LIMIT]
    sheet = out / f"{sampler.name}-{seed}-grid-{start}-{start + len(shown) - 1}.{format}" if grid and n > 1 else None
    every = [*chain.from_iterable(files.values()), *filter(None, [sheet])]
    existing = {path for path in every if path.exists()}
    if existing and not (overwrite or skip_existing):
        raise UsageError(
            f"{min(existing)} exists (files in the way: {len(existing)}); "
            "give --overwrite, --skip-existing, or another --seed or --out"
        )

    kept = set() if overwrite else existing
    todo = [index for index, paths in files.items() if not kept.issuperset(paths)]
    drawn = chain.from_iterable(sampler.batches(todo, seed=seed, batch=batch, **options))
    labels = {index: sampler.label(index, **options) for index in files}
    for index, (path, *_) in files.items():
        if path in kept:
            _check_kept(path, recipe(index, labels[index]))
    prepare(out)
    with progress("drawing", len(todo)) as advance:
        for index in todo:
            frames = list(sampler.history(index, seed=seed, **options)) if history else [next(drawn)]
            for path, part in zip(files[index], parts, strict=True):
                if path in kept:
                    continue
                about = recipe(index, labels[index], history=part != "")
                if part == "-history":
                    images.write_animation(path, frames, about)
                else:
                    images.write(path, images.strip(frames) if part else frames[-1], about)
            advance(1)
    if sheet and sheet not in kept:
        # Read back, so that files that were there already are shown as they are.
        tiles = images.read_all(shown, side=_SHEET_SIDE // math.ceil(math.sqrt(len(shown))))
        images.write(sheet, images.contact_sheet(tiles), recipe(start, label, len(tiles)))

    if as_json:
        listed: list[dict[str, Any]] = []
        for index, paths in files.items():
            named = dict(zip(["path", "history", "strip"], map(str, paths), strict=False))
            listed.append(named | {"index": index} | ({"class": labels[index]} if labels[index] else {}))
        print_json({"model": sampler.name, "images": listed, "grid": sheet and str(sheet)})
    else:
        print(*every, sep="\n")


def _check_kept(path: Path, recipe: "Recipe") -> None:
    """Raises UsageError for an image that is there and that genfast drew by another recipe, whatever its version.

    Which loss it was trained by, the bundle tells.
    """
    from genfast import images

    try:
        found = images.read_recipe(path)
    except InputError:
        return
    if _essence(found) != _essence(recipe):
        raise UsageError(f"{path} was drawn otherwise (genfast info tells how); give --overwrite or another --out")


def _essence(recipe: "Recipe") -> dict[str, Any]:
    options = {name: value for name, value in recipe.options.items() if name != "loss"}
    return recipe.model_dump(exclude={"version", "options"}) | {"options": options}
