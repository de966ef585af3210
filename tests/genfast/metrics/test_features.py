from pathlib import Path

import numpy as np
import pytest

from genfast.bundles import bundle
from genfast.errors import InputError, UsageError
from genfast.metrics.features import Embedder


def test_features_of_any_size_in_batches(means: Path) -> None:
    embedder = Embedder(bundle.load(means), "cpu")
    for shape in (1, 6, 8, 3), (150, 5, 4, 3):  # 150 images are three batches of the manifest's 64
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        features = embedder(images)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, images.mean((1, 2)), rtol=1e-6)


def test_grey_images_are_repeated_to_three_channels(means: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 1), np.uint8)
    features = Embedder(bundle.load(means), "cpu")(images)
    np.testing.assert_allclose(features, images.mean((1, 2)).repeat(3, axis=1), rtol=1e-6)


def test_a_bundle_that_names_a_size_takes_no_other(halves: Path) -> None:
    embedder = Embedder(bundle.load(halves), "cpu")
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    wanted = np.stack([images[:, :14].mean((1, 2, 3)), images[:, 14:].mean((1, 2, 3))], axis=1)
    np.testing.assert_allclose(embedder(images), wanted, rtol=1e-6)
    assert not embedder.takes((3, 28, 28, 3))
    with pytest.raises(InputError, match=r"halves takes images of 28x28 with 1 channel\(s\), not 8x6 with 3"):
        embedder(np.zeros((2, 6, 8, 3), np.uint8))


def test_a_sampler_is_no_extractor(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="tiny is not an extractor"):
        Embedder(bundle.load(tiny_bundle), "cpu")


def test_a_reference_by_name(means: Path) -> None:
    embedder = Embedder(bundle.load(means), "cpu")
    assert embedder.reference("none-test").about.n == 200
    with pytest.raises(UsageError, match="means holds no statistics of other-test, only of: none-test"):
        embedder.reference("other-test")
