from pathlib import Path

import numpy as np
import pytest

from genfast.images import io
from training.data.datasets import class_names, load
from training.recipe import DataConfig


def test_fashion_mnist_validates_on_its_test_images() -> None:
    held_out, labels = load(DataConfig(), "validation", 50)
    assert held_out.shape == (50, 28, 28, 1) and labels.shape == (50,)


@pytest.mark.slow
def test_avatars(tmp_path: Path) -> None:
    faces, labels = load(DataConfig(name="avatars", folder=tmp_path, size=16, count=3), "train")
    assert faces.shape == (3, 16, 16, 3) and labels.tolist() == [0, 1, 2]


def test_a_folder_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which folder"):
        load(DataConfig(name="folder"), "train")
    io.write(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    found, labels = load(DataConfig(name="folder", folder=tmp_path, size=4), "train")
    assert found[0].shape == (4, 4, 3) and labels.tolist() == [0]


def test_data_sets_name_their_classes() -> None:
    assert "toon-head" in class_names(DataConfig(name="avatars")) and len(class_names(DataConfig())) == 10
    assert class_names(DataConfig(name="folder")) == ()
    with pytest.raises(ValueError, match="which token set"):
        class_names(DataConfig(name="tokens"))
