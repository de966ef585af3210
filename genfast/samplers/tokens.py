"""Sampling by whichever sampler the options are of."""

from typing import Annotated

from pydantic import Discriminator

from genfast.samplers.maskgit import maskgit
from genfast.samplers.options import MaskGITOptions, RandomOrderOptions, SundaeOptions, TokenOptions
from genfast.samplers.random_order import random_order
from genfast.samplers.sundae import sundae
from genfast.samplers.token_step import Callback, TokenBatch, TokenNetwork
from genfast.types import Tokens

AnyTokenOptions = Annotated[MaskGITOptions | RandomOrderOptions | SundaeOptions, Discriminator("sampler")]


def sample(network: TokenNetwork, batch: TokenBatch, options: TokenOptions, callback: Callback | None = None) -> Tokens:
    """Draw the tokens [B, N] of a batch by the sampler that `options` are of."""
    match options:
        case MaskGITOptions():
            return maskgit(network, batch, options, callback)
        case RandomOrderOptions():
            return random_order(network, batch, options, callback)
        case SundaeOptions():
            return sundae(network, batch, options, callback)
    raise TypeError(f"{type(options).__name__} is of no sampler")
