"""What genfast adds to onnxruntime: the share of drawing images, and of the command that writes them, spent elsewhere.

    python -m tests.benchmarks.overhead [--model fashion28] [-n 64] [--threads 2] [--json]

Of `genfast sample` in a process that has imported everything, from its options to the last file. Loading graphs and
running them is onnxruntime's own work. Medians of shares, each of one turn.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from contextlib import redirect_stdout
from typing import Any

import genfast
from genfast import api
from genfast.cli import app
from genfast.session import Session

TURNS = 15


class Timed(Session):
    """Also tells how long it took to load; `made` are all of them."""

    made: list["Timed"] = []

    def __init__(self, *arguments: Any, **how: bool) -> None:
        began = time.perf_counter()
        super().__init__(*arguments, **how)
        self.loading = time.perf_counter() - began
        self.made.append(self)


def spent() -> tuple[float, float, float]:
    """The time now, and the seconds so far of loading and of running."""
    sessions = Timed.made
    return time.perf_counter(), sum(one.loading for one in sessions), sum(one.seconds for one in sessions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fashion28")
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    api.Session = Timed
    model = genfast.load(options.model, device="cpu", threads=options.threads)

    def command() -> None:
        arguments = ["--model", options.model, "-n", options.n, "--device", "cpu", "--threads", options.threads]
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            app(["sample", *map(str, arguments), "--out", folder], standalone_mode=False)

    figures = {}
    for name, work in {"Model.sample": lambda: model.sample(options.n), "genfast sample": command}.items():
        turns = []
        for _ in range(TURNS + 1):
            before = spent()
            work()
            seconds, loading, running = (now - then for now, then in zip(spent(), before, strict=True))
            turns.append((seconds, loading / seconds, 1 - (loading + running) / seconds))
        columns = zip(*turns[1:], strict=True)  # the first one warms up
        for figure, values in zip(("seconds", "share loading graphs", "share outside"), columns, strict=True):
            figures[f"{name}, {figure}"] = statistics.median(values)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{value:10.4f}  {name}")


if __name__ == "__main__":
    main()
