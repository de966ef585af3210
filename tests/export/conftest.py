"""A small VQ-GAN, its prior, and their bundle, exported on the real command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from tests.export.tiny import PRIOR_TABLE, VQGAN_TABLE, jitter, random_drafts, random_vqgan, save_checkpoint
from training.checkpoint import load_average
from training.nets.hourglass import Hourglass
from training.nets.vqgan import VQGAN
from training.registry import validate

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A prior and its VQ-GAN, with random weights that give distributions of a few likely tokens."""
    codec = random_vqgan(0)
    network = Hourglass(validate(PRIOR_TABLE).hourglass)
    network.token_head.set_codes(codec.codebook)
    nn.init.normal_(network.out.weight, std=0.3)
    for values in (
        network.token_head.bias,
        network.token_head.unigram_keys,
        network.unigram_queries,
        network.draft.outer.weight,
    ):
        nn.init.normal_(values)
    jitter(network)
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tokens").mkdir()
    random_drafts(codec).save(folder / "tokens")
    table = PRIOR_TABLE | {"data": {"name": "tokens", "folder": str(folder / "tokens")}}
    prior = save_checkpoint(folder / "prior", table, network)
    return prior, save_checkpoint(folder / "vqgan", VQGAN_TABLE, codec)


@pytest.fixture(scope="session")
def networks(checkpoints: tuple[Path, Path]) -> tuple[Hourglass, VQGAN]:
    prior, vqgan = checkpoints
    network = load_average(prior, Hourglass(validate(PRIOR_TABLE).hourglass))
    return network.eval(), load_average(vqgan, VQGAN(validate(VQGAN_TABLE).vqgan)).eval()


@pytest.fixture(scope="session")
def exported(checkpoints: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    prior, vqgan = checkpoints
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    command = [sys.executable, "-m", "export", "sundae", str(prior), str(out), "--vqgan", str(vqgan), "--notes", "Odd."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out}: parity ") and done.stdout.count("\nparity, ") == 6
    return out
