"""`genfast tokenize`: a folder of pictures as the tokens of a VQ-GAN."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from genfast.cli.options import AsJson, Device, ModelName, Threads
from genfast.cli.output import print_json
from genfast.progress import progress


def tokenize(
    folder: Annotated[Path, typer.Argument(help="A folder of images.")],
    out: Annotated[Path, typer.Argument(help="Folder of the token set; what it has already is kept.")],
    model: ModelName = "avatars1024",
    split: Annotated[
        Literal["train", "validation", "test"] | None,
        typer.Option(help="What the images are for; by default, one in 20 is for validation, and one for tests."),
    ] = None,
    by_class: Annotated[bool, typer.Option("--classes", help="The folders in FOLDER are classes.")] = False,
    as_json: AsJson = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Encode a folder of images as tokens, for a prior to learn (see docs/training.md), and print how many there are.

    An image of another size than the model's is cut to its middle and resized. Stopped, the same command goes on where
    it was.
    """
    from genfast import api, outputs
    from genfast.models.vq import tokenizer
    from genfast.tokenizing import Pictures
    from genfast.tokenizing import tokenize as encode

    pictures = Pictures(folder, split, by_class)
    counts = pictures.counts
    loaded = tokenizer(api.load(model, device=device, threads=threads))
    outputs.prepare(out)
    with progress("encoding", sum(counts.values())) as advance:
        for _ in encode(loaded, pictures, out):
            advance(1)
    if as_json:
        print_json({"model": loaded.name, "folder": str(out), "images": counts})
    else:
        print(f"{out}: {', '.join(f'{count} {split}' for split, count in counts.items())} images")
