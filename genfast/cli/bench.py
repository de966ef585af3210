"""`genfast bench`: how fast a model draws on this machine."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from genfast import __version__
from genfast.cli.options import AsJson, Device, Threads, numbers
from genfast.cli.output import print_json
from genfast.errors import UsageError
from genfast.progress import progress

if TYPE_CHECKING:
    from genfast.bench.speed import Speed


def bench(
    model: Annotated[str, typer.Argument(help="A model by name (see genfast models), or a folder.")] = "fashion28",
    steps: Annotated[str | None, typer.Option(help="Numbers of steps, as in 4,8,16; by default what suits.")] = None,
    batch: Annotated[str | None, typer.Option(help="Sizes of batches, as in 1,8,64; by default what suits.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast a model draws, over numbers of steps and sizes of batches, and print a table in Markdown.

    Each figure is a median. The share is of the rate at which this machine multiplies large matrices.
    """
    from genfast import api
    from genfast.bench import speed as measured
    from genfast.runtime import cpu
    from genfast.runtime.session import built

    if "," in device:
        raise UsageError(f"one device is measured at a time, not {device}")
    first = api.load(model, device=device, threads=threads, stand_in=False)
    first.take(None)  # raises where it draws nothing
    counts = numbers("--steps", steps) or measured.steps(first)
    models = [api.load(model, steps=n, device=device, threads=threads, stand_in=False) for n in counts]
    sizes = numbers("--batch", batch) or measured.batches(first)
    speeds = []
    with progress("measuring", len(models) * len(sizes) + 1) as advance:
        for each in models:
            needed = measured.flops(each)
            for size in sizes:
                speeds.append(measured.measure(each, size, needed, threads))
                advance(1)
        seconds = measured.cold_start(model, device, threads)
        advance(1)
    about = {
        "model": first.name,
        "bundle": first.bundle.sha256,
        "device": measured.device(first),
        "processor": cpu.processor(),
        "threads": threads or cpu.cores(),
        "genfast": __version__,
        "onnxruntime": built()[0],
    }
    if as_json:
        print_json({**about, "cold_start": seconds, "speeds": [asdict(speed) for speed in speeds]})
    else:
        about["bundle"] = first.bundle.sha256[:8]
        print(*(f"{name} {value}" for name, value in about.items()), sep=", ", end="\n\n")
        print(_table(speeds))
        print(f"\nFrom a cold start, `genfast sample -n 1` takes {seconds:.2f} s.")


def _table(speeds: Sequence["Speed"]) -> str:
    """Markdown."""
    rows = [["steps", "batch", "images/s", "s/image", "share of the rate of products", "outside onnxruntime", "rates"]]
    rows.append(["---"] * len(rows[0]))
    for speed in speeds:
        rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in speed.rates.items())
        figures = f"{speed.images_per_second:.3g}", f"{speed.seconds_per_image:.3g}"
        rows.append([f"{speed.steps}", f"{speed.batch}", *figures, f"{speed.share:.0%}", f"{speed.outside:.1%}", rates])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
