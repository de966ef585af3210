"""`genfast sample`: draw images into a folder."""

import json
import tempfile
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from genfast import __version__
from genfast.cli.progress import progress
from genfast.errors import UsageError

_SHEET_LIMIT = 400  # images


def sample(
    model: Annotated[str, typer.Option(help="A model by name (see genfast models), or a folder.")] = "fashion28",
    steps: Annotated[int | None, typer.Option(help="Use the weights trained for so many steps.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Each seed is an endless row of images.")] = 0,
    n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 8,
    start: Annotated[int, typer.Option(min=0, help="Index of the first image in the seed's row.")] = 0,
    batch: Annotated[int | None, typer.Option(min=1, help="Images drawn at once; changes speed, not images.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on the CPU; by default one a core.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to; made where it does not exist.")] = Path("."),
    grid: Annotated[bool, typer.Option(help="For n > 1, write a contact sheet of the first 400 as well.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of paths.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Keep files that exist.")] = False,
) -> None:
    """Draw images as MODEL-SEED-INDEX.png and print their paths.

    The same model, seed and index give the same image, however many are drawn at once.
    """
    from genfast import api, images

    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other; give one")
    sampler = api.load(model, steps=steps, device=device, threads=threads)

    paths = {index: out / f"{sampler.name}-{seed}-{index}.png" for index in range(start, start + n)}
    shown = list(paths)[:_SHEET_LIMIT]
    sheet = out / f"{sampler.name}-{seed}-grid-{shown[0]}-{shown[-1]}.png" if grid and n > 1 else None
    existing = {path for path in [*paths.values(), sheet] if path and path.exists()}
    if existing and not (overwrite or skip_existing):
        raise UsageError(
            f"{min(existing)} exists (files in the way: {len(existing)}); "
            "give --overwrite, --skip-existing, or another --seed or --out"
        )

    todo = [index for index, path in paths.items() if overwrite or path not in existing]
    drawn = chain.from_iterable(sampler.batches(todo, seed=seed, batch=batch))
    recipe = images.Recipe(
        model=sampler.name,
        bundle=sampler.bundle.sha256,
        steps=sampler.steps,
        seed=seed,
        index=start,
        version=__version__,
    )
    _prepare(out)
    with progress("drawing", len(todo)) as advance:
        for index, image in zip(todo, drawn, strict=True):
            images.write(paths[index], image, recipe.model_copy(update={"index": index}))
            advance(1)
    if sheet and (overwrite or sheet not in existing):
        # Read back, so that files that were there already are shown as they are.
        tiles = images.read_all([paths[index] for index in shown])
        images.write(sheet, images.contact_sheet(tiles), recipe.model_copy(update={"n": len(tiles)}))

    if as_json:
        listed = [{"path": str(path), "index": index} for index, path in paths.items()]
        print(json.dumps({"model": sampler.name, "images": listed, "grid": sheet and str(sheet)}))
    else:
        print(*paths.values(), *filter(None, [sheet]), sep="\n")


def _prepare(out: Path) -> None:
    """Make the folder and make sure that files can be made in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UsageError(f"cannot write into {out}: {error.strerror}; choose another folder with --out") from error
