"""NVlabs' files as bundles: netG and content, the card, and what genfast does with the result."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from export.importers.cli import app
from export.importers.ncsnpp import NCSNpp
from export.importers.nvlabs import LICENCE, generator, nvlabs_ddgan
from genfast.bundles import bundle
from genfast.errors import InputError, UsageError
from genfast.runtime.session import Session
from tests.export.importers.tiny import GIVEN, TINY, options, save

ROOT = Path(__file__).parents[3]


def test_a_file_without_options_asks_for_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"give --preset \(cifar10, celebahq256, lsun-church\) or --config"):
        generator(save(tmp_path / "netG.pth", NCSNpp(TINY)))
    with pytest.raises(UsageError, match="give one of them"):
        generator(tmp_path / "netG.pth", "cifar10", tmp_path / "args.json")


def test_another_network_and_another_preset_are_told(tmp_path: Path) -> None:
    path = tmp_path / "netG.pth"
    torch.save({"layer.weight": torch.ones(2, 2)}, path)
    with pytest.raises(InputError, match="does not fit the generator of cifar10: it lacks all_modules"):
        generator(path, "cifar10")
    config = tmp_path / "args.json"
    config.write_text(json.dumps(GIVEN))
    with pytest.raises(InputError, match="holds no generator of denoising-diffusion-gan: it has no 'z_transform.1"):
        generator(path, config=config)
    with pytest.raises(InputError, match="does not fit the generator of cifar10: it lacks all_modules"):
        generator(save(path, NCSNpp(TINY)), "cifar10")


def content(tmp_path: Path, **more: object) -> tuple[Path, NCSNpp]:
    """A content.pth as training leaves it, and the network of its average."""
    raw, average = NCSNpp(TINY), NCSNpp(TINY)
    states = {i: {"exp_avg": torch.zeros_like(p), "ema": p} for i, p in enumerate(average.state_dict().values())}
    held = {
        "epoch": 3,
        "args": argparse.Namespace(**GIVEN, lr_g=1e-4),
        "netG_dict": {f"module.{name}": value for name, value in raw.state_dict().items()},
        "optimizerG": {"state": states, "param_groups": [{}]},
        **more,
    }
    torch.save(held, tmp_path / "content.pth")
    return tmp_path / "content.pth", average


def test_a_content_gives_its_average_and_its_options(tmp_path: Path) -> None:
    path, average = content(tmp_path)
    network, found = generator(path)
    assert found == options()
    for name, weight in average.state_dict().items():
        assert torch.equal(network.state_dict()[name], weight), name


def test_a_content_without_an_average_asks_for_the_other_file(tmp_path: Path) -> None:
    path, _ = content(tmp_path, optimizerG={"state": {0: {"exp_avg": torch.ones(1)}}})
    with pytest.raises(InputError, match=r"holds no average of the weights \(optimizerG's ema\); give netG_EPOCH.pth"):
        generator(path)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network, imported on the command line."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "args.json").write_text(json.dumps({**GIVEN, "dataset": "squares"}))
    weights = save(folder / "netG_7.pth", NCSNpp(TINY))
    command = ["nvlabs-ddgan", str(weights), str(folder / "out"), "--config", str(folder / "args.json")]
    told = ["--name", "squares", "--source", "drawn by lot", "--half"]
    done = run("export", "import", *command, *told)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(f"{folder / 'out'}: parity ")
    return folder / "out"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)


def test_the_card_says_whose_weights_they_are(imported: Path) -> None:
    manifest = bundle.load(imported).manifest
    assert (manifest.name, manifest.family, manifest.steps, manifest.latent) == ("squares", "ddgan", 2, 5)
    assert manifest.parity and max(manifest.parity.max_abs_difference.values()) <= manifest.parity.tolerance
    card = run("genfast", "info", str(imported)).stdout
    assert f"licence: {LICENCE}" in card and "source: drawn by lot" in card and "weights_sha256: " in card
    assert "images_seen" not in card and "hours" not in card  # which nobody knows


def test_the_bundle_draws_fills_and_is_timed(imported: Path, tmp_path: Path) -> None:
    def made(*command: str) -> list[str]:
        done = run("genfast", *command)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    drawn, *_ = made("sample", "--model", str(imported), "-n", "2", "--out", str(tmp_path))
    picture = np.asarray(Image.open(drawn))
    assert picture.shape == (16, 16, 3) and picture.std() > 1
    mask = np.zeros((16, 16), np.uint8)
    mask[4:9, 3:10] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (filled,) = made("inpaint", drawn, str(tmp_path / "mask.png"), "--model", str(imported), "--out", str(tmp_path))
    changed = (np.asarray(Image.open(filled)) != picture).any(2)
    assert changed[4:9, 3:10].any() and not changed[mask == 0].any()
    assert any("| 2 | 1 |" in line for line in made("bench", str(imported), "--batch", "1"))
    done = run("genfast", "fid", "--model", str(imported), "--samples", "4")
    assert done.returncode == 2 and "holds no statistics of squares-test" in done.stderr


def test_half_precision_rounds_the_weights_alone(imported: Path) -> None:
    session = Session(imported / "step.onnx", device="cpu")
    x_t, noise = np.random.default_rng(0).standard_normal((2, 1, 3, 16, 16), np.float32)
    given = {"x_t": x_t, "noise": noise, "t": np.array([1])}
    one, other = (session.run(**given, z=np.full((1, 5), z, np.float32))["x_0"] for z in (0.3, -0.3))
    assert one.dtype == np.float32 and np.abs(one - other).max() > 1e-3  # z counts
    out = session.run(**given, z=np.ones((1, 5), np.float32))
    np.testing.assert_allclose(out["x_prev"], out["x_0"], atol=1e-6)  # at t = 1


def test_a_failure_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    path, out = tmp_path / "netG.pth", tmp_path / "out"
    torch.save({"a": Path("/")}, path)
    done = run("export", "import", "nvlabs-ddgan", str(path), str(out), "--preset", "cifar10")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert done.stderr.startswith(f"export: error: {path} names pathlib") and [*tmp_path.iterdir()] == [path]


def test_a_name_that_no_bundle_can_have_is_refused_at_once(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["nvlabs-ddgan", "netG.pth", str(tmp_path / "out"), "--name", "Ältere Namen"])
    assert done.exit_code == 2 and "is not made of" in done.output


def test_an_existing_folder_stays(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists; remove it, or name another folder"):
        nvlabs_ddgan(save(tmp_path / "netG.pth", NCSNpp(TINY)), tmp_path)
