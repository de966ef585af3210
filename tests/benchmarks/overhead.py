"""What genfast adds to onnxruntime: the share of drawing n images, and of the command that writes them, spent elsewhere.

    python -m tests.benchmarks.overhead [--model fashion28] [-n 64] [--threads 2] [--json]

Of `genfast sample` in a process that has imported everything: from its options to the last file. Loading a graph and
running it is onnxruntime's own time. Medians over turns; the shares are of each turn.
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
    """Also tells how long it took to load, with that of all others."""

    loading = running = 0.0

    def _open(self, *arguments: Any) -> str | None:
        began = time.perf_counter()
        try:
            return super()._open(*arguments)
        finally:
            Timed.loading += time.perf_counter() - began

    @property
    def seconds(self) -> float:
        return 0.0

    @seconds.setter
    def seconds(self, spent: float) -> None:
        Timed.running += spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fashion28")
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    api.Session = Timed
    model = genfast.load(options.model, device="cpu", threads=options.threads)
    command = ["sample", "--model", options.model, "-n", str(options.n), "--device", "cpu", "--threads"]
    command += [str(options.threads), "--out"]

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            app([*command, folder], standalone_mode=False)

    figures = {}
    for name, work in {"Model.sample": lambda: model.sample(options.n), "genfast sample": whole}.items():
        turns = []
        for _ in range(TURNS + 1):
            Timed.loading = Timed.running = 0.0
            began = time.perf_counter()
            work()
            seconds = time.perf_counter() - began
            turns.append((seconds, Timed.loading / seconds, 1 - (Timed.loading + Timed.running) / seconds))
        for figure, values in zip(("seconds", "share loading", "share outside"), zip(*turns[1:]), strict=True):
            figures[f"{name}, {figure}"] = statistics.median(values)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{value:10.4f}  {name}")


if __name__ == "__main__":
    main()
