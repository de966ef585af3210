"""Speed, start-up and memory of four-step sampling, against PyTorch eager of the same weights and a DDPM of 1000 steps.

    python -m tests.benchmarks.sampling [--threads 2] [--json]

Rivals take turns within one run, and every figure is a median over its turns: ratios hold where single times do not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

import genfast
from export.ddgan import reverse_step
from export.unpack import unet
from genfast import ddgan
from genfast.bench import medians
from tests.benchmarks.memory import peak

Make = Callable[[np.ndarray], ddgan.Step]  # of the labels [B] of a batch


def eager(model: genfast.Model, memory_format: torch.memory_format) -> Make:
    """The model's step in PyTorch, with the weights of its ONNX graph."""
    network, recipe = unet(model.bundle)
    module, _ = reverse_step(network.to(memory_format=memory_format), recipe)

    def make(labels: np.ndarray) -> ddgan.Step:
        def step(*inputs):
            with torch.inference_mode():
                return tuple(output.numpy() for output in module(*map(torch.from_numpy, (*inputs, labels))))

        return step

    return make


def sampling(threads: int) -> dict[str, float]:
    """Four steps in onnxruntime, alone and against PyTorch, and 1000 steps, as a DDPM of this U-Net takes them."""
    torch.set_num_threads(threads)
    model = genfast.load("fashion28", steps=4, threads=threads)
    own = model._step

    def draw(make: Make, batch: int, steps: int = 4) -> Callable[[], object]:
        step, given = make(np.arange(batch) % 10), {"latent": model.bundle.manifest.latent, "shape": (1, 28, 28)}
        return lambda: ddgan.sample(step, steps=steps, seed=0, indices=range(batch), **given)

    def ddpm(labels: np.ndarray) -> ddgan.Step:
        step = own(labels)
        return lambda x_t, t, z, noise: step(x_t, np.ones_like(t), z, noise)  # any level costs the same

    turns = {1: 40, 64: 15}  # by batch
    # Before PyTorch computes: its threads, once started, stay busy for a while after each call.
    alone = {batch: medians({"alone": draw(own, batch)}, turns[batch])["alone"] for batch in turns}
    figures = {f"images a second, batch {batch}": batch / seconds for batch, seconds in alone.items()}
    times = medians({"4": draw(own, 8), "1000": draw(ddpm, 8, 1000)}, 3)
    figures["times faster than DDPM at 1000 steps, batch 8"] = times["1000"] / times["4"]

    # Contiguous is what PyTorch does unasked; channels last is the faster of its layouts here.
    rivals = {"eager": torch.contiguous_format, "eager, channels last": torch.channels_last}
    makes = {"genfast": own} | {name: eager(model, layout) for name, layout in rivals.items()}
    drawn = [draw(make, 4)() for make in makes.values()]
    assert all(np.abs(other.astype(int) - drawn[0]).max() <= 1 for other in drawn), "the rivals draw other images"
    for batch in turns:
        times = medians({name: draw(make, batch) for name, make in makes.items()}, turns[batch])
        for rival in rivals:
            figures[f"times faster than PyTorch ({rival}), batch {batch}"] = times[rival] / times["genfast"]
    return figures


def processes() -> dict[str, float]:
    """Wall time of whole commands from a cold start, and the peak memory of drawing 64 images."""
    command = [sys.executable, "-m", "genfast"]
    with tempfile.TemporaryDirectory() as folder:
        sample = [*command, "sample", "--out", folder, "--overwrite", "-n"]
        runs = {"genfast sample -n 8, seconds": [*sample, "8"], "genfast --help, seconds": [*command, "--help"]}
        work = {name: partial(subprocess.run, run, check=True, capture_output=True) for name, run in runs.items()}
        figures = medians(work, 9)
        figures["genfast sample -n 64, peak MB"] = peak([*sample, "64"])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = processes() | sampling(options.threads)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{value:10.2f}  {name}")


if __name__ == "__main__":
    main()
