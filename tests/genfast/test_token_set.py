"""Token sets: what identifies a VQ-GAN, and what a writer refuses."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from genfast.bundles import bundle
from genfast.errors import UsageError
from genfast.token_set import FILE, TokenSetInfo, Writer, about, check, identity
from genfast.types import Split


def rewrite(source: Path, to: Path, role: str) -> bundle.Bundle:
    """A copy of a bundle, another graph of a role in it, whose weights lie in a file beside it."""
    folder = shutil.copytree(source, to)
    model = onnx.load(folder / f"{role}.onnx")
    model.doc_string = "another"
    onnx.save(model, folder / f"{role}.onnx", save_as_external_data=True, location=f"{role}.bin", size_threshold=0)
    return bundle.write(folder, **bundle.read(folder).manifest.model_dump(exclude={"format", "files"}))


def test_the_encoder_alone_tells_what_tokens_mean(vq_bundle: Path, tmp_path: Path) -> None:
    own = identity(bundle.load(vq_bundle))
    assert identity(rewrite(vq_bundle, tmp_path / "a", "decode")) == own
    assert identity(rewrite(vq_bundle, tmp_path / "b", "encode")) != own


def test_weights_beside_a_graph_count(vq_bundle: Path, tmp_path: Path) -> None:
    first = rewrite(vq_bundle, tmp_path / "a", "decode")
    fields = first.manifest.model_dump(exclude={"format", "files"})
    fields["graphs"]["encode"] = fields["graphs"]["decode"]  # of which there are weights in a file
    before = bundle.write(first.directory, **fields)
    content = bytearray((first.directory / "decode.bin").read_bytes())
    content[0] ^= 1
    (first.directory / "decode.bin").write_bytes(content)
    assert identity(bundle.write(first.directory, **fields)) != identity(before)


DESCRIBED = TokenSetInfo(vqgan="a", vocabulary=32, data="noise", classes=("x", "y"))


def test_grids_and_labels_are_written_as_they_come(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "train", DESCRIBED, 5)
    writer.add(np.arange(12).reshape(2, 2, 3), np.array([1, 0]), "hash of two")
    again = Writer(tmp_path, "train", DESCRIBED, 3)
    assert (again.done, again.names) == (2, "hash of two")
    again.add(np.full((1, 2, 3), 31), np.array([1]), "hash of three")
    grids, labels = (np.load(tmp_path / name) for name in ("train.npy", "train-labels.npy"))
    assert grids.dtype == np.uint16 and grids.tolist() == [
        [[0, 1, 2], [3, 4, 5]],
        [[6, 7, 8], [9, 10, 11]],
        [[31] * 3] * 2,
    ]
    assert labels.tolist() == [1, 0, 1]
    expected = {"done": {"train": 3}, "names": {"train": "hash of three"}}
    assert about(tmp_path) == DESCRIBED.model_copy(update=expected)


def test_what_a_writer_refuses(tmp_path: Path) -> None:
    Writer(tmp_path, "train", DESCRIBED, 1).add(np.zeros((1, 2, 3)), np.array([0]))
    for change, message in (
        ({"vqgan": "b"}, "holds the tokens of another VQ-GAN; encode the pictures anew, into another folder"),
        ({"classes": ("x",)}, "holds the tokens of other classes or attributes; name another folder"),
        ({"vocabulary": 2**16 + 1}, "a token set holds tokens below 65536, and this vocabulary has 65537"),
    ):
        with pytest.raises(UsageError, match=message):
            Writer(tmp_path, "train", DESCRIBED.model_copy(update=change), 1)
    with pytest.raises(UsageError, match="holds the tokens of another VQ-GAN"):
        check(tmp_path, "b")
    (tmp_path / FILE).write_text("{")
    with pytest.raises(UsageError, match="is no token set; make one with genfast tokenize"):
        about(tmp_path)


def test_splits_that_are_written_at_once_keep_each_other_s_counts(tmp_path: Path) -> None:
    def write(split: Split) -> None:
        writer = Writer(tmp_path, split, DESCRIBED, 40)
        for _ in range(40):
            writer.add(np.zeros((1, 2, 3), np.uint16), np.zeros(1, np.int64))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, ("train", "validation", "test")))
    assert about(tmp_path).done == {"train": 40, "validation": 40, "test": 40}
