"""export/vqgan.py: a small VQ-GAN with codes by region, there and back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.vqgan import vqgan
from genfast.session import Session
from training.nets.vqgan import VQGAN, VQGANConfig

SIDE = 4


def small(regions: int = 2) -> VQGAN:
    """Random weights, which half precision holds."""
    torch.manual_seed(0)
    config = VQGANConfig(codes=40, latent=8, regions=regions, encoder=(8, 8, 8), decoder=(8, 8, 8, 8))
    network = VQGAN(config).eval()
    for layer in (network.encoder.network[-1], network.decoder.network[-2]):
        nn.init.normal_(layer.weight, std=0.1)
    return network.half().float()


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


@torch.inference_mode()
def test_a_graph_of_other_codes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small()

    class Swapped(VQGAN):
        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return super().encode(images).flip(1)

    network.__class__ = Swapped
    with pytest.raises(ValueError, match="encode.onnx: torch and onnxruntime differ"):
        vqgan(network, SIDE, tmp_path)
