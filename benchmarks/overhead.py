"""What genfast adds to onnxruntime: the share of drawing images, and of the command that writes them, spent elsewhere.

    python -m benchmarks.overhead [--model fashion28] [-n 64] [--threads 2] [--json]

Of `genfast sample` in a process that has imported everything, from its options to the last file. Loading graphs and
running them is onnxruntime's own work. Medians of shares, each of one turn.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any
from unittest.mock import patch

import genfast
from benchmarks import common
from genfast import api
from genfast.cli import app
from genfast.runtime.session import Session

TURNS = 15


class Timed(Session):
    """Also tells how long it took to load; `made` are all of them."""

    made: list["Timed"] = []

    def __init__(self, *arguments: Any, **how: Any) -> None:
        began = time.perf_counter()
        super().__init__(*arguments, **how)
        self.loading = time.perf_counter() - began
        self.made.append(self)


def spent() -> tuple[float, float, float]:
    """The time now, and the seconds so far of loading and of running."""
    sessions = Timed.made
    return time.perf_counter(), sum(one.loading for one in sessions), sum(one.seconds for one in sessions)


def main() -> None:
    shared = "--model -n --threads --json"
    options = common.parser(__doc__, shared, model="fashion28", n=64, threads=2).parse_args()
    with patch.object(api, "Session", Timed):
        figures = measured(options.model, options.n, options.threads)
    common.report(figures, options.json)


def measured(name: str, n: int, threads: int) -> dict[str, float]:
    """Seconds and shares of drawing n images, and of the command that writes them."""
    model = genfast.load(name, device="cpu", threads=threads)

    def command() -> None:
        arguments = ["--model", name, "-n", n, "--device", "cpu", "--threads", threads]
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            app(["sample", *map(str, arguments), "--out", folder], standalone_mode=False)

    figures = {}
    works: dict[str, Callable[[], object]] = {"Model.sample": lambda: model.sample(n), "genfast sample": command}
    for title, work in works.items():
        turns = []
        for _ in range(TURNS + 1):
            before = spent()
            work()
            seconds, loading, running = (now - then for now, then in zip(spent(), before, strict=True))
            turns.append((seconds, loading / seconds, 1 - (loading + running) / seconds))
        columns = zip(*turns[1:], strict=True)  # the first one warms up
        for figure, values in zip(("seconds", "share loading graphs", "share outside"), columns, strict=True):
            figures[f"{title}, {figure}"] = statistics.median(values)
    return figures


if __name__ == "__main__":
    main()
