"""`genfast sample`: draw images into a folder."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genfast.cli.options import (
    DEVICES,
    OUTPUT,
    WEIGHTS,
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
from genfast.cli.output import Spooled, print_json
from genfast.progress import progress

if TYPE_CHECKING:
    from genfast.tasks.sample import Drawn

_SHEET_SIDE = 2048  # pixels: where images are large, a contact sheet shrinks them to about this in all


@sampler_options()
def sample(
    model: ModelName = "fashion28",
    n: Annotated[int, typer.Option("-n", min=1, max=10**15, help="How many images.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Each seed is an endless row of images.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(help="How many steps: fewer are faster. A DDGAN needs weights that were trained for it."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="Draw this class alone; by default, classes take turns.")
    ] = None,
    set: Set = None,
    out: Annotated[Path, typer.Option(help="Folder to write to; made where it does not exist.")] = Path("."),
    format: Annotated[
        Literal["png", "webp", "jpeg"],
        typer.Option(help="Format of the files; png and webp are lossless.", rich_help_panel=OUTPUT),
    ] = "png",
    start: Annotated[
        int, typer.Option(min=0, help="Index of the first image in the seed's row.", rich_help_panel=OUTPUT)
    ] = 0,
    grid: Annotated[
        bool, typer.Option(help="For n > 1, write a contact sheet of the first 400 as well.", rich_help_panel=OUTPUT)
    ] = True,
    history: History = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    loss: Annotated[
        str | None, typer.Option(help="Use the weights trained by this loss.", rich_help_panel=WEIGHTS)
    ] = None,
    no_stand_in: Annotated[
        bool,
        typer.Option(
            "--no-stand-in",
            help="Fail where weights are missing, rather than draw with another model.",
            rich_help_panel=WEIGHTS,
        ),
    ] = False,
    device: Devices = "auto",
    threads: Threads = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images drawn at once; changes speed, not images.", rich_help_panel=DEVICES),
    ] = None,
    ray: Ray = None,
    collect: Collect = False,
    share: Share = None,
    *,
    given: Given,
) -> None:
    """Draw images, write them as MODEL-SEED-INDEX.png and print their paths.

    The same model, seed and index give the same image, however many are drawn at once.
    """
    from genfast import api, outputs
    from genfast.images import folder, io, params, sheets
    from genfast.tasks.delivery import Delivery, write
    from genfast.tasks.made_by import made_by
    from genfast.tasks.sample import Draw

    existing = outputs.existing(overwrite, skip_existing)
    part = shard(share, ray)
    sampler = api.load(model, steps=steps, loss=loss, device=device, threads=threads, stand_in=not no_stand_in, ray=ray)
    options, asked = chosen(sampler, sampler.options, given), settings(set)
    indices = range(start, start + n)
    sampler.check(seed, indices, label, options, asked)
    if part:
        indices, grid = part.of(indices), False
    files = outputs.SampleFiles(out, sampler.name, seed, indices, format, history, grid, existing)
    chosen_here = ({} if loss is None else {"loss": loss}) | ({} if format == "png" else {"format": format})
    drawn_by = made_by(sampler, steps=sampler.steps, seed=seed, index=start, options=chosen_here)
    draw = Draw(
        files.absolute() if ray else files,
        Delivery(),
        batch=sampler.batch_size(batch),
        label=label,
        attributes=asked,
        options=options,
        said={**said(given, sampler.options), **said_of(asked)},
        drawn_by=drawn_by,
    )

    def check_kept(index: int, path: Path) -> None:
        params.check_kept(path, lambda _: draw.params(sampler.label(index, label, asked), index=index))

    def finish(drawn: "Drawn") -> "Drawn":
        write((path, content) for path, content in drawn.contents if not files.keeps(path))
        advance(len(drawn.indices))
        return replace(drawn, contents=[])

    files.prepare(check_kept)
    told = indices.start
    listed = Spooled()

    def tell(until: int) -> None:
        """Print, or list, the images up to one: those before it that are not told of yet were there."""
        nonlocal told
        for index in range(told, until):
            if as_json:
                named = dict(zip(["path", "history", "strip"], map(str, files.paths(index)), strict=False))
                name = sampler.label(index, label, asked)
                shown = sampler.attributes_of(index, seed=seed, label=label, attributes=asked)
                about_it = ({"class": name} if name else {}) | ({"attributes": shown} if shown else {})
                listed.append({**named, "index": index, **about_it})
            else:
                print(*files.paths(index), sep="\n", flush=True)
        told = until

    with progress("drawing", len(indices)) as advance, delivery(out, ray, collect) as how:
        for drawn in sampler.map(replace(draw, delivery=how), sampler.chunks(files.missing(), batch), finish):
            if drawn.indices:
                until = drawn.indices[-1] + 1
                advance(until - told - len(drawn.indices))  # those that were there
                tell(until)
            if drawn.error:
                raise drawn.error
        advance(indices.stop - told)
        tell(indices.stop)
    if files.sheet and not files.keeps(files.sheet):
        # Read back, so that files that were there already are shown as they are.
        shown = [files.paths(index)[0] for index in files.shown]
        tiles = folder.read_all(shown, side=_SHEET_SIDE // math.ceil(math.sqrt(len(shown))))
        io.write(files.sheet, sheets.contact_sheet(tiles), draw.params(label, index=start, n=len(tiles)).comment())
    if as_json:
        print_json({"model": sampler.name, "images": listed, "grid": files.sheet and str(files.sheet)})
    elif files.sheet:
        print(files.sheet)
