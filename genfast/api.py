"""The verbs of the command line as Python functions."""

import logging
from dataclasses import replace
from functools import cache, partial

from genfast import bundle, catalog, hub, sundae
from genfast.cores import cores
from genfast.errors import AbsentError, UsageError
from genfast.models import DiffusionModel, Model, TokenModel
from genfast.session import Session, parse

_log = logging.getLogger("genfast")


def load(
    name: str = "fashion28",
    *,
    steps: int | None = None,
    loss: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    stand_in: bool = True,
) -> Model:
    """Load a sampler: a model of the catalogue by name, or the folder of a bundle.

    `steps` picks the weights that were trained for so many steps, `loss` those trained by that loss; a model of tokens
    takes any number of steps, a DDPM any up to its own. `device` is "auto", "cpu", "cuda" or "cuda:N", or several as in
    "cuda:0,cuda:1": then `sample` and `batches` draw in a process for each, and a script needs an
    `if __name__ == "__main__":` around what it does. `threads` is for the CPU, a process. Weights that are not here are
    fetched where a mirror is set; where nobody has published them, another model may `stand_in`, which is said on the
    log. Raises UsageError where there are no weights for `steps` and `loss` or the model does not draw, ModelError
    where it is unknown, cannot be had or is corrupt, DeviceError where a device cannot be had.
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
    manifest = loaded.manifest
    known = name if name in catalog.entries() else manifest.name

    first, *others = device.split(",")
    for other in others:
        parse(other)
    if others and threads is None:
        threads = max(1, cores() // (1 + len(others)))
    place = str(folder.resolve())
    helpers = tuple(partial(load, place, steps=steps, device=other, threads=threads) for other in others)

    def session(role: str, device: str = first, **how: bool) -> Session:
        return Session(partial(loaded.graph, role), device, threads, **how)

    if manifest.family in ("ddgan", "ddpm"):
        assert manifest.steps and manifest.image  # as every manifest of these families
        total = manifest.steps
        taken = total if steps is None else steps
        if manifest.family == "ddgan" and taken != total:
            raise UsageError(f"{name} has no weights for {steps} steps; weights exist for: {total}")
        if not 1 <= taken <= total:
            raise UsageError(f"{name} takes 1 to {total} steps, not {steps}")
        levels = tuple(t * total // taken for t in range(taken + 1))
        return DiffusionModel(loaded, known, taken, manifest.image, session("step"), levels, helpers=helpers)
    if manifest.family == "vq-sundae":
        assert manifest.tokens and manifest.image
        options = manifest.sampling.options or sundae.Options()
        filling = manifest.sampling.filling or options
        if steps is not None:
            options, filling = replace(options, steps=steps), replace(filling, steps=steps)
        predict = session("predict")
        draw, decode = session("draw", predict.device), session("decode", predict.device)
        encode, evidence, recognise = (
            cache(partial(session, role, predict.device, once=True)) for role in ("encode", "evidence", "recognise")
        )
        themes = cache(lambda: session("themes", "cpu", once=True).run()["themes"])
        borders = cache(lambda: session("borders", predict.device, once=True).bind()())
        seams = cache(partial(session, "seams", predict.device))
        parts = manifest.image, manifest.tokens, options, filling, predict, draw, decode
        later = themes, encode, evidence, recognise, borders, seams
        return TokenModel(loaded, known, options.steps, *parts, *later, helpers=helpers)
    raise UsageError(f"{name} is of family {manifest.family} and draws nothing")
