"""The lapped path is the linear map that least squares finds by itself."""

import numpy as np
import torch

from training.init.lapped import fit_lapped
from training.nets.vqgan import FACTOR, lapped


def test_a_linear_map_of_neighbours_is_found() -> None:
    torch.manual_seed(0)
    truth, found = lapped(2, 5), lapped(2, 5)
    with torch.no_grad():
        pairs = [(latents, truth(latents)) for latents in torch.randn(6, 1, 2, 6, 6)]
        fit_lapped(found, pairs)
        other = torch.randn(1, 2, 6, 6)
        torch.testing.assert_close(found(other), truth(other), atol=2e-2, rtol=0)


def test_its_error_is_that_of_least_squares() -> None:
    """Of full rank, on one latent a picture, whose neighbours are itself: an independent computation."""
    torch.manual_seed(1)
    latents, images = torch.randn(40, 1, 3, 1, 1), torch.randn(40, 1, 3, FACTOR, FACTOR)
    path = lapped(3, 20)
    fit_lapped(path, zip(latents, images, strict=True))
    rows, pixels = latents.flatten(1).numpy(), images.flatten(1).numpy()
    rows = np.column_stack([rows, np.ones(40)])
    expected = rows @ np.linalg.lstsq(rows, pixels, rcond=None)[0]
    with torch.no_grad():
        drawn = torch.cat([path(latent) for latent in latents]).flatten(1).numpy()
    np.testing.assert_allclose(drawn, expected, atol=2e-2)
