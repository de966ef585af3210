"""Draws how a run's figures changed over training."""

import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from training.checkpoint import newest_checkpoint, saved


def plot(run: Path, out: Path, prefix: str = "fid") -> None:
    """Draw every figure of a run whose name begins with `prefix`, against thousands of images seen, to the PNG `out`.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        ValueError: it has no such figure.
    """
    summary = saved(newest_checkpoint(run))
    batch = summary["images"] / summary["step"]
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with (run / "figures.csv").open() as file:
        for row in csv.DictReader(file):
            curves[row["name"]].append((int(row["step"]) * batch / 1000, float(row["value"])))
    shown = {name: points for name, points in curves.items() if name.startswith(prefix)}
    if not shown:
        raise ValueError(f"{run} has no figure that begins with {prefix!r}; it has: {', '.join(sorted(curves))}")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="thousands of images seen", ylabel=prefix, yscale="log", title=run.name)
    for name, points in shown.items():
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=120)
