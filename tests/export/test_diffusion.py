"""Small networks, exported on the real command line: the bundle draws what training draws."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

import genfast
from export.diffusion import COARSENESS, ddgan, ddpm
from export.weights import constants
from genfast.bundles import bundle
from genfast.errors import ModelError, UsageError
from training.checkpoint import Checkpoints, load_average, saved
from training.diffusion import ScheduleConfig, vp_alpha_bar
from training.nets.unet import UNet
from training.registry import FAMILIES, validate
from training.sampling import sample

pytestmark = pytest.mark.slow  # small networks are trained and exported first

ROOT = Path(__file__).parents[2]
LOG_SNR = (2.5, 0.0, -2.5, -6.0)


def save_checkpoint(folder: Path, family: str, latent: int, classes: int = 0) -> Path:
    """A checkpoint after 7 steps, as it were, of a small network whose averaged weights are not its own."""
    table = {
        "name": "tiny",
        "family": family,
        "loop": {"steps": 10, "batch": 5},
        "unet": {
            "widths": [8, 16],
            "groups": 4,
            "heads": 2,
            "embedding": 16,
            "latent": latent,
            "classes": classes,
            "told_target": latent > 0,
        },
        "schedule": {"log_snr": {4: LOG_SNR, 2: LOG_SNR[1::2]}} if family == "ddgan" else {"steps": 4},
    }
    if family == "ddgan":
        table |= {"init_from": None, "loss": "non-saturating"}
    recipe = validate(table)
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1)
    training = FAMILIES[family].training(recipe, fabric)
    average = AveragedModel(training.networks[training.averaged])
    if average.module.mapping is not None:
        nn.init.normal_(average.module.mapping.layers[-1].weight)
    if average.module.target is not None:
        nn.init.normal_(average.module.target.layers[-1].weight)
    if average.module.label is not None:
        nn.init.normal_(average.module.label.weight)
    Checkpoints(folder, recipe, fabric, training, average).save(7, 0.123)
    return folder / "checkpoint-00000007"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("run"), "ddgan", latent=8)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "new" / "tiny"
    command = [sys.executable, "-m", "export", "ddgan", str(checkpoint), str(out), "--samples", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out}: parity ") and done.stdout.count("\nFID, ") == 2
    return out


def test_the_manifest_says_what_it_is_and_that_it_is_right(exported: Path) -> None:
    manifest = bundle.load(exported).manifest
    assert (manifest.name, manifest.family, manifest.latent, manifest.steps) == ("tiny", "ddgan", 8, 4)
    assert (manifest.image.height, manifest.image.width, manifest.image.channels) == (28, 28, 1)
    assert manifest.schedule.alpha_bar == pytest.approx([1, *1 / (1 + np.exp(-np.array(LOG_SNR)))], rel=1e-6)
    assert [timesteps.levels for timesteps in manifest.schedule.trained] == [(0, 1, 2, 3, 4), (0, 2, 4)]
    assert list(manifest.parity.max_abs_difference) == ["1", "2", "7"]
    assert max(manifest.parity.max_abs_difference.values()) <= manifest.parity.tolerance == 1e-4
    provenance = manifest.provenance
    assert (provenance.recipe, provenance.images_seen, provenance.hours) == ("tiny", 35, 0.12)
    assert "non-saturating" in provenance.notes
    assert {figure.name for figure in manifest.figures} == {"FID, efficientnet-lite0, 4 steps", "FID, fashion, 4 steps"}
    assert all(figure.value > 0 and "/n=20/" in figure.protocol for figure in manifest.figures)
    assert sorted(path.name for path in exported.iterdir()) == ["manifest.json", "step.onnx"]


def test_users_draw_what_training_draws(exported: Path, checkpoint: Path) -> None:
    """Through torch and through onnxruntime: equal but for a grey level, which rounding may cost."""
    recipe = validate(saved(checkpoint)["recipe"])
    network = load_average(checkpoint, UNet(recipe.unet)).eval()
    for steps in (None, 2, 4):
        trained = sample(network, recipe.schedule.build(), 20, Fabric(accelerator="cpu", devices=1), steps=steps)
        used = genfast.load(str(exported), steps=steps, device="cpu").sample(20)
        assert used.shape == (20, 28, 28, 1) and used.std(axis=0).mean() > 10
        assert np.abs(used.astype(int) - trained).max() <= 1
    with pytest.raises(UsageError, match="has no weights for 3 steps; weights exist for: 2, 4"):
        genfast.load(str(exported), steps=3, device="cpu")


def test_a_model_with_classes_draws_what_training_draws(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path, "ddgan", latent=8, classes=10)
    ddgan(checkpoint, tmp_path / "out", samples=0)
    recipe = validate(saved(checkpoint)["recipe"])
    network = load_average(checkpoint, UNet(recipe.unet)).eval()
    trained = sample(network, recipe.schedule.build(), 20, Fabric(accelerator="cpu", devices=1))
    model = genfast.load(str(tmp_path / "out"), device="cpu")
    used, bags = model.sample(20), model.sample(20, label="bag")
    assert np.abs(used.astype(int) - trained).max() <= 1
    assert np.flatnonzero((used == bags).all((1, 2, 3))).tolist() == [8, 18]


def test_a_distilled_generator_is_exported_likewise(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / checkpoint.name)
    about = saved(folder)
    kept = {name: about["recipe"][name] for name in ("name", "loop", "unet", "schedule", "data")}
    about["recipe"] = kept | {"family": "dmd", "teacher": "runs/many-steps", "guidance": 1.5}
    (folder / "recipe.json").write_text(json.dumps(about))
    ddgan(folder, tmp_path / "out", samples=0)
    model = genfast.load(str(tmp_path / "out"), device="cpu")
    assert "distribution matching, teacher many-steps, guidance 1.5." in model.bundle.manifest.provenance.notes
    assert np.array_equal(model.sample(4), genfast.load(str(exported), device="cpu").sample(4))


def test_the_batch_does_not_matter(exported: Path) -> None:
    model = genfast.load(str(exported), device="cpu")
    whole = model.sample(66, seed=3, batch=64)
    for batch in (1, 3):
        assert np.array_equal(model.sample(66, seed=3, batch=batch), whole)


def test_the_latent_counts(exported: Path) -> None:
    session = genfast.load(str(exported), device="cpu").session
    x_t, noise = np.random.default_rng(0).standard_normal((2, 1, 1, 28, 28), np.float32)
    step = {"x_t": x_t, "t": np.array([3]), "s": np.array([1]), "noise": noise}
    one, other = (session.run(**step, z=np.eye(8, dtype=np.float32)[i : i + 1])["x_0"] for i in (0, 1))
    assert np.abs(one - other).max() > 0.01 and np.abs(one).max() <= 1


def test_the_last_step_returns_x_0(exported: Path) -> None:
    session = genfast.load(str(exported), device="cpu").session
    rng = np.random.default_rng(0)
    x_t, noise = rng.standard_normal((2, 3, 1, 28, 28), np.float32)
    z, s = rng.standard_normal((3, 8), np.float32), np.zeros(3, np.int64)
    out = session.run(x_t=x_t, t=np.arange(1, 4), s=s, z=z, noise=noise)
    assert np.array_equal(out["x_prev"], out["x_0"])


def test_an_existing_folder_stays(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists; remove it, or name another folder"):
        ddgan(checkpoint, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no checkpoint: it lacks recipe.json"):
        ddgan(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_family_is_refused(tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path, "ddpm", latent=0)
    with pytest.raises(UsageError, match="is of family ddpm, not ddgan or dmd"):
        ddgan(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_nothing_behind(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.diffusion.export", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ddgan(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint / "recipe.json", tmp_path)
    with pytest.raises(UsageError):
        ddgan(tmp_path, tmp_path / "out")


def test_eight_bits_draw_nearly_the_same(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    ddgan(checkpoint, tmp_path / "small", samples=0, small=True)
    whole, small = (path / "step.onnx" for path in (exported, tmp_path / "small"))
    assert small.stat().st_size < 0.75 * whole.stat().st_size  # what does not shrink is the graph itself
    one, other = (genfast.load(str(path.parent), device="cpu").sample(20).astype(int) for path in (whole, small))
    assert 0 < np.abs(one - other).max() and np.abs(one - other).mean() < 1


def test_near_another_bundle_few_levels_are_kept(
    exported: Path, checkpoint: Path, baseline: tuple[Path, Path], tmp_path: Path
) -> None:
    out, before = tmp_path / "near", load_file(checkpoint / "model.safetensors")
    ddpm(baseline[0], tmp_path / "start", small=True)
    start = tmp_path / "start" / "step.onnx"
    ddgan(checkpoint, out, samples=0, near=start.parent)
    assert (out / "start.onnx").read_bytes() == start.read_bytes()
    began, kept = constants(start), constants(out / "step.onnx")
    apart = {name: before[name] - began[f"network.{name}"] for name in before if f"network.{name}.start" in kept}
    assert len(apart) > 10 and not any(name.startswith("mapping") for name in apart)
    unit = COARSENESS * torch.cat([difference.flatten() for difference in apart.values()]).std()
    for name in apart:
        assert (kept[f"network.{name}"] - before[name]).abs().max() < 0.51 * unit
    for folder in (exported, out):
        assert genfast.load(str(folder), device="cpu").sample(3).std(axis=0).mean() > 10
    with pytest.raises(ModelError, match="is no bundle"):
        ddgan(checkpoint, tmp_path / "far", samples=0, near=tmp_path)
    with pytest.raises(ValueError, match="start.onnx has no weights in eight bits"):
        ddgan(checkpoint, tmp_path / "far", samples=0, near=baseline[1])
    assert not (tmp_path / "far").exists()


@pytest.mark.parametrize("steps", [1, 10, 200, 1000])
def test_strides_are_the_steps_of_a_schedule(steps: int) -> None:
    """Every T of a DDPM's levels that are evenly spaced are those of a schedule of T steps."""
    strided, plain = ScheduleConfig(steps=1000).build().alpha_bar, ScheduleConfig(steps=steps).build().alpha_bar
    torch.testing.assert_close(strided[:: 1000 // steps], plain, rtol=1e-12, atol=0)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A DDPM's checkpoint and its bundle, made on the command line."""
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("run"), "ddpm", latent=0)
    out = tmp_path_factory.mktemp("bundles") / "ddpm"
    command = [sys.executable, "-m", "export", "ddpm", str(checkpoint), str(out), "--notes", "Tiny."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(f"{out}: parity ")
    return checkpoint, out


def test_a_ddpm_draws_what_training_draws(baseline: tuple[Path, Path]) -> None:
    checkpoint, out = baseline
    recipe = validate(saved(checkpoint)["recipe"])
    network = load_average(checkpoint, UNet(recipe.unet)).eval()
    manifest = bundle.load(out).manifest
    assert (manifest.family, manifest.steps, manifest.latent) == ("ddpm", 1000, None)
    assert manifest.schedule.alpha_bar == tuple(
        vp_alpha_bar(t / 1000) for t in range(1001)
    ) and manifest.provenance.notes.endswith(" Tiny.")
    for steps in 4, 50:
        schedule = ScheduleConfig(steps=steps).build()
        trained = sample(network, schedule, 5, Fabric(accelerator="cpu", devices=1))
        used = genfast.load(str(out), steps=steps, device="cpu").sample(5)
        assert used.std(axis=0).mean() > 10 and np.abs(used.astype(int) - trained).max() <= 1


def test_a_ddgan_is_no_ddpm(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is of family ddgan, not ddpm"):
        ddpm(checkpoint, tmp_path / "out")
