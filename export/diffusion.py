"""Diffusion models as bundles: the averaged network as one graph of a whole reverse step."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import genfast
from export.folder import new
from export.graph import TOLERANCE, MakeInputs, export, parity
from export.ort_ops import fused
from export.provenance import report, trained
from export.weights import Rounded, constants, read_starts, store_half
from genfast.bundles import bundle
from genfast.bundles.manifest import Figure
from genfast.metrics.evaluate import evaluate, references
from training.checkpoint import load_average
from training.data import fashion_mnist
from training.diffusion import ReverseStep, vp_alpha_bar
from training.families.ddgan import DDGANRecipe
from training.families.ddpm import DDPMRecipe
from training.nets.unet import UNet

LEVELS = 1000  # of a DDPM; it may step over any of them
COARSENESS = 1.0  # the unit of differences to another network, in their standard deviations


class StridedStep(nn.Module):
    """The reverse step of a DDPM from one level to any lower one, so that one graph serves every number of steps."""

    alpha_bar: Tensor  # (T + 1,) f64

    def __init__(self, network: nn.Module, alpha_bar: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("alpha_bar", torch.tensor(alpha_bar, dtype=torch.float64), persistent=False)

    def forward(
        self, x_t: Tensor, t: Tensor, s: Tensor, noise: Tensor, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Step x_t (B, C, H, W) at t (B,) in 1..T to x_s at s (B,) in 0..t-1, and x_0, both (B, C, H, W).

        Draws x_s ~ q(x_s | x_t, x_0) as ReverseStep draws x_{t-1}; in float64, where near levels differ by little.
        """
        here, there = self.alpha_bar[t], self.alpha_bar[s]
        alpha, left = here / there, (1 - there) / (1 - here)
        x_0 = self.network(x_t, torch.log(here / (1 - here)).float(), None, label).clamp(-1, 1)
        scales = there.sqrt() * (1 - alpha) / (1 - here), alpha.sqrt() * left, ((1 - alpha) * left).sqrt()
        c_0, c_t, sigma = (scale.float()[:, None, None, None] for scale in scales)
        return c_0 * x_0 + c_t * x_t + sigma * noise, x_0


def reverse_step(network: nn.Module, recipe: DDGANRecipe | DDPMRecipe) -> tuple[nn.Module, MakeInputs]:
    """What a recipe's network is exported as, and random inputs for it, by batch size.

    A DDPM's graph takes the level `s` that a step leads to, and has no z; that of a network with classes takes labels.
    """
    alpha_bar, adversarial = levels(recipe), isinstance(recipe, DDGANRecipe)

    def make_inputs(batch: int) -> dict[str, Tensor]:
        x_t, noise = torch.randn(2, batch, recipe.unet.channels, recipe.unet.size, recipe.unet.size)
        t = torch.randint(1, len(alpha_bar), (batch,))
        more = {"z": torch.randn(batch, recipe.unet.latent)} if adversarial else {"s": (torch.rand(batch) * t).long()}
        classes = recipe.unet.classes
        told = {"label": torch.randint(classes + 1, (batch,))} if classes else {}
        return {"x_t": x_t, "t": t, **more, "noise": noise, **told}

    module = ReverseStep(network, recipe.schedule.build()) if adversarial else StridedStep(network, alpha_bar)
    return module, make_inputs


def levels(recipe: DDGANRecipe | DDPMRecipe) -> list[float]:
    """alpha_bar of a bundle's levels.

    Those of a DDPM are of the paper's VP schedule: every T of them that are evenly spaced are that of T steps.
    """
    if isinstance(recipe, DDGANRecipe):
        return recipe.schedule.build().alpha_bar.tolist()
    return vp_alpha_bar(LEVELS, recipe.schedule.beta_min, recipe.schedule.beta_max)


def ddgan(
    checkpoint: Path,
    out: Path,
    samples: int = 10_000,
    notes: str = "",
    half: bool = False,
    near: Path | None = None,
) -> None:
    """Write a checkpoint's averaged generator to the new folder `out` as a bundle.

    The FID of so many `samples` goes into its manifest (with 0 samples, none does), and so do `notes` on the training.
    `half` rounds the weights to half precision, and the file with them; arithmetic stays float32. So does `near`, and
    of what the network shares with that bundle, which it began as, a difference in few levels alone is kept, beside a
    copy of that bundle's graph: to a history that has the other, as Git's, it adds little.

    Raises:
        UsageError: `checkpoint` is none of a DDGAN, or `out` exists.
        ModelError: `near` is no bundle.
        ValueError: the graph does not compute what the network computes, or `near` has no weights in half precision.
    """
    recipe, provenance = trained(checkpoint, DDGANRecipe)
    fields = {
        "name": recipe.name,
        "family": "ddgan",
        "summary": f"Fashion-MNIST garments, {recipe.unet.size}x{recipe.unet.size}, in {recipe.schedule.steps} steps",
        "latent": recipe.unet.latent,
    }
    notes = f"Loss: {recipe.loss}. The weights are the exponential moving average. {notes}".strip()
    _write(checkpoint, out, recipe, half, samples, fields, {**provenance, "notes": notes}, near)


def ddpm(checkpoint: Path, out: Path, notes: str = "", half: bool = False) -> None:
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
    _write(checkpoint, out, recipe, half, 0, fields, {**provenance, "notes": notes})


@torch.no_grad()
def _round(network: nn.Module, start: Path | None) -> list[Rounded]:
    """Round weights to half precision, but not the frequencies of levels; near those of the graph `start`, if given.

    Returns how matrices and kernels are kept then: those that `start` has not, but for the labels', in eight bits.
    """
    held = constants(start) if start else {}
    began = {name.removeprefix("network."): weight for name, weight in held.items()}
    apart = {name: p - began[name] for name, p in network.named_parameters() if p.ndim > 1 and name in began}
    unit = COARSENESS * torch.cat([difference.flatten() for difference in apart.values()]).std() if apart else 0
    rounded = []
    for name, parameter in network.named_parameters():
        if start is None or parameter.ndim < 2 or name == "label.weight":
            parameter.copy_(parameter.half())
            continue
        values = parameter.numpy()
        rounded.append(Rounded.near(values, began[name].numpy(), float(unit)) if name in apart else Rounded.of(values))
        parameter.copy_(torch.from_numpy(rounded[-1].values))
    return rounded


def _write(
    checkpoint: Path,
    out: Path,
    recipe: DDGANRecipe | DDPMRecipe,
    half: bool,
    samples: int,
    fields: dict[str, Any],
    provenance: dict[str, Any],
    near: Path | None = None,
) -> None:
    unet = recipe.unet
    network = load_average(checkpoint, UNet(unet))
    smaller = half or near
    start = bundle.load(near).graph("step") if near else None
    rounded = _round(network, start) if smaller else []
    module, make_inputs = reverse_step(network, recipe)
    with new(out) as folder:
        path = folder / "step.onnx"
        with fused(module):
            export(module, make_inputs(2), path, ["x_prev", "x_0"])
        if smaller:
            store_half(path, rounded)
        if start:
            shutil.copy(start, folder / "start.onnx")
            read_starts(path, folder / "start.onnx")
        fields |= {
            "licence": "Apache-2.0",
            "classes": fashion_mnist.CLASSES if unet.classes else (),
            "schedule": {"alpha_bar": levels(recipe)},
            "image": {"height": unet.size, "width": unet.size, "channels": unet.channels},
            "graphs": {"step": [{"path": path.name, "precision": "fp32", "providers": ["cpu", "cuda"]}]},
            "parity": {"tolerance": TOLERANCE, "max_abs_difference": parity(module, path, make_inputs)},
            "provenance": {**provenance, "dataset": "fashion-mnist", "dataset_licence": "MIT"},
        }
        manifest = bundle.write(folder, **fields).manifest
        if samples:
            batches = genfast.load(str(folder)).batches(range(samples))
            scores = evaluate(batches, references("fashion-mnist-test"))
            figures = [Figure(name=f"FID, {s.features}", value=s.fid, protocol=s.protocol) for s in scores]
            manifest = bundle.write(folder, **fields, figures=figures).manifest
    report(out, manifest)
