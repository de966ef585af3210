"""Tiled convolutions: the algebra in float64, and graphs against PyTorch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export.graph import export, parity
from export.winograd import tiled, transforms, winograd


def test_the_transforms_make_a_correlation() -> None:
    outputs, kernels, inputs = transforms()
    rng = np.random.default_rng(0)
    signal, kernel = rng.standard_normal(6), rng.standard_normal(3)
    product = outputs @ ((kernels @ kernel) * (inputs @ signal))
    np.testing.assert_allclose(product, np.correlate(signal, kernel, "valid"), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width", "bias"), [(16, 24, True), (32, 16, False)])
def test_a_tiled_layer_gives_what_the_layer_gives(height: int, width: int, bias: bool, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(128, 160, 3, padding=1, bias=bias)).eval()
    path = tmp_path / "tiled.onnx"
    with winograd(network):
        export(network, {"x": torch.randn(2, 128, height, width)}, path, ["y"])
    assert max(parity(network, path, lambda batch: {"x": torch.randn(batch, 128, height, width)}, 2e-5).values()) > 0
    assert [node.op_type for node in onnx.load(path).graph.node].count("DepthToSpace") == 1
    held = {tuple(weight.dims) for weight in onnx.load(path).graph.initializer}
    assert (160, 128, 3, 3) in held and (36, 1, 160, 128) not in held  # which is made when it is loaded


@pytest.mark.parametrize(("side", "count"), [(8, 0), (18, 0), (16, 1)])
def test_small_images_and_odd_sizes_stay_as_they_are(side: int, count: int, tmp_path: Path) -> None:
    network, path = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1)).eval(), tmp_path / "tiled.onnx"
    with winograd(network):
        export(network, {"x": torch.randn(2, 128, side, side)}, path, ["y"])
    assert [node.op_type for node in onnx.load(path).graph.node].count("DepthToSpace") == count


def test_other_layers_are_not_tiled() -> None:
    others = nn.Sequential(
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(64, 128, 3, padding=1),
    )
    assert not tiled(others)
    with winograd(others):
        assert not any("forward" in vars(layer) for layer in others)
