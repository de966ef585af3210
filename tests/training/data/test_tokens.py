"""Token sets as a data set: what is read, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genfast.token_set import FILE, about
from training.data.datasets import class_names, load
from training.data.tokens import read
from training.recipe import DataConfig
from training.token_set import encode


@pytest.fixture
def folder(vqgan: Path, tmp_path: Path) -> Path:
    encode(vqgan, tmp_path / "tokens", "train")
    return tmp_path / "tokens"


def test_they_are_a_data_set(folder: Path) -> None:
    data = DataConfig(name="tokens", folder=folder)
    grids, labels = load(data, "train", 3)
    assert grids.shape == (3, 4, 4) and labels.tolist() == [[0], [0], [0]] and class_names(data) == ()
    assert load(data, "train")[0].shape == (36, 4, 4)
    with pytest.raises(ValueError, match="no validation tokens"):
        load(data, "validation")


def damage_truncate(folder: Path) -> None:
    (folder / "train.npy").write_bytes((folder / "train.npy").read_bytes()[:-100])


def damage_tokens(folder: Path) -> None:
    np.load(folder / "train.npy", mmap_mode="r+")[3, 1, 1] = 32


def damage_type(folder: Path) -> None:
    np.save(folder / "train.npy", np.zeros((36, 16)))


def damage_pickle(folder: Path) -> None:
    np.save(folder / "train.npy", np.array([{}] * 36), allow_pickle=True)


def damage_labels(folder: Path) -> None:
    np.save(folder / "train-labels.npy", np.zeros(30, np.int64))


def damage_rows(folder: Path) -> None:
    np.save(folder / "train.npy", np.load(folder / "train.npy")[:20])


def damage_description(folder: Path) -> None:
    (folder / FILE).write_text("{")


def damage_key(folder: Path) -> None:
    (folder / FILE).write_text(json.dumps({"vocabulary": 32}))


def damage_removal(folder: Path) -> None:
    (folder / FILE).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate, "no train tokens that can be read"),
        (damage_tokens, "tokens/train.npy is damaged: .* below 32"),
        (damage_type, "is damaged"),
        (damage_pickle, "no train tokens that can be read"),
        (damage_labels, "30 labels"),
        (damage_rows, "36 labels"),
        (damage_description, "is no token set"),
        (damage_key, "is no token set"),
        (damage_removal, "is no token set"),
    ],
)
def test_damage_is_refused_in_a_line(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        read(folder, "train")
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_attributes_stand_beside_labels(folder: Path) -> None:
    told = np.arange(36 * 3).reshape(36, 3) % 2
    np.save(folder / "train-labels.npy", told)
    hat = {"name": "hat", "values": ["cap"], "colour": False}
    (folder / FILE).write_text(json.dumps(json.loads((folder / FILE).read_text()) | {"attributes": [hat, hat]}))
    assert np.array_equal(read(folder, "train", 5)[1], told[:5])
    assert [each.name for each in about(folder).attributes] == ["hat", "hat"]
