"""The real files, and copies of them that are not."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from training.data import fashion_mnist

pytestmark = pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(), reason="needs Fashion-MNIST: install Debian's package dataset-fashion-mnist"
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the files of the test split."""
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        shutil.copy(fashion_mnist.DEBIAN / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(("split", "each"), [("train", 6000), ("test", 1000)])
def test_images_and_labels(split: str, each: int) -> None:
    images, labels = fashion_mnist.load(split)
    assert (images.shape, images.dtype, labels.dtype) == ((10 * each, 28, 28, 1), np.uint8, np.int64)
    assert (np.bincount(labels) == each).all() and len(fashion_mnist.CLASSES) == 10
    assert images.min() == 0 and images.max() == 255 and images.flags.writeable


def test_labels_belong_to_their_images() -> None:
    """Trousers are narrow, bags are wide: the columns at the sides tell them apart."""
    images, labels = fashion_mnist.load("test")
    sides = images[:, :, [0, 1, 2, 25, 26, 27], 0].mean((1, 2))
    trouser, bag = (fashion_mnist.CLASSES.index(name) for name in ("trouser", "bag"))
    assert sides[labels == trouser].mean() < 5 < 30 < sides[labels == bag].mean()


def test_a_folder_given_is_read(copy: Path) -> None:
    for given, default in zip(fashion_mnist.load("test", copy), fashion_mnist.load("test"), strict=True):
        assert np.array_equal(given, default)


def test_compressing_anew_changes_nothing(copy: Path) -> None:
    path = copy / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    assert len(fashion_mnist.load("test", copy)[1]) == 10_000


def test_a_changed_file_is_refused(copy: Path) -> None:
    path = copy / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[100] ^= 1
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte.gz is not Fashion-MNIST's"):
        fashion_mnist.load("test", copy)


@pytest.mark.parametrize("length", [5, 1000])
def test_a_broken_file_is_refused(copy: Path, length: int) -> None:
    path = copy / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte.gz is damaged"):
        fashion_mnist.load("test", copy)


def test_a_folder_without_the_files_is_refused(copy: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte.gz"):
        fashion_mnist.load("train", copy)
