"""A study of one point and its baseline, from training to results."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import genfast
from export import unpack
from export.study import classifier, histogram, study
from genfast.bundles import bundle
from genfast.errors import UsageError
from genfast.images import io, sheets
from training.data import fashion_mnist
from training.study import queue

ROOT = Path(__file__).parents[2]
UNET = "widths = [8, 16]\ngroups = 4\nheads = 2\nembedding = 16\n"
START = 'name = "start"\nfamily = "ddpm"\nloop = { steps = 2, batch = 8 }\nschedule.steps = 2\n[unet]\nlatent = 0\n'
STUDY = """
name = "tiny-study"
model = "tiny"
init_from = "start.toml"
baseline = { 3 = 10, 2 = 1000 }
rows = [{ losses = ["hellinger", "pearson"], steps = [2] }]
[recipe]
eval_images = 20
loop = { steps = 2, batch = 8 }
discriminator = { widths = [8, 16], embedding = 16 }
[recipe.unet]
latent = 8
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """study.toml, and runs/ in which one of two points is trained, and the start."""
    if not fashion_mnist.DEBIAN.is_dir():
        pytest.skip("needs Fashion-MNIST: install Debian's package dataset-fashion-mnist")
    folder = tmp_path_factory.mktemp("study")
    (folder / "start.toml").write_text(START + UNET)
    (folder / "study.toml").write_text(STUDY + UNET)
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    queue.study(folder / "study.toml", ["tiny-hellinger-t2"], None, folder / "runs", fabric)
    return folder


@pytest.mark.slow
def test_results(folder: Path) -> None:
    """On the command line: what is trained is exported, measured and timed; what is there stays."""
    arguments = ["--runs", folder / "runs", "--bundles", folder / "bundles", "--results", folder / "results"]
    command = [sys.executable, "-m", "export", "study", folder / "study.toml", "--samples", 20, *arguments]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny-pearson-t2: not trained\n" in done.stdout

    names = ["tiny-hellinger-t2", "start-t2", "start-t3"]
    seconds = json.loads((folder / "results" / "seconds.json").read_text())
    assert list(seconds) == names and all(0 < value < 1 for value in seconds.values())
    (bundled,) = (folder / "bundles").iterdir()
    assert sorted(path.name for path in bundled.glob("*.onnx")) == ["start.onnx", "tiny-hellinger-t2.onnx"]
    for name, family, steps in zip(names, ("ddgan", "ddpm", "ddpm"), (2, 2, 3), strict=True):
        result = json.loads((folder / "results" / f"{name}.json").read_text())
        assert (result["family"], result["steps"], result["images"]) == (family, steps, 16)
        assert (result["init_from"], result["init_from_images"]) == ("start", 16)
        n = 10 if steps == 3 else 20
        assert set(result["scores"]) == {"fashion"} and result["scores"]["fashion"]["n"] == n
        assert sum(result["classes"].values()) == n and len(result["classes"]) == 10
        place = folder / "runs" / "start-bundle" if family == "ddpm" else bundled
        model = genfast.load(str(place), steps=steps, loss=None if family == "ddpm" else "hellinger")
        (graph,) = (file for file in model.bundle.manifest.files if file.path == model.session.path.name)
        assert result["graph"] == graph.sha256
        if family == "ddgan":
            (figure,) = model.bundle.manifest.figures
            assert (figure.name, figure.value) == (
                "FID, fashion, hellinger, 2 steps",
                result["scores"]["fashion"]["fid"],
            )
        sheet = sheets.contact_sheet(model.sample(min(16, n)), columns=16)
        assert np.array_equal(io.read(folder / "results" / f"{name}.png"), sheet)

    before = {path: path.stat().st_mtime_ns for path in (folder / "results").glob("*-t*")}
    study(folder / "study.toml", (), folder / "runs", folder / "bundles", folder / "results", 20)
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "results").glob("*-t*")}


def test_a_run_that_diverged_is_a_result(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs", tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "start")
    path = tmp_path / "runs" / "tiny-hellinger-t2" / "checkpoint-00000002" / "model.safetensors"
    weights = load_file(path)
    weights["stem.bias"][3] = torch.nan
    save_file(weights, path)
    study(folder / "study.toml", (), tmp_path / "runs", tmp_path / "bundles", tmp_path / "results")
    (result,) = (tmp_path / "results").iterdir()
    assert json.loads(result.read_text())["diverged"] is True and not (tmp_path / "bundles").exists()


@pytest.mark.slow
def test_a_result_of_other_weights_is_none(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs", tmp_path / "runs")
    results = tmp_path / "results"
    results.mkdir()
    path = results / "tiny-hellinger-t2.json"
    path.write_text(json.dumps({"graph": "0" * 64, "scores": {"fashion": {"fid": 0.1}}}))
    study(folder / "study.toml", [path.stem], tmp_path / "runs", tmp_path / "bundles", results, 20)
    (figure,) = bundle.load(tmp_path / "bundles" / "tiny-study").manifest.figures
    assert figure.value == json.loads(path.read_text())["scores"]["fashion"]["fid"] > 0.1


def test_what_cannot_be_measured(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no tiny-t2; it has: tiny-hellinger-t2, tiny-pearson-t2, start-t2, start"):
        study(folder / "study.toml", ["tiny-t2"], folder / "runs", tmp_path, tmp_path)


def test_a_histogram_counts_what_the_classifier_says() -> None:
    pictures = np.array([3, 3, 9], np.uint8).reshape(3, 1, 1, 1)
    assert histogram(pictures, lambda x: F.one_hot(torch.from_numpy(x[:, 0, 0, 0]).long(), 10)) == [
        *([0] * 3),
        2,
        *([0] * 5),
        1,
    ]


@pytest.mark.slow
def test_classes_are_told_apart() -> None:
    """Of test images, nearly as well as by the classifier whose features it sees: 94 %."""
    if not fashion_mnist.DEBIAN.is_dir():
        pytest.skip("needs Fashion-MNIST: install Debian's package dataset-fashion-mnist")
    images, labels = (array[:1000] for array in fashion_mnist.load("test"))
    assert (classifier()(images).argmax(1).numpy() == labels).mean() > 0.92


@pytest.mark.slow
def test_points_are_kept_near_what_they_began_as(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle gives checkpoints back that are exported to the same graphs, and draw what was trained."""
    study(folder / "study.toml", ["start-t2"], folder / "runs", tmp_path / "bundles", tmp_path / "results", 20)
    made = tmp_path / "bundles" / "tiny-study"
    monkeypatch.setattr(unpack, "RECIPES", folder)
    unpack.checkpoints(made, tmp_path / "runs")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["start", "tiny-hellinger-t2"]
    again = [tmp_path / "runs", tmp_path / "again", tmp_path / "results"]
    study(folder / "study.toml", ["start-t2"], *again, 20)
    one, other = (
        genfast.load(str(path), device="cpu").sample(20) for path in (made, tmp_path / "again" / "tiny-study")
    )
    assert np.abs(one.astype(int) - other).max() <= 1 and one.std(axis=0).mean() > 10
