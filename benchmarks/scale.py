"""What a picture costs, and what a second node saves: the figures of docs/scale.md.

    python -m benchmarks.scale [--model fashion28] [-n 10000] [--turns 3] [--json]

Costs are seconds of one core, of the processor's time, so that other work beside them matters little: drawing, PNG,
reading, and what the first extractor of the catalogue takes. With `-n`, two nodes of one core each, which Ray runs on
this machine, draw and write so many pictures, and so does one process with one thread, in turns: medians of seconds
from when the cluster stands until the last file is written, and of the processor's time of the busier node, to which
the start of its actor counts. Where other work keeps the cores busy, only the second tells of genfast.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import genfast
from benchmarks import common
from genfast import __version__
from genfast.images import io
from genfast.images.params import GenerationParams
from genfast.metrics.evaluate import extractors
from genfast.metrics.features import Embedder
from genfast.models.base import Model
from genfast.outputs import SampleFiles
from genfast.tasks.delivery import Delivery
from genfast.tasks.sample import Draw

BATCH = 200  # pictures that an actor is given at a time, at most
PICTURES = 8  # that costs are measured on, in each of the turns


def costs(name: str, turns: int) -> dict[str, float]:
    """Seconds of one core for one picture: medians over turns."""
    model = genfast.load(name, device="cpu", threads=1)
    embedder = Embedder.find(extractors()[0], "cpu", 1)
    turned = [_costs(model, embedder, turn * PICTURES) for turn in range(turns + 1)][1:]  # the first warms up
    return {f"{model.name}_{what}": statistics.median(turn[what] for turn in turned) for what in turned[0]}


def _costs(model: Model, embedder: Embedder, start: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.png") for number in range(PICTURES)]
        times = [time.process_time()]
        images = model.sample(PICTURES, start=start)
        times.append(time.process_time())
        for path, image in zip(paths, images, strict=True):
            io.write(path, image)
        times.append(time.process_time())
        for path in paths:
            io.read(path)
        times.append(time.process_time())
        embedder(images)
        times.append(time.process_time())
        spent = dict(zip(("draw", "write_png", "read_png", "embed"), np.diff(times) / PICTURES, strict=True))
        return spent | {"kilobytes": sum(path.stat().st_size for path in paths) / PICTURES / 1000}


@dataclass(frozen=True)
class Clocked(Draw):
    """Gives where it was done, how busy that process has been in its life, and how many pictures there are."""

    def __call__(self, model: Model, indices: list[int]) -> tuple[int, float, int]:  # type: ignore[override]
        drawn = super().__call__(model, indices)
        return os.getpid(), time.process_time(), len(drawn.indices)


def seconds(model: Model, n: int, batch: int) -> tuple[float, float]:
    """How long it takes to draw and write so many pictures, and the busier of the processes that do it."""
    with tempfile.TemporaryDirectory() as folder:
        files = SampleFiles(Path(folder), model.name, 0, range(n), "png", grid=False)
        sha256 = model.bundle.sha256
        drawn_by = GenerationParams(
            model=model.name, bundle=sha256, steps=model.steps, seed=0, index=0, version=__version__
        )
        work = Clocked(files, Delivery(), batch, None, None, None, {}, drawn_by)
        before, busy = {os.getpid(): time.process_time()}, {}
        began, drawn = time.perf_counter(), 0
        for process, spent, count in model.map(work, model.chunks(range(n), batch), lambda made: made):
            busy[process] = spent - before.get(process, 0.0)
            drawn += count
        taken = time.perf_counter() - began
        assert drawn == len(os.listdir(folder)) == n
    return taken, max(busy.values())


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster of two nodes, of one core each, whose actors have the priority of this process."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    import ray
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    try:
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    parser = common.parser(__doc__, "--model -n --json", model="fashion28")
    parser.add_argument("--turns", type=int, default=3, help="of which the median is given (default: 3)")
    given = parser.parse_args()
    figures = costs(given.model, given.turns)
    if given.n:
        batch = min(BATCH, max(1, given.n // 16))
        with two_nodes() as address:
            one = genfast.load(given.model, device="cpu", threads=1)
            two = genfast.load(given.model, device="cpu", threads=1, ray=address)
            turns = np.array([[seconds(model, given.n, batch) for model in (one, two)] for _ in range(given.turns)])
        for place, what in enumerate(("seconds", "processor_seconds")):
            times = turns[:, :, place]  # (turns, rivals)
            figures |= dict(zip((f"one_core_{what}", f"two_nodes_{what}"), np.median(times, axis=0), strict=True))
            figures[f"speedup_by_{what}"] = float(np.median(times[:, 0] / times[:, 1]))
    common.report(figures, given.json)


if __name__ == "__main__":
    main()
