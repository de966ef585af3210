"""Figures and table of results that were made up."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genfast.images import io
from training.study.figures import figures, read, table

ROOT = Path(__file__).parents[3]
PROTOCOL = "fashion@0/fashion-mnist-test@0:10000/n=10000/kid=2000"


def write(folder: Path, name: str, steps: int, fid: float | None, **about: object) -> None:
    """A result; without an FID, one that diverged."""
    score = {
        "fid": fid,
        "n": about.pop("n", 10_000),
        "precision": 0.5,
        "recall": 0.25,
        "floor": 0.01,
        "yardsticks": {"blur": 7.0, "noise": 6.0},
    }
    result = {
        "family": "ddgan",
        "loss": "non-saturating",
        "spacing": "vp",
        "steps": steps,
        "images": 1000,
        "init_from": "start",
        "init_from_images": 2000,
        **about,
    }
    if fid is None:
        result["diverged"] = True
    else:
        classes = {"bag": 990, "coat": 10, "shirt": 0}
        protocol = PROTOCOL.replace("n=10000", f"n={score['n']}")
        result |= {"scores": {"fashion": {**score, "protocol": protocol}}, "classes": classes}
        io.write(folder / f"{name}.png", np.full((28, 16 * 28, 1), 10 * steps, np.uint8))
    (folder / f"{name}.json").write_text(json.dumps(result))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    write(folder, "js-4", 4, 3.0)
    write(folder, "js-8", 8, 2.0)
    write(folder, "js-even-4", 4, 2.5, spacing="log-snr")
    write(folder, "tv-4", 4, None, loss="total-variation")
    write(folder, "pairs-4", 4, 1.5, loss="relativistic")
    write(folder, "ddpm-10", 10, 9.0, family="ddpm", loss=None, n=500)
    (folder / "seconds.json").write_text(json.dumps({"js-4": 0.003, "ddpm-10": 0.0071}))
    return folder


@pytest.mark.slow
def test_every_figure_from_one_command(results: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "figures", str(results), str(tmp_path / "figures")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    lines = ("non-saturating", "non-saturating-even", "relativistic", "ddpm")
    assert drawn == {
        *(f"study-{name}.png" for name in ("ddpm", "ddgan", "losses", "speed", "classes")),
        *(f"study-samples-{line}.png" for line in lines),
        "study.md",
    }
    sheet = io.read(tmp_path / "figures" / "study-samples-non-saturating.png")
    assert {40, 80} <= set(np.unique(sheet))  # a row of T = 4 and one of T = 8


def test_the_table_is_honest(results: Path) -> None:
    lines = table(read(results)).splitlines()
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert all(len(row) == len(head) for row in rows)
    found = {(row[0], row[1], row[2]): dict(zip(head, row, strict=True)) for row in rows[1:]}
    assert [key[0] for key in found] == ["non-saturating"] * 3 + ["total-variation", "relativistic", "DDPM"]
    four = found["non-saturating", "VP", "4"]
    assert (four["images seen"], four["images drawn"]) == ("1,000", "10,000")
    assert four["fashion: FID"] == "3" and four["fashion: recall"] == "0.25"
    assert four["ms an image"] == "3.00" and four["classes"] == "2"
    assert found["non-saturating", "VP", "8"]["ms an image"] == "-"
    assert found["total-variation", "VP", "4"]["fashion: FID"] == "diverged"
    assert "Every DDGAN started from start, which saw 2,000 images." in lines
    assert f"fashion: `{PROTOCOL}`, `{PROTOCOL.replace('n=10000', 'n=500')}`" in lines


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no results; python -m export study writes them"):
        figures(tmp_path, tmp_path / "figures")
    write(tmp_path, "tv-4", 4, None)
    with pytest.raises(FileNotFoundError):
        read(tmp_path)
