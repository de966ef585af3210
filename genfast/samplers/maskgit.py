"""MaskGIT's parallel decoding (Chang et al. 2022, section 3.2): the surest tokens stay, more of them at each step."""

import numpy as np

from genfast.samplers.noise import Purpose
from genfast.samplers.options import MaskGITOptions
from genfast.samplers.token_step import (
    Callback,
    TokenBatch,
    TokenNetwork,
    largest,
    redrawable,
    temperatures,
    token_step,
)
from genfast.types import Tokens


def maskgit(
    network: TokenNetwork, batch: TokenBatch, options: MaskGITOptions, callback: Callback | None = None
) -> Tokens:
    """Draw all tokens at each step and keep the surest (Chang et al. 2022, section 3.2): tokens [B, N].

    The surest are the plainest: they make for a safe fill, and for bald heads. Tokens drawn at once do not know of each
    other: the higher the power, the fewer of them decide on the colours of all.
    """
    tokens, free = batch.initial(network.vocabulary), batch.free
    if callback:
        callback(tokens.copy())
    known = ~free
    for step, temperature in enumerate(temperatures(options), 1):
        tokens, probability = token_step(
            network,
            batch,
            tokens,
            step,
            known=known,
            update=free & redrawable(known, batch.shape, step),
            temperature=temperature,
            guidance=options.guidance,
            return_prob=True,
        )
        # Their section 3.2, "random sampling": noise of Gumbel's distribution in the choice, fading out.
        gumbel = -np.log(-np.log(np.maximum(batch.uniform(step, Purpose.CHOICE), 1e-30)))
        noise = options.choice_temperature * (1 - options.progress(step)) * gumbel
        confidence = np.log(np.maximum(probability, 1e-30)) + noise
        known = ~free | largest(confidence, free, options.known_share(step))
        if callback:
            callback(tokens.copy())
    return tokens
