"""Speed, start-up and memory of four-step sampling, against PyTorch eager of the same weights and a DDPM of 1000 steps.

    python -m benchmarks.sampling [--threads 2] [--json]

Rivals take turns within one run, and every figure is a median over its turns: ratios hold where single times do not.
"""

import subprocess
import tempfile
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

import genfast
from benchmarks import common
from export.unpack import step_of
from genfast.bench.speed import medians
from genfast.models.diffusion import DiffusionModel
from genfast.samplers import ddgan
from genfast.types import Floats, Pixels, Tokens

Make = Callable[[Tokens], ddgan.Step]  # of the labels [B] of a batch


def eager(model: DiffusionModel, memory_format: torch.memory_format) -> Make:
    """The model's step in PyTorch, with the weights of its ONNX graph."""
    module, _ = step_of(model.bundle)
    module.network.to(memory_format=memory_format)  # type: ignore[call-overload]  # of torch.nn.Module, by its stubs
    path = np.array(model.levels)

    def make(labels: Tokens) -> ddgan.Step:
        def step(x_t: npt.ArrayLike, t: Tokens, z: Floats | None, noise: Floats) -> tuple[Floats, Floats]:
            with torch.inference_mode():
                x_prev, x_0 = module(
                    *(torch.from_numpy(np.asarray(x)) for x in (x_t, path[t], path[t - 1], noise, z, labels))
                )
                return x_prev.numpy(), x_0.numpy()

        return step

    return make


def sampling(threads: int) -> dict[str, float]:
    """Four steps in onnxruntime, alone and against PyTorch, and 1000 steps, as a DDPM of this U-Net takes them."""
    torch.set_num_threads(threads)
    model = genfast.load("fashion28", steps=4, device="cpu", threads=threads)
    assert isinstance(model, DiffusionModel)
    own, latent = model.step, model.bundle.manifest.latent

    def draw(make: Make, batch: int, steps: int = 4) -> Callable[[], Pixels]:
        step, indices = make(np.arange(batch) % 10), range(batch)
        return lambda: ddgan.sample(step, steps=steps, latent=latent, shape=(1, 28, 28), seed=0, indices=indices)

    def ddpm(labels: Tokens) -> ddgan.Step:
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


def processes(threads: int) -> dict[str, float]:
    """Wall time of whole commands from a cold start, and the peak memory of drawing 64 images."""
    with tempfile.TemporaryDirectory() as folder:
        sample = [*common.GENFAST, "sample", "--out", folder, "--overwrite", "--device", "cpu"]
        sample += ["--threads", str(threads), "-n"]
        runs = {"genfast sample -n 8, seconds": [*sample, "8"], "genfast --help, seconds": [*common.GENFAST, "--help"]}
        work = {name: partial(subprocess.run, run, check=True, capture_output=True) for name, run in runs.items()}
        figures = medians(work, 9)
        figures["genfast sample -n 64, peak MB"] = common.peak([*sample, "64"])
    return figures


def main() -> None:
    options = common.parser(__doc__, "--threads --json", threads=2).parse_args()
    common.report(processes(options.threads) | sampling(options.threads), options.json)


if __name__ == "__main__":
    main()
