"""Speed and memory of drawing a picture of 1024x1024 by way of its tokens, against PyTorch eager of the same weights.

    python -m tests.benchmarks.megapixel [--model avatars1024] [--threads 2] [--json]

No picture stops early: every step is taken.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper, parser
from torch.utils.flop_counter import FlopCounterMode

import genfast
from export.int8 import quantise
from export.unpack import networks
from genfast import sundae
from genfast.ddgan import to_pixels
from genfast.models import TokenModel
from genfast.session import Session
from tests.benchmarks.sampling import medians
from training.nets.hourglass import Hourglass
from training.nets.vqgan import VQGAN

STEPS = (4, 8, 16, 32, 64)
TURNS = 7
SIDE = 2048  # of the matrices that the machine is measured by
LINEAR = ("aten.addmm", "aten.mm")


def parts(model: TokenModel) -> dict[str, Callable[[], object]]:
    """The three graphs that draw, on one image each."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(model.tokens.vocabulary, size=(1, model.tokens.height * model.tokens.width))
    predict = partial(model.predict.run, tokens=tokens, label=np.zeros(1, np.int64))
    uniform = rng.random(tokens.shape, np.float32)
    temperature = np.full(1, 0.8, np.float32)
    draw = partial(model.draw.run, **predict(), tokens=tokens, temperature=temperature, uniform=uniform)
    return {"predict": predict, "draw": draw, "decode": partial(model.decode.run, tokens=tokens)}


def operations(network: Hourglass, codec: VQGAN) -> dict[str, int]:
    """Floating-point operations of one picture, counted by PyTorch: of a step and, for `decode`, of the picture.

    `predict` are the prior's linear layers, `rest` all else in it.
    """
    z = torch.zeros(1, network.config.tokens**2, dtype=torch.int64)
    with FlopCounterMode(display=False) as predicting:
        hidden = network.predict(z, z[:, 0])
    linear = sum(n for operation, n in predicting.get_flop_counts()["Global"].items() if str(operation) in LINEAR)
    with FlopCounterMode(display=False) as choosing:
        network.logits(hidden, z)
    with FlopCounterMode(display=False) as decoding:
        codec.decode(z.unflatten(1, (network.config.tokens, -1)))
    rest = predicting.get_total_flops() - linear
    return {
        "predict": linear,
        "rest": rest,
        "draw": choosing.get_total_flops(),
        "decode": decoding.get_total_flops(),
    }


def products(threads: int) -> dict[str, Callable[[], object]]:
    """Products of matrices of 2048x2048 in onnxruntime, in float32 and in int8: the rates that this machine reaches.

    Not PyTorch's: its library knows other processors better, and has half of the rate on some.
    """
    x = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    levels, scale = quantise(x)
    graphs = {
        "float32": ("y = MatMul (x, w)", {"w": x}),
        "int8": ("y = com.microsoft.DynamicQuantizeMatMul (x, w, s)", {"w": levels, "s": scale[0]}),
    }
    work = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (product, weights) in graphs.items():
            opsets = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>'
            model = parser.parse_model(f"{opsets} g (float[N, K] x) => (float[N, M] y) {{ {product} }}")
            model.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in weights.items())
            path = Path(folder) / f"{name}.onnx"
            onnx.save(model, path)
            work[name] = partial(Session(path, "cpu", threads).run, x=x)
    return work


def eager(
    model: TokenModel, network: Hourglass, codec: VQGAN
) -> Callable[[int, torch.memory_format], tuple[np.ndarray, ...]]:
    """Draws image 0 in so many steps in PyTorch, by the networks of `model`: its tokens, and its pixels."""

    def predict(*arrays: np.ndarray) -> np.ndarray:
        return network.predict(*map(torch.from_numpy, arrays)).numpy()

    def choose(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(x.numpy() for x in network.draw(*map(torch.from_numpy, arrays)))

    @torch.inference_mode()
    def draw(steps: int, layout: torch.memory_format) -> tuple[np.ndarray, ...]:
        tokens = sundae.sample(
            predict,
            choose,
            options=replace(model.options, steps=steps, min_steps=steps),
            length=model.tokens.height * model.tokens.width,
            vocabulary=model.tokens.vocabulary,
            labels=np.zeros(1, np.int64),
            unlabelled=len(model.bundle.manifest.classes),
            seed=0,
            indices=[0],
        )
        grid = torch.from_numpy(tokens).view(1, model.tokens.height, model.tokens.width)
        return tokens, to_pixels(codec.to(memory_format=layout).decode(grid).numpy())

    return draw


def drawing(name: str, threads: int) -> dict[str, float]:
    """One picture, whole and in parts, at several numbers of steps, alone and against PyTorch."""
    model = genfast.load(name, threads=threads, device="cpu")
    assert isinstance(model, TokenModel)
    steps = model.options.steps
    whole = {n: partial(model.sample, 1, steps=n, min_steps=n) for n in sorted({*STEPS, steps})}
    # Before PyTorch computes: its threads, once started, stay busy for a while after each call.
    of_parts, seconds = medians(parts(model), 3 * TURNS), medians(whole, TURNS)
    figures = {f"{part}, milliseconds": 1000 * time for part, time in of_parts.items()}
    figures |= {f"one picture in {n} steps, seconds": time for n, time in seconds.items()}
    # In turns, since other work on the machine slows all of them.
    times = medians({"genfast": whole[steps], **products(threads)}, 2 * TURNS)
    network, codec, *_ = networks(model.bundle)
    work = operations(network, codec)
    in_int8 = [role for role in ("predict", "draw") if model.bundle.manifest.graphs[role][0].precision == "int8"]
    least = 0.0
    for part, count in work.items():
        rate = 2 * SIDE**3 / times["int8" if part in in_int8 else "float32"]
        least += count * (1 if part == "decode" else steps) / rate
    figures[f"share of the rate of products, {steps} steps"] = least / times["genfast"]
    # Contiguous is what PyTorch does unasked; channels last is the faster of its layouts here.
    layouts = {"eager": torch.contiguous_format, "eager, channels last": torch.channels_last}
    torch.set_num_threads(threads)
    draw = eager(model, network, codec)
    rivals = {rival: partial(draw, steps, layout) for rival, layout in layouts.items()}
    for rival in rivals.values():
        tokens, pixels = rival()
        difference = np.abs(model.decode.run(tokens=tokens)["image"].astype(int) - pixels).max()
        assert difference <= 3, "the rivals decode to other pictures"
    times = medians({"genfast": whole[steps], **rivals}, TURNS)
    for rival in rivals:
        figures[f"times faster than PyTorch ({rival}), {steps} steps"] = times[rival] / times["genfast"]
    return figures


def processes(name: str, threads: int) -> dict[str, float]:
    """Wall time of a whole command from a cold start, and the peak memory of drawing 8 pictures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "genfast", "sample", "--model", name, "--out", folder, "--overwrite"]
        command += ["--device", "cpu", "--threads", str(threads), "-n"]
        one = partial(subprocess.run, [*command, "1"], check=True, capture_output=True)
        figures = {"genfast sample -n 1, seconds": medians({"one": one}, 3)["one"]}
        subprocess.run([*command, "8"], check=True, capture_output=True)
    # The largest of this process's children, which are none but the above; kilobytes on Linux.
    figures["genfast sample -n 8, peak MB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars1024")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = processes(options.model, options.threads)
    figures |= drawing(options.model, options.threads)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{value:10.3f}  {name}")


if __name__ == "__main__":
    main()
