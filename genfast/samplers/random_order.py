"""Parallel decoding in random order: as MaskGIT, but that lots are drawn over which tokens stay.

With one token a step this is the order-agnostic sampler of ARDM (Hoogeboom et al. 2022, algorithm 1), with more it is
their parallel one.
"""

from genfast.samplers.noise import Purpose
from genfast.samplers.options import RandomOrderOptions
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


def random_order(
    network: TokenNetwork, batch: TokenBatch, options: RandomOrderOptions, callback: Callback | None = None
) -> Tokens:
    """Draw a random share of the tokens, larger at each step and chosen anew: tokens [B, N].

    The next step sees these alone, so that no others need be drawn (Hoogeboom et al. 2022, section 3.3).
    """
    tokens, free = batch.initial(network.vocabulary), batch.free
    if callback:
        callback(tokens.copy())
    known = ~free
    for step, temperature in enumerate(temperatures(options), 1):
        lots = batch.uniform(step, Purpose.CHOICE)
        kept = largest(lots, free, options.known_share(step))
        tokens, _ = token_step(
            network,
            batch,
            tokens,
            step,
            known=known,
            update=kept & redrawable(known, batch.shape, step),
            temperature=temperature,
            guidance=options.guidance,
        )
        known = ~free | kept
        if callback:
            callback(tokens.copy())
    return tokens
