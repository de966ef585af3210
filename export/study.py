"""The points of a study as bundles, and what they are worth: the results that its figures are drawn from.

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
from export.diffusion import ddgan, ddpm
from export.provenance import record
from genfast.bundles.bundle import Bundle
from genfast.bundles.manifest import Figure
from genfast.errors import UsageError
from genfast.files import atomic
from genfast.images import io, sheets
from genfast.metrics.evaluate import evaluate, references
from genfast.metrics.features import Embedder
from genfast.types import Pixels
from training.checkpoint import newest_checkpoint
from training.data import fashion_mnist
from training.study.queue import FEATURES, is_done, read

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

    load = partial(genfast.load, threads=threads)
    models: dict[str, genfast.Model] = {}
    origin = {"model": plan.model, "init_from": base.name, "init_from_images": base.loop.steps * base.loop.batch}
    for name, point in points.items():
        if not is_done(runs / name, point):
            print(f"{name}: not trained")
            continue
        checkpoint = newest_checkpoint(runs / name)
        about = {
            **origin,
            "family": "ddgan",
            "loss": point.loss,
            "spacing": "log-snr" if point.schedule.log_snr else "vp",
            "steps": point.schedule.steps,
            "images": point.loop.steps * point.loop.batch,
        }
        if not all(weight.isfinite().all() for weight in load_file(checkpoint / "model.safetensors").values()):
            _write(results / f"{name}.json", {**about, "diverged": True})
            print(f"{name}: diverged")
            continue
        if not (bundles / name).exists():
            ddgan(checkpoint, bundles / name, 0, f"A point of the study; started from {base.name}.", half=True)
        models[name] = load(str(bundles / name))
        if not only or name in only:
            _measure(name, models[name], about, results, samples)

    if is_done(runs / base.name, base):
        if not (bundles / base.name).exists():
            ddpm(newest_checkpoint(runs / base.name), bundles / base.name, half=True)
        for name, (steps, n) in baseline.items():
            about = {**origin, "family": "ddpm", "loss": None, "spacing": "vp", "steps": steps}
            about["images"] = origin["init_from_images"]
            models[name] = load(str(bundles / base.name), steps=steps)
            if not only or name in only:
                _measure(name, models[name], about, results, n)
    for name, model in models.items():
        _note(name, model.bundle, results)
    if models and not only:
        _write(results / "seconds.json", timed(models))


def _measure(name: str, model: genfast.Model, about: dict[str, Any], results: Path, samples: int) -> None:
    path = results / f"{name}.json"
    if _measured(path, model.bundle):
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
    _write(path, {**about, "graph": model.bundle.manifest.files[0].sha256, "scores": scored, "classes": counts})
    print(f"{name}: " + "  ".join(f"{score.features} {score.fid:.3f}" for score in scores), flush=True)


def _measured(path: Path, made: Bundle) -> dict[str, Any]:
    """The result at `path` if there is one and it is of this bundle's graph; else nothing."""
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return result if result.get("graph") == made.manifest.files[0].sha256 else {}


def _note(name: str, made: Bundle, results: Path) -> None:
    """Put a point's FID, where it is measured, into the manifest of its bundle."""
    result = _measured(results / f"{name}.json", made)
    if not result:
        return
    score = result["scores"][FEATURES]
    of_steps = f", {result['steps']} steps" if result["family"] == "ddpm" else ""
    figure = Figure(name=f"FID, {FEATURES}{of_steps}", value=score["fid"], protocol=score["protocol"])
    record(made.directory, [figure])


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
