"""A small VQ-GAN and its prior: recipes, and checkpoints of random weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from genfast.attributes import Attribute, AttributeTable
from training.drafts import FoldedDrafts
from training.init.drafts import fit
from training.nets.vqgan import VQGAN
from training.registry import validate

SIDE, CODES = 8, 512

VQGAN_TABLE = {
    "name": "tiny-vqgan",
    "family": "vqgan",
    "loop": {"steps": 10, "batch": 5},
    "data": {"name": "avatars"},
    "frozen_from": "runs/tiny-dequantiser",
    "vqgan": {
        "codes": CODES,
        "latent": 64,
        "regions": 2,
        "encoder": (8, 8, 8),
        "decoder": (8, 8, 8, 8),
        "attention": True,
        "dequantiser": {"tokens": SIDE, "widths": (64, 64), "heads": (1, 1), "depths": (1, 1, 1)},
        "lapped": 24,
    },
}
PRIOR_TABLE = {
    "name": "tiny-prior",
    "family": "sundae",
    "loop": {"steps": 10, "batch": 5},
    "data": {"name": "tokens", "folder": "tokens"},
    "vqgan": "vqgan",
    "hourglass": {
        "tokens": SIDE,
        "vocabulary": CODES,
        "regions": 2,
        "codes": 64,
        "widths": (128, 128),
        "heads": (2, 2),
        "unigram_rank": 4,
        "draft": 12,
    },
}


def save_checkpoint(folder: Path, table: dict[str, Any], network: nn.Module) -> Path:
    """A checkpoint after 7 steps, as it were."""
    folder.mkdir(parents=True)
    summary = {"recipe": asdict(validate(table)), "step": 7, "images": 35, "hours": 0.123}
    (folder / "recipe.json").write_text(json.dumps(summary, default=str))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    return folder


def random_vqgan(seed: int) -> VQGAN:
    torch.manual_seed(seed)
    network = VQGAN(validate(VQGAN_TABLE).vqgan)
    network.codebook.mul_(torch.logspace(1, -1, 64))  # as unequal as principal components
    network.dequantiser.size.copy_(network.codebook.square().mean().sqrt())
    for layer in (network.encoder.network[-1], network.decoder.network[-2], network.dequantiser.leave):
        nn.init.normal_(layer.weight, std=0.1)
    jitter(network)
    return network.eval()


def random_drafts(codec: VQGAN) -> FoldedDrafts:
    """What hats and colours say of random tokens, by each of five classes."""
    rng = np.random.default_rng(0)
    hat = Attribute(name="hat", values=("beret", "none", "top"))
    colour = Attribute(name="hat-colour", values=("#ff0000", "#00ff00", "#0000ff"), colour=True)
    rows = rng.integers(1, 4, size=(100, 2))
    table = AttributeTable((hat, colour), rows, np.arange(100) % 5)
    tokens = torch.from_numpy(rng.integers(CODES, size=(100, SIDE**2)) // 8 + 60 * rows.sum(1, keepdims=True))
    return fit(table, tokens, codec.codebook, rank=4, channels=PRIOR_TABLE["hourglass"]["draft"])


@torch.no_grad()
def jitter(network: nn.Module) -> None:
    """Move every parameter a little: no two are equal, as in a network that was trained."""
    for parameter in network.parameters():
        parameter += 0.001 * torch.randn_like(parameter)
