"""VQ-GANs of taming-transformers (Esser et al. 2021), alone or in the checkpoint of a transformer, as bundles."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from export.folder import check, new
from export.graph import TOLERANCE, Arrays, export, parity
from export.importers import reading, state
from export.importers.taming_net import NetConfig, TamingVQGAN
from export.precision import graph
from export.provenance import imported, report
from export.vqgan import LEVELS, Decode
from export.weights import share_weights
from genfast.bundles import bundle
from genfast.bundles.manifest import Figure
from genfast.errors import InputError, first_fault
from training.data.images import signed

PREFIX = "first_stage_model."  # of the VQ-GAN's names in the checkpoint of a transformer
KINDS = {"VQModel": False, "VQNoDiscModel": False, "GumbelVQ": True}  # by name of the class: whether Gumbel's
USED = "quantize.used"
CODEBOOK = "codebook.npy"
BATCHES = (1, 2)  # that parity is proven for: more images of 256x256 take gigabytes
PARITY = {
    "encode": "how much farther than the nearest code one may be, as a share of all distances, batches of 1 and 2",
    "decode": "largest difference from PyTorch in levels of 255, batches of 1 and 2",
}
_LONGEST = 2**20  # bytes of a configuration
SOURCE = "taming-transformers"
LICENCE = "MIT (code); the terms of the weights are those of who trained them"


class _Params(BaseModel):
    """What of `model.params` makes the network; all else is about training."""

    model_config = ConfigDict(frozen=True)

    embed_dim: int = Field(gt=0, le=2**14)
    n_embed: int = Field(gt=1, le=2**20)
    ddconfig: NetConfig


@dataclass(frozen=True)
class Config:
    """A configuration: codes of `length` numbers, of a network that says how likely each is where it is `gumbel`."""

    net: NetConfig
    codes: int
    length: int
    gumbel: bool

    @property
    def name(self) -> str:
        return f"{'gumbel' if self.gumbel else 'vqgan'}-f{self.net.factor}-{self.codes}"


class Encode(nn.Module):
    """Pictures (B, H, W, 3) uint8 to tokens (B, N)."""

    def __init__(self, network: TamingVQGAN) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network.encode(signed(image.permute(0, 3, 1, 2)))


def read_config(path: Path) -> Config:
    """Read the YAML of a project: that of a VQ-GAN, or of a transformer whose first stage is one.

    Raises InputError where it is none, or of a network that is not known here.
    """
    table = _yaml(path)
    model = table.get("model", table)
    while isinstance(model, dict) and isinstance(params := model.get("params"), dict):
        if "first_stage_config" not in params:
            break
        model = params["first_stage_config"]
    if not isinstance(model, dict) or "params" not in model:
        raise InputError(f"{path} is no configuration of taming-transformers: it has no model.params")
    kind = str(model.get("target")).rpartition(".")[2]
    if kind not in KINDS:
        raise InputError(f"{path} is of {model.get('target')}; VQ-GANs that are known are {', '.join(KINDS)}")
    try:
        params = _Params.model_validate(model["params"])
    except ValidationError as error:
        raise InputError(f"{path} is no configuration that is known here: {first_fault(error)}") from error
    return Config(params.ddconfig, params.n_embed, params.embed_dim, KINDS[kind])


def _yaml(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > _LONGEST:
            raise InputError(f"{path} is no configuration: it is larger than 1 MB")
        table = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(table, dict):
        raise InputError(f"{path} is no configuration: it holds a {type(table).__name__}, not a table")
    return table


def load(path: Path, config: Config) -> TamingVQGAN:
    """The network of a checkpoint, in evaluation.

    Where it has a table of the codes in use (`quantize.used`), these alone are kept, numbered as in the table.

    Raises:
        InputError: it is no checkpoint, or of another network.
    """
    held = reading.read(path)
    found = state.tensors(held.get("state_dict", held), path, PREFIX, drop=("loss.",))
    used = found.pop(USED, None)
    with torch.device("meta"):  # of no memory, until it is seen to fit
        network = TamingVQGAN(config.net, config.codes, config.length, config.gumbel)
    state.load(network, found, path, f"the {config.name} of its configuration")
    if used is not None:
        numbers = used.ndim == 1 and len(used) > 0 and not used.is_floating_point()
        if not numbers or not 0 <= used.min() <= used.max() < config.codes:
            raise InputError(f"{path} has a damaged {USED}: not all are numbers of codes below {config.codes}")
        network.quantize.keep(used.long())
    return network.eval().requires_grad_(False)


@torch.no_grad()
def taming_vqgan(
    path: Path,
    out: Path,
    config: Path,
    name: str | None = None,
    licence: str | None = None,
    source: str | None = None,
) -> None:
    """Write the VQ-GAN of a checkpoint to the new folder `out` as a bundle, for pictures of its nominal size.

    Raises:
        InputError: the checkpoint or the configuration cannot be used.
        UsageError: `out` exists.
        ValueError: a graph does not compute what the network computes.
    """
    check(out)
    described = read_config(config)
    network = load(path, described)
    size, factor = described.net.resolution, described.net.factor
    side, codebook = size // factor, network.quantize.codebook
    with new(out) as folder:
        differences = write_graphs(network, folder)
        np.save(folder / CODEBOOK, codebook.numpy(), allow_pickle=False)
        share_weights([folder / "encode.onnx", folder / "decode.onnx"])
        manifest = bundle.write(
            folder,
            name=name or described.name,
            family="vq",
            summary=f"VQ-GAN, {size}x{size} to {side}x{side} tokens of {len(codebook)} and back",
            licence=licence or LICENCE,
            image={"height": size, "width": size, "channels": 3},
            tokens={"height": side, "width": side, "vocabulary": len(codebook)},
            graphs={role: [graph(role, "fp32", "cpu", "cuda")] for role in ("encode", "decode")},
            arrays={"codebook": CODEBOOK},
            sampling={"batch": 1},
            parity={"tolerance": LEVELS, "max_abs_difference": differences["decode"]},
            figures=[
                Figure(name=f"parity, {role}", value=max(differences[role].values()), protocol=protocol)
                for role, protocol in PARITY.items()
            ],
            provenance=imported(path, source or f"{SOURCE}: {path.name}"),
        ).manifest
    report(out, manifest)


def write_graphs(network: TamingVQGAN, folder: Path) -> dict[str, dict[str, float]]:
    """Write encode.onnx and decode.onnx, for pictures of the nominal size; returns their parity, by size of the batch.

    Raises ValueError where a graph does not compute what the network computes.
    """
    size = network.config.resolution
    side = size // network.config.factor

    def pictures(batch: int) -> dict[str, Tensor]:
        return {"image": torch.randint(256, (batch, size, size, 3), dtype=torch.uint8)}

    def tokens(batch: int) -> dict[str, Tensor]:
        return {"tokens": torch.randint(len(network.quantize.codebook), (batch, side**2))}

    def distances(image: Tensor) -> Tensor:
        return network.distances(signed(image.permute(0, 3, 1, 2)))

    encode, decode = folder / "encode.onnx", folder / "decode.onnx"
    export(Encode(network), pictures(2), encode, ["tokens"])
    export(Decode(network, side), tokens(2), decode, ["image"])
    return {
        "encode": parity(distances, encode, pictures, TOLERANCE, farther, BATCHES),
        "decode": parity(Decode(network, side), decode, tokens, LEVELS, batches=BATCHES),
    }


def farther(wanted: Arrays, got: Arrays) -> float:
    """How much farther than the nearest code is one that was taken, at most, as a share of the range of distances.

    Near ties make no difference. `wanted` are distances [B, V, N], `got` tokens [B, N].
    """
    (distances,), (tokens,) = wanted, got
    taken = np.take_along_axis(distances, tokens[:, None], 1)  # [B, 1, N]
    return float((taken - distances.min(1, keepdims=True)).max() / np.ptp(distances))
