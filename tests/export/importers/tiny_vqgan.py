"""A small VQ-GAN in the form of taming-transformers: its configuration, and a checkpoint of random weights."""

from pathlib import Path

import torch
import yaml
from torch import Tensor

from export.importers.taming_net import NetConfig, TamingVQGAN

NET = {
    "double_z": False,
    "z_channels": 32,
    "resolution": 32,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [16],
    "dropout": 0.0,
}
CONFIG = {"embed_dim": 32, "n_embed": 64, "ddconfig": NET}


def write_config(folder: Path, target: str = "taming.models.vqgan.VQModel", **more: object) -> Path:
    """A project.yaml of 16x16 tokens of 64 for 32x32 pixels, with more parameters."""
    path = folder / "project.yaml"
    model = {"base_learning_rate": 4.5e-06, "target": target, "params": {**CONFIG, "lossconfig": {"a": 1}, **more}}
    path.write_text(yaml.safe_dump({"model": model, "data": {}}))
    return path


def save(path: Path, gumbel: bool = False, **more: Tensor) -> Path:
    """A checkpoint for it, of random weights that are always the same, with more tensors."""
    torch.manual_seed(0)
    network = TamingVQGAN(NetConfig.model_validate(NET), 64, 32, gumbel)
    state = network.state_dict() | {"loss.logvar": torch.zeros(())} | more
    torch.save({"epoch": 3, "global_step": 7, "state_dict": state}, path)
    return path
