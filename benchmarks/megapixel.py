"""Speed and memory of drawing a picture of 1024x1024 by way of its tokens, against PyTorch eager of the same weights.

python -m benchmarks.megapixel [--model avatars1024] [--threads 2] [--json]
"""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from benchmarks import common
from export.draft_likelihood import DraftLikelihood
from export.unpack import networks
from genfast.bench import speed
from genfast.bench.speed import medians
from genfast.models.drafts import Drafts
from genfast.models.tokens import TokenModel
from genfast.samplers.ddgan import to_pixels
from genfast.samplers.options import TokenOptions
from genfast.samplers.tokens import sample
from genfast.types import Pixels, Tokens
from training.nets.hourglass import Hourglass
from training.nets.vqgan import VQGAN
from training.sampling import token_batch, token_network

STEPS = (4, 8, 16, 32, 64)
TURNS = 7


def parts(model: TokenModel) -> dict[str, Callable[[], object]]:
    """The graphs that draw, on one image each."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(model.tokens.vocabulary, size=(1, model.tokens.height * model.tokens.width))  # (1, N)
    known, drafts = np.ones(tokens.shape, bool), model.drafts()
    told: dict[str, Any] = {"tokens": tokens, "label": np.zeros(1, np.int64), "known": known}
    if model.bundle.manifest.attributes:
        told["draft"] = drafts.of(told["label"], drafts.table.rows[drafts.table.labels == 0][:1])
    predict = partial(model.predict.run, **told)
    found: dict[str, Callable[[], object]] = {"predict": predict, "decode": partial(model.decoder.run, tokens=tokens)}
    bias = np.zeros((*tokens.shape, 1), np.float32)
    if model.draft_likelihood:
        likelihood = partial(model.draft_likelihood().run, draft=told["draft"])
        found["draft_likelihood"], bias = likelihood, likelihood()["logit_bias"]
    draws = {"temperature": np.full(1, 0.8, np.float32), "uniform": rng.random(tokens.shape, np.float32)}
    draws |= {"return_prob": np.zeros(1, bool), "logit_bias": bias}
    return found | {"draw": partial(model.draw.run, **predict(), tokens=tokens, update=known, **draws)}


def eager(
    network: Hourglass, codec: VQGAN, drafts: Drafts | None, weight: float, options: TokenOptions
) -> Callable[[torch.memory_format], tuple[Tokens, Pixels]]:
    """Draws image 0 in PyTorch, by the very sampler that genfast draws with: its tokens [1, N], and its pixels.

    `weight` is that of what drafts say in drawing.
    """
    prior = token_network(network, network.token_head.keys(), Fabric(accelerator="cpu", devices=1))
    batch = token_batch(network, drafts, [0], np.zeros(1, np.int64))
    likelihood = DraftLikelihood(network, weight) if drafts and weight else None

    @torch.inference_mode()
    def draw(layout: torch.memory_format) -> tuple[Tokens, Pixels]:
        bias = likelihood(torch.from_numpy(batch.draft)).numpy() if likelihood else None
        tokens = sample(prior, replace(batch, logit_bias=bias), options)
        grid = torch.from_numpy(tokens).view(1, *batch.shape)
        return tokens, to_pixels(codec.to(memory_format=layout).decode(grid).numpy())  # type: ignore[call-overload]

    return draw


def drawing(name: str, threads: int) -> dict[str, float]:
    """One picture, whole and in parts, at several numbers of steps, alone and against PyTorch."""
    model = common.token_model(name, threads=threads)
    steps = model.options.steps
    counts = sorted({*STEPS, steps})
    whole = {f"{n}": partial(model.sample, 1, options=replace(model.options, steps=n)) for n in counts}
    # Before PyTorch computes: its threads, once started, stay busy for a while after each call.
    of_parts, seconds = medians(parts(model), 3 * TURNS), medians(whole, TURNS)
    figures = {f"{part}, milliseconds": 1000 * time for part, time in of_parts.items()}
    figures |= {f"one picture in {n} steps, seconds": time for n, time in seconds.items()}
    share = speed.measure(model, 1, speed.flops(model), threads).share
    figures[f"share of the rate of products, {steps} steps"] = share
    # Contiguous is what PyTorch does unasked; channels last is the faster of its layouts here.
    layouts = {"eager": torch.contiguous_format, "eager, channels last": torch.channels_last}
    torch.set_num_threads(threads)
    network, codec, recipe, _ = networks(model.bundle)
    drafts = model.drafts() if model.bundle.manifest.attributes else None
    draw = eager(network, codec, drafts, recipe.draft_weight if model.draft_likelihood else 0.0, model.options)
    rivals = {rival: partial(draw, layout) for rival, layout in layouts.items()}
    for drawn in rivals.values():
        tokens, pixels = drawn()
        difference = np.abs(model.decoder.run(tokens=tokens)["image"].astype(int) - pixels).max()
        assert difference <= 3, "the rivals decode to other pictures"
    times = medians({"genfast": whole[f"{steps}"], **rivals}, TURNS)
    for rival in rivals:
        figures[f"times faster than PyTorch ({rival}), {steps} steps"] = times[rival] / times["genfast"]
    return figures


def processes(name: str, threads: int) -> dict[str, float]:
    """Wall time of a whole command from a cold start, and the peak memory of drawing 8 pictures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*common.GENFAST, "sample", "--model", name, "--out", folder, "--overwrite"]
        command += ["--device", "cpu", "--threads", str(threads), "-n"]
        one = partial(subprocess.run, [*command, "1"], check=True, capture_output=True)
        figures = {"genfast sample -n 1, seconds": medians({"one": one}, 3)["one"]}
        figures["genfast sample -n 8, peak MB"] = common.peak([*command, "8"])
    return figures


def main() -> None:
    options = common.parser(__doc__, "--model --threads --json", model="avatars1024", threads=2).parse_args()
    figures = processes(options.model, options.threads)
    figures |= drawing(options.model, options.threads)
    common.report(figures, options.json)


if __name__ == "__main__":
    main()
