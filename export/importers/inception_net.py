"""The Inception network that FID is defined by (Szegedy et al. 2015), by the names of its port from TensorFlow.

It differs from the usual Inception V3: average pools do not count the padding, the last block pools by maximum, there
are 1008 classes and no auxiliary head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pool = Literal["average", "max", "halve"]
SIDE = 299  # pixels


@dataclass(frozen=True)
class Layer:
    """A convolution to `width` channels; it keeps height and width, or about halves them."""

    width: int
    kernel: tuple[int, int] = (1, 1)
    halve: bool = False


Branch = Sequence[Layer | tuple[Layer, ...]]  # one after the other; those of a tuple side by side


class Unit(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self, inputs: int, width: int, kernel: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Branches of convolutions, and one that pools, side by side: (B, C, H, W) to (B, sum of widths, H', W').

    A layer is called by its branch and its place in it, those of a tuple by a letter as well.
    """

    def __init__(self, inputs: int, branches: dict[str, Branch], pool: Pool, pool_width: int = 0) -> None:
        super().__init__()
        self.pool, self.paths = pool, []
        self.width = pool_width or inputs
        for name, layers in branches.items():
            path, width = [], inputs
            for place, layer in enumerate(layers, 1):
                side_by_side = layer if isinstance(layer, tuple) else (layer,)
                number = f"_{place}" if len(layers) > 1 else ""
                letters = "ab" if isinstance(layer, tuple) else [""]
                path.append([f"{name}{number}{letter}" for letter in letters])
                for called, one in zip(path[-1], side_by_side, strict=True):
                    high, wide = one.kernel
                    padding = (0, 0) if one.halve else (high // 2, wide // 2)
                    self.add_module(called, Unit(width, one.width, one.kernel, 1 + one.halve, padding))
                width = sum(one.width for one in side_by_side)
            self.paths.append(path)
            self.width += width
        self.branch_pool = Unit(inputs, pool_width, (1, 1)) if pool_width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for path in self.paths:
            y = x
            for names in path:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            outputs.append(y)
        if self.pool == "average":
            pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        elif self.pool == "max":
            pooled = F.max_pool2d(x, 3, 1, 1)
        else:
            pooled = F.max_pool2d(x, 3, 2)
        return torch.cat([*outputs, self.branch_pool(pooled)], 1)


def mixed_5(inputs: int, pool_width: int) -> Block:
    """35x35 (figure 5 of the paper)."""
    branches: dict[str, Branch] = {
        "branch1x1": [Layer(64)],
        "branch5x5": [Layer(48), Layer(64, (5, 5))],
        "branch3x3dbl": [Layer(64), Layer(96, (3, 3)), Layer(96, (3, 3))],
    }
    return Block(inputs, branches, "average", pool_width)


def mixed_6a(inputs: int) -> Block:
    """35x35 to 17x17."""
    branches: dict[str, Branch] = {
        "branch3x3": [Layer(384, (3, 3), halve=True)],
        "branch3x3dbl": [Layer(64), Layer(96, (3, 3)), Layer(96, (3, 3), halve=True)],
    }
    return Block(inputs, branches, "halve")


def mixed_6(inputs: int, width: int) -> Block:
    """17x17, by convolutions of 1x7 and 7x1 (figure 6)."""
    row, column = (1, 7), (7, 1)
    branches: dict[str, Branch] = {
        "branch1x1": [Layer(192)],
        "branch7x7": [Layer(width), Layer(width, row), Layer(192, column)],
        "branch7x7dbl": [
            Layer(width),
            Layer(width, column),
            Layer(width, row),
            Layer(width, column),
            Layer(192, row),
        ],
    }
    return Block(inputs, branches, "average", 192)


def mixed_7a(inputs: int) -> Block:
    """17x17 to 8x8."""
    branches: dict[str, Branch] = {
        "branch3x3": [Layer(192), Layer(320, (3, 3), halve=True)],
        "branch7x7x3": [Layer(192), Layer(192, (1, 7)), Layer(192, (7, 1)), Layer(192, (3, 3), halve=True)],
    }
    return Block(inputs, branches, "halve")


def mixed_7(inputs: int, pool: Pool) -> Block:
    """8x8, widened (figure 7)."""
    fork = Layer(384, (1, 3)), Layer(384, (3, 1))
    branches: dict[str, Branch] = {
        "branch1x1": [Layer(320)],
        "branch3x3": [Layer(384), fork],
        "branch3x3dbl": [Layer(448), Layer(384, (3, 3)), fork],
    }
    return Block(inputs, branches, pool, 192)


class Inception(nn.Module):
    """Pictures (B, 3, 299, 299), about -1 .. 1, to 2048 pooled features; state dict as in the public file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, (3, 3), 2)
        self.Conv2d_2a_3x3 = Unit(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = Unit(32, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1 = Unit(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Unit(80, 192, (3, 3))
        self.Mixed_5b = mixed_5(192, 32)
        self.Mixed_5c = mixed_5(256, 64)
        self.Mixed_5d = mixed_5(288, 64)
        self.Mixed_6a = mixed_6a(288)
        self.Mixed_6b = mixed_6(768, 128)
        self.Mixed_6c = mixed_6(768, 160)
        self.Mixed_6d = mixed_6(768, 160)
        self.Mixed_6e = mixed_6(768, 192)
        self.Mixed_7a = mixed_7a(768)
        self.Mixed_7b = mixed_7(1280, "average")
        self.Mixed_7c = mixed_7(2048, "max")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        return self.taps(x)[-1]  # (B, 2048)

    def taps(self, x: Tensor) -> list[Tensor]:
        """Features as FID takes them at four depths, each the mean over pixels: (B, 64), 192, 768 and 2048."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        taps = [x := F.max_pool2d(x, 3, 2)]  # (B, 64, 73, 73)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        taps.append(x := F.max_pool2d(x, 3, 2))  # (B, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # (B, 288, 35, 35)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        taps.append(x)  # (B, 768, 17, 17)
        taps.append(self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))))  # (B, 2048, 8, 8)
        return [tap.mean((2, 3)) for tap in taps]


class PytorchFID(nn.Module):
    """Features as the package pytorch-fid computes them: bilinear to 299x299 with half-pixel centres, then -1 .. 1."""

    def __init__(self, network: Inception) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Embed images (B, H, W, 3) uint8 as (B, 2048)."""
        features: Tensor = self.network(self.seen(image.permute(0, 3, 1, 2).float()))
        return features

    def seen(self, x: Tensor) -> Tensor:
        """What the network is given of pictures (B, 3, H, W), 0 .. 255: (B, 3, 299, 299), neither filtered nor rounded.

        Resized here rather than by F.interpolate, which computes the same: onnxruntime's Resize finds places less
        exactly, by a ten-thousandth of a pixel, and of noisy pictures the network makes a hundredth of it.
        """
        return 2 * _resized(_resized(x / 255, 2, 0.5), 3, 0.5) - 1


class TorchFidelity(PytorchFID):
    """Likewise as torch-fidelity does: bilinear as TensorFlow 1 has it, without half pixels, then (x - 128) / 128."""

    def seen(self, x: Tensor) -> Tensor:
        return (_resized(_resized(x, 2, 0), 3, 0) - 128) / 128


def _resized(x: Tensor, axis: int, centre: float) -> Tensor:
    """An axis of (B, C, H, W) resampled to 299 between neighbours; `centre` is where in a pixel its value holds.

    Beyond the middle of the outermost pixels it is theirs.
    """
    length = x.shape[axis]
    place = (torch.arange(SIDE, dtype=torch.float32) + centre) * (length / SIDE) - centre
    place = place.clamp(min=0)
    low = place.long().clamp(max=length - 1)  # rounded down
    high = (low + 1).clamp(max=length - 1)
    share = (place - low).reshape(-1, *[1] * (3 - axis))
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share
