from pathlib import Path

import numpy as np
import pytest

from genfast.errors import InputError
from genfast.images import io
from training.data.folder import Folder


def fill(folder: Path, n: int) -> None:
    for i in range(n):
        io.write(folder / f"{i:02d}.png", np.full((12, 16, 3), i, np.uint8))


def test_splits_are_ranges_of_the_sorted_files(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    splits = {split: Folder(tmp_path, 8, split) for split in ("train", "validation", "test")}
    values = {split: [int(folder[i][0, 0, 0]) for i in range(len(folder))] for split, folder in splits.items()}
    assert values == {"train": list(range(18)), "validation": [18], "test": [19]}
    assert len(Folder(tmp_path, 8, "train", 5)) == 5


def test_images_are_cut_to_their_middle_and_resized(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 1), np.uint8)
    wide[:, 10:20] = 200
    io.write(tmp_path / "wide.png", wide)
    image = Folder(tmp_path, 40, "train")[0]
    assert image.shape == (40, 40, 3) and image.dtype == np.uint8
    assert (image[:, 12:-12] == 200).all()  # resampling may look past the cut


def test_broken_files_are_named_once_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, 3)
    (tmp_path / "02.png").write_bytes(b"no image")
    folder = Folder(tmp_path, 8, "train")
    assert len(folder) == 3
    for _ in range(2):
        assert folder[2][0, 0, 0] == 0  # the next is the first
    assert capsys.readouterr().err.count("02.png") == 1


def test_what_cannot_be_read_at_all_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="not one of 1 files"):
        Folder(tmp_path, 8, "train")[0]
    with pytest.raises(InputError, match="too few images"):
        Folder(tmp_path, 8, "test")
