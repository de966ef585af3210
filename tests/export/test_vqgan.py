"""export/vqgan.py: a small VQ-GAN with codes by region, there and back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.vqgan import ALIKE, CELL, SPREAD, TINY, vqgan
from genfast.runtime.session import Session
from training.nets.vqgan import VQGAN, VQGANConfig

SIDE = 4


def small(regions: int = 2) -> VQGAN:
    """Random weights, which half precision holds."""
    torch.manual_seed(0)
    config = VQGANConfig(
        codes=40, latent=8, regions=regions, encoder=(8, 8, 8), decoder=(8, 8, 8, 8), postfilter=regions > 1
    )
    network = VQGAN(config).eval()
    for layer in (network.encoder.network[-1], network.decoder.network[-2]):
        nn.init.normal_(layer.weight, std=0.1)
    return network.half().float()


def patches(network: VQGAN, row: int, column: int) -> np.ndarray:
    """What the linear path draws for each code at a place of the grid: float64 (V, 3, 32, 32)."""
    regions = network.config.regions
    region = (row * regions // SIDE) * regions + column * regions // SIDE
    return network.decoder.linear(network.codebook[region][:, :, None, None]).double().numpy()


@pytest.mark.slow
@pytest.mark.parametrize("regions", [1, 2])
@torch.inference_mode()
def test_there_and_back(regions: int, tmp_path: Path) -> None:
    network = small(regions)
    differences = vqgan(network, SIDE, tmp_path)
    assert differences["encode"] == {"1": 0, "2": 0, "7": 0}
    assert max(differences["decode"].values()) <= 1

    z = torch.randint(40, (3, SIDE, SIDE))
    image = Session(tmp_path / "decode.onnx", "cpu").run(tokens=z.flatten(1).numpy())["image"]
    assert image.shape == (3, 32 * SIDE, 32 * SIDE, 3) and image.dtype == np.uint8 and image.std() > 10
    levels = (network.decode(z).permute(0, 2, 3, 1).clamp(-1, 1) + 1) * 127.5
    assert np.abs(image - levels.numpy()).max() <= 0.51

    found = Session(tmp_path / "encode.onnx", "cpu").run(image=image)["tokens"]
    again = network.encode(torch.from_numpy(image).permute(0, 3, 1, 2) / 127.5 - 1)
    np.testing.assert_array_equal(found, again.flatten(1))


@pytest.mark.slow
@pytest.mark.parametrize("regions", [1, 2])
@torch.inference_mode()
def test_logit_biases_are_the_likelihood_of_what_is_known(regions: int, tmp_path: Path) -> None:
    """Against patches drawn one by one, in float64."""
    network = small(regions)
    network.codebook.mul_(3)
    vqgan(network, SIDE, tmp_path)
    session = Session(tmp_path / "pixel_likelihood.onnx", "cpu")
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(1, 32 * SIDE, 32 * SIDE, 3), dtype=np.uint8)
    known = np.ones(image.shape[:3], bool)
    known[:, 32:71, 10:90] = False
    got, *fewer = (
        session.run(image=image, known=known, wanted=np.arange(SIDE**2)[None] >= first)["logit_bias"]
        for first in (0, SIDE + 2, SIDE**2 - 1, SIDE**2)  # all of them, ..., the last alone, none
    )
    for some, first in zip(fewer, (SIDE + 2, SIDE**2 - 1, SIDE**2), strict=True):
        np.testing.assert_array_equal(some[:, first:], got[:, first:])
    assert got.shape == (1, SIDE**2, 40) and got[0, :SIDE].any() and not got[0, SIDE + 1].any()  # all of it is hidden

    cells = 32 // CELL
    for place in (0, SIDE, SIDE + 2, 2 * SIDE + 1):
        row, column = divmod(place, SIDE)
        patch = np.s_[0, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        seen = (image[patch] / 127.5 - 1).transpose(2, 0, 1)
        error = (patches(network, row, column) - seen).reshape(-1, 3, cells, CELL, cells, CELL)
        whole = known[patch].reshape(cells, CELL, cells, CELL).all((1, 3))
        squares, n = (error.mean((3, 5)) ** 2 * whole).sum((1, 2, 3)), 3 * whole.sum()
        wanted = -(1 + n / (2 * ALIKE)) * np.log(1 + squares / (n * SPREAD**2 + 2 * TINY))
        np.testing.assert_allclose(got[0, place], wanted, rtol=1e-3)


@pytest.mark.slow
@torch.inference_mode()
def test_a_graph_of_other_codes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small()

    class Swapped(VQGAN):
        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return super().encode(images).flip(1)

    network.__class__ = Swapped
    with pytest.raises(ValueError, match="encode.onnx: torch and onnxruntime differ"):
        vqgan(network, SIDE, tmp_path)
