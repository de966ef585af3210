"""A small VQ-GAN of taming-transformers' form, imported on the real command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from export.importers.taming import load, read_config
from export.importers.taming_net import TamingVQGAN
from tests.export.importers.tiny_vqgan import save, write_config

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def vq_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Its checkpoint and its configuration."""
    folder = tmp_path_factory.mktemp("taming")
    return save(folder / "last.ckpt"), write_config(folder)


@pytest.fixture(scope="session")
def vq_network(vq_files: tuple[Path, Path]) -> TamingVQGAN:
    checkpoint, config = vq_files
    return load(checkpoint, read_config(config))


@pytest.fixture(scope="session")
def vq(vq_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle: 16x16 tokens of 64 for 32x32 pixels."""
    checkpoint, config = vq_files
    out = tmp_path_factory.mktemp("imported") / "noise"
    command = [sys.executable, "-m", "export", "import", "taming-vqgan", checkpoint, out, "--config", config]
    command += ["--name", "noise", "--licence", "CC0-1.0", "--source", "made here"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out}: parity ") and done.stdout.count("\nparity, ") == 2
    return out
