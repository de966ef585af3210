"""genfast tokenize on the real command line: what a token set holds, and going on with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genfast
from genfast.errors import InputError, UsageError
from genfast.token_set import about
from genfast.tokenizing import Pictures, tokenize


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty-one pictures of one colour, in folders of two classes, the red of each its number."""
    folder = tmp_path / "photos"
    for i in range(41):
        path = folder / ("cats" if i < 30 else "light dogs") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (13, 9), (5 * i, 0, 0)).save(path)
    return folder


def reds(out: Path, split: str) -> list[int]:
    grids = np.load(out / f"{split}.npy")
    assert grids.dtype == np.uint16 and grids.shape[1:] == (2, 3) and (grids == grids[:, :1, :1]).all()
    return grids[:, 0, 0].tolist()


def test_a_folder_becomes_a_token_set(cli, photos: Path, vq_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    done = cli("tokenize", photos, out, "--model", vq_bundle, "--classes", "--device", "cpu")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}: 37 train, 2 validation, 2 test images\n", "")
    shared = {"validation": [18, 38], "test": [19, 39]}
    shared["train"] = [i for i in range(41) if i not in (18, 19, 38, 39)]
    for split, numbers in shared.items():
        assert reds(out, split) == [5 * i // 8 for i in numbers]
        assert np.load(out / f"{split}-labels.npy").tolist() == [int(i >= 30) for i in numbers]
    described = about(out)
    assert (described.vocabulary, described.data, described.classes) == (32, "photos", ("cats", "light dogs"))
    assert described.done == {"train": 37, "validation": 2, "test": 2}
    again = cli("tokenize", photos, out, "--model", vq_bundle, "--classes", "--device", "cpu", "--json")
    assert json.loads(again.stdout)["images"] == described.done


def test_all_of_a_folder_are_for_one_split(cli, photos: Path, token_bundle: Path, tmp_path: Path) -> None:
    """With a prior's bundle as well; without classes there is one label."""
    done = cli("tokenize", photos, "tokens", "--model", token_bundle, "--split", "validation", "--device", "cpu")
    assert (done.returncode, done.stdout) == (0, "tokens: 41 validation images\n"), done.stderr
    out = tmp_path / "cwd" / "tokens"
    assert reds(out, "validation") == [5 * i // 8 for i in range(41)]
    assert not np.load(out / "validation-labels.npy").any() and about(out).classes == ()


def test_it_goes_on_where_it_stopped(photos: Path, vq_bundle: Path, tmp_path: Path) -> None:
    model, out = genfast.load(str(vq_bundle), device="cpu"), tmp_path / "tokens"
    (photos / "cats" / "25.png").write_text("no image")
    with pytest.raises(InputError, match="25.png is no image"):
        for _ in tokenize(model, Pictures(photos), out):
            pass
    assert about(out).done == {"train": 23, "validation": 1, "test": 1}
    np.load(out / "train.npy", mmap_mode="r+")[3] = 7  # so that what is kept can be told from what is new
    (photos / "cats" / "25.png").unlink()
    assert len([*tokenize(model, Pictures(photos), out)]) == 40
    left = [i for i in range(41) if i != 25]
    expected = [5 * i // 8 for number, i in enumerate(left) if number % 20 < 18]
    assert reds(out, "train") == [*expected[:3], 7, *expected[4:]]


def test_other_pictures_are_not_mixed_in(photos: Path, vq_bundle: Path, tmp_path: Path) -> None:
    model, out = genfast.load(str(vq_bundle), device="cpu"), tmp_path / "tokens"
    for _ in tokenize(model, Pictures(photos), out):
        pass
    fewer = shutil.copytree(photos, tmp_path / "fewer")
    (fewer / "cats" / "03.png").rename(fewer / "cats" / "03-new.png")
    for folder in fewer, photos / "light dogs":
        with pytest.raises(UsageError, match="tokens holds the tokens of other pictures than .*; name another folder"):
            for _ in tokenize(model, Pictures(folder), out):
                pass
    with pytest.raises(UsageError, match="tokens holds the tokens of other classes"):
        next(tokenize(model, Pictures(photos, by_class=True), out))


def test_a_picture_without_a_class(photos: Path) -> None:
    Image.new("RGB", (8, 8)).save(photos / "stray.png")
    with pytest.raises(UsageError, match="photos is no class: all pictures are to lie in folders with plain names"):
        _ = Pictures(photos, by_class=True).classes
