"""A bundle as PyTorch networks again: to time them, or to train them further where no checkpoint is left.

They are as rounded as the bundle holds them. Of the perceptrons that make keys of codes a bundle of tokens holds the
keys alone; `checkpoints` learns them anew.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from export.diffusion import Diffusion, reverse_step, schedule, step_inputs
from export.folder import check, new
from export.graph import parity
from export.prior import HIDDEN, Frozen, Predict, predict_inputs
from export.vqgan import CELL
from export.weights import constants
from genfast.bundles import bundle
from genfast.bundles.bundle import Bundle
from genfast.errors import UsageError
from training import registry
from training.diffusion import ReverseStep, Schedule
from training.families.sundae import SundaeRecipe
from training.families.vqgan import VQGANRecipe
from training.nets.hourglass import Hourglass
from training.nets.token_head import TokenHead
from training.nets.unet import UNet
from training.nets.vqgan import FACTOR, VQGAN
from training.recipe import Recipe
from training.study.queue import read
from training.threads import every_core

RECIPES = Path(registry.__file__).with_name("recipes")
ROUNDS, ROWS, RATE = 6000, 1024, 3e-3  # of Adam on the keys


def networks(loaded: Bundle) -> tuple[Frozen, VQGAN, SundaeRecipe, VQGANRecipe]:
    """The prior and the VQ-GAN of a bundle, with the recipes of training/recipes that they were made by.

    Raises:
        UsageError: it is of another family, or its recipe is none of this project.
        ValueError: the networks do not compute what its graphs compute.
    """
    if loaded.manifest.family != "vq-sundae":
        raise UsageError(f"{loaded.directory} is of family {loaded.manifest.family}, not ddgan, ddpm or vq-sundae")
    recipe = _recipe(loaded.manifest.provenance.recipe)
    assert isinstance(recipe, SundaeRecipe) and recipe.vqgan
    of_vqgan = _recipe(loaded.manifest.provenance.codec or recipe.vqgan.name)
    assert isinstance(of_vqgan, VQGANRecipe)
    roles = "predict", "draw", "decode", "encode", "pixel_likelihood"
    predict, draw, decode, encode, likelihood = (_exact(loaded, role) for role in roles)

    codec = _codec(of_vqgan, decode, encode, likelihood)
    head = constants(draw)
    head["keys"] *= head["scales"]
    network = Hourglass(recipe.hourglass)
    state = network.state_dict()
    held = constants(predict)
    state |= _pick(held, network) | _products(
        predict, held, network, lambda: Predict(network)(**predict_inputs(network, 1))
    )
    queries = state["unigram_queries"].shape
    (state["unigram_queries"],) = (x for x in held.values() if x.shape == queries)
    if recipe.hourglass.draft:
        state["components"] = torch.from_numpy(loaded.array("draft_components"))
    keys = head["keys"].transpose(1, 2).contiguous()  # (R * R, V, W)
    unigram_keys = keys[..., recipe.hourglass.features :]
    of_head = {"codes": codec.codebook, "bias": head["biases"], "unigram_keys": unigram_keys}
    state |= {f"token_head.{name}": values for name, values in of_head.items()}
    network.load_state_dict(state, strict=True)
    frozen = Frozen(network, keys).eval()
    parity(Predict(frozen), predict, lambda batch: predict_inputs(frozen, batch), HIDDEN)
    return frozen, codec.eval(), recipe, of_vqgan


def _codec(recipe: VQGANRecipe, decode: Path, encode: Path, likelihood: Path) -> VQGAN:
    """The VQ-GAN of three graphs. Of what a code draws by itself a bundle holds the means of cells."""
    codec, held, alone = VQGAN(recipe.vqgan), constants(decode), constants(likelihood)
    state = codec.state_dict() | _pick(held | constants(encode), codec)
    if recipe.vqgan.dequantiser is not None and codec.alone is not None:
        side = recipe.vqgan.dequantiser.tokens
        state |= _products(decode, held, codec, lambda: codec.decode(torch.zeros(1, side, side, dtype=torch.int64)))
        state["dequantiser.size"] = state["codebook"].square().mean().sqrt()
        cells = alone["cells"].view(-1, 3, FACTOR // CELL, FACTOR // CELL)
        state["alone.weight"] = cells.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)
        state["alone.bias"] = alone["background"].flatten()
    codec.load_state_dict(state, strict=True)
    return codec


def _recipe(name: str) -> Recipe:
    if not name:
        raise UsageError("weights of another project have no recipe of this one, and are not trained further here")
    path = RECIPES / f"{name}.toml"
    if not path.exists():
        raise UsageError(f"{name} is no recipe of training/recipes")
    return registry.read(path)


def _exact(loaded: Bundle, role: str) -> Path:
    """The graph of a role that computes in float32."""
    return next(loaded.directory / graph.path for graph in loaded.manifest.graphs[role] if graph.precision == "fp32")


def _pick(held: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The parameters of a network that kept their names among a graph's constants."""
    names = network.state_dict().keys()
    return {name: held[f"network.{name}"] for name in names if f"network.{name}" in held}


def _products(path: Path, held: dict[str, Tensor], network: nn.Module, call: Callable[[], object]) -> dict[str, Tensor]:
    """The weights of linear layers that are called. Export transposed most; it took their names, not their order."""
    called: list[str] = []
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and f"network.{name}.weight" not in held
    ]
    call()
    for hook in hooks:
        hook.remove()
    nodes = onnx.load(path, load_external_data=False).graph.node
    found = [node.input[1] for node in nodes if node.op_type in ("MatMul", "product") and node.input[1] in held]
    return {f"{name}.weight": held[weight].T.contiguous() for name, weight in zip(called, found, strict=True)}


def step_of(loaded: Bundle) -> tuple[ReverseStep, Diffusion]:
    """What a diffusion model's bundle computes, with the recipe of training/recipes that it was made by.

    Raises:
        UsageError: its recipe is none of this project.
        ValueError: the network does not compute what its graph computes.
    """
    recipe = _recipe(loaded.manifest.provenance.recipe)
    assert isinstance(recipe, Diffusion)
    return _step(loaded.graph("step"), recipe, schedule(recipe)), recipe


def _step(path: Path, recipe: Diffusion, levels: Schedule) -> ReverseStep:
    network, held = UNet(recipe.unet), constants(path)
    # Scale and shift of the one norm whose parameters lost their names.
    scale, shift = (x.flatten() for x in held.values() if x.shape == (recipe.unet.widths[-1], 1, 1))
    norm = {"attention.norm.weight": scale, "attention.norm.bias": shift}
    network.load_state_dict(_pick(held, network) | norm, strict=True)
    module = reverse_step(network, levels)
    parity(module, path, step_inputs(recipe, len(levels.alpha_bar)))
    return module


def _of_study(loaded: Bundle, runs: Path) -> None:
    """Checkpoints of a study's points, and of the DDPM that they began as."""
    plan, base = read(RECIPES / f"{loaded.manifest.provenance.recipe}.toml")
    assert loaded.manifest.schedule
    points, levels = plan.points(runs), Schedule(loaded.manifest.schedule.alpha_bar)
    found: list[tuple[Diffusion, Path, Schedule]] = [(base, loaded.directory / "start.onnx", schedule(base))]
    for timesteps in loaded.manifest.schedule.trained:
        found.append((points[timesteps.graph], loaded.graph(timesteps.graph), levels))
    for recipe, path, of_graph in found:
        _write(
            runs,
            recipe,
            _step(path, recipe, of_graph).network,
            recipe.loop.steps,
            recipe.loop.steps * recipe.loop.batch,
            0,
        )


def _write(runs: Path, recipe: Recipe, network: nn.Module, step: int, images: int, hours: float) -> None:
    """Write what a network is, after so much training, as a run's checkpoint."""
    with new(runs / recipe.name) as folder:
        checkpoint = folder / f"checkpoint-{step:08d}"
        checkpoint.mkdir()
        weights = {name: x.contiguous() for name, x in network.state_dict().items()}
        save_file(weights, checkpoint / "model.safetensors")
        spent = {"step": step, "images": images, "hours": hours}
        about = {"recipe": dataclasses.asdict(recipe), **spent}
        (checkpoint / "recipe.json").write_text(json.dumps(about, indent=2, default=str))


def checkpoints(directory: Path, runs: Path) -> None:
    """Write checkpoints of a bundle's networks into `runs`, for recipes to start from.

    Raises:
        UsageError: as `networks`, or a run is there already.
    """
    loaded = bundle.load(directory)
    provenance = loaded.manifest.provenance
    spent = provenance.images_seen or 0, provenance.hours or 0.0
    if loaded.manifest.family in ("ddgan", "ddpm"):
        if provenance.recipe == "study":
            return _of_study(loaded, runs)
        step, made = step_of(loaded)
        return _write(runs, made, step.network, spent[0] // made.loop.batch, *spent)
    network, codec, recipe, of_vqgan = networks(loaded)
    check(runs / of_vqgan.name, runs / recipe.name)  # now, rather than after minutes
    prior = Hourglass(recipe.hourglass)
    prior.load_state_dict(network.state_dict())
    prior.token_head.set_codes(codec.codebook)
    with torch.no_grad():
        # What `export.prior.freeze` took away.
        prior.token[0].get_parameter("weight").mul_(codec.codebook.square().mean().sqrt())
    rest = learn_keys(prior.token_head, network.token_head.keys())
    _write(runs, of_vqgan, codec, 0, 0, 0.0)  # a bundle tells of the prior's training alone
    _write(runs, recipe, prior, 0, *spent)
    print(f"{runs}: {of_vqgan.name}, {recipe.name}; share of the keys' variance that was not learned: {rest:.4f}")


def learn_keys(head: TokenHead, keys: Tensor) -> float:
    """Fit the perceptrons to keys (R * R, V, W), those of frequent tokens first; returns the variance left over."""
    codes, wanted = head.codes.flatten(0, 1), keys[..., : -head.unigram_keys.shape[2] or None].flatten(0, 1)
    weights = head.bias.detach().flatten().exp().clamp(min=1e-7).sqrt()[:, None]
    weights /= weights.mean()
    rng = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(head.key.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, ROUNDS, pct_start=0.02, cycle_momentum=False)
    with every_core():
        for _ in range(ROUNDS):
            rows = torch.randint(len(codes), (ROWS,), generator=rng)
            loss = (weights[rows] * (head.key(codes[rows]) - wanted[rows]).square()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            errors, spread = (head.key(codes) - wanted).square(), (wanted - wanted.mean(0)).square()
            return float((weights * errors).mean() / (weights * spread).mean())
