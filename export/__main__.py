"""`python -m export`: checkpoints in, bundles out."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from export.importers import cli as importers
from genfast.errors import GenfastError

app = typer.Typer(help="Turn checkpoints into bundles.", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(importers.app, name="import")

Out = Annotated[Path, typer.Argument(help="Folder of the bundle; it must not exist.")]
Small = Annotated[bool, typer.Option("--small", help="Round weights to eight bits, for a quarter of the size.")]


@app.command()
def ddgan(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint.")],
    out: Out,
    samples: Annotated[int, typer.Option(min=0, help="Images to draw for the FID in the card; 0 for none.")] = 10_000,
    notes: Annotated[str, typer.Option(help="What the card is to say of the training beside the recipe.")] = "",
    small: Small = False,
    near: Annotated[
        Path | None, typer.Option(help="Keep weights as those of this bundle, and a difference in few levels.")
    ] = None,
) -> None:
    """Export a denoising diffusion GAN: its averaged weights as one graph of a reverse step."""
    from export.diffusion import ddgan

    ddgan(checkpoint, out, samples, notes, small, near)


@app.command()
def ddpm(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint.")],
    out: Out,
    notes: Annotated[str, typer.Option(help="What the card is to say of the training beside the recipe.")] = "",
    small: Small = False,
) -> None:
    """Export a DDPM: its averaged weights as one graph of a reverse step, for any number of steps up to 1000."""
    from export.diffusion import ddpm

    ddpm(checkpoint, out, notes, small)


@app.command()
def study(
    recipe: Annotated[Path, typer.Argument(help="training/recipes/study.toml, or another study.")],
    points: Annotated[list[str] | None, typer.Argument(help="Measure these alone, by name, and time none.")] = None,
    runs: Annotated[Path, typer.Option(help="Where its runs lie.")] = Path("runs"),
    bundles: Annotated[Path, typer.Option(help="Folder of the bundles.")] = Path("assets/bundles"),
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("assets/study"),
    samples: Annotated[int, typer.Option(min=2, help="Images to draw for each point.")] = 5000,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on the CPU; by default one a core.")] = None,
) -> None:
    """Export and measure every trained point of a study that has no bundle or no result yet, and time all."""
    from export.study import study

    study(recipe, points or (), runs, bundles, results, samples, threads)


@app.command()
def features(
    name: Annotated[str, typer.Argument(help="efficientnet-lite0 or fashion.")],
    out: Out,
    checkpoint: Annotated[Path | None, typer.Option(help="For fashion: its classifier's checkpoint.")] = None,
) -> None:
    """Export an extractor, with the statistics of the images that others are measured against."""
    from export.features import features

    features(name, out, checkpoint)


@app.command()
def skeleton(out: Out) -> None:
    """Export FID's Inception without its weights, as it ships: graphs, and how the public file fills them."""
    from export.importers.inception import write_skeleton

    write_skeleton(out)


@app.command()
def sundae(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint of the prior.")],
    out: Out,
    vqgan: Annotated[Path, typer.Option(help="The VQ-GAN whose tokens it draws: a checkpoint, or a bundle.")],
    notes: Annotated[str, typer.Option(help="What the card is to say of the training beside the recipes.")] = "",
) -> None:
    """Export a prior and its VQ-GAN: from tokens drawn at random to pictures."""
    from export.sundae import sundae

    sundae(checkpoint, out, vqgan, notes)


@app.command()
def unpack(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    runs: Annotated[Path, typer.Option(help="Where its checkpoints are to lie.")] = Path("runs"),
) -> None:
    """Turn a bundle into checkpoints again, for recipes to start from."""
    from export.unpack import checkpoints

    checkpoints(bundle, runs)


@app.command()
def publish(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the mirror; made where it does not exist.")],
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Folders of bundles; by default those in assets/bundles.")
    ] = None,
) -> None:
    """Add bundles to a mirror, a folder that any web server or object store can serve, and print their names."""
    from export.publish import publish

    shipped = Path(__file__).parents[1] / "assets" / "bundles"
    print(*publish(out, bundles or sorted(shipped.iterdir())).bundles, sep="\n")


if __name__ == "__main__":
    try:
        app()
    except (GenfastError, OSError, ValueError) as error:
        print(f"export: error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
