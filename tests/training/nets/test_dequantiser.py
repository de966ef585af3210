"""What a decoder reads: the codes at first; and errors of latents as errors of pixels."""

import torch
from torch import nn

from training.nets.dequantiser import Dequantiser, DequantiserConfig, latent_error, pixel_metric

TINY = DequantiserConfig(tokens=8, widths=(32, 64), heads=(1, 1), depths=(1, 1, 1), head=32)


def test_latents_are_the_codes_at_first() -> None:
    torch.manual_seed(0)
    codes = torch.randn(2, 6, 8, 8)
    read = Dequantiser(TINY, 6)(codes)
    assert read.shape == (2, 6 + 32, 8, 8)
    torch.testing.assert_close(read[:, :6], codes)


def test_every_token_is_read() -> None:
    torch.manual_seed(0)
    network = Dequantiser(TINY, 6)
    nn.init.normal_(network.leave.weight)
    codes = torch.randn(1, 6, 8, 8)
    other = codes.clone()
    other[..., 0, 0] += 1
    assert ((network(codes) - network(other))[0, :6].abs().amax(0) > 0).all()


def test_an_error_of_latents_is_that_of_what_is_drawn() -> None:
    torch.manual_seed(0)
    linear = nn.ConvTranspose2d(5, 3, 4, stride=4)
    one, two = torch.randn(2, 2, 5, 3, 3)
    drawn = (linear(one) - linear(two)).square().mean(1)  # (B, 12, 12)
    expected = drawn.unflatten(1, (3, 4)).unflatten(3, (3, 4)).mean((2, 4))
    torch.testing.assert_close(latent_error(one, two, pixel_metric(linear)), expected, atol=1e-4, rtol=1e-4)
