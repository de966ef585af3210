"""Encoding a token set: what is written, and going on with it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from genfast.token_set import FILE, about, check
from training.__main__ import app
from training.codec import TrainedCodec, load_vqgan
from training.data.datasets import load
from training.data.images import signed
from training.data.tokens import read
from training.drafts import FoldedDrafts
from training.nets.vqgan import VQGAN
from training.token_set import encode, fit_drafts


@pytest.fixture
def folder(vqgan: Path, tmp_path: Path) -> Path:
    encode(vqgan, tmp_path / "tokens", "train")
    return tmp_path / "tokens"


def test_tokens_are_those_of_the_vqgan(folder: Path, vqgan: Path) -> None:
    network, data = load_vqgan(vqgan)
    images, labels = load(data, "train")
    grids, found = read(folder, "train")
    assert grids.shape == (len(images), 4, 4) and grids.dtype == np.uint16
    pixels = torch.from_numpy(np.stack([images[i] for i in range(len(images))])).permute(0, 3, 1, 2)
    assert (grids == network.encode(signed(pixels)).numpy()).mean() > 0.99  # but for ties, which batches may break
    assert np.array_equal(found, labels[:, None])  # and no attributes
    described = about(folder)
    assert (described.vocabulary, described.regions, described.done) == (32, 2, {"train": len(images)})
    assert described.data == "folder" and described.vqgan == TrainedCodec(network).identity


def test_a_killed_encoding_is_gone_on_with(
    folder: Path, vqgan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    whole = VQGAN.encode

    def dies(self: VQGAN, images: torch.Tensor) -> torch.Tensor:
        if len(batches) == 3:
            raise KeyboardInterrupt
        batches.append(images)
        return whole(self, images)

    out = tmp_path / "killed"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(VQGAN, "encode", dies)
        encode(vqgan, out, "train")
    assert about(out).done == {"train": 12}  # three batches of 4
    with pytest.raises(ValueError, match="holds 12 of 36 train grids"):
        read(out, "train")
    assert len(read(out, "train", 12)[0]) == 12
    encode(vqgan, out, "train", 17)  # fewer than there was room for
    assert len(read(out, "train")[0]) == 17
    encode(vqgan, out, "train")
    assert (out / "train.npy").read_bytes() == (folder / "train.npy").read_bytes()
    assert (out / FILE).read_bytes() == (folder / FILE).read_bytes()


def test_more_are_added_to_those_that_are_done(folder: Path, vqgan: Path, tmp_path: Path) -> None:
    out = tmp_path / "grown"
    assert encode(vqgan, out, "train", 5) == 5
    np.save(out / "train.npy", np.full((5, 4, 4), 7, np.uint16))  # so that what is kept can be told from what is new
    assert encode(vqgan, out, "train", 9) == 9
    grids, labels = read(out, "train")
    assert (grids[:5] == 7).all() and np.array_equal(grids[5:], read(folder, "train")[0][5:9]) and len(labels) == 9
    assert encode(vqgan, out, "train", 3) == 9 and len(read(out, "train")[0]) == 9


def test_splits_lie_side_by_side(folder: Path, vqgan: Path) -> None:
    encode(vqgan, folder, "validation")
    assert about(folder).done == {"train": 36, "validation": 2} and len(read(folder, "validation")[0]) == 2


def test_another_vqgan_adds_nothing(folder: Path, make_vqgan: Callable[[int], Path]) -> None:
    with pytest.raises(ValueError, match="holds the tokens of another VQ-GAN"):
        encode(make_vqgan(1), folder, "validation")


def test_the_decoder_does_not_change_what_tokens_mean(folder: Path, vqgan: Path) -> None:
    network, _ = load_vqgan(vqgan)
    torch.nn.init.normal_(network.decoder.linear.weight)
    check(folder, TrainedCodec(network).identity)
    network.encoder.linear.weight[0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match="another VQ-GAN"):
        check(folder, TrainedCodec(network).identity)


def test_nothing_is_known_of_what_takes_the_place_of_a_broken_picture(vqgan: Path, tmp_path: Path) -> None:
    _, data = load_vqgan(vqgan)
    assert data.folder is not None
    images = shutil.copytree(data.folder, tmp_path / "images")
    (images / "attributes.csv").write_text("file,hat\n" + "".join(f"{i:02d}.png,cap\n" for i in range(40)))
    (images / "05.png").write_bytes(b"no picture")
    encode(vqgan, tmp_path / "told", "train", 8, images)
    grids, told = read(tmp_path / "told", "train")
    assert told[:, 1].tolist() == [1] * 5 + [0] + [1] * 2 and np.array_equal(grids[5], grids[6])


def test_what_is_no_vqgan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        load_vqgan(tmp_path)


def test_the_command_line(folder: Path, vqgan: Path, tmp_path: Path) -> None:
    arguments = ["tokens", str(vqgan), str(tmp_path / "out"), "--count", "6"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "6 train images" in done.stdout
    assert np.array_equal(read(tmp_path / "out", "train")[0], read(folder, "train")[0][:6])
    (tmp_path / "out" / FILE).write_text("{")
    again = subprocess.run([sys.executable, "-m", "training", *arguments], capture_output=True, text=True)
    assert again.returncode == 2 and again.stderr.count("\n") == 1
    assert again.stderr.startswith("training: error: ") and "is no token set" in again.stderr


def test_two_splits_are_encoded_at_the_same_time(
    folder: Path, vqgan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, others = VQGAN.encode, iter(["validation"])

    def amidst(self: VQGAN, images: torch.Tensor) -> torch.Tensor:
        if len(images) == 4 and (other := next(others, None)):
            encode(vqgan, tmp_path / "both", other)
        return whole(self, images)

    monkeypatch.setattr(VQGAN, "encode", amidst)
    encode(vqgan, tmp_path / "both", "train")
    assert about(tmp_path / "both").done == {"train": 36, "validation": 2}


def test_drafts_are_fitted_to_what_is_known_of_pictures(
    vqgan: Path, make_vqgan: Callable[[int], Path], tmp_path: Path
) -> None:
    """Attributes of a folder stand beside the labels, and in the drafts."""
    _, data = load_vqgan(vqgan)
    assert data.folder is not None
    images = tmp_path / "images"
    shutil.copytree(data.folder, images)
    lines = [f"{i:02d}.png,{'yes' if i % 2 else 'no'},{'cap' if i % 3 else 'none'}" for i in range(40)]
    (images / "attributes.csv").write_text("\n".join(["file,Smiling,hat", *lines]))
    encode(vqgan, tmp_path / "tokens", "train", data=images)
    described, (_, told) = about(tmp_path / "tokens"), read(tmp_path / "tokens", "train")
    assert [(each.name, each.values) for each in described.attributes] == [
        ("Smiling", ("no", "yes")),
        ("hat", ("cap", "none")),
    ]
    assert told[:6].tolist() == [[0, 1, 2], [0, 2, 1], [0, 1, 1], [0, 2, 2], [0, 1, 1], [0, 2, 1]]
    fit_drafts(tmp_path / "tokens", vqgan, rank=2, channels=3)
    drafts = FoldedDrafts.load(tmp_path / "tokens")
    assert drafts is not None and drafts.whole.basis.shape == (1, 2, 16, 3)
    assert (
        np.array_equal(drafts.whole.table.rows, told[:, 1:]) and drafts.whole.table.attributes == described.attributes
    )
    with pytest.raises(ValueError, match="holds the tokens of another VQ-GAN"):
        fit_drafts(tmp_path / "tokens", make_vqgan(1), rank=2, channels=3)
    with pytest.raises(ValueError, match="is no run of a prior that reads drafts"):
        fit_drafts(tmp_path / "tokens", vqgan, rank=2, channels=3, like=vqgan)


def test_where_nothing_is_known_of_pictures_there_are_no_drafts(folder: Path, vqgan: Path) -> None:
    with pytest.raises(ValueError, match="has no attributes: nothing is known of its pictures"):
        fit_drafts(folder, vqgan, rank=2, channels=3)
    assert FoldedDrafts.load(folder) is None
