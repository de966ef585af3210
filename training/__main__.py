"""`python -m training run RECIPE`: train, or go on training, what a recipe describes.

`study` does so for a whole row of them, `tokens` encodes a data set for a prior.
Past one machine: `PYTHONPATH=. fabric run --nnodes N ... training/__main__.py run RECIPE`.
"""

import ctypes
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from lightning_fabric import Fabric

from genfast.errors import GenfastError
from training import registry
from training.data.datasets import load
from training.data.images import Split
from training.loop import run as train

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

app = typer.Typer(
    help="Train genfast's models.", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)

Data = Annotated[Path | None, typer.Option(help="Folder of the data set; found or downloaded if absent.")]
Runs = Annotated[Path, typer.Option(help="Checkpoints and logs go into RUNS/NAME.")]
Devices = Annotated[str, typer.Option(help="Processes on this machine; auto: one a GPU, or one.")]
Accelerator = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Precision = Annotated[Literal["32-true", "bf16-mixed"], typer.Option(help="bf16-mixed where bfloat16 is fast.")]
Threads = Annotated[int, typer.Option(help="CPU threads a process.")]


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A TOML file of training/recipes.")],
    data: Data = None,
    runs: Runs = Path("runs"),
    devices: Devices = "auto",
    accelerator: Accelerator = "auto",
    precision: Precision = "32-true",
    threads: Threads = 1,
) -> None:
    """Train a recipe, or go on from its newest checkpoint."""
    fabric = _launch(devices, accelerator, precision, threads)
    chosen = registry.read(recipe)
    if data is not None:
        chosen = replace(chosen, data=replace(chosen.data, folder=data))
    family, (images, labels) = registry.FAMILIES[chosen.family], load(chosen.data, "train")
    labels = np.arange(len(images)) if family.numbered else labels
    train(family.training, chosen, images, labels, runs / chosen.name, fabric)


@app.command()
def study(
    recipe: Annotated[Path, typer.Argument(help="training/recipes/study.toml, or another study.")],
    points: Annotated[list[str] | None, typer.Argument(help="Train these alone, by name.")] = None,
    data: Data = None,
    runs: Runs = Path("runs"),
    devices: Devices = "auto",
    accelerator: Accelerator = "auto",
    precision: Precision = "32-true",
    threads: Threads = 1,
) -> None:
    """Train the points of a study that are not done, one after the other; several such commands share them out."""
    from training.study.queue import study

    study(recipe, points or (), data, runs, _launch(devices, accelerator, precision, threads))


@app.command()
def tokens(
    checkpoint: Annotated[Path, typer.Argument(help="A VQ-GAN: a run, a checkpoint of one, or a bundle.")],
    out: Annotated[Path, typer.Argument(help="Folder of the token set; what it has already is kept.")],
    data: Data = None,
    split: Annotated[Split, typer.Option(help="Which part of the data set.")] = "train",
    count: Annotated[int | None, typer.Option(min=1, help="Images; by default as many as the VQ-GAN saw.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Encode the data set that a VQ-GAN was trained on as tokens, for a prior to learn."""
    from training.token_set import encode

    _keep_freed_memory()
    torch.set_num_threads(threads)
    print(f"{out}: {encode(checkpoint, out, split, count, data)} {split} images")


@app.command()
def drafts(
    folder: Annotated[Path, typer.Argument(help="Folder of a token set whose pictures have attributes.")],
    vqgan: Annotated[Path, typer.Argument(help="The VQ-GAN whose tokens these are: a run, a checkpoint, or a bundle.")],
    rank: Annotated[int, typer.Option(min=1, help="Of the map from attributes to drafts, for each class.")] = 192,
    channels: Annotated[int, typer.Option(min=1, help="Numbers a token: `draft` of the prior's recipe.")] = 48,
    like: Annotated[Path | None, typer.Option(help="Run of a prior that has learned to read drafts.")] = None,
) -> None:
    """Fit what the attributes of pictures say of their tokens, for a prior to read, in closed form."""
    from training.token_set import fit_drafts

    fit_drafts(folder, vqgan, rank, channels, like)


@app.command()
def redraw(
    prior: Annotated[Path, typer.Argument(help="Run of a prior, whose newest checkpoint is taken.")],
    out: Annotated[Path, typer.Argument(help="Folder of the token set; what it has already is kept.")],
    count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 1000,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Draw tokens by what is known of training pictures, for a decoder to learn to mend what a prior does wrong."""
    from training.token_set import redraw

    torch.set_num_threads(threads)
    print(f"{out}: {redraw(prior, out, count)} train images")


@app.command()
def plot(
    run: Annotated[Path, typer.Argument(help="Folder of a run: RUNS/NAME.")],
    out: Annotated[Path, typer.Argument(help="A PNG to write.")],
    prefix: Annotated[str, typer.Option(help="Which figures: those whose names begin so.")] = "fid",
) -> None:
    """Draw how a run's figures changed over training."""
    from training.plot import plot

    plot(run, out, prefix)


@app.command()
def figures(
    results: Annotated[Path, typer.Argument(help="What `python -m export study` wrote.")] = Path("assets/study"),
    out: Annotated[Path, typer.Argument(help="Folder of the figures.")] = Path("assets/figures"),
) -> None:
    """Draw the study's figures, and write its table, of its committed results."""
    from training.study.figures import figures

    figures(results, out)


def _launch(devices: str, accelerator: str, precision: Literal["32-true", "bf16-mixed"], threads: int) -> Fabric:
    _keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)
    except RuntimeError as error:
        raise ValueError(f"--accelerator {accelerator} cannot be used here: {error}") from error
    if "LT_CLI_USED" not in os.environ:  # `fabric run` has launched the processes already
        fabric.launch()
    return fabric


def _keep_freed_memory() -> None:
    """Have glibc keep what it frees: fetching activations anew costs thousands of page faults a step."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


if __name__ == "__main__":
    try:
        app()
    except (GenfastError, OSError, ValueError) as error:  # a recipe or a data set that cannot be used
        print(f"training: error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
