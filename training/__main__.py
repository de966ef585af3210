"""`python -m training run RECIPE`: train, or go on training, what a recipe describes.

Past one machine: `PYTHONPATH=. fabric run --nnodes N ... training/__main__.py run RECIPE`.
"""

import ctypes
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from lightning_fabric import Fabric

from training import recipe as recipes
from training.data import load
from training.loop import run as train

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

app = typer.Typer(
    help="Train genfast's models.", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A TOML file of training/recipes.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the data set; found or downloaded if absent.")] = None,
    runs: Annotated[Path, typer.Option(help="Checkpoints and logs go into RUNS/NAME.")] = Path("runs"),
    devices: Annotated[str, typer.Option(help="Processes on this machine; auto: one a GPU, or one.")] = "auto",
    accelerator: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true, or bf16-mixed where bfloat16 is fast.")] = "32-true",
    threads: Annotated[int, typer.Option(help="CPU threads a process.")] = 1,
) -> None:
    """Train a recipe, or go on from its newest checkpoint."""
    _keep_freed_memory()
    torch.set_num_threads(threads)
    fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)
    if "LT_CLI_USED" not in os.environ:  # `fabric run` has launched the processes already
        fabric.launch()
    chosen = recipes.read(recipe)
    if data is not None:
        chosen = replace(chosen, data=replace(chosen.data, folder=data))
    train(chosen, *load(chosen.data, "train"), runs / chosen.name, fabric)


@app.command()
def plot(
    run: Annotated[Path, typer.Argument(help="Folder of a run: RUNS/NAME.")],
    out: Annotated[Path, typer.Argument(help="A PNG to write.")],
    prefix: Annotated[str, typer.Option(help="Which figures: those whose names begin so.")] = "fid",
) -> None:
    """Draw how a run's figures changed over training."""
    from training.plot import plot

    plot(run, out, prefix)


def _keep_freed_memory() -> None:
    """Have glibc keep what it frees: fetching activations anew costs thousands of page faults a step."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


if __name__ == "__main__":
    try:
        app()
    except (OSError, ValueError) as error:  # a recipe or a data set that cannot be used
        print(f"training: error: {error}", file=sys.stderr)
        sys.exit(1)
