"""How fast a model draws on this machine, and how near that is to what the machine could do."""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from statistics import median
from typing import Any

from genfast.bench.flops import Counted
from genfast.bench.matmul import Precision, product
from genfast.bundles import catalog, hub
from genfast.models.base import Model
from genfast.models.diffusion import DiffusionModel
from genfast.runtime.session import Session
from genfast.samplers.options import Options, SundaeOptions

TURNS = 5
SIDE = 2048  # of the matrices that rates are measured by: smaller ones do not reach them


@dataclass(frozen=True)
class Speed:
    """How fast one batch is drawn: medians.

    `share` is the part of that time which products of matrices of 2048x2048 would take for as many operations, at so
    many a second as `rates` says; `outside` the part that is not spent in onnxruntime.
    """

    steps: int
    batch: int
    images_per_second: float
    seconds_per_image: float
    share: float
    outside: float
    rates: dict[Precision, float]


def measure(model: Model, batch: int, needed: Mapping[Precision, int], threads: int | None = None) -> Speed:
    """Draw `batch` images at once, in turns with products of matrices, since other work on a machine slows both.

    `needed` are the operations of an image. No image of a model of tokens is finished early. Raises UsageError for
    batch < 1.
    """
    draw = partial(model.sample, batch, batch=batch, options=_every_step(model))
    sessions = _sessions(model).values()
    inside: list[float] = []

    def timed() -> None:
        before = sum(session.seconds for session in sessions)
        draw()
        inside.append(sum(session.seconds for session in sessions) - before)

    rivals: dict[str, Callable[[], object]] = {name: product(name, SIDE, device(model), threads) for name in needed}
    seconds = medians({"draw": timed, **rivals}, TURNS)
    rates = {name: 2 * SIDE**3 / seconds[name] for name in needed}
    least = batch * sum(count / rates[name] for name, count in needed.items())
    return Speed(
        steps=model.steps,
        batch=batch,
        images_per_second=batch / seconds["draw"],
        seconds_per_image=seconds["draw"] / batch,
        share=least / seconds["draw"],
        outside=1 - median(inside[1:]) / seconds["draw"],
        rates=rates,
    )


def flops(model: Model) -> Counter[Precision]:
    """Multiplications and additions in the products and convolutions of one image of all its steps."""
    sessions: dict[str, Any] = {name: Counted(session.path) for name, session in _sessions(model).items()}
    counted, times = replace(model, **sessions), 1
    if isinstance(counted, DiffusionModel):  # its steps are alike; those of a model of tokens draw more or fewer
        counted, times = replace(counted, steps=1, levels=(0, counted.levels[-1])), model.steps
    counted.sample(1, options=_every_step(model))
    total: Counter[Precision] = Counter()
    for session in sessions.values():
        for precision, count in session.flops().items():
            total[precision] += count * times
    return +total  # without what is zero


def _every_step(model: Model) -> Options | None:
    """Options by which no image is finished early."""
    return replace(model.options, min_steps=model.steps) if isinstance(model.options, SundaeOptions) else model.options


def cold_start(model: str, device: str, threads: int | None) -> float:
    """Seconds of `genfast sample -n 1` from nothing to the file: the median of three."""
    command = [sys.executable, "-m", "genfast", "sample", "--model", model, "-n", "1", "--device", device]
    command += [] if threads is None else ["--threads", str(threads)]
    with tempfile.TemporaryDirectory() as folder:
        run = partial(subprocess.run, [*command, "--out", folder, "--overwrite"], check=True, capture_output=True)
        return medians({"cold": run}, 3)["cold"]


def device(model: Model) -> str:
    """Where it draws: "cpu" or "cuda:N"."""
    return next(iter(_sessions(model).values())).device


def steps(model: Model) -> list[int]:
    """The numbers of steps to measure: of 1, 2, 4 and 8 those that a DDGAN was trained for; 4, 8 and 16 of others."""
    manifest = model.bundle.manifest
    if manifest.family == "ddgan":
        entry = catalog.entries().get(model.name)
        here = {v.steps for v in entry.variants if v.steps and hub.locate(v.bundle)} if entry else set()
        assert manifest.schedule  # as in every manifest of this family
        known = sorted(here | {timesteps.steps for timesteps in manifest.schedule.all()})
        return [number for number in known if number in (1, 2, 4, 8)] or known
    most = manifest.steps or 1000
    return [number for number in (4, 8, 16) if number <= most] or [most]


def batches(model: Model) -> list[int]:
    """The sizes of batches to measure: up to that which the bundle advises."""
    return [size for size in (1, 8, 64) if size <= model.bundle.manifest.sampling.batch]


def medians(rivals: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median seconds of each rival; they take turns, after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(turns + 1):
        for name, work in rivals.items():
            began = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: median(times) for name, times in seconds.items()}


def _sessions(model: Model) -> dict[str, Session]:
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    return {name: value for name, value in values.items() if isinstance(value, Session)}
