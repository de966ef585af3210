"""The study of losses and numbers of steps: many small runs from one start, alike but for what is studied."""

import json
import tomllib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from pydantic import PositiveInt, TypeAdapter

from training import recipe as recipes
from training.data import load
from training.ddgan import DDGANRecipe
from training.ddpm import DDPMRecipe
from training.loop import newest_checkpoint, run
from training.losses import Loss
from training.recipe import Recipe, config

FEATURES = "fashion"  # the extractor that scores its points, and whose features tell classes
SPAN = 6.0  # a schedule spaced evenly in log-SNR goes from this down to its negative

Spacing = Literal["vp", "log-snr"]


@config
class Row:
    """A point for each loss and each number of steps."""

    losses: tuple[Loss, ...]
    steps: tuple[PositiveInt, ...]
    spacing: Spacing = "vp"


@config
class Study:
    """What a study's file holds."""

    model: str  # begins the names of its points
    start: str  # the recipe beside the file of the DDPM that every generator starts from
    rows: tuple[Row, ...]  # what comes first is trained first
    baseline: dict[PositiveInt, PositiveInt]  # numbers of steps that the DDPM is measured at, and of images to draw
    recipe: dict[str, Any]  # that of every DDGAN but for name, family, loss, warm start and schedule

    def points(self, runs: Path) -> dict[str, DDGANRecipe]:
        """The recipe of every point by its name, in their order; `runs` holds the start's run."""
        found = {}
        for row in self.rows:
            for steps in row.steps:
                for loss in row.losses:
                    name = "-".join([self.model, loss, *(["even"] if row.spacing == "log-snr" else []), f"t{steps}"])
                    levels = even_log_snr(steps) if row.spacing == "log-snr" else ()
                    own = {"name": name, "family": "ddgan", "loss": loss}
                    own |= {"schedule": {"steps": steps, "log_snr": levels}}
                    own |= {"warm_start": runs / Path(self.start).stem}
                    found[name] = recipes.validate(self.recipe | own)
        return found


def even_log_snr(steps: int) -> tuple[float, ...]:
    """Log-SNR of levels 1..T, as far from each other as the first is from SPAN, which stands for clean images."""
    return tuple(SPAN - 2 * SPAN * t / steps for t in range(1, steps + 1))


def read(path: Path) -> tuple[Study, DDPMRecipe]:
    """Read a study's file, and the recipe of its start.

    Raises:
        ValueError: it is no study.
    """
    plan = TypeAdapter(Study).validate_python(tomllib.loads(path.read_text()))
    return plan, recipes.read(path.parent / plan.start)


def is_done(run: Path, recipe: Recipe) -> bool:
    """Whether a run has come to its recipe's end."""
    return (run / f"checkpoint-{recipe.loop.steps:08d}").is_dir()


def study(path: Path, only: Collection[str], data: Path | None, runs: Path, fabric: Fabric) -> None:
    """Train what is not done yet of a study, in its order: all points, or those named by `only`.

    Several processes, also of machines that share `runs`, may do so at once: each takes what no other is at.

    Raises:
        ValueError: no such point, or a run that was begun with another recipe.
    """
    plan, start = read(path)
    points = plan.points(runs)
    if unknown := set(only) - points.keys():
        raise ValueError(f"{path} has no {min(unknown)}; it has: {', '.join(points)}")
    images, labels = load(replace(start.data, folder=data or start.data.folder), "train")
    for recipe in [start, *(points[name] for name in only or points)]:
        folder = runs / recipe.name
        with claim(folder, fabric, wait=recipe is start) as mine:  # nothing begins before its start is there
            if mine and not is_done(folder, recipe):
                if recipe is not start:
                    _check(folder, recipe)
                fabric.print(f"{recipe.name}: {recipe.loop.steps * recipe.loop.batch:,} images")
                run(recipe, images, labels, folder, fabric)
            fabric.print(f"{recipe.name}: {'done' if mine else 'in other hands'}")


@contextmanager
def claim(folder: Path, fabric: Fabric, wait: bool) -> Iterator[bool]:
    """Whether the processes of `fabric` have a run to themselves, for the block; with `wait`, they have in the end.

    A claim ends with the process that made it, however that ends.
    """
    lock, mine = FileLock(folder / "lock", blocking=wait), True
    if fabric.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            mine = False
    try:
        yield fabric.broadcast(mine)
    finally:
        lock.release()


def _check(folder: Path, recipe: DDGANRecipe) -> None:
    """Refuse to go on with a run of another recipe: points must differ in what is studied alone."""
    if not any(folder.glob("checkpoint-*")):
        return
    saved = recipes.validate(json.loads((newest_checkpoint(folder) / "recipe.json").read_text())["recipe"])
    if replace(saved, warm_start=recipe.warm_start) != recipe:
        raise ValueError(f"{folder} was begun with another recipe; move it away, or put the recipe back")
