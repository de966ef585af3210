"""The study of losses and numbers of steps: many small runs from one DDPM, alike but for what is studied."""

import tomllib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from pydantic import PositiveInt, TypeAdapter

from training.checkpoint import newest_checkpoint, saved
from training.data.datasets import load
from training.families.ddgan import DDGANRecipe
from training.families.ddpm import DDPMRecipe
from training.loop import run
from training.losses import Loss
from training.recipe import Recipe, config
from training.registry import FAMILIES

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

    name: str  # of the bundle that holds its points
    model: str  # begins the names of its points
    init_from: str  # recipe, beside this file, of the DDPM that every generator starts from
    rows: tuple[Row, ...]  # what comes first is trained first
    baseline: dict[PositiveInt, PositiveInt]  # numbers of steps that the DDPM is measured at, and of images to draw
    recipe: dict[str, Any]  # that of every DDGAN but for name, family, loss, schedule and init_from

    def points(self, runs: Path) -> dict[str, DDGANRecipe]:
        """The recipe of every point by its name, in their order; `runs` holds the DDPM's run."""
        found = {}
        for row in self.rows:
            for steps in row.steps:
                for loss in row.losses:
                    name = "-".join([self.model, loss, *(["even"] if row.spacing == "log-snr" else []), f"t{steps}"])
                    even = {steps: even_log_snr(steps)} if row.spacing == "log-snr" else {}
                    own: dict[str, Any] = {"name": name, "family": "ddgan", "loss": loss}
                    own |= {"schedule": {"steps": steps, "log_snr": even}}
                    own |= {"init_from": runs / Path(self.init_from).stem}
                    found[name] = TypeAdapter(DDGANRecipe).validate_python(self.recipe | own)
        return found

    def series(self, name: str) -> str:
        """What a point's bundle calls its loss: with how its levels are spaced, where that is not as in the paper."""
        return name.removeprefix(f"{self.model}-").rpartition("-t")[0]


def even_log_snr(steps: int) -> tuple[float, ...]:
    """Log-SNR of levels 1..T, as far from each other as the first is from SPAN, which stands for clean images."""
    return tuple(SPAN - 2 * SPAN * t / steps for t in range(1, steps + 1))


def read(path: Path) -> tuple[Study, DDPMRecipe]:
    """Read a study's file, and the recipe of the DDPM that its points start from.

    Raises:
        ValueError: it is no study.
    """
    plan = TypeAdapter(Study).validate_python(tomllib.loads(path.read_text("utf-8")))
    ddpm = tomllib.loads((path.parent / plan.init_from).read_text("utf-8"))
    return plan, TypeAdapter(DDPMRecipe).validate_python(ddpm)


def is_done(run: Path, recipe: Recipe) -> bool:
    """Whether a run has come to its recipe's end."""
    return (run / f"checkpoint-{recipe.loop.steps:08d}").is_dir()


def study(path: Path, only: Collection[str], data: Path | None, runs: Path, fabric: Fabric) -> None:
    """Train what is not done yet of a study, in its order: all points, or those named by `only`.

    Several processes, also of machines that share `runs`, may do so at once: each takes what no other is at.

    Raises:
        ValueError: no such point, or a run that was begun with another recipe.
    """
    plan, ddpm = read(path)
    points = plan.points(runs)
    if unknown := set(only) - points.keys():
        raise ValueError(f"{path} has no {min(unknown)}; it has: {', '.join(points)}")
    data_set = load(replace(ddpm.data, folder=data or ddpm.data.folder), "train")
    recipes: list[DDPMRecipe | DDGANRecipe] = [ddpm, *(points[name] for name in only or points)]
    for recipe in recipes:
        folder = runs / recipe.name
        with claim(folder, fabric, wait=recipe is ddpm) as mine:  # no point begins before what it starts from is there
            if mine and not is_done(folder, recipe):
                if isinstance(recipe, DDGANRecipe):
                    _check(folder, recipe)
                fabric.print(f"{recipe.name}: {recipe.loop.steps * recipe.loop.batch:,} images")
                run(FAMILIES[recipe.family].training, recipe, *data_set, folder, fabric)
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
    begun = TypeAdapter(DDGANRecipe).validate_python(saved(newest_checkpoint(folder))["recipe"])
    if replace(begun, init_from=recipe.init_from) != recipe:
        raise ValueError(f"{folder} was begun with another recipe; move it away, or put the recipe back")
