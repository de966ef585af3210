"""Priors over tokens that are made up: networks of a line, and batches to draw with them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from genfast.samplers.options import MaskGITOptions, RandomOrderOptions, SundaeOptions
from genfast.samplers.token_step import Draw, TokenBatch, TokenNetwork
from genfast.types import Floats, Mask, Tokens

N, V = 40, 16
SHAPE = (5, N // 5)
SEED = 5
KINDS = (MaskGITOptions, RandomOrderOptions, SundaeOptions)


def classes(batch: int) -> Tokens:
    return np.arange(batch) % 3


def drafts(batch: int) -> Floats:
    return np.random.default_rng(batch).random((batch, N, 2), np.float32)


def batch_of(indices: Sequence[int], labels: Tokens | None = None, **more: Any) -> TokenBatch:
    """The images of those indices, by default in classes that take turns."""
    known = {"seed": SEED, "shape": SHAPE, "draft": drafts(len(indices)), **more}
    return TokenBatch(indices=indices, labels=classes(len(indices)) if labels is None else labels, **known)


def network(predict: Any, draw: Any, vocabulary: int = V) -> TokenNetwork:
    """A network of three classes, by an output layer that draws all tokens, whatever it is to draw."""
    return TokenNetwork(predict, updating(draw), vocabulary, unlabelled=3)


def updating(draw: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Draw:
    """An output layer that draws what it is to draw, by one that draws all."""

    def some(hidden, tokens, update, temperature, u, return_prob, logit_bias):
        drawn, probability = draw(hidden, tokens, temperature, u)
        return np.where(update, drawn, tokens), np.where(update & return_prob[:, None], probability, 1)

    return some


def pass_on(tokens: Tokens, label: Tokens, draft: Floats, known: Mask) -> np.ndarray:
    return tokens[..., None].astype(np.float32)


def add_one(hidden: Any, tokens: Tokens, temperature: Floats, u: Floats) -> tuple[np.ndarray, np.ndarray]:
    """Every draw adds one, so that what was redrawn is what changed."""
    return tokens + 1, u


def pick(distribution: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse CDF of [B, N, V], and the probability of what was drawn."""
    drawn = (distribution.cumsum(-1) <= u[..., None]).sum(-1).clip(max=distribution.shape[-1] - 1)
    return drawn, np.take_along_axis(distribution, drawn[..., None], -1)[..., 0].astype(np.float32)


def known_after(step: int, steps: int, power: float, refine: float) -> int:
    """How many tokens the schedule of masks keeps after a step."""
    return int(np.ceil(N * min(1, step / (steps - refine * steps)) ** power - 1e-9))
