"""Sampling from a step-unrolled denoising autoencoder over image tokens (McKinney and Willcocks 2022, section 3.5).

From random tokens on, every step predicts all tokens from all tokens and draws some of them anew.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from genfast.errors import UsageError
from genfast.noise import Purpose, uniform

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

Order = Literal["confidence", "chance", "random"]


class Predict(Protocol):
    """The network but for its output layer, for B images of N tokens.

    tokens [B, N] i64, label [B] i64, theme [B, K] f32, known [B, N] bool -> hidden [B, N, D] f32, in which the logits
    are linear. It may stay on a device and need not outlive the call after the next: np.asarray brings it here. A theme
    says what all tokens of an image have in common; one of zeros is none. Tokens that are not known are not looked at.
    """

    def __call__(self, tokens: Tokens, label: Tokens, theme: Floats, known: Mask, /) -> npt.ArrayLike: ...


class Draw(Protocol):
    """The output layer, and one token drawn from each distribution by its inverse CDF.

    hidden [B, N, D] f32, tokens [B, N] i64 that `hidden` was predicted from, update [B, N] bool, temperature [B] f32,
    uniform [B, N] f32 in [0, 1), judge [B] bool -> tokens [B, N] i64, drawn anew where `update` is true, and the
    probability of each at temperature 1 [B, N] f32, which is 1 elsewhere, and void for an image that is not to be
    judged. evidence [B, N, V] f32, in nats, is added to the logits; [B, N, 1] is none.
    The last of D is added to the logit of the token of `tokens`: the bonus for keeping it.
    """

    def __call__(
        self,
        hidden: npt.ArrayLike,
        tokens: Tokens,
        update: Mask,
        temperature: Floats,
        uniform: Floats,
        judge: Mask,
        evidence: npt.ArrayLike = ...,
        /,
    ) -> tuple[npt.ArrayLike, npt.ArrayLike]: ...


Evidence = Callable[[Tokens, Mask], npt.ArrayLike]
"""What is known of tokens [B, N] beside what the network predicts of them, given which of them are drawn, bool [B, N]:
f32 [B, N, V] in nats, or [B, N, 1] where it is nothing."""


@dataclass(frozen=True)
class Options:
    """How to sample. Raises UsageError where a value makes no sense.

    Temperature and share go linearly from their value at the first step to that at the last.
    """

    steps: int = 16
    order: Order = "confidence"  # "random" is that of the paper
    temperature: float = 1.0
    temperature_end: float = 0.7
    share: float = 0.5  # of the tokens, redrawn in a step of order "random"
    share_end: float = 0.5
    all_below: int = 20  # steps: in so few, order "random" redraws all tokens at each
    min_steps: int = 10  # before an image may be finished early
    guidance: float = 1.0  # 1 is none: classifier-free guidance (Ho and Salimans 2022) away from no class and theme
    # Of orders "confidence" and "chance":
    growth: float = 2.0  # power of the share of steps that are done: what is kept grows as that
    settle: float = 0.0  # share of the steps, the last, in which all is kept and judged anew
    seams: float = 0.0  # weight of how well a token goes on what is drawn at its edges
    choice_temperature: float = 0.0  # of order "confidence": noise in the choice of what is kept, fading out

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise UsageError(f"order must be one of {', '.join(get_args(Order))}, not {self.order}")
        bounds: dict[str, tuple[float, float]] = {
            "steps": (1, 1000),
            "temperature": (0.01, 100),
            "temperature_end": (0.01, 100),
            "share": (0.001, 1),
            "share_end": (0.001, 1),
            "all_below": (0, math.inf),
            "min_steps": (0, math.inf),
            "guidance": (0, 100),
            "growth": (1, 100),
            "choice_temperature": (0, 100),
            "settle": (0, 0.9),
            "seams": (0, 10),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:  # false for NaN
                raise UsageError(f"{name.replace('_', '-')} must lie in {low} .. {high}, not {value}")


def sample(
    predict: Predict,
    draw: Draw,
    *,
    options: Options,
    shape: tuple[int, int],
    vocabulary: int,
    labels: Tokens,
    themes: Floats,
    unlabelled: int,
    seed: int,
    indices: Sequence[int],
    evidence: Evidence | None = None,
    fixed: tuple[Mask, Tokens] | None = None,
    watch: Callable[[Tokens], None] | None = None,
) -> Tokens:
    """Draw the tokens [B, N] i64 of the images `indices` of `seed`.

    `shape` is that of their grid, `vocabulary` the number of tokens to choose from, `labels` [B] the class of each
    image, `themes` [B, K] its theme, `unlabelled` the label of no class; `evidence` gives what `draw` takes of that
    name. Where the mask of `fixed` [B, N] is true, the tokens of `fixed` [B, N] stay. `watch` is given the tokens
    [B, N] before the first step and after each; it may keep them.

    Order "random": a random share of the tokens is redrawn at each step. Order "confidence": all are, and the next step
    sees only the surest of them, more at each step (as Chang et al. 2022, MaskGIT, whose cosine is near `growth` 2).
    Order "chance": it sees as many, chosen anew by lot, so that no others need be drawn. The surest are the plainest:
    they make for a safe fill, and for bald heads. Tokens drawn at once do not know of each other: the higher the
    growth, the fewer of them decide on the colours of all. While it settles, it sees all of them: what was drawn in the
    dark can still be mended, on the black and the white squares of a chessboard in turn, so that no two neighbours
    change at once.
    An image is finished, and leaves the batch, when as many draws in a row as it has tokens to draw changed nothing.
    """
    length = shape[0] * shape[1]
    colour = np.indices(shape).sum(0).ravel() % 2  # of squares
    u = uniform(seed, indices, 0, Purpose.TOKENS, (length,))  # in float32, u * vocabulary could round up to it
    tokens = np.multiply(u, vocabulary, dtype=np.float64).astype(np.int64)  # z_0
    free = np.ones_like(tokens, bool)
    if fixed is not None:
        free = ~fixed[0]
        tokens = np.where(free, tokens, fixed[1])
    if watch:
        watch(tokens.copy())
    known = ~free  # of these, those that are no noise
    calm = np.zeros(len(tokens), np.int64)  # draws since a token changed
    rows = np.flatnonzero(free.any(1))  # images that are not finished
    temperatures = np.linspace(options.temperature, options.temperature_end, options.steps, dtype=np.float32)
    shares = np.linspace(options.share, options.share_end, options.steps)
    if options.steps < options.all_below:
        shares[:] = 1

    for step, (temperature, share) in enumerate(zip(temperatures, shares, strict=True), 1):
        if not rows.size:
            break
        address = seed, [indices[row] for row in rows.tolist()], step
        before, may_change = tokens[rows], free[rows]
        seen = np.ones_like(may_change) if options.order == "random" else known[rows]
        hidden = predict(before, labels[rows], themes[rows], seen)  # [B, N, D]
        if options.guidance != 1:
            unguided = predict(before, np.full(len(rows), unlabelled, np.int64), np.zeros_like(themes[rows]), seen)
            # The only arithmetic on features that is not in a graph: they come here for it.
            guided, hidden = np.asarray(hidden, np.float32), np.asarray(unguided, np.float32)
            hidden = hidden + options.guidance * (guided - hidden)
        done = min(1.0, step / (options.steps * (1 - options.settle)))
        settling = np.asarray(known[rows].all(1))
        if options.order == "random":
            update = _largest(uniform(*address, Purpose.UPDATE, (length,)), may_change, share)
        else:
            chance = uniform(*address, Purpose.CHOICE, (length,))
            update = may_change & (~settling[:, None] | (colour == step % 2))
        if options.order == "chance":
            keep = _largest(chance, may_change, done**options.growth)
            update &= keep
        u = uniform(*address, Purpose.CATEGORY, (length,))
        # What is drawn comes here, to be chosen from: 12 bytes a token.
        more = () if evidence is None else (evidence(before, known[rows]),)
        heat, judge = np.full(len(rows), temperature), np.full(len(rows), options.order == "confidence")
        after, probability = map(np.asarray, draw(hidden, before, update, heat, u, judge, *more))
        tokens[rows] = after
        if options.order == "confidence":
            gumbel = -np.log(-np.log(np.maximum(chance, 1e-30)))
            sureness = np.log(np.maximum(probability, 1e-30)) + options.choice_temperature * (1 - done) * gumbel
            keep = _largest(sureness, may_change, done**options.growth)
        if options.order != "random":
            known[rows] = ~may_change | keep
        if watch:
            watch(tokens.copy())

        changed = (after != before).any(1)
        if options.order == "chance":
            changed |= ~settling  # what the network did not see is still to be drawn
        calm[rows] = np.where(changed, 0, calm[rows] + update.sum(1))
        if step >= options.min_steps:
            rows = rows[calm[rows] < may_change.sum(1)]
    return tokens


_BONUS = 10.0  # nats: the odds of one token are read in float32, which both 1 and exp(-10) fit


def likelihood(
    predict: Predict,
    draw: Draw,
    tokens: Tokens,
    free: Mask,
    *,
    labels: Tokens,
    themes: Floats,
    seed: int,
) -> Floats:
    """Log-probabilities f32 [B, N], in nats, of the `free` tokens given the others; 0 where a token is not free.

    A random half of the free tokens is hidden and judged at a time: the same for all images, so that they are judged
    alike. Probabilities below exp(-10) of that of the likeliest token are given as about that.
    """
    first = uniform(seed, [0], 0, Purpose.HALVES, tokens.shape[1:]) < 0.5
    result = np.zeros(tokens.shape, np.float32)
    for half in free & first, free & ~first:
        hidden = np.array(predict(tokens, labels, themes, ~half), np.float32)  # [B, N, D]
        # `draw` tells the probability of what it draws. A bonus for the token in question has it drawn at the lowest of
        # temperatures, unless another is that much likelier, and multiplies its odds by a known factor.
        hidden[..., -1] = _BONUS
        coldest, middle = np.full(len(tokens), 0.01, np.float32), np.full(tokens.shape, 0.5, np.float32)
        judge = np.ones(len(tokens), bool)
        drawn, probability = map(np.asarray, draw(hidden, tokens, half, coldest, middle, judge))
        with np.errstate(divide="ignore"):
            odds = np.log(probability) - np.log1p(-np.minimum(probability, 1)) - _BONUS
            judged = np.where(drawn == tokens, -np.logaddexp(0, -odds), np.log(probability) - _BONUS)
        result[half] = judged[half]
    return result


def choose_themes(kept: Floats, labels: Tokens, *, seed: int, indices: Sequence[int]) -> Floats:
    """A theme [B, K] for each of the images `indices` of `seed`, among those kept [L, M, K] for each of L labels."""
    u = uniform(seed, indices, 0, Purpose.THEME, (1,))[:, 0]
    return kept[labels, np.multiply(u, kept.shape[1], dtype=np.float64).astype(np.int64)]


def _largest(scores: npt.NDArray[np.floating], among: Mask, share: float) -> Mask:
    """Where the largest scores of each row lie: a share, rounded up, of those `among` which to choose, all [B, N]."""
    order = np.argsort(np.where(among, -scores, np.inf), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    largest: Mask = ranks < np.ceil(among.sum(1, keepdims=True) * share - 1e-6)  # 40 * 0.3 is a little above 12
    return largest
