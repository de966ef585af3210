"""The ratio of blocks: of steps that are known."""

import numpy as np
import pytest

from genfast.metrics.blocks import ratio, steps


def test_a_ramp_has_no_blocks_and_tiles_have_nothing_else() -> None:
    ramp = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)[..., None]
    assert ratio([ramp, ramp]) == pytest.approx(1)
    tiles = np.kron(np.array([[0, 90], [90, 0]], np.uint8), np.ones((32, 32), np.uint8))[..., None]
    assert steps(tiles, 32) == (180, 0) and steps(tiles, 16) == (60, 0)


def test_pictures_count_together() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(3)]
    across, elsewhere = np.sum([steps(picture, 32) for picture in pictures], axis=0)
    assert ratio(pictures) == pytest.approx(across / elsewhere) and 0.9 < ratio(pictures) < 1.1
