"""Priors of sundae-vqgan (McKinney and Willcocks 2022), with the VQ-GAN whose tokens they draw, as bundles."""

import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import AliasChoices, BaseModel, Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from export.draw import draw, parity_of_draw
from export.folder import check, new
from export.graph import TOLERANCE, export, parity
from export.importers import reading, state
from export.importers.sundae_net import HEAD, NetConfig, SundaePrior
from export.precision import graph
from export.prior_vqgan import bundled, copy_graphs
from export.provenance import imported, report
from export.sundae import PARITY
from export.weights import share_weights
from genfast.bundles import bundle
from genfast.bundles.manifest import Figure
from genfast.errors import InputError, first_fault
from genfast.samplers.options import SundaeOptions

SOURCE = "sundae-vqgan"
LICENCE = "MIT (code); the terms of the weights are those of who trained them"
STEPS = 50  # the paper draws in 50 to 100
CLASSES = "class_emb.weight"  # the table of labels, of a prior that is told them
ROLES = ("encode", "decode", "predict", "draw")
_LONGEST = 2**20  # bytes of a configuration


class _Said(BaseModel):
    """What a configuration says of the network, where it says it. The rest of it is about training."""

    vocabulary: int | None = Field(None, validation_alias="vocab_size")
    dim: int | None = None
    heads: int | None = Field(None, validation_alias=AliasChoices("heads", "nb_heads"))
    depths: tuple[int, int, int] | None = Field(None, validation_alias="depth")
    shorten: int | None = Field(None, validation_alias="shorten_factor")
    rotary: bool | None = Field(None, validation_alias="use_rotary")


class Predict(nn.Module):
    """Tokens and labels to what logits are linear in. The net does not know which tokens are known."""

    def __init__(self, network: SundaePrior) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Tokens (B, N), label (B,), known (B, N) to `hidden` (B, N, C + 1)."""
        return F.pad(self.network.features(tokens, label), (0, 1))  # no bonus for a token that stays


def described(weights: Mapping[str, Tensor], path: Path, side: int) -> NetConfig:
    """The shape of the network that a file holds, for grids of side * side tokens; it tells all but the side.

    Raises InputError where these are no weights of such a network.
    """

    def shape(name: str) -> tuple[int, int]:
        if name not in weights or weights[name].ndim != 2:
            raise InputError(f"{path} holds no prior of sundae-vqgan: it has no matrix {name}")
        return weights[name].shape[0], weights[name].shape[1]

    def depth(part: str) -> int:
        found = (re.match(rf"transformer\.{part}\.layers\.(\d+)\.", name) for name in weights)
        return len({match[1] for match in found if match})

    vocabulary, dim = shape("token_emb.weight")
    depths = depth("pre_transformer"), depth("valley_transformer"), depth("post_transformer")
    shorten = shape("transformer.downsample.proj.weight")[1] // max(dim, 1)
    along = math.isqrt(shorten)
    if along**2 != shorten or not shorten or side % along:
        raise InputError(f"{path} shortens by {shorten} tokens, which a grid of {side}x{side} cannot be cut into")
    return NetConfig(
        vocabulary=vocabulary,
        dim=dim,
        heads=shape("transformer.valley_transformer.layers.0.0.fn.to_q.weight")[0] // HEAD,
        depths=depths,
        shorten=shorten,
        side=side,
        resampling=depth("attn_resampling_pre_valley") > 0,
        rotary="transformer.valley_transformer.rotary_pos_emb.freqs" in weights,
        classes=len(weights[CLASSES]) if CLASSES in weights else 0,
    )


def check_config(config: Path, found: NetConfig, path: Path) -> None:
    """Raise InputError where a configuration, JSON or TOML, is none or says something else than the weights do."""
    try:
        if config.stat().st_size > _LONGEST:
            raise InputError(f"{config} is no configuration: it is larger than 1 MB")
        text = config.read_text("utf-8")
        table = tomllib.loads(text) if config.suffix == ".toml" else json.loads(text)
        said = _Said.model_validate(table["net"] | table.get("data", {}))
    except OSError as error:
        raise InputError(f"{config} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise InputError(f"{config} is not understood: net.{first_fault(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{config} is no configuration of sundae-vqgan: a JSON or TOML file with a table net"
        ) from error
    for name, value in said.model_dump(exclude_none=True).items():
        if value != getattr(found, name):
            raise InputError(f"{config} says {name} {value}, and {path} holds a network of {getattr(found, name)}")


def load(path: Path, config: Path | None, side: int) -> SundaePrior:
    """The network of a file of the trainer (its `net`), or of a bare state dict, in evaluation.

    Raises InputError where it is of another network, or the configuration says so.
    """
    held = reading.read(path)
    weights = state.tensors(held.get("net", held), path, "module.")
    found = described(weights, path, side)
    if config is not None:
        check_config(config, found, path)
    with torch.device("meta"):  # of no memory, until it is seen to fit
        network = SundaePrior(found)
    state.load(network, weights, path, f"a prior of sundae-vqgan, {found.dim} wide, of {found.depths} layers")
    return network.eval().requires_grad_(False)


@torch.no_grad()
def sundae(
    path: Path,
    out: Path,
    vqgan: Path,
    config: Path | None = None,
    name: str | None = None,
    licence: str | None = None,
    source: str | None = None,
) -> None:
    """Write a prior, and the VQ-GAN of the bundle `vqgan`, to the new folder `out` as a bundle.

    Raises:
        InputError: the file or the configuration cannot be used, or the prior is one of other tokens.
        UsageError: `vqgan` is no bundle of family vq, or `out` exists.
        ValueError: a graph does not compute what the network computes.
    """
    check(out)
    if vqgan.is_file():
        raise InputError(f"{vqgan} is a file, not a bundle; make one of it first: python -m export import taming-vqgan")
    codec = bundled(vqgan)
    image, grid = codec.loaded.manifest.image, codec.loaded.manifest.tokens
    assert image and grid  # as every manifest of this family
    if grid.height != grid.width:
        raise InputError(f"{vqgan} has {grid.height}x{grid.width} tokens, and a prior of sundae-vqgan wants a square")
    network = load(path, config, grid.height)
    if network.config.vocabulary != grid.vocabulary:
        raise InputError(
            f"{path} is a prior over {network.config.vocabulary} tokens, and {vqgan} has {grid.vocabulary}"
        )
    classes = network.config.classes
    with new(out) as folder:
        copy_graphs(codec.loaded, folder)
        predicted, drawn = write_graphs(network, folder)
        share_weights([folder / f"{role}.onnx" for role in ROLES])
        manifest = bundle.write(
            folder,
            name=name or f"sundae-{codec.loaded.manifest.name}",
            family="vq-sundae",
            summary=f"prior over tokens of {codec.loaded.manifest.name}, {image.width}x{image.height}",
            licence=f"{licence or LICENCE} (the prior); {codec.loaded.manifest.licence} (the VQ-GAN)",
            image=image,
            tokens=grid,
            classes=[f"class {label}" for label in range(classes)],
            graphs={role: [graph(role, "fp32", "cpu", "cuda")] for role in ROLES},
            sampling={"batch": 1, "options": SundaeOptions(steps=STEPS)},
            parity={"tolerance": TOLERANCE, "max_abs_difference": predicted},
            figures=[Figure(name="parity, draw", value=max(drawn.values()), protocol=PARITY["draw"])],
            provenance=imported(path, source or f"{SOURCE}: {path.name}", codec.notes),
        ).manifest
    report(out, manifest)


def write_graphs(network: SundaePrior, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Write predict.onnx and draw.onnx; returns their parity, by size of the batch."""
    config, module = network.config, Predict(network)
    predict, drawing = folder / "predict.onnx", folder / "draw.onnx"

    def inputs(batch: int) -> dict[str, Tensor]:
        z = torch.randint(config.vocabulary, (batch, config.side**2))
        return {"tokens": z, "label": torch.randint(config.classes + 1, (batch,)), "known": torch.rand(z.shape) < 0.5}

    def drawn(batch: int) -> dict[str, Tensor]:
        z = inputs(batch)
        given = {"hidden": module(*z.values()), "tokens": z["tokens"], "update": z["known"]}
        given |= {"temperature": torch.rand(batch) + 0.5, "uniform": torch.rand(z["tokens"].shape)}
        given |= {"return_prob": torch.ones(batch, dtype=torch.bool)}
        return given | {"logit_bias": torch.randn(*z["tokens"].shape, config.vocabulary)}

    def logits(hidden: Tensor, tokens: Tensor) -> Tensor:
        result: Tensor = network.to_logits(hidden[..., :-1])
        return result

    export(module, inputs(2), predict, ["hidden"])
    keys, bias = network.to_logits.weight.numpy()[None], network.to_logits.bias.numpy()[None]
    draw(keys, bias, config.side, drawing, exact=True)
    return parity(module, predict, inputs), parity_of_draw(drawing, logits, drawn)
