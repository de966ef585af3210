import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from genfast.images import io
from genfast.images.folder import read_folder
from genfast.metrics.frechet import Moments, frechet_distance
from genfast.metrics.statistics import Statistics

Cli = Callable[..., CompletedProcess[str]]
Folder = Callable[..., Path]


def test_a_model_as_json(cli: Cli, tiny_bundle: Path, means: Path) -> None:
    done = cli("fid", "--model", tiny_bundle, "--steps", 3, "--samples", 150, "--features", means, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (result,) = json.loads(done.stdout)["results"]
    seconds, fid, kid, floor = (result.pop(name) for name in ("seconds", "fid", "kid", "floor"))
    protocol = result.pop("protocol")
    assert result.pop("yardsticks") == {"blur": 2.5} and result.pop("warnings") == []
    precision, recall, each = (result.pop(name) for name in ("precision", "recall", "seconds_per_image"))
    drawn = {"dataset": None, "model": "tiny", "steps": 3, "loss": None, "guidance": 1.0, "seed": 0, "attributes": {}}
    assert result == {**drawn, "features": "means", "n": 150}
    assert fid > floor > 0 and kid > 0 and 0 < seconds < 60 and 0 < 150 * each < seconds
    assert 0 <= precision <= 1 and 0 <= recall <= 1
    assert protocol.startswith("means@") and "/none-test@" in protocol and protocol.endswith(":200/n=150/kid=150")


def test_a_model_as_text(cli: Cli, tiny_bundle: Path, means: Path) -> None:
    done = cli("fid", "--model", tiny_bundle, "--samples", 3, "--features", means)
    assert done.returncode == 0
    name, *lines = done.stdout.splitlines()
    assert name == "means"
    rows = dict(line.split() for line in lines)
    names = ["FID", "floor", "blur", "KID", "precision", "recall", "s/image", "n", "seconds", "protocol"]
    assert list(rows) == names
    assert rows["blur"] == "2.500" and rows["n"] == "3"
    assert [line.split(":")[:3] for line in done.stderr.splitlines()] == [["genfast", " unreliable", " means"]] * 2


def test_folders_and_statistics(cli: Cli, folder: Folder, means: Path, tmp_path: Path) -> None:
    a, b, saved = folder("a", 30), folder("b", 40, high=200), tmp_path / "b.npz"
    done = cli("fid", "--save-stats", saved, b, "--features", means)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{saved}\n", "")
    again = cli("fid", "--save-stats", saved, b, "--features", means, "--overwrite", "--json")
    assert json.loads(again.stdout)["n"] == 40
    (direct,), (stored,) = (
        json.loads(cli("fid", a, reference, "--features", means, "--json").stdout)["results"]
        for reference in (b, saved)
    )
    assert direct["protocol"] == stored["protocol"] and direct["dataset"] == stored["dataset"] == "a"
    assert direct["fid"] == pytest.approx(stored["fid"], rel=1e-4)
    assert direct["model"] is direct["steps"] is direct["seed"] is direct["seconds_per_image"] is None


def test_a_sweep_over_steps_and_seeds(cli: Cli, ddpm_bundle: Path, halves: Path, tmp_path: Path) -> None:
    """Every cell is what its own command gives; mean and deviation are over the seeds."""
    options = ["--model", ddpm_bundle, "--samples", 40, "--features", halves]
    done = cli("fid", *options, "--steps", "8,2", "--seed", 5, "--seeds", 3, "--json", "--plot", tmp_path / "sweep.png")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(r["steps"], r["seed"]) for r in found["results"]] == [(t, seed) for t in (8, 2) for seed in (5, 6, 7)]
    (alone,) = json.loads(cli("fid", *options, "--steps", 2, "--seed", 6, "--json").stdout)["results"]
    for name in "fid", "kid", "precision", "recall", "protocol":
        assert alone[name] == found["results"][4][name]
    for spread, rows in zip(found["spread"], (found["results"][:3], found["results"][3:]), strict=True):
        fids = [row["fid"] for row in rows]
        assert (spread["steps"], spread["seeds"]) == (rows[0]["steps"], [5, 6, 7])
        assert spread["fid"] == {"mean": pytest.approx(np.mean(fids)), "deviation": pytest.approx(np.std(fids, ddof=1))}
    assert io.read(tmp_path / "sweep.png").std() > 10


def test_a_sweep_as_text(cli: Cli, ddpm_bundle: Path, halves: Path) -> None:
    done = cli("fid", "--model", ddpm_bundle, "--samples", 9, "--features", halves, "--steps", "1,2,4", "--seeds", 2)
    assert done.returncode == 0, done.stderr
    name, *lines = done.stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert name == "halves" and rows["steps"] == ["1", "2", "4"] and rows["loss"] == ["-"] * 3
    assert all(re.fullmatch(r"[0-9.]+±[0-9.]+", cell) for cell in rows["FID"]) and len(rows["FID"]) == 3
    assert len(rows["floor"]) == len(rows["protocol"]) == 1
    assert len(set(done.stderr.splitlines())) == done.stderr.count("\n")  # nothing is said twice


def test_shipped_models_need_nothing_else(cli: Cli) -> None:
    done = cli("fid", "--steps", 4, "--samples", 64, "--json", env={"GENFAST_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    lite0, fashion = json.loads(done.stdout)["results"]
    assert (lite0["features"], fashion["features"]) == ("efficientnet-lite0", "fashion")
    for result in lite0, fashion:
        assert (result["model"], result["steps"], result["n"]) == ("fashion28", 4, 64)
        assert result["fid"] > result["floor"] > 0 and set(result["yardsticks"]) == {"blur", "noise"}
        assert result["warnings"]


def test_colour_images_are_for_the_extractor_that_takes_them(cli: Cli, folder: Folder) -> None:
    done = cli("fid", folder("a", 5, (120, 100, 3)), folder("b", 5, (120, 100, 3), high=100), "--json")
    assert done.returncode == 0, done.stderr
    assert [result["features"] for result in json.loads(done.stdout)["results"]] == ["efficientnet-lite0"]


def test_two_files_have_the_extractor_that_they_have(cli: Cli, folder: Folder, means: Path, tmp_path: Path) -> None:
    pictures = folder("a", 4, (28, 28, 1))
    cli("fid", "--save-stats", tmp_path / "a.npz", pictures, check=True)
    done = cli("fid", tmp_path / "a.npz", tmp_path / "a.npz", "--features", "fashion")
    assert done.returncode == 3 and "a.npz was not seen by fashion" in done.stderr
    cli("fid", "--save-stats", tmp_path / "b.npz", pictures, "--features", means, "--device", "cpu,cpu", check=True)
    cli("fid", tmp_path / "b.npz", tmp_path / "b.npz", check=True)  # by an extractor that is not of the catalogue


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_folder_whose_name_is_no_text(cli: Cli, folder: Folder, tmp_path: Path) -> None:
    odd = folder("a", 4, (28, 28, 1)).rename(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff"))
    cli("fid", "--save-stats", tmp_path / "a.npz", odd, check=True)
    assert Statistics.load(tmp_path / "a.npz").about.dataset == "b\ufffd"


def test_images_of_several_sizes_are_resized(cli: Cli, means: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [(12, 16, 3), (6, 8, 3), (20, 20), (9, 30, 4)]
    for name, high in ("a", 256), ("b", 100):
        (tmp_path / name).mkdir()
        for i in range(20):
            Image.fromarray(rng.integers(0, high, shapes[i % 4], np.uint8)).save(tmp_path / name / f"{i:02}.png")
        (tmp_path / name / "._00.JPG").write_bytes(b"of a Mac")
    run = ("fid", "a", "b", "--features", means, "--json")
    refused = cli(*run, cwd=tmp_path)
    assert refused.returncode == 3
    assert refused.stderr == (
        "genfast: error: images differ in shape: a/00.png is 16x12 RGB, a/01.png is 8x6 RGB; give --resize WxH\n"
    )
    (result,) = json.loads(cli(*run, "--resize", "10x7", cwd=tmp_path, check=True).stdout)["results"]
    assert result["protocol"].endswith("/resize=10x7-bicubic") and result["n"] == 20
    features = [
        Moments.of(np.concatenate([*read_folder(tmp_path / name, (10, 7))]).mean((1, 2))) for name in ("a", "b")
    ]
    assert result["fid"] == pytest.approx(frechet_distance(*features), rel=1e-4)
    saved = json.loads(
        cli(*("fid", "--save-stats", "b.npz", "b", "--resize", "10x7"), *run[3:], cwd=tmp_path, check=True).stdout
    )
    assert saved["resize"] == "10x7-bicubic"
    again = cli("fid", "a", "b.npz", "--resize", "10x7", *run[3:], cwd=tmp_path, check=True).stdout
    assert json.loads(again)["results"][0]["protocol"] == result["protocol"]
    other = cli("fid", "a", "b.npz", "--resize", "8x6", *run[3:], cwd=tmp_path)
    assert other.returncode == 3 and "a was resized to 8x6-bicubic, b to 10x7-bicubic; make both alike" in other.stderr


def test_transparent_images_are_not_the_opaque_ones(cli: Cli, folder: Folder, means: Path, tmp_path: Path) -> None:
    """They are seen on white."""
    opaque, clear = folder("a", 20), tmp_path / "clear"
    clear.mkdir()
    for path in opaque.iterdir():
        pixels = io.read(path)
        Image.fromarray(np.dstack([pixels, np.full(pixels.shape[:2], 55, np.uint8)])).save(clear / path.name)
    run = ("--features", means, "--json")
    (same,) = json.loads(cli("fid", opaque, opaque, *run, check=True).stdout)["results"]
    (seen,) = json.loads(cli("fid", clear, opaque, *run, check=True).stdout)["results"]
    assert same["fid"] == pytest.approx(0, abs=1e-6)
    images = np.concatenate([*read_folder(opaque)])
    on_white = np.concatenate([*read_folder(clear)])
    assert np.abs(on_white - (255 - (255 - images.astype(float)) * 55 / 255)).max() <= 1
    expected = frechet_distance(*(Moments.of(each.mean((1, 2))) for each in (on_white, images)))
    assert seen["fid"] == pytest.approx(expected, rel=1e-4) and seen["fid"] > 0.1


def test_that_the_first_frame_is_read_is_said(cli: Cli, means: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    for i in range(3):
        frames = [Image.fromarray(frame) for frame in rng.integers(0, 256, (2 + i, 6, 8), np.uint8)]
        frames[0].save(tmp_path / "a" / f"{i}.gif", save_all=True, append_images=frames[1:])
    done = cli("fid", "--save-stats", "a.npz", "a", "--features", means, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a.npz\n")
    assert done.stderr.splitlines() == [f"genfast: a/{i}.gif has {2 + i} frames; the first is read" for i in range(3)]
