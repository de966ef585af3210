"""Sampling from a step-unrolled denoising autoencoder (Savinov et al. 2022, section 2.3) over the tokens of an image.

As McKinney and Willcocks 2022 do, section 3.5: a random share of the tokens a step, annealing, freezing, early stop.
"""

import numpy as np

from genfast.samplers.noise import Purpose
from genfast.samplers.options import SundaeOptions
from genfast.samplers.token_step import Callback, TokenBatch, TokenNetwork, largest, temperatures, token_step
from genfast.types import Tokens


def sundae(
    network: TokenNetwork, batch: TokenBatch, options: SundaeOptions, callback: Callback | None = None
) -> Tokens:
    """Predict all tokens from all tokens, and draw a random share of them anew at each step: tokens [B, N].

    An image is finished, and leaves the batch, when the last N draws changed no token, N being the number of its free
    tokens. The draws of one step alone would say little: half of the tokens of a small hole may be no token at all.
    """
    tokens, free = batch.initial(network.vocabulary), batch.free
    if callback:
        callback(tokens.copy())
    unchanged = np.zeros(len(tokens), np.int64)  # draws since a token of an image changed
    active = np.flatnonzero(free.any(1))  # images that are not finished
    ratios = np.linspace(options.redraw_ratio, options.redraw_ratio_end, options.steps)
    for step, (temperature, ratio) in enumerate(zip(temperatures(options), ratios, strict=True), 1):
        if not active.size:
            break
        before, some = tokens[active], batch.take(active)
        update = largest(some.uniform(step, Purpose.UPDATE), some.free, ratio)
        after, _ = token_step(
            network,
            some,
            before,
            step,
            known=np.ones_like(update),
            update=update,
            temperature=temperature,
            guidance=options.guidance,
        )
        tokens[active] = after
        if callback:
            callback(tokens.copy())
        changed = (after != before).any(1)
        unchanged[active] = np.where(changed, 0, unchanged[active] + update.sum(1))
        if step >= options.min_steps:
            active = active[unchanged[active] < some.free.sum(1)]
    return tokens
