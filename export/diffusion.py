"""Diffusion models as bundles: the averaged network as one graph of a whole reverse step."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import genfast
from export.folder import new
from export.graph import TOLERANCE, MakeInputs, export, parity
from export.ort_ops import fused
from export.provenance import fid, report, trained
from export.weights import Rounded, read_starts, store_half
from genfast.bundles import bundle
from genfast.bundles.catalog import span
from genfast.metrics.evaluate import evaluate, references
from training import registry
from training.checkpoint import load_average, saved
from training.data import fashion_mnist
from training.diffusion import ReverseStep, Schedule
from training.families.ddgan import DDGANRecipe
from training.families.ddpm import DDPMRecipe
from training.families.dmd import DMDRecipe
from training.nets.unet import UNet

FewSteps = DDGANRecipe | DMDRecipe  # of a generator, which draws in the numbers of steps that it was trained for
Diffusion = FewSteps | DDPMRecipe

LEVELS = 1000  # of a DDPM; it may step over any of them
COARSENESS = 0.5  # the unit of differences to another network, in their standard deviations


class WithoutLatent(ReverseStep):
    """The reverse step of a DDPM, which has no z."""

    def forward(  # type: ignore[override]  # a graph's inputs are told apart by their place
        self, x_t: Tensor, t: Tensor, s: Tensor, noise: Tensor, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return super().forward(x_t, t, s, noise, None, label)


def reverse_step(network: UNet, levels: Schedule) -> ReverseStep:
    """What a network is exported as: a step between any two of the levels."""
    return (ReverseStep if network.config.latent else WithoutLatent)(network.eval(), levels)


def step_inputs(recipe: Diffusion, levels: int) -> MakeInputs:
    """Random inputs, by batch size, of the graph that a recipe's network is exported as, for a number of levels.

    It takes the levels `t` and `s` that a step leads from and to; that of a DDPM has no z, and that of a network with
    classes takes labels.
    """
    unet = recipe.unet

    def make_inputs(batch: int) -> dict[str, Tensor]:
        x_t, noise = torch.randn(2, batch, unet.channels, unet.size, unet.size)
        t = torch.randint(1, levels, (batch,))
        inputs = {"x_t": x_t, "t": t, "s": (torch.rand(batch) * t).long(), "noise": noise}
        inputs |= {"z": torch.randn(batch, unet.latent)} if unet.latent else {}
        return inputs | ({"label": torch.randint(unet.classes + 1, (batch,))} if unet.classes else {})

    return make_inputs


def schedule(recipe: Diffusion) -> Schedule:
    """The levels of a bundle.

    Those of a DDPM are of the paper's VP schedule: every T of them that are evenly spaced are that of T steps.
    """
    config = recipe.schedule
    return (config if isinstance(recipe, FewSteps) else replace(config, steps=LEVELS, log_snr={})).build()


def ddgan(
    checkpoint: Path,
    out: Path,
    samples: int = 10_000,
    notes: str = "",
    small: bool = False,
    near: Path | None = None,
) -> None:
    """Write a checkpoint's averaged generator to the new folder `out` as a bundle.

    The FID of so many `samples` goes into its manifest (with 0 samples, none does), and so do `notes` on the training.
    `small` stores the weights in eight bits; arithmetic stays float32. `near` does so, too, but stores weights that the
    network shares with that bundle, from which its training started, as small differences, beside a copy of that
    bundle's graph. A Git history that has the other bundle grows little.

    Raises:
        UsageError: `checkpoint` is none of a generator of a few steps, or `out` exists.
        ModelError: `near` is no bundle.
        ValueError: the graph does not compute what the network computes, or `near` has no weights in eight bits.
    """
    recipe, provenance = trained(checkpoint, DDGANRecipe, DMDRecipe)
    assert isinstance(recipe, FewSteps)
    steps = span(sorted(recipe.schedule.build().paths))
    fields = {
        "name": recipe.name,
        "family": "ddgan",
        "summary": f"Fashion-MNIST garments, {recipe.unet.size}x{recipe.unet.size}, in {steps} steps",
        "latent": recipe.unet.latent,
    }
    notes = f"{_taught(recipe)}. The weights are the exponential moving average. {notes}".strip()
    _write(checkpoint, out, recipe, small, samples, fields, {**provenance, "notes": notes}, near)


def ddpm(checkpoint: Path, out: Path, notes: str = "", small: bool = False) -> None:
    """Write a DDPM's averaged network likewise: one graph for 1 to 1000 steps, strides over its 1000 levels.

    Raises as `ddgan` does.
    """
    recipe, provenance = trained(checkpoint, DDPMRecipe)
    fields = {
        "name": recipe.name,
        "family": "ddpm",
        "summary": f"Fashion-MNIST garments, {recipe.unet.size}x{recipe.unet.size}, in 1 to {LEVELS} steps",
    }
    notes = f"Not retrained for a number of steps: fewer than {LEVELS} are strides. {notes}".strip()
    _write(checkpoint, out, recipe, small, 0, fields, {**provenance, "notes": notes})


def _taught(recipe: FewSteps) -> str:
    if isinstance(recipe, DDGANRecipe):
        return f"Loss: {recipe.loss}"
    return f"Loss: distribution matching, teacher {recipe.teacher.name}, guidance {recipe.guidance:g}"


@torch.no_grad()
def _round(network: nn.Module, start: Path | None) -> list[Rounded]:
    """Round weights as a bundle keeps them, in place; returns those that it keeps in eight bits.

    Matrices and kernels are, near those of the graph `start` where that has them; all else is in half precision.
    """
    held = Rounded.read(start) if start else {}
    began = {name.removeprefix("network."): weight for name, weight in held.items()}
    if start and not began:
        raise ValueError(f"{start} has no weights in eight bits; export it with --small")
    large = {name: p for name, p in network.named_parameters() if p.ndim > 1 and name != "label.weight"}
    apart = [(p.numpy() - began[name].values).ravel() for name, p in large.items() if name in began]
    unit = COARSENESS * float(np.concatenate(apart).std()) if apart else 0.0
    rounded = []
    for name, parameter in network.named_parameters():
        if name not in large:
            parameter.copy_(parameter.half())
            continue
        values = parameter.numpy()
        rounded.append(Rounded.near(values, began[name], unit) if name in began else Rounded.filters(values))
        parameter.copy_(torch.from_numpy(rounded[-1].values))
    return rounded


def write_step(
    checkpoint: Path, levels: Schedule, path: Path, small: bool = False, start: Path | None = None
) -> dict[str, float]:
    """Write the reverse step of a checkpoint's averaged network as a graph; returns its parity.

    `small` rounds weights to eight bits. With `start`, a graph of such, they are kept as differences to that.

    Raises:
        ValueError: the graph does not compute what the network computes, or `start` has no weights in eight bits.
    """
    recipe = registry.validate(saved(checkpoint)["recipe"])
    assert isinstance(recipe, Diffusion)
    network = load_average(checkpoint, UNet(recipe.unet))
    rounded = _round(network, start) if small or start else []
    module, make_inputs = reverse_step(network, levels), step_inputs(recipe, len(levels.alpha_bar))
    with fused(module):
        export(module, make_inputs(2), path, ["x_prev", "x_0"])
    if small or start:
        store_half(path, rounded)
    if start:
        read_starts(path, start)
    return parity(module, path, make_inputs)


def graph(path: Path) -> list[dict[str, Any]]:
    """The entry of a manifest for such a graph."""
    return [{"path": path.name, "precision": "fp32", "providers": ["cpu", "cuda"]}]


def _write(
    checkpoint: Path,
    out: Path,
    recipe: Diffusion,
    small: bool,
    samples: int,
    fields: dict[str, Any],
    provenance: dict[str, Any],
    near: Path | None = None,
) -> None:
    unet, levels = recipe.unet, schedule(recipe)
    of_levels: dict[str, Any] = {"alpha_bar": levels.alpha_bar.tolist()}
    if isinstance(recipe, FewSteps):
        of_levels["trained"] = [{"levels": path} for path in levels.paths.values()]
    begun = bundle.load(near).graph("step") if near else None
    with new(out) as folder:
        path, start = folder / "step.onnx", folder / "start.onnx" if begun else None
        if begun and start:
            shutil.copy(begun, start)
        differences = write_step(checkpoint, levels, path, small, start)
        fields |= {
            "licence": "Apache-2.0",
            "classes": fashion_mnist.CLASSES if unet.classes else (),
            "schedule": of_levels,
            "image": {"height": unet.size, "width": unet.size, "channels": unet.channels},
            "graphs": {"step": graph(path)},
            "parity": {"tolerance": TOLERANCE, "max_abs_difference": differences},
            "provenance": {**provenance, "dataset": "fashion-mnist", "dataset_licence": "MIT"},
        }
        manifest = bundle.write(folder, **fields).manifest
        if samples:
            batches = genfast.load(str(folder)).batches(range(samples))
            scores = evaluate(batches, references("fashion-mnist-test"))
            figures = [fid(s.features, f"{manifest.steps} steps", s.fid, s.protocol) for s in scores]
            manifest = bundle.write(folder, **fields, figures=figures).manifest
    report(out, manifest)
