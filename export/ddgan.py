"""Denoising diffusion GANs as bundles: the averaged generator as one graph of a whole reverse step."""

import json
from pathlib import Path

import torch
from torch import Tensor

import genfast
from export.folder import new
from export.graph import TOLERANCE, export, parity
from export.provenance import commit
from genfast import bundle
from genfast.bundle import Figure
from genfast.errors import UsageError
from genfast.metrics.evaluate import evaluate, judges
from training import recipe as recipes
from training.diffusion import ReverseStep
from training.loop import load_average
from training.nets.unet import UNet


def ddgan(checkpoint: Path, out: Path, samples: int = 10_000, notes: str = "") -> None:
    """Write a checkpoint's averaged generator to the new folder `out` as a bundle.

    The FID of so many `samples` goes into its manifest (with 0 samples, none does), and so do `notes` on the training.

    Raises:
        UsageError: `checkpoint` is none of a DDGAN, or `out` exists.
        ValueError: the graph does not compute what the network computes.
    """
    if not all((checkpoint / name).is_file() for name in ("recipe.json", "model.safetensors")):
        raise UsageError(f"{checkpoint} is no checkpoint: it lacks recipe.json or model.safetensors")
    trained = json.loads((checkpoint / "recipe.json").read_text())
    recipe = recipes.validate(trained["recipe"])
    if recipe.family != "ddgan":
        raise UsageError(f"{checkpoint} is of family {recipe.family}, not ddgan")
    unet = recipe.unet
    schedule = recipe.schedule.build()
    module = ReverseStep(load_average(checkpoint, UNet(unet)), schedule)

    def make_inputs(batch: int) -> dict[str, Tensor]:
        x_t, noise = torch.randn(2, batch, unet.channels, unet.size, unet.size)
        t = torch.randint(1, schedule.steps + 1, (batch,))
        return {"x_t": x_t, "t": t, "z": torch.randn(batch, unet.latent), "noise": noise}

    with new(out) as folder:
        path = folder / "step.onnx"
        export(module, make_inputs(2), path, ["x_prev", "x_0"])
        fields = {
            "name": recipe.name,
            "family": "ddgan",
            "summary": f"Fashion-MNIST garments, {unet.size}x{unet.size}, in {schedule.steps} steps",
            "licence": "Apache-2.0",
            "image": {"height": unet.size, "width": unet.size, "channels": unet.channels},
            "schedule": {"alpha_bar": schedule.alpha_bar.tolist()},
            "latent": unet.latent,
            "graphs": {"step": [{"path": path.name, "precision": "fp32", "providers": ["cpu", "cuda"]}]},
            "parity": {"tolerance": TOLERANCE, "max_abs_difference": parity(module, path, make_inputs)},
            "provenance": {
                "recipe": recipe.name,
                "dataset": "fashion-mnist",
                "dataset_licence": "MIT",
                "images_seen": trained["images"],
                "hours": round(trained["hours"], 2),
                "commit": commit(),
                "notes": f"Loss: {recipe.loss}. The weights are the exponential moving average. {notes}".strip(),
            },
        }
        print(f"{out}: parity {bundle.write(folder, **fields).manifest.parity}")
        if samples:
            batches = genfast.load(str(folder)).batches(range(samples))
            scores = evaluate(batches, judges("fashion-mnist-test"))
            figures = [Figure(name=f"FID, {s.features}", value=s.fid, protocol=s.protocol) for s in scores]
            bundle.write(folder, **fields, figures=figures)
            for figure in figures:
                print(f"{figure.name} {figure.value:.4f} ({figure.protocol})")
