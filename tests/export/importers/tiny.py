"""A small generator of the kind that NVlabs' files hold."""

from pathlib import Path

import torch

from export.importers.ncsnpp import NCSNpp, NCSNppConfig
from export.importers.nvlabs_options import Arguments, arguments

SIZES = dict(num_channels=3, num_channels_dae=8, ch_mult=(1, 2), num_res_blocks=1, nz=5, z_emb_dim=8, n_mlp=1)
TINY = NCSNppConfig(image_size=16, attn_resolutions=(8,), fir=True, progressive_input="residual", **SIZES)
GIVEN = {"image_size": 16, "num_timesteps": 2}


def options(**more: object) -> Arguments:
    return arguments({**GIVEN, **more}, NCSNpp(TINY).state_dict(), "options", Path("netG.pth"))


def save(path: Path, network: NCSNpp) -> Path:
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, path)
    return path
