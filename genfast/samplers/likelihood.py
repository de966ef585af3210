"""How likely a prior over tokens finds the tokens of an image."""

import numpy as np

from genfast.samplers.noise import Purpose, uniform
from genfast.samplers.token_step import TokenBatch, TokenNetwork
from genfast.types import Floats, Tokens

_BONUS = 10.0  # nats: the odds of one token are read in float32, which both 1 and exp(-10) fit


def pseudo_log_likelihood(network: TokenNetwork, batch: TokenBatch, tokens: Tokens) -> Floats:
    """Log-probability f32 [B, N], in nats, of each free token of `batch` given the others; 0 where a token is fixed.

    Besag 1975, but for a random half of the free tokens, which is hidden and judged at a time: the same for all images,
    so that they are judged alike. Probabilities below exp(-10) of that of the likeliest token are given as about that.
    """
    free = batch.free
    first = uniform(batch.seed, [0], 0, Purpose.HALVES, tokens.shape[1:]) < 0.5
    result = np.zeros(tokens.shape, np.float32)
    nothing = np.zeros((*tokens.shape, 1), np.float32)
    for half in free & first, free & ~first:
        hidden = np.array(network.predict(tokens, batch.labels, batch.draft, ~half), np.float32)  # (B, N, D)
        # `draw` tells the probability of what it draws. A bonus for the token in question has it drawn at the lowest of
        # temperatures, unless another is that much likelier, and multiplies its odds by a known factor.
        hidden[..., -1] = _BONUS
        coldest, middle = np.full(len(tokens), 0.01, np.float32), np.full(tokens.shape, 0.5, np.float32)
        asked = np.ones(len(tokens), bool)
        drawn, probability = map(np.asarray, network.draw(hidden, tokens, half, coldest, middle, asked, nothing))
        with np.errstate(divide="ignore"):
            odds = np.log(probability) - np.log1p(-np.minimum(probability, 1)) - _BONUS
            judged = np.where(drawn == tokens, -np.logaddexp(0, -odds), np.log(probability) - _BONUS)
        result[half] = judged[half]
    return result
