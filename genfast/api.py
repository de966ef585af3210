"""The verbs of the command line as Python functions."""

import logging
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from genfast.attributes import Settings
from genfast.bundles import bundle, catalog, hub
from genfast.bundles.bundle import Bundle
from genfast.bundles.manifest import Manifest, Timesteps
from genfast.errors import AbsentError, GenfastError, UsageError
from genfast.inpainting.fill import inpaint
from genfast.models import drafts
from genfast.models.base import Model
from genfast.models.diffusion import DiffusionModel
from genfast.models.inpainter import InpainterModel
from genfast.models.tokens import TokenModel
from genfast.models.vq import VQModel
from genfast.runtime.cluster import Cluster
from genfast.runtime.cpu import cores
from genfast.runtime.processes import Processes
from genfast.runtime.session import Session, parse
from genfast.runtime.workers import Workers
from genfast.samplers.options import (
    AncestralOptions,
    MaskGITOptions,
    Options,
    RandomOrderOptions,
    RePaintOptions,
    SundaeOptions,
)
from genfast.types import Pixels

if TYPE_CHECKING:
    from genfast.metrics.evaluate import Score

__all__ = [
    "AncestralOptions",
    "GenfastError",
    "MaskGITOptions",
    "Model",
    "RandomOrderOptions",
    "RePaintOptions",
    "SundaeOptions",
    "fid",
    "inpaint",
    "load",
    "sample",
]

_log = logging.getLogger("genfast")


def load(
    name: str = "fashion28",
    *,
    steps: int | None = None,
    loss: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    stand_in: bool = True,
    ray: str | None = None,
) -> Model:
    """Load a model of the catalogue by name, or of the folder of a bundle, to draw with; a VQ-GAN encodes and decodes.

    `steps` must be a number that there are weights for, those trained by `loss` where one is given; a model of tokens
    takes any number of steps, a DDPM any up to its own. `device` is "auto", "cpu", "cuda" or "cuda:N", or several as in
    "cuda:0,cuda:1": then `sample` and `batches` draw in a process for each, and a script needs an
    `if __name__ == "__main__":` around what it does. `threads` is for the CPU, a process. `ray` is the address of a Ray
    cluster, or "local" for one of this machine's cores: its actors then draw, on a GPU each where `device` is "cuda" or
    where there are any, else on `threads` cores each, by default one. Weights that are not here are
    fetched where a mirror is set; where nobody has published them, another model may `stand_in`, which is said on the
    log. Raises UsageError where there are no weights for `steps` and `loss` or the model does not draw, ModelError
    where it is unknown, cannot be had or is corrupt, DeviceError where a device cannot be had.

    >>> model = genfast.load("fashion28")
    >>> images = model.sample(8, seed=1)  # uint8 [8, 28, 28, 1]
    >>> tokens = genfast.load("./vqgan").encode(images)  # int64 [8, N]; likewise decode
    """
    try:
        folder = hub.find(name, steps, loss)
    except AbsentError as absence:
        other = catalog.entry(name).stand_in
        if other is None or not stand_in:
            raise
        folder = hub.find(other)  # complains where that is missing as well
        _log.warning("genfast: %s; drawing with %s instead", absence, other)
        name = other
    loaded = bundle.load(folder)
    known = name if name in catalog.entries() else loaded.manifest.name
    if ray is not None:
        model = _open(loaded, known, steps, loss, "cpu", threads)
        again = partial(load, name if name in catalog.entries() else str(folder.resolve()), steps=steps, loss=loss)
        return Workers.of(model, Cluster(ray, model, again, device, threads or 1))
    first, *others = device.split(",")
    for other in others:
        parse(other)
    if others and threads is None:
        threads = max(1, cores() // (1 + len(others)))
    model = _open(loaded, known, steps, loss, first, threads)
    if not others:
        return model
    again = partial(load, str(folder.resolve()), steps=steps, loss=loss, threads=threads)
    return Workers.of(model, Processes(model, [partial(again, device=other) for other in others]))


def _open(loaded: Bundle, name: str, steps: int | None, loss: str | None, device: str, threads: int | None) -> Model:
    """The model of a bundle on one device."""
    manifest = loaded.manifest

    def session(role: str, device: str = device, **how: bool) -> Session:
        return Session(partial(loaded.graph, role), device, threads, **how)

    if loss is not None and manifest.family != "ddgan":
        raise UsageError(f"{name} takes no loss")
    if manifest.family in ("ddgan", "ddpm"):
        timesteps = _timesteps(manifest, name, steps, loss)
        told = AncestralOptions() if manifest.classes else None
        step = session(timesteps.graph)
        return DiffusionModel(loaded, name, timesteps.steps, told, RePaintOptions(), step, timesteps.levels)
    if manifest.family == "vq-sundae":
        assert manifest.tokens
        options = manifest.sampling.options or MaskGITOptions()
        filling = manifest.sampling.inpainting or options
        if steps is not None:
            options, filling = replace(options, steps=steps), replace(filling, steps=steps)
        predict = session("predict")
        draw, decoder = session("draw", predict.device), session("decode", predict.device)
        encoder, pixel_likelihood, draft, draft_likelihood = (
            cache(partial(session, role, predict.device, once=True)) if role in manifest.graphs else None
            for role in ("encode", "pixel_likelihood", "draft", "draft_likelihood")
        )
        assert encoder  # as in every manifest of this family
        own = cache(partial(drafts.read, loaded))
        parts = manifest.tokens, encoder, decoder, predict, draw, pixel_likelihood, draft, draft_likelihood, own
        return TokenModel(loaded, name, options.steps, options, filling, *parts)
    if manifest.family == "vq":
        assert manifest.tokens
        if steps is not None:
            raise UsageError(f"{name} is of family vq and takes no number of steps")
        decoder = session("decode")
        encoder = cache(partial(session, "encode", decoder.device))
        return VQModel(loaded, name, 0, None, None, manifest.tokens, encoder, decoder)
    if manifest.family == "inpainter":
        if steps not in (None, 1):
            raise UsageError(f"{name} is of family inpainter, which fills in one step, not {steps}")
        return InpainterModel(loaded, name, 1, None, None, session("fill"))
    raise UsageError(f"{name} is of family {manifest.family} and draws nothing")


def _timesteps(manifest: Manifest, name: str, steps: int | None, loss: str | None) -> Timesteps:
    """What a diffusion model is to go through in so many steps."""
    assert manifest.schedule and manifest.steps  # as every manifest of these families
    total = manifest.steps
    if manifest.family == "ddpm":
        if steps is not None and not 1 <= steps <= total:
            raise UsageError(f"{name} takes 1 to {total} steps, not {steps}")
        taken = steps or total
        return Timesteps(levels=tuple(t * total // taken for t in range(taken + 1)))
    known = [timesteps for timesteps in manifest.schedule.all() if loss in (None, timesteps.loss)]
    if not known:
        have = ", ".join(dict.fromkeys(timesteps.loss for timesteps in manifest.schedule.all() if timesteps.loss))
        raise UsageError(f"{name} has no weights by {loss}; it has: {have}" if have else f"{name} takes no loss")
    for timesteps in known:
        if steps in (None, timesteps.steps):
            return timesteps
    have = ", ".join(map(str, sorted({timesteps.steps for timesteps in known})))
    by = f" by {loss}" if loss else ""
    raise UsageError(f"{name} has no weights for {steps} steps{by}; weights exist for: {have}")


def sample(
    model: str | Path | Model = "fashion28",
    n: int = 1,
    *,
    seed: int = 0,
    start: int = 0,
    steps: int | None = None,
    label: str | None = None,
    attributes: Settings | None = None,
    options: Options | None = None,
    device: str = "auto",
) -> Pixels:
    """Draw images start .. start + n - 1 of a seed: uint8 [n, H, W, C]; a model by name, or in a folder, is loaded.

    Raises what `load` and Model.sample raise, and UsageError for steps or a device of a model that is loaded already.

    >>> genfast.sample("fashion28", 8, seed=1, label="sneaker").shape
    (8, 28, 28, 1)
    """
    if not isinstance(model, Model):
        model = load(str(model), steps=steps, device=device)
    elif steps is not None or device != "auto":
        raise UsageError("a loaded model has its steps and its device; give the name of one, or omit them")
    return model.sample(n, seed=seed, start=start, label=label, attributes=attributes, options=options)


def fid(
    a: str | Path,
    b: str | Path | None = None,
    *,
    against: str | Path | None = None,
    samples: int = 10_000,
    seed: int = 0,
    steps: int | None = None,
    attributes: Settings | None = None,
    options: Options | None = None,
    features: str | None = None,
    device: str = "auto",
) -> "list[Score]":
    """Measure the images of folder `a` against those of folder `b`, or `samples` of a model against its test images.

    Either may be a statistics file (.npz) instead, as may what a model is to be measured `against`. Each score has FID,
    KID, precision and recall as one extractor sees them: `features`, by default all that ship and fit. `steps`,
    `attributes` and `options` are those of the model. Raises what `load`, folders.between, folders.against and
    evaluate.evaluate raise, and UsageError for what folders do not take.

    >>> [score.fid for score in genfast.fid("fashion28", steps=4)]
    """
    from genfast.metrics import evaluate, folders

    if b is not None:
        if any(given is not None for given in (against, steps, attributes, options)) or (samples, seed) != (10_000, 0):
            raise UsageError("between two folders nothing is drawn; omit what is about a model")
        return folders.between(Path(a), Path(b), features, device=device)
    if isinstance(a, Model):
        raise UsageError("fid draws with a model by name, since it chooses the device: give a name, or a folder")
    model = load(str(a), steps=steps, device=device, stand_in=False)
    if against is not None:
        references = folders.against(Path(against), features, device=device)
    else:
        references = evaluate.references(evaluate.images_of(model), features, device=device)
    return evaluate.evaluate(
        model.batches(range(samples), seed=seed, attributes=attributes, options=options), references
    )
