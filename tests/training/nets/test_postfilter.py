"""Steps between patches in closed form, a blurred edge, and what both filters leave alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.nets.test_vqgan import TINY
from training.nets.postfilter import LEVEL, REACH, deblocked, postfilter, sharpened
from training.nets.vqgan import VQGAN


def halves(left: float, right: float) -> Tensor:
    """Two patches of 32x32 side by side and two below, each pair of these grey levels: (1, 3, 64, 64)."""
    picture = torch.full((1, 3, 64, 64), left * LEVEL - 1)
    picture[..., 32:] = right * LEVEL - 1
    return picture


def levels(picture: Tensor) -> np.ndarray:
    """The first row of the first channel, in levels."""
    return ((picture[0, 0, 0].double() + 1) / LEVEL).numpy()


def test_a_small_step_becomes_a_ramp() -> None:
    row = levels(deblocked(halves(100, 110), 32, 3))
    # Half of the step at the border, falling evenly over the reach: sixteen equal steps.
    ramp = 100 + 10 * (np.arange(2 * REACH) + 0.5) / (2 * REACH)
    expected = np.r_[np.full(32 - REACH, 100), ramp, np.full(32 - REACH, 110)]
    np.testing.assert_allclose(row, expected, atol=1e-4)


def test_rows_are_as_columns() -> None:
    picture = torch.rand(2, 3, 96, 64)
    assert torch.equal(deblocked(picture, 32, 2), deblocked(picture.transpose(2, 3), 32, 3).transpose(2, 3))


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(halves(100, 100), id="one plane"),
        pytest.param(halves(50, 100), id="a line of the picture at the border"),
        pytest.param(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1, id="nothing plain"),
    ],
)
def test_what_is_no_small_step_in_a_plane_stays(picture: Tensor) -> None:
    assert torch.equal(deblocked(picture, 32, 3), picture)


def test_what_is_of_another_colour_stays() -> None:
    """A spot near the border: the plane around it is smoothed, the spot is not."""
    picture = halves(100, 110)
    picture[..., 20:24, 36:38] = 1
    changed = deblocked(picture, 32, 3)
    assert torch.equal(changed[..., 20:24, 36:38], picture[..., 20:24, 36:38])
    assert (changed[..., 20:24, 32:36] != picture[..., 20:24, 32:36]).all()


def test_a_step_that_little_changes_changes_little() -> None:
    """No threshold makes rounding matter: exported graphs are to draw the same."""
    torch.manual_seed(0)
    picture = 0.2 * torch.rand(1, 3, 64, 64).round(decimals=2)
    other = picture + 1e-6 * torch.randn_like(picture)
    assert (postfilter(other, 32) - postfilter(picture, 32)).abs().max() < 1e-4


def test_edges_are_sharpened_without_rings() -> None:
    """An edge that was blurred by 3x3: of its pixels -1/6 and 1/6, the means of 5x5 are -1/10 and 1/10."""
    edge = torch.where(torch.arange(64) < 30, -0.5, 0.5).expand(1, 3, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(edge, 3, 1, 1, count_include_pad=False)
    expected = edge.clone()
    expected[..., 29:31] = torch.tensor([-0.3, 0.3])
    torch.testing.assert_close(sharpened(blurred), expected)


def test_training_in_half_precision_filters_in_full() -> None:
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        filtered = postfilter(picture, 32)
    assert torch.equal(filtered, postfilter(picture, 32))


def test_grain_shrinks_and_planes_stay() -> None:
    torch.manual_seed(0)
    grain = LEVEL * torch.rand(1, 3, 64, 64) * 4
    assert sharpened(grain).std() < 0.8 * grain.std()
    assert torch.equal(sharpened(halves(100, 100)), halves(100, 100))


def test_a_decoder_filters_what_it_has_mended() -> None:
    torch.manual_seed(0)
    plain, filtered = VQGAN(TINY), VQGAN(replace(TINY, postfilter=True))
    filtered.load_state_dict(plain.state_dict())
    tokens = torch.randint(16, (2, 2, 3))
    assert torch.equal(filtered.decode(tokens), postfilter(plain.decode(tokens), 32))
