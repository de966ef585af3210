"""Convolutions of 3x3 with a quarter of the multiplications, for the CPU (Lavin and Gray 2016, section 4.1).

A tile of 4x4 outputs is a polynomial product: taken at six points per axis, it costs 36 multiplications a pair of
channels in place of 144, and two small transforms a channel. onnxruntime has no such kernel; as a graph, the transforms
are a convolution and a matrix product, and those of weights are folded when it loads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from numpy.polynomial.polynomial import polyfromroots
from torch import Tensor, nn
from torch.nn import functional as F
from torch.onnx.ops import symbolic

Matrix = npt.NDArray[np.float64]

TILE, TAPS = 4, 3
POINTS = 0.0, 0.75, -0.75, 1.5, -1.5  # and infinity; half the rounding error of 0, 1, -1, 2, -2
LEAST_SIDE = 16  # pixels; below, reading the weights, which are four times as many, costs more than it saves
LEAST_WIDTH = 128  # channels; below, the transforms cost as much, and memory


def transforms() -> tuple[Matrix, Matrix, Matrix]:
    """Of outputs (4, 6), kernels (6, 3) and inputs (6, 6), along one axis: out = A ((G g) * (B d)) (Toom and Cook)."""
    points = np.array(POINTS)
    outputs, kernels, inputs = np.zeros((TILE, 6)), np.zeros((6, TAPS)), np.zeros((6, 6))
    outputs[:, :5] = points ** np.arange(TILE)[:, None]
    outputs[-1, 5] = kernels[5, -1] = 1
    for i, point in enumerate(points):
        others = np.delete(points, i)
        kernels[i] = point ** np.arange(TAPS) / np.prod(point - others)
        inputs[i, :5] = polyfromroots(others)
    inputs[5] = polyfromroots(points)
    return outputs, kernels, inputs


def _squared(matrix: Matrix) -> Tensor:
    """A transform along one axis as that along both."""
    return torch.from_numpy(np.kron(matrix, matrix).astype(np.float32))


@contextmanager
def winograd(network: nn.Module) -> Iterator[None]:
    """Within, a network is what ONNX is to be written of; do not compute with it.

    Its convolutions of 3x3 are tiled where that is faster.
    """
    outputs, kernels, inputs = map(_squared, transforms())
    layers = tiled(network)
    for layer in layers:
        vars(layer)["forward"] = partial(_convolve, layer, outputs, kernels, inputs)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def tiled(network: nn.Module) -> list[nn.Conv2d]:
    """The layers of a network that are tiled where images are large enough."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and _fits(layer)]


def _fits(layer: nn.Conv2d) -> bool:
    plain = (layer.kernel_size, layer.stride, layer.dilation, layer.groups) == ((3, 3), (1, 1), (1, 1), 1)
    return plain and layer.padding == (1, 1) and min(layer.in_channels, layer.out_channels) >= LEAST_WIDTH


def _convolve(layer: nn.Conv2d, outputs: Tensor, kernels: Tensor, inputs: Tensor, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    if height % TILE or width % TILE or min(height, width) < LEAST_SIDE:
        return nn.Conv2d.forward(layer, x)
    out, rows, columns = layer.out_channels, height // TILE, width // TILE
    maps = x.reshape(-1, 1, height, width)  # (B C, 1, H, W)
    tiles = F.conv2d(maps, inputs.view(36, 1, 6, 6), stride=TILE, padding=1)  # (B C, 36, H/4, W/4)
    tiles = tiles.flatten(2).transpose(0, 1).reshape(36, batch, channels, rows * columns)
    weight = (layer.weight.reshape(-1, 9) @ kernels.T).T.reshape(36, 1, out, channels)
    product = (weight @ tiles).reshape(36, -1)  # (36, B C' HW/16)
    tiles = (outputs @ product).reshape(1, -1, rows, columns)  # (1, 16 B C', H/4, W/4)
    y = symbolic(
        "DepthToSpace",
        [tiles],
        {"blocksize": TILE, "mode": "DCR"},
        dtype=x.dtype,
        shape=(1, batch * out, height, width),
    ).reshape(batch, out, height, width)
    return y if layer.bias is None else y + layer.bias[:, None, None]
