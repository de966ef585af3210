"""The points of a study as one bundle, and what they are worth: the results that its figures are drawn from.

The bundle holds the DDPM that all began as, start.onnx, and a graph for each point, of differences to that.

RESULTS/NAME.json    a point: what it is, its scores, and how many of its first 1000 images a classifier takes for what
RESULTS/NAME.png     its first images
RESULTS/seconds.json seconds an image of every point, taken in one run
"""

import json
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import genfast
from export.diffusion import ddpm, graph, schedule, write_step
from export.folder import new
from export.graph import TOLERANCE
from export.provenance import commit, fid, record, trained
from genfast.bundles import bundle
from genfast.bundles.manifest import Figure
from genfast.errors import UsageError
from genfast.files import atomic
from genfast.images import io, sheets
from genfast.metrics.evaluate import evaluate, references
from genfast.metrics.features import Embedder
from genfast.models.diffusion import DiffusionModel
from genfast.types import Pixels
from training.checkpoint import newest_checkpoint
from training.data import fashion_mnist
from training.diffusion import Schedule
from training.families.ddgan import DDGANRecipe
from training.families.ddpm import DDPMRecipe
from training.study.queue import FEATURES, Study, is_done, read

FITTED = 10_000  # training images that the classes are learnt from
CLASSIFIED = 1000  # images
SHOWN = 16  # images of a sheet's row
BATCH, TURNS = 16, 3  # of the timing


def study(
    recipe: Path,
    only: Collection[str],
    runs: Path,
    bundles: Path,
    results: Path,
    samples: int = 5000,
    threads: int | None = None,
) -> None:
    """Export and measure what a study has trained; what has a bundle or a result already keeps it.

    `only` names some of its points; those of its baseline are called DDPM-tT, and draw as many images as the study
    says, `samples` at most. Nothing is timed then.

    Raises:
        UsageError: no such point.
    """
    plan, base = read(recipe)  # the DDPM that its points start from
    points = plan.points(runs)
    baseline = {f"{base.name}-t{steps}": (steps, min(n, samples)) for steps, n in sorted(plan.baseline.items())}
    if unknown := set(only) - {*points, *baseline}:
        raise UsageError(f"{recipe} has no {min(unknown)}; it has: {', '.join([*points, *baseline])}")
    results.mkdir(parents=True, exist_ok=True)

    origin = {"model": plan.model, "init_from": base.name, "init_from_images": base.loop.steps * base.loop.batch}
    of_points = {name: {**origin, **_about(point)} for name, point in points.items()}
    done: dict[str, DDGANRecipe] = {}
    for name, point in points.items():
        if not is_done(runs / name, point):
            print(f"{name}: not trained")
        elif not _is_finite(newest_checkpoint(runs / name)):
            _write(results / f"{name}.json", {**of_points[name], "diverged": True})
            print(f"{name}: diverged")
        else:
            done[name] = point
    if not is_done(runs / base.name, base):
        print(f"{base.name}: not trained")
        return
    begun = newest_checkpoint(runs / base.name)
    if done and not (bundles / plan.name).exists():
        write(plan, done, begun, runs, bundles / plan.name)
    of_base = runs / f"{base.name}-bundle"  # which does not ship: the points' bundle has its weights
    if not of_base.exists():
        ddpm(begun, of_base, small=True)

    load = partial(genfast.load, threads=threads)
    models: dict[str, genfast.Model] = {}
    counts = {**dict.fromkeys(done, samples), **{name: n for name, (_, n) in baseline.items()}}
    for name, point in done.items():
        models[name] = load(str(bundles / plan.name), steps=_steps(point), loss=plan.series(name))
    for name, (steps, _) in baseline.items():
        models[name] = load(str(of_base), steps=steps)
        about = {"family": "ddpm", "loss": None, "spacing": "vp", "steps": steps}
        of_points[name] = {**origin, **about, "images": origin["init_from_images"]}
    for name, model in models.items():
        if not only or name in only:
            _measure(name, model, of_points[name], results, counts[name])
    if done:
        figures = (_figure(plan, name, models[name], results) for name in done)
        record(bundles / plan.name, [figure for figure in figures if figure])
    if not only:
        _write(results / "seconds.json", timed(models))


def write(plan: Study, points: dict[str, DDGANRecipe], begun: Path, runs: Path, out: Path) -> None:
    """Write points, trained in `runs` from the checkpoint `begun` of a DDPM, as the new bundle `out`.

    Raises:
        UsageError: `out` exists.
        ValueError: a graph does not compute what its network computes.
    """
    schedules = {name: schedule(point) for name, point in points.items()}
    alpha_bar = sorted({level for each in schedules.values() for level in each.alpha_bar.tolist()}, reverse=True)
    levels = Schedule(alpha_bar)
    with new(out) as folder:
        start = folder / "start.onnx"
        write_step(begun, schedule(trained(begun, DDPMRecipe)[0]), start, small=True)
        differences = {}
        for name in points:
            found = write_step(newest_checkpoint(runs / name), levels, folder / f"{name}.onnx", start=start)
            differences[name] = found
            print(f"{name}: parity {max(found.values()):.2g}", flush=True)
        worst = {batch: max(each[batch] for each in differences.values()) for batch in next(iter(differences.values()))}
        losses, any_point = {name: plan.series(name) for name in points}, next(iter(points.values()))
        size, channels, budget = any_point.unet.size, any_point.unet.channels, any_point.loop
        bundle.write(
            folder,
            name=plan.name,
            family="ddgan",
            summary=f"Fashion-MNIST garments, {size}x{size}, by {len({*losses.values()})} losses",
            latent=any_point.unet.latent,
            licence="Apache-2.0",
            schedule={
                "alpha_bar": alpha_bar,
                "trained": [
                    {
                        "levels": [alpha_bar.index(x) for x in each.alpha_bar.tolist()],
                        "graph": name,
                        "loss": losses[name],
                    }
                    for name, each in schedules.items()
                ],
            },
            image={"height": size, "width": size, "channels": channels},
            graphs={name: graph(folder / f"{name}.onnx") for name in points},
            parity={"tolerance": TOLERANCE, "max_abs_difference": worst},
            provenance={
                "recipe": "study",
                "dataset": "fashion-mnist",
                "dataset_licence": "MIT",
                "images_seen": budget.steps * budget.batch,
                "commit": commit(),
                "notes": "Images seen are those of each point, after the DDPM that all began as.",
            },
        )


def _about(point: DDGANRecipe) -> dict[str, Any]:
    return {
        "family": "ddgan",
        "loss": point.loss,
        "spacing": "log-snr" if point.schedule.log_snr else "vp",
        "steps": _steps(point),
        "images": point.loop.steps * point.loop.batch,
    }


def _steps(point: DDGANRecipe) -> int:
    (steps,) = point.schedule.build().paths
    return steps


def _is_finite(checkpoint: Path) -> bool:
    return all(bool(weight.isfinite().all()) for weight in load_file(checkpoint / "model.safetensors").values())


def _measure(name: str, model: genfast.Model, about: dict[str, Any], results: Path, samples: int) -> None:
    path = results / f"{name}.json"
    if _measured(path, model):
        return
    kept: list[Pixels] = []

    def keep(batches: Iterable[Pixels]) -> Iterator[Pixels]:
        for batch in batches:
            if sum(map(len, kept)) < CLASSIFIED:
                kept.append(batch)
            yield batch

    scores = evaluate(keep(model.batches(range(samples))), references("fashion-mnist-test", FEATURES))
    first = np.concatenate(kept)[:CLASSIFIED]
    io.write(path.with_suffix(".png"), sheets.contact_sheet(first[:SHOWN], columns=SHOWN))
    counts = dict(zip(fashion_mnist.CLASSES, histogram(first, classifier()), strict=True))
    scored = {score.features: asdict(score) for score in scores}
    _write(path, {**about, "graph": _sha256(model), "scores": scored, "classes": counts})
    print(f"{name}: " + "  ".join(f"{score.features} {score.fid:.3f}" for score in scores), flush=True)


def _measured(path: Path, model: genfast.Model) -> dict[str, Any]:
    """The result at `path` if there is one and it is of this model's graph; else nothing."""
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return result if result.get("graph") == _sha256(model) else {}


def _sha256(model: genfast.Model) -> str:
    assert isinstance(model, DiffusionModel)
    return next(file.sha256 for file in model.bundle.manifest.files if file.path == model.session.path.name)


def _figure(plan: Study, name: str, model: genfast.Model, results: Path) -> Figure | None:
    """A point's FID, where it is measured, for the manifest of its bundle."""
    result = _measured(results / f"{name}.json", model)
    if not result:
        return None
    score = result["scores"][FEATURES]
    what = f"{plan.series(name)}, {result['steps']} steps"
    return fid(FEATURES, what, score["fid"], score["protocol"])


@cache
def classifier() -> Callable[[Pixels], Tensor]:
    """What tells classes: logits (N, classes) of pictures uint8 [N, 28, 28, 1], linear in an extractor's features."""
    embed = Embedder.find(FEATURES)
    pictures, labels = fashion_mnist.load("train")
    features, targets = torch.from_numpy(embed(pictures[:FITTED])), torch.from_numpy(labels[:FITTED])
    spread, mean = torch.std_mean(features, dim=0)
    layer = nn.Linear(features.shape[1], len(fashion_mnist.CLASSES))
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        error = F.cross_entropy(layer((features - mean) / spread), targets) + 1e-3 * layer.weight.square().sum()
        error.backward()
        return error

    optimizer.step(loss)
    layer.requires_grad_(False)
    return lambda pictures: layer((torch.from_numpy(embed(pictures)) - mean) / spread)


def histogram(pictures: Pixels, classify: Callable[[Pixels], Tensor]) -> list[int]:
    """How many of pictures uint8 [N, 28, 28, 1] are taken for each class."""
    logits = classify(pictures)  # (N, classes)
    return logits.argmax(1).bincount(minlength=logits.shape[1]).tolist()


def timed(models: dict[str, genfast.Model]) -> dict[str, float]:
    """Median seconds an image, drawn BATCH at a time: the models take turns, so that what disturbs one disturbs all."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(TURNS):
        for name, model in models.items():
            begun = time.perf_counter()
            model.sample(BATCH, batch=BATCH)
            seconds[name].append((time.perf_counter() - begun) / BATCH)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _write(path: Path, table: dict[str, Any]) -> None:
    with atomic(path) as file:
        file.write(json.dumps(table, indent=2).encode() + b"\n")
