"""Random numbers that belong to an image, not to a run.

Every draw is addressed by (seed, image index, step, purpose), so image 50 of seed 7 is the same image alone, in a
batch of 64, or on another day. The streams come from Philox 4x64-10, a counter-based generator (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"): the seed is its key, the address the upper three words of its counter.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from numpy.random import Generator, Philox

from genfast.errors import UsageError


class Purpose(IntEnum):
    """What a draw is for. Values are part of what a seed means: never renumber."""

    PRIOR = 0  # x_T
    LATENT = 1  # z, the generator's own input
    POSTERIOR = 2  # the noise of q(x_{t-1} | x_t, x_0)
    TOKENS = 3  # random tokens: z_0
    CATEGORY = 4  # the uniform number that picks a token from its distribution
    UPDATE = 5  # which tokens are redrawn
    CHOICE = 6  # the lot of a token, or what is added to the confidence in it
    KNOWN = 7  # the noise of q(x_t | x_0) on pixels that are known
    RENEWAL = 8  # the noise of q(x_t | x_{t-1}), where a step is taken again
    HALVES = 9  # which tokens are judged together
    ATTRIBUTES = 10  # which of the rows that a bundle holds; at later steps, what a hole hides


def normal(
    seed: int, indices: Sequence[int], step: int, purpose: Purpose, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Standard normal numbers, float32 [len(indices), *shape]; seed, indices and step in 0 .. 2**64 - 1."""
    draws = np.empty((len(indices), *shape), np.float32)
    for row, generator in zip(draws, _generators(seed, indices, step, purpose), strict=True):
        generator.standard_normal(out=row, dtype=np.float32)
    return draws


def uniform(
    seed: int, indices: Sequence[int], step: int, purpose: Purpose, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Uniform numbers in [0, 1); otherwise as `normal`."""
    draws = np.empty((len(indices), *shape), np.float32)
    for row, generator in zip(draws, _generators(seed, indices, step, purpose), strict=True):
        generator.random(out=row, dtype=np.float32)
    return draws


def _generators(seed: int, indices: Sequence[int], step: int, purpose: Purpose) -> Iterator[Generator]:
    """For each image a generator that stands at its address: always the same one, so use it before the next."""
    philox = Philox(key=np.array([seed, 0], np.uint64))
    generator = Generator(philox)
    state = philox.state  # setting the counter in place costs half of a new generator for each image
    for index in indices:
        state["state"]["counter"][:] = 0, index, step, purpose
        philox.state = state
        yield generator


def check_range(seed: int, indices: Sequence[int]) -> None:
    """Raise UsageError for a seed, or an index, that random numbers are not addressed by."""
    if not all(0 <= x < 2**63 for x in (seed, *indices)):
        raise UsageError("the seed and the indices of images must lie in 0 .. 2**63 - 1")
