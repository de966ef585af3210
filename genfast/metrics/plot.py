"""Draws a sweep over numbers of steps. Needs matplotlib, which genfast[plot] brings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from genfast.files import atomic


def plot(
    results: Sequence[dict[str, Any]], out: Path, baseline: Mapping[str, Sequence[tuple[int, float]]] | None = None
) -> None:
    """Draw the FID of `results`, as `genfast fid --json` has them, over the number of steps, to the PNG `out`.

    Each extractor gets a panel of its own, with floor and yardsticks, and the (steps, FID) of a `baseline` by the name
    of the extractor; bars are the standard deviation over seeds.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(result["features"] for result in results))
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        seen = [result for result in results if result["features"] == name]
        steps = list(dict.fromkeys(result["steps"] for result in seen))
        fids = [[result["fid"] for result in seen if result["steps"] == number] for number in steps]
        bars = [stdev(values) if len(values) > 1 else 0.0 for values in fids]
        axes.errorbar(steps, [fmean(values) for values in fids], bars, marker="o", capsize=3, label=seen[0]["model"])
        known = (baseline or {}).get(name, ())
        if known:
            axes.plot(*zip(*known, strict=True), "s:", color="black", label="baseline, by its card")
        marks = {"floor": seen[0]["floor"], **seen[0]["yardsticks"]}
        for i, (label, value) in enumerate(marks.items()):
            if value is not None:
                axes.axhline(value, color=f"C{i + 1}", linestyle="--", label=label)
        axes.set(title=name, xlabel="steps", ylabel="FID", xscale="log", yscale="log")
        ticks = sorted({*steps, *(number for number, _ in known)})
        axes.set_xticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic(out) as file:
        figure.savefig(file, format="png", dpi=120)
