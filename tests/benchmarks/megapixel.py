"""Speed and memory of drawing a picture of 1024x1024 by way of its tokens, against PyTorch eager of the same weights.

    python -m tests.benchmarks.megapixel [--model avatars1024] [--threads 2] [--json]

No picture stops early: every step is taken.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

import genfast
from export.unpack import networks
from export.vqgan import Borders, Seams
from genfast import bench, sundae
from genfast.bench import medians
from genfast.ddgan import to_pixels
from genfast.models import FEW, TokenModel
from tests.benchmarks.memory import peak
from training.nets.hourglass import Hourglass
from training.nets.vqgan import VQGAN

STEPS = (4, 8, 16, 32, 64)
TURNS = 7


def parts(model: TokenModel) -> dict[str, Callable[[], object]]:
    """The graphs that draw, on one image each."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(model.tokens.vocabulary, size=(1, model.tokens.height * model.tokens.width))
    known, theme = np.ones(tokens.shape, bool), model.themes()[0, :1]
    predict = partial(model.predict.run, tokens=tokens, label=np.zeros(1, np.int64), theme=theme, known=known)
    uniform = rng.random(tokens.shape, np.float32)
    temperature = np.full(1, 0.8, np.float32)
    draws = {"temperature": temperature, "uniform": uniform, "judge": np.zeros(1, bool)}
    draws |= {"evidence": np.zeros((*tokens.shape, 1), np.float32)}
    draw = partial(model.draw.run, **predict(), tokens=tokens, update=known, **draws)
    weight, seams = np.full(1, 0.5, np.float32), model.seams().bind()
    given = {"tokens": tokens, "known": known, "weight": weight, "said": draws["evidence"], **model.borders()}
    decode = partial(model.decode.run, tokens=tokens)
    return {"predict": predict, "draw": draw, "seams": partial(seams, **given), "decode": decode}


def eager(
    model: TokenModel, network: Hourglass, codec: VQGAN
) -> Callable[[int, torch.memory_format], tuple[np.ndarray, ...]]:
    """Draws image 0 in so many steps in PyTorch, by the networks of `model`: its tokens, and its pixels."""
    borders, seams = Borders(codec)(), Seams(codec.config.regions, model.tokens.height)
    weight = torch.full((1,), model.options.seams)

    def evidence(*arrays: np.ndarray) -> np.ndarray:
        tokens, known = map(torch.from_numpy, arrays)
        nothing = torch.zeros(*tokens.shape, 1)
        return (seams(tokens, known, weight, nothing, *borders) if known.float().mean() >= FEW else nothing).numpy()

    def predict(*arrays: np.ndarray) -> np.ndarray:
        return network.predict(*map(torch.from_numpy, arrays)).numpy()

    def choose(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(x.numpy() for x in network.draw(*map(torch.from_numpy, arrays)))

    labels = np.zeros(1, np.int64)
    themes = sundae.choose_themes(model.themes(), labels, seed=0, indices=[0])

    @torch.inference_mode()
    def draw(steps: int, layout: torch.memory_format) -> tuple[np.ndarray, ...]:
        tokens = sundae.sample(
            predict,
            choose,
            options=replace(model.options, steps=steps, min_steps=steps),
            shape=(model.tokens.height, model.tokens.width),
            vocabulary=model.tokens.vocabulary,
            labels=labels,
            themes=themes,
            unlabelled=len(model.bundle.manifest.classes),
            seed=0,
            indices=[0],
            evidence=evidence if model.options.seams else None,
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
    share = bench.measure(model, 1, bench.operations(model), threads).share
    figures[f"share of the rate of products, {steps} steps"] = share
    # Contiguous is what PyTorch does unasked; channels last is the faster of its layouts here.
    layouts = {"eager": torch.contiguous_format, "eager, channels last": torch.channels_last}
    torch.set_num_threads(threads)
    network, codec, *_ = networks(model.bundle)
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
        figures["genfast sample -n 8, peak MB"] = peak([*command, "8"])
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
