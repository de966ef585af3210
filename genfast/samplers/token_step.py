"""What all samplers of tokens share: the network as two functions, the batch to draw, and one step.

From random tokens on, every step predicts all tokens from those that are visible and draws some of them anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from genfast.samplers.noise import Purpose, uniform
from genfast.samplers.options import TokenOptions
from genfast.types import Floats, Mask, Tokens

Callback = Callable[[Tokens], None]
"""Is given the tokens [B, N] before the first step and after each; it may keep them."""


class Predict(Protocol):
    """The network but for its output layer, for B images of N tokens.

    tokens [B, N] i64, label [B] i64, draft [B, N, K] f32, known [B, N] bool -> hidden [B, N, D] f32, in which the
    logits are linear. It may stay on a device and need not outlive the call after the next: np.asarray brings it here.
    A draft says what the attributes of an image tell of each place; zeros tell nothing, and K is 0 for a model that
    knows of no attributes. Tokens that are not known are not looked at.
    """

    def __call__(self, tokens: Tokens, label: Tokens, draft: Floats, known: Mask, /) -> npt.ArrayLike: ...


class Draw(Protocol):
    """The output layer, and one token drawn from each distribution by its inverse CDF.

    hidden [B, N, D] f32, tokens [B, N] i64 that `hidden` was predicted from, update [B, N] bool, temperature [B] f32,
    uniform [B, N] f32 in [0, 1), return_prob [B] bool, logit_bias [B, N, V] f32, which is added to the logits and is
    [B, N, 1] where it is none -> tokens [B, N] i64, drawn anew where `update` is true, and the probability of each at
    temperature 1 [B, N] f32, which is 1 elsewhere, and void for an image without `return_prob`.
    The last of D is added to the logit of the token of `tokens`: the bonus for keeping it.
    """

    def __call__(
        self,
        hidden: npt.ArrayLike,
        tokens: Tokens,
        update: Mask,
        temperature: Floats,
        uniform: Floats,
        return_prob: Mask,
        logit_bias: npt.ArrayLike,
        /,
    ) -> tuple[npt.ArrayLike, npt.ArrayLike]: ...


@dataclass(frozen=True)
class TokenNetwork:
    """A prior over tokens, as its two graphs. `vocabulary` tokens to choose from; `unlabelled` is the label of none."""

    predict: Predict
    draw: Draw
    vocabulary: int
    unlabelled: int


@dataclass(frozen=True)
class TokenBatch:
    """B images to draw, and what is told of them.

    `fixed` are tokens that stay: where [B, N], and which [B, N]. `logit_bias` [B, N, V], in nats, is what the visible
    pixels of a picture say of its tokens.
    """

    seed: int
    indices: Sequence[int]  # of the images
    shape: tuple[int, int]  # (h, w) of their grids, N = h * w
    labels: Tokens  # [B]
    draft: Floats  # [B, N, K]
    fixed: tuple[Mask, Tokens] | None = None
    logit_bias: npt.ArrayLike | None = None

    @property
    def free(self) -> Mask:
        """Which tokens [B, N] are to be drawn."""
        if self.fixed is None:
            return np.ones((len(self.indices), self.shape[0] * self.shape[1]), bool)
        return ~self.fixed[0]

    def initial(self, vocabulary: int) -> Tokens:
        """Random tokens z_0 [B, N], but for those that are fixed."""
        free = self.free
        u = uniform(self.seed, self.indices, 0, Purpose.TOKENS, free.shape[1:])
        # In float32, u * vocabulary could round up to it.
        tokens = np.multiply(u, vocabulary, dtype=np.float64).astype(np.int64)
        return tokens if self.fixed is None else np.where(free, tokens, self.fixed[1])

    def uniform(self, step: int, purpose: Purpose) -> Floats:
        """A number in [0, 1) for each token [B, N]."""
        return uniform(self.seed, self.indices, step, purpose, (self.shape[0] * self.shape[1],))

    def take(self, rows: npt.NDArray[np.intp]) -> "TokenBatch":
        """Some of the images alone."""
        return replace(
            self,
            indices=[self.indices[row] for row in rows.tolist()],
            labels=self.labels[rows],
            draft=self.draft[rows],
            fixed=None if self.fixed is None else (self.fixed[0][rows], self.fixed[1][rows]),
            logit_bias=None if self.logit_bias is None else np.asarray(self.logit_bias)[rows],
        )


def temperatures(options: TokenOptions) -> Floats:
    """The temperature of each step [steps]."""
    return np.linspace(options.temperature, options.temperature_end, options.steps, dtype=np.float32)


def token_step(
    network: TokenNetwork,
    batch: TokenBatch,
    tokens: Tokens,
    step: int,
    *,
    known: Mask,
    update: Mask,
    temperature: np.float32,
    guidance: float = 1.0,
    return_prob: bool = False,
) -> tuple[Tokens, Floats]:
    """Predict tokens [B, N] from those that are known [B, N], and draw those of `update` [B, N] anew.

    Returns all tokens [B, N], and the probability [B, N] of each that was drawn, void unless `return_prob`. Guidance is
    classifier-free (Ho and Salimans 2022, equation 6, where it is w + 1), away from no class and no draft.
    """
    hidden = network.predict(tokens, batch.labels, batch.draft, known)  # (B, N, D)
    if guidance != 1:
        nobody = np.full_like(batch.labels, network.unlabelled), np.zeros_like(batch.draft)
        unguided = network.predict(tokens, *nobody, known)
        # The only arithmetic on features that is not in a graph: they come here for it.
        guided, hidden = np.asarray(hidden, np.float32), np.asarray(unguided, np.float32)
        hidden = hidden + guidance * (guided - hidden)
    drawn, probability = network.draw(
        hidden,
        tokens,
        update,
        np.full(len(tokens), temperature),
        batch.uniform(step, Purpose.CATEGORY),
        np.full(len(tokens), return_prob),
        np.zeros((*tokens.shape, 1), np.float32) if batch.logit_bias is None else batch.logit_bias,
    )
    return np.asarray(drawn), np.asarray(probability)


def redrawable(known: Mask, shape: tuple[int, int], step: int) -> Mask:
    """Which tokens may be drawn at a step: all [B, N] or, of an image whose tokens are all known, every other one.

    While an image is refined, what was drawn in the dark can still be mended, on the black and the white squares of a
    chessboard in turn, so that no two neighbours change at once.
    """
    colour = np.indices(shape).sum(0).ravel() % 2  # of squares
    refining = known.all(1, keepdims=True)  # (B, 1)
    allowed: Mask = ~refining | (colour == step % 2)
    return allowed


def largest(scores: npt.NDArray[np.floating], among: Mask, share: float) -> Mask:
    """Where the largest scores of each row lie: a share, rounded up, of those `among` which to choose, all [B, N]."""
    order = np.argsort(np.where(among, -scores, np.inf), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    found: Mask = ranks < np.ceil(among.sum(1, keepdims=True) * share - 1e-6)  # 40 * 0.3 is a little above 12
    return found
