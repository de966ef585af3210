"""Speed of imported generators at full size, of random weights, against PyTorch eager of the same.

    python -m benchmarks.imported [--presets cifar10 celebahq256] [--threads 2] [--json]

Makes each network, imports it, and draws one image in its own number of steps. Rivals take turns, and every figure is a
median over its turns. Importing takes minutes.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import genfast
from benchmarks import common
from export.importers.ncsnpp import NCSNpp
from export.importers.nvlabs import ReverseStep, generator, nvlabs_ddgan
from export.importers.nvlabs_options import PRESETS
from genfast.bench.speed import medians
from genfast.models.diffusion import DiffusionModel
from genfast.samplers import ddgan
from genfast.types import Floats, Pixels, Tokens
from training.diffusion import Schedule

TURNS = 7


def eager(weights: Path, preset: str, memory_format: torch.memory_format) -> ddgan.Step:
    """The reverse step in PyTorch."""
    network, options = generator(weights, preset)
    network.to(memory_format=memory_format)  # type: ignore[call-overload]  # of torch.nn.Module, by its stubs
    module = ReverseStep(network, Schedule(options.alpha_bar()))

    def step(x_t: npt.ArrayLike, t: Tokens, z: Floats | None, noise: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            x_prev, x_0 = module(*(torch.from_numpy(np.asarray(x)) for x in (x_t, t, z, noise)))
            return x_prev.numpy(), x_0.numpy()

    return step


def measure(preset: str, threads: int) -> dict[str, float]:
    """Seconds of one image in onnxruntime, and how many times as long PyTorch takes."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        weights, out = Path(name) / "netG.pth", Path(name) / "bundle"
        torch.manual_seed(0)
        torch.save(NCSNpp(PRESETS[preset]).state_dict(), weights)
        with contextlib.redirect_stdout(sys.stderr):
            nvlabs_ddgan(weights, out, preset)
        model = genfast.load(str(out), device="cpu", threads=threads)
        assert isinstance(model, DiffusionModel)
        rivals = {
            "genfast": model.step(np.zeros(1, np.int64)),
            "eager": eager(weights, preset, torch.contiguous_format),
            "eager, channels last": eager(weights, preset, torch.channels_last),
        }

        def draw(step: ddgan.Step) -> Callable[[], Pixels]:
            image, latent = model.image, model.bundle.manifest.latent
            shape = image.channels, image.height, image.width
            return lambda: ddgan.sample(step, steps=model.steps, latent=latent, shape=shape, seed=0, indices=[0])

        drawn = [draw(step)().astype(int) for step in rivals.values()]
        assert all(np.abs(other - drawn[0]).max() <= 1 for other in drawn), "the rivals draw other images"
        times = medians({name: draw(step) for name, step in rivals.items()}, TURNS)
        command = [*common.GENFAST, "sample", "--model", str(out), "-n", "1", "--out", name, "--device", "cpu"]
        peak = common.peak([*command, "--threads", str(threads)])
    own = times.pop("genfast")
    figures = {f"times faster than PyTorch ({rival})": seconds / own for rival, seconds in times.items()}
    figures |= {"seconds an image": own, "peak MB of genfast sample -n 1": peak}
    return {f"{preset}, {model.steps} steps: {name}": value for name, value in figures.items()}


def main() -> None:
    parser = common.parser(__doc__, "--threads --json", threads=2)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=["cifar10", "celebahq256"])
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for preset in options.presets:
        figures |= measure(preset, options.threads)
    common.report(figures, options.json)


if __name__ == "__main__":
    main()
