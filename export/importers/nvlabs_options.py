"""What NVlabs' files of weights do not say, and what their shapes do."""

import json
from collections.abc import Mapping
from dataclasses import field, replace
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from export.importers.ncsnpp import NCSNppConfig
from genfast.errors import InputError
from training.recipe import config

# Options of training, of measuring, and of what the network has not: they change no picture.
_ELSEWHERE = frozenset(
    "seed compute_fid epoch_id real_img_dir exp resume batch_size num_epoch ngf lr_g lr_d beta1 beta2 no_lr_decay "
    "use_ema ema_decay r1_gamma lazy_reg save_content save_content_every save_ckpt_every num_proc_node "
    "num_process_per_node node_rank local_rank master_address global_rank global_size t_emb_dim dropout "
    "resamp_with_conv fourier_scale progressive_combine".split()
)

Beta = Annotated[float, Field(gt=0, lt=1000)]


@config
class Arguments(NCSNppConfig):
    """The original's options, by its names: of the network, and of the schedule it was trained for.

    What has but one value here would be another network; of these, ddpm blocks, a residual pyramid of outputs and
    Fourier embeddings never ran in the original.
    """

    num_timesteps: Annotated[int, Field(ge=1, le=1000)] = field(kw_only=True)
    beta_min: Beta = 0.1
    beta_max: Beta = 20.0
    use_geometric: bool = False
    dataset: str = ""
    conditional: Literal[True] = True
    fir_kernel: Literal["1 3 3 1"] = "1 3 3 1"
    resblock_type: Literal["biggan"] = "biggan"
    progressive: Literal["none"] = "none"
    embedding_type: Literal["positional"] = "positional"

    def alpha_bar(self) -> list[float]:
        """alpha_bar at t = 0..T: what is left of the signal since the first level, at time 1e-3, where it is 1."""
        time = 1e-3 + (1 - 1e-3) * torch.linspace(0, 1, self.num_timesteps + 1, dtype=torch.float64)
        if self.use_geometric:
            levels = 1 - self.beta_min * (self.beta_max / self.beta_min) ** time
        else:
            levels = torch.exp(-(time**2) * (self.beta_max - self.beta_min) / 2 - time * self.beta_min)
        return (levels / levels[0]).tolist()


_CELEBAHQ = Arguments(
    image_size=256,
    num_channels=3,
    num_channels_dae=64,
    ch_mult=(1, 1, 2, 2, 4, 4),
    num_res_blocks=2,
    attn_resolutions=(16,),
    nz=100,
    z_emb_dim=256,
    n_mlp=3,
    fir=True,
    progressive_input="residual",
    num_timesteps=2,
    dataset="celebahq256",
)
PRESETS = {
    "cifar10": replace(
        _CELEBAHQ,
        image_size=32,
        num_channels_dae=128,
        ch_mult=(1, 2, 2, 2),
        n_mlp=4,
        num_timesteps=4,
        dataset="cifar10",
    ),
    "celebahq256": _CELEBAHQ,
    "lsun-church": replace(_CELEBAHQ, num_timesteps=4, dataset="lsun-church"),
}

_ARGUMENTS = TypeAdapter(Arguments)


def arguments(given: Mapping[str, object], state: Mapping[str, Tensor], where: str, path: Path) -> Arguments:
    """The options that `where` gives, and for those that it leaves out, what the shapes of the weights tell.

    Raises InputError where an option is unknown, missing or none that the importer knows, or `state` is of another
    network.
    """
    options = {name: value for name, value in given.items() if name not in _ELSEWHERE}
    if isinstance(kernel := options.get("fir_kernel"), list | tuple):
        options["fir_kernel"] = " ".join(map(str, kernel))
    size = options.get("image_size")
    try:
        found = _ARGUMENTS.validate_python({**told(state, size if isinstance(size, int) else 0, path), **options})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise InputError(f"{where}: {name} is missing, and no weight tells it") from error
        found_as = f", not {first['input']!r}"
        raise InputError(f"{where}: {name}: {first['msg']}{found_as}") from error
    levels = found.alpha_bar()
    if not all(later < earlier for earlier, later in zip(levels, levels[1:], strict=False)) or levels[-1] <= 0:
        raise InputError(f"{where}: beta_min {found.beta_min} and beta_max {found.beta_max} make no schedule")
    if found.image_size < 1 or found.image_size % 2 ** (len(found.ch_mult) - 1):
        raise InputError(f"{where}: image_size {found.image_size} cannot be halved {len(found.ch_mult) - 1} times")
    return found


def read_config(path: Path) -> dict[str, object]:
    """Options of a JSON file. Raises InputError where it holds none."""
    try:
        held = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} holds no options as JSON: {error}") from error
    if not isinstance(held, dict):
        raise InputError(f"{path} holds no options as JSON, by name")
    return held


def told(state: Mapping[str, Tensor], image_size: int, path: Path) -> dict[str, object]:
    """Options of the network that its weights tell, for images of that size.

    Raises InputError where they are of another network.
    """
    try:
        return _told(state, image_size)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} holds no generator of denoising-diffusion-gan: it has no {error}") from error


def _told(state: Mapping[str, Tensor], image_size: int) -> dict[str, object]:
    mapping = [name for name in state if name.startswith("z_transform.") and name.endswith(".weight")]
    embedding, latent = state["z_transform.1.weight"].shape
    finest, channels = state["all_modules.2.weight"].shape[:2]
    width = finest
    levels: list[list[int]] = [[]]  # the width of each block on the way down
    attends: set[int] = set()
    pyramid: dict[str, object] = {"progressive_input": "none"}
    for number in count(3):
        own = f"all_modules.{number}."
        if f"{own}Dense_0.weight" in state:
            out, inside = state[f"{own}Conv_0.weight"].shape[:2]
            if inside != width:  # the way up: another's output lies beside
                break
            width = out
            levels[-1].append(out)
            if f"{own}Conv_2.weight" in state and inside == out:  # for it halves the size
                levels.append([])
        elif f"{own}NIN_0.W" in state:
            attends |= {len(levels) - 1} if len(levels[-1]) == 1 else set()
        else:
            fir = f"{own}Conv2d_0.weight" in state
            pyramid = {"progressive_input": "residual", "fir": fir}
            state[f"{own}Conv{'2d' if fir else ''}_0.weight"]
    return {
        "num_channels": channels,
        "num_channels_dae": finest,
        "ch_mult": [level[0] // finest for level in levels],
        "num_res_blocks": len(levels[-1]) - 2,  # the others are those in the middle
        "attn_resolutions": [image_size >> i for i in sorted(attends)],
        "nz": latent,
        "z_emb_dim": embedding,
        "n_mlp": len(mapping) - 1,
        "fir": True,
        **pyramid,
    }
