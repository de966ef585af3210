"""The study's figures and its table, of the results that `python -m export study` wrote."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genfast.images import io
from training.losses import LOSSES
from training.study.queue import FEATURES

PAPER = ("non-saturating", "hellinger", "reverse-kl", "total-variation")


@dataclass(frozen=True)
class Point:
    """One result: RESULTS/NAME.json. A run that diverged has no scores."""

    name: str
    about: dict[str, Any]
    seconds: float | None  # an image; None where it was not timed
    row: Path  # its first images

    @property
    def steps(self) -> int:
        return int(self.about["steps"])

    @property
    def score(self) -> dict[str, Any]:
        score: dict[str, Any] = self.about["scores"][FEATURES]
        return score

    @property
    def series(self) -> str:
        """What is the same for all points of one line."""
        if self.about["family"] == "ddpm":
            return "ddpm"
        return f"{self.about['loss']}{'-even' if self.about['spacing'] == 'log-snr' else ''}"


def read(results: Path) -> list[Point]:
    """All results in a folder, ordered by series, as LOSSES are, and number of steps.

    Raises:
        FileNotFoundError: there is none, or every run diverged.
    """
    timed = results / "seconds.json"
    seconds = json.loads(timed.read_text()) if timed.exists() else {}
    points = [
        Point(path.stem, json.loads(path.read_text()), seconds.get(path.stem), path.with_suffix(".png"))
        for path in results.glob("*.json")
        if path != timed
    ]
    if not any("scores" in point.about for point in points):
        raise FileNotFoundError(f"{results} holds no results; python -m export study writes them")
    order = [*LOSSES, None]  # the baseline comes last
    return sorted(points, key=lambda p: (order.index(p.about["loss"]), p.about["spacing"] != "vp", p.steps))


def figures(results: Path, out: Path) -> None:
    """Draw every figure of a study's results into the folder `out`, and write its table there as study.md.

    Raises:
        FileNotFoundError: there is no result.
    """
    points = read(results)
    out.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[Point]] = {}
    for point in points:
        if "scores" in point.about:
            lines.setdefault(point.series, []).append(point)
    of_paper = {name: line for name, line in lines.items() if name in PAPER}
    beyond = {name: line for name, line in lines.items() if name not in (*PAPER, "ddpm")}
    drawings = {
        "study-ddpm": ({"ddpm": lines.get("ddpm", [])}, {}),  # figure 1 of the paper
        "study-ddgan": ({"non-saturating": lines.get("non-saturating", [])}, {}),  # figure 3
        "study-losses": (of_paper, beyond),  # figure 5
    }
    for name, (solid, dashed) in drawings.items():
        if any((solid | dashed).values()):
            over_steps(solid, dashed, out / f"{name}.png")
    if any(point.seconds for line in lines.values() for point in line):
        over_time(lines, out / "study-speed.png")
    for name, line in lines.items():  # figures 2, 4, 6, 7, 8
        sheet(line, out / f"study-samples-{name}.png")
    if fours := [point for line in lines.values() for point in line if point.steps == 4]:
        histograms(fours, out / "study-classes.png")
    (out / "study.md").write_text(table(points), encoding="utf-8")


def over_steps(solid: dict[str, list[Point]], dashed: dict[str, list[Point]], out: Path) -> None:
    """FID over the number of steps; `dashed` is for what is not of the paper."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="steps T", ylabel=f"FID ({FEATURES})", xscale="log", yscale="log")
    for lines, style, fill in ((solid, "o-", "full"), (dashed, "s--", "none")):
        for name, line in lines.items():
            axes.plot([p.steps for p in line], [p.score["fid"] for p in line], style, fillstyle=fill, label=name)
    every = [p for line in (solid | dashed).values() for p in line]
    most = max(p.score["n"] for p in every)
    for p in every:
        if p.score["n"] < most:  # FID rises as images get fewer
            axes.annotate(
                f"of {p.score['n']} images",
                (p.steps, p.score["fid"]),
                fontsize=7,
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
            )
    ticks = sorted({p.steps for p in every})
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    _finish(figure, axes, every[0], out)


def over_time(lines: dict[str, list[Point]], out: Path) -> None:
    """Seconds an image against FID."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds an image", ylabel=f"FID ({FEATURES})", xscale="log", yscale="log")
    for name, line in lines.items():
        known = [(p.seconds, p.score["fid"], p.steps) for p in line if p.seconds]
        if not known:
            continue
        axes.plot([seconds for seconds, _, _ in known], [fid for _, fid, _ in known], "o-", label=name)
        for seconds, fid, steps in known:
            axes.annotate(str(steps), (seconds, fid), fontsize=7, xytext=(3, 3), textcoords="offset points")
    _finish(figure, axes, next(iter(lines.values()))[0], out)


def _finish(figure: Figure, axes: Axes, point: Point, out: Path) -> None:
    marks = {"floor": point.score["floor"], **point.score["yardsticks"]}
    for (name, value), style in zip(marks.items(), (":", "-.", "--"), strict=False):
        axes.axhline(value, color="grey", linestyle=style, linewidth=1, label=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(out, dpi=120)


def sheet(line: list[Point], out: Path) -> None:
    """The first images of each number of steps, one row each, from the same noise."""
    rows = [io.read(point.row) for point in line]
    figure = Figure(figsize=(10, 0.7 * len(rows)), layout="constrained")
    for axes, point, row in zip(figure.subplots(len(rows), squeeze=False)[:, 0], line, rows, strict=True):
        axes.imshow(row[..., 0], cmap="gray", vmin=0, vmax=255)
        axes.set_ylabel(f"T={point.steps}", rotation=0, ha="right", va="center")
        axes.set(xticks=[], yticks=[])
    figure.savefig(out, dpi=120)


def histograms(points: list[Point], out: Path) -> None:
    """What a classifier takes a thousand images of each point for."""
    figure = Figure(figsize=(10, 1.6 * len(points)), layout="constrained")
    for axes, point in zip(figure.subplots(len(points), sharex=True, squeeze=False)[:, 0], points, strict=True):
        counts = point.about["classes"]
        axes.bar(range(len(counts)), counts.values())
        axes.set_ylabel(point.series, rotation=0, ha="right", va="center")
        axes.set_xticks(range(len(counts)), counts)
    figure.savefig(out, dpi=120)


def table(points: list[Point]) -> str:
    """Every point as a row of Markdown, and what they share below."""
    scored = [p for p in points if "scores" in p.about]
    extractors = list(scored[0].about["scores"])
    head = ["loss", "levels", "T", "images seen", "images drawn"]
    head += [f"{name}: {what}" for name in extractors for what in ("FID", "precision", "recall")]
    rows = [[*head, "ms an image", "classes"], ["---"] * (len(head) + 2)]
    for p in points:
        levels = "even in log-SNR" if p.about["spacing"] == "log-snr" else "VP"
        cells = [p.about["loss"] or "DDPM", levels, str(p.steps), f"{p.about['images']:,}"]
        if "scores" in p.about:
            cells.append(f"{p.score['n']:,}")
            for score in p.about["scores"].values():
                cells += [f"{score['fid']:.3g}", f"{score['precision']:.2f}", f"{score['recall']:.2f}"]
            cells.append(f"{1000 * p.seconds:.2f}" if p.seconds else "-")
            cells.append(str(sum(count > 0 for count in p.about["classes"].values())))
        else:
            cells += ["-", "diverged", *["-"] * (len(rows[0]) - len(cells) - 2)]
        rows.append(cells)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    about = points[0].about
    lines += ["", f"Every DDGAN started from {about['init_from']}, which saw {about['init_from_images']:,} images."]
    for name in extractors:
        protocols = dict.fromkeys(p.about["scores"][name]["protocol"] for p in scored)
        lines.append(f"{name}: {', '.join(f'`{protocol}`' for protocol in protocols)}")
    return "\n".join(lines) + "\n"
