"""`python -m training run`, as it is typed: killed and gone on with, and in two processes."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from genfast.images import io
from genfast.images.sheets import contact_sheet
from training.checkpoint import load_average, newest_checkpoint
from training.data import fashion_mnist
from training.families.ddpm import DDPMTraining
from training.loop import run
from training.nets.unet import UNet
from training.registry import read
from training.sampling import sample

ROOT = Path(__file__).parents[2]
NETWORK = "widths = [8, 16]\ngroups = 4\nheads = 2\nembedding = 16\n"
DDGAN = f"""
name = "tiny"
family = "ddgan"
discriminator_warmup = 10
eval_images = 100
[loop]
steps = 60
batch = 16
warmup = 5
decay = 20
ema = 0.9
log_every = 1
checkpoint_every = 5
[unet]
{NETWORK} latent = 8
[schedule]
steps = 4
[discriminator]
widths = [8, 16]
embedding = 16
"""


PLAIN = [sys.executable, "-W", "error", "-m", "training", "run"]
FABRIC = [Path(sys.executable).with_name("fabric"), "run", "--accelerator", "cpu", "--devices", "2"]


@contextmanager
def training(
    folder: Path, recipe: str, *options: str, launcher: Sequence[str | Path] = PLAIN
) -> Iterator[subprocess.Popen[bytes]]:
    """A run of a recipe's text into `folder`, killed at the end of the block."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(recipe)
    command = [*launcher, folder / "recipe.toml", "--runs", folder]
    command += ["--data", fashion_mnist.DEBIAN, "--accelerator", "cpu", *options]
    with (folder / "output").open("ab") as output:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # `fabric run` runs a file, not a module
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for a checkpoint, which appears whole."""
    while not path.exists():
        assert process.poll() is None, (path.parents[1] / "output").read_text()
        time.sleep(0.002)


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_not_been(garments: object, tmp_path: Path) -> None:
    """With equal weights, averages, states of the optimisers and figures, bit by bit.

    Both are stopped after their last checkpoint: what follows is evaluation alone.
    """
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with training(whole, DDGAN) as process:
        wait_for(whole / "tiny" / "checkpoint-00000060", process)
    with training(killed, DDGAN) as process:
        wait_for(killed / "tiny" / "checkpoint-00000005", process)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert newest_checkpoint(killed / "tiny").name < "checkpoint-00000060"
    with training(killed, DDGAN) as process:
        wait_for(killed / "tiny" / "checkpoint-00000060", process)

    ends = [newest_checkpoint(folder / "tiny") for folder in (whole, killed)]
    states = [torch.load(end / "state.ckpt", weights_only=True) for end in ends]
    assert {"networks", "average", "generator", "discriminator"} <= set(states[0])
    for state in states:
        state.pop("hours")
    assert_identical(*states)
    assert ends[0].joinpath("model.safetensors").read_bytes() == ends[1].joinpath("model.safetensors").read_bytes()
    rows = [figures(folder / "tiny") for folder in (whole, killed)]
    # A step's figures, but for the generator's two in its warm-up, and an FID at the end.
    assert rows[0] == rows[1] and len(rows[0]) == 60 * 7 - 10 * 2 + 1


def assert_identical(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_identical(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            assert_identical(x, y)
    else:
        assert a == b


def figures(folder: Path) -> list[list[str]]:
    """Rows (step, name, value) of the log but for the speed."""
    with (folder / "figures.csv").open() as file:
        return [row for row in csv.reader(file) if row[1] not in ("name", "images_per_second")]


DDPM = f"""
name = "tiny"
family = "ddpm"
lr = 2e-3
[loop]
steps = 60
batch = 16
warmup = 5
ema = 0.9
log_every = 1
[unet]
{NETWORK} latent = 0
[schedule]
steps = 4
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[*PLAIN, "--devices", "2"], [*FABRIC, "training/__main__.py", "run"]])
def test_two_processes_train_as_one(
    launcher: list[str | Path], garments: tuple[np.ndarray, np.ndarray], fabric: Fabric, tmp_path: Path
) -> None:
    """The losses of three stretches lie within what seeds differ by, and both processes end with the same weights."""
    with training(tmp_path, DDPM, launcher=launcher) as process:
        assert process.wait() == 0, (tmp_path / "output").read_text()
    chosen = read(tmp_path / "recipe.toml")
    for seed in range(1, 5):
        loop = replace(chosen.loop, seed=seed)
        run(DDPMTraining, replace(chosen, loop=loop), *garments, tmp_path / str(seed), fabric)
    ours, *others = (losses(tmp_path / name) for name in ("tiny", "1", "2", "3", "4"))
    # The log is that of process 0, which sees half of a batch: its mean varies by sqrt(2) more.
    spread = np.std(others, axis=0, ddof=1) * 2**0.5
    assert (np.abs(ours - np.mean(others, axis=0)) < 4 * spread).all()
    assert ours[2] < 0.7 * ours[0]

    # Process 1 drew the second half of the grid.
    network = load_average(newest_checkpoint(tmp_path / "tiny"), UNet(chosen.unet)).eval()
    drawn = contact_sheet(sample(network, chosen.schedule.build(), 100, fabric))
    assert np.abs(io.read(tmp_path / "tiny" / "grid-00000060.png").astype(int) - drawn).max() <= 1


def losses(folder: Path) -> np.ndarray:
    """The mean loss of steps 1-20, 21-40 and 41-60."""
    return np.array([float(value) for _, name, value in figures(folder) if name == "loss"]).reshape(3, 20).mean(1)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("training run training/recipes/ffhq1024-vqgan.toml --data {}", 3, "holds no images"),
        ("training tokens {0} {0}/tokens", 1, "has no checkpoint; train it first"),
        pytest.param(
            "training run training/recipes/fashion28-start.toml --runs {} --accelerator cuda",
            1,
            "--accelerator cuda cannot be used here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="it can"),
        ),
        ("export study {}/missing.toml", 1, "No such file"),
    ],
)
def test_what_cannot_be_used_is_one_line(command: str, code: int, message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command.format(tmp_path).split()], cwd=ROOT, capture_output=True, text=True
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == code and line.startswith(f"{command.split()[0]}: error: ") and message in line
