"""Which precisions of `predict` and `draw` a bundle holds: int8 for the CPU, where it is faster and loses little."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from export.graph import Array
from genfast.bundles.manifest import Figure, Graph, Provider
from genfast.models.drafts import Drafts
from genfast.runtime.session import Session
from genfast.samplers.options import TokenOptions
from genfast.samplers.token_step import TokenNetwork
from genfast.samplers.tokens import sample
from genfast.types import Floats, Mask, Tokens
from training.nets.hourglass import Hourglass
from training.sampling import token_batch

DIVERGENCE = 0.01  # nats a token that arithmetic in int8 may cost, beside what rounded weights do

Precision = Literal["fp32", "fp16", "int8"]


def graph_file(role: str, precision: str) -> str:
    """The name of a graph's file."""
    return f"{role}.onnx" if precision == "fp32" else f"{role}-{precision}.onnx"


def graph(role: str, precision: Precision, *providers: Provider) -> Graph:
    """What a manifest says of a graph."""
    return Graph(path=graph_file(role, precision), precision=precision, providers=providers)


class Rivals:
    """The graphs of a role in int8 and in float32: run on the same inputs, timed, and weighed by what each costs.

    `reference` names what they are measured against.
    """

    def __init__(self, role: str, reference: str, folder: Path) -> None:
        self.role, self.reference = role, reference
        self.paths = {precision: folder / graph_file(role, precision) for precision in ("int8", "fp32")}
        self.sessions = {precision: Session(path, "cpu") for precision, path in self.paths.items()}
        self.seconds: dict[str, list[float]] = {precision: [] for precision in self.paths}
        self.costs: dict[str, list[float]] = {precision: [] for precision in self.paths}

    def run(self, cost: Callable[[dict[str, Array]], float], **inputs: Array) -> dict[str, Array]:
        """What the graph in int8 gives; `cost` says how many nats a token the outputs of either are off."""
        outputs = {}
        for precision, session in self.sessions.items():
            began = time.perf_counter()
            outputs[precision] = session.run(**inputs)
            self.seconds[precision].append(time.perf_counter() - began)
            self.costs[precision].append(cost(outputs[precision]))
        return outputs["int8"]

    def choose(self) -> tuple[list[Graph], list[Figure]]:
        """The graphs that a bundle holds, and what arithmetic in int8 costs; where that is no gain, its file goes.

        For CUDA there is half precision, which keeps eight times as many levels.
        """
        graphs = [graph(self.role, "fp16", "cuda"), graph(self.role, "fp32", "cpu", "cuda")]
        cost = {precision: statistics.mean(found) for precision, found in self.costs.items()}
        fp32, int8 = (statistics.median(self.seconds[precision]) for precision in ("fp32", "int8"))
        if not (cost["int8"] <= cost["fp32"] + DIVERGENCE and int8 <= fp32):  # NaN is no gain either
            self.paths["int8"].unlink()
            return graphs, []
        protocol = f"against {self.reference}, {len(self.costs['int8'])} steps of samples"
        figures = [
            Figure(name=f"{precision}, {self.role}: divergence in nats a token", value=value, protocol=protocol)
            for precision, value in cost.items()
        ]
        name = f"int8, {self.role}: times as fast as fp32 on the CPU"
        figures.append(Figure(name=name, value=fp32 / int8, protocol="median step"))
        return [graph(self.role, "int8", "cpu"), *graphs], figures


def choose(
    network: Hourglass, frozen: Hourglass, drafts: Drafts | None, options: TokenOptions, folder: Path
) -> tuple[dict[str, list[Graph]], list[Figure]]:
    """Which graphs of `predict` and `draw` the bundle holds, by samples that are drawn, one a class.

    `frozen` is the network as it is stored; `drafts` are what attributes tell it.
    """
    predicts = Rivals("predict", "PyTorch, with weights that are not rounded", folder)
    draws = Rivals("draw", "PyTorch, to second order", folder)

    def predict(z: Tokens, label: Tokens, draft: Floats, known: Mask) -> npt.ArrayLike:
        exact = network(*map(torch.from_numpy, (z, label, draft, known))).log_softmax(2)  # (B, N, V)

        def divergence(outputs: dict[str, Array]) -> float:
            hidden = torch.from_numpy(outputs["hidden"])
            rounded = frozen.token_head.logits(hidden, torch.from_numpy(z)).log_softmax(2)
            return float((exact.exp() * (exact - rounded)).sum(2).mean())

        told = {"draft": draft} if network.config.draft else {}
        return predicts.run(divergence, tokens=z, label=label, known=known, **told)["hidden"]

    def draw(
        hidden: npt.ArrayLike,
        z: Tokens,
        update: Mask,
        temperature: Floats,
        uniform: Floats,
        return_prob: Mask,
        logit_bias: npt.ArrayLike,
    ) -> tuple[npt.ArrayLike, npt.ArrayLike]:
        features = np.asarray(hidden, np.float32)
        logits = frozen.token_head.logits(torch.from_numpy(features), torch.from_numpy(z))
        exact = logits.log_softmax(2).numpy()  # (B, N, V)

        def divergence(outputs: dict[str, Array]) -> float:
            drawn, probability = (outputs[name] for name in ("drawn", "probability"))
            ratio = np.log(probability) - np.take_along_axis(exact, drawn[..., None], 2)[..., 0]
            return float((ratio[update] ** 2).mean() / 2)  # to second order

        outputs = draws.run(
            divergence,
            hidden=features,
            tokens=z,
            update=update,
            temperature=temperature,
            uniform=uniform,
            return_prob=np.ones_like(return_prob),
            logit_bias=np.asarray(logit_bias),
        )
        return outputs["drawn"], outputs["probability"]

    config = network.config
    prior = TokenNetwork(predict, draw, config.vocabulary, unlabelled=config.classes)
    for label in range(max(config.classes, 1)):
        sample(prior, token_batch(network, drafts, [label], np.array([label])), options)
    chosen = {rivals.role: rivals.choose() for rivals in (predicts, draws)}
    return {role: graphs for role, (graphs, _) in chosen.items()}, [
        f for _, figures in chosen.values() for f in figures
    ]
