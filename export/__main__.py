"""`python -m export`: checkpoints in, bundles out."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from genfast.errors import GenfastError

app = typer.Typer(help="Turn checkpoints into bundles.", no_args_is_help=True, pretty_exceptions_enable=False)

Out = Annotated[Path, typer.Argument(help="Folder of the bundle; it must not exist.")]


@app.command()
def ddgan(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint.")],
    out: Out,
    samples: Annotated[int, typer.Option(min=0, help="Images to draw for the FID in the card; 0 for none.")] = 10_000,
    notes: Annotated[str, typer.Option(help="What the card is to say of the training beside the recipe.")] = "",
) -> None:
    """Export a denoising diffusion GAN: its averaged weights as one graph of a reverse step."""
    from export.ddgan import ddgan

    ddgan(checkpoint, out, samples, notes)


@app.command()
def features(
    name: Annotated[str, typer.Argument(help="efficientnet-lite0 or fashion.")],
    out: Out,
    checkpoint: Annotated[Path | None, typer.Option(help="For fashion: its classifier's checkpoint.")] = None,
) -> None:
    """Export an extractor, with the statistics of the images that others are measured against."""
    from export.features import features

    features(name, out, checkpoint)


if __name__ == "__main__":
    try:
        app()
    except GenfastError as error:
        print(f"export: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
