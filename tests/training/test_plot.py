from pathlib import Path

import pytest

from genfast.images import io
from training.plot import plot


def test_a_run_is_drawn(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-00000020"
    checkpoint.mkdir()
    (checkpoint / "recipe.json").write_text('{"step": 20, "images": 320}')
    (tmp_path / "figures.csv").write_text("step,name,value\n10,fid,9\n10,loss,1\n10,fid_from_1,3\n20,fid,5\n")
    plot(tmp_path, tmp_path / "fid.png")
    picture = io.read(tmp_path / "fid.png")
    blue, orange, green = (
        (picture == colour).all(2).any() for colour in ([31, 119, 180], [255, 127, 14], [44, 160, 44])
    )
    assert blue and orange and not green  # fid and fid_from_1, but no loss
    with pytest.raises(ValueError, match="no figure that begins with 'held_out'; it has: fid, fid_from_1, loss"):
        plot(tmp_path, tmp_path / "none.png", "held_out")
    assert not (tmp_path / "none.png").exists()


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        plot(tmp_path, tmp_path / "fid.png")
