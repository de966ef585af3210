"""Denoising diffusion GANs as bundles: the averaged generator as one graph of a whole reverse step."""

import json
from pathlib import Path

import torch
from torch import Tensor

from export.graph import TOLERANCE, export, parity
from export.provenance import commit
from genfast import bundle
from genfast.errors import UsageError
from training import recipe as recipes
from training.diffusion import ReverseStep
from training.loop import load_average
from training.nets.unet import UNet


def ddgan(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint's averaged generator to the new folder `out` as a bundle.

    Raises:
        UsageError: `checkpoint` is none of a DDGAN, or `out` exists.
        ValueError: the graph does not compute what the network computes.
    """
    if out.exists():
        raise UsageError(f"{out} exists; remove it, or name another folder")
    if not (checkpoint / "recipe.json").is_file():
        raise UsageError(f"{checkpoint} is no checkpoint: it has no recipe.json")
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

    out.mkdir(parents=True)
    path = out / "step.onnx"
    export(module, make_inputs(2), path, ["x_prev", "x_0"])
    written = bundle.write(
        out,
        name=recipe.name,
        family="ddgan",
        summary=f"Fashion-MNIST garments, {unet.size}x{unet.size}, in {schedule.steps} steps",
        licence="Apache-2.0",
        image={"height": unet.size, "width": unet.size, "channels": unet.channels},
        schedule={"alpha_bar": schedule.alpha_bar.tolist()},
        latent=unet.latent,
        graphs={"step": [{"path": path.name, "precision": "fp32", "providers": ["cpu", "cuda"]}]},
        parity={"tolerance": TOLERANCE, "max_abs_difference": parity(module, path, make_inputs)},
        provenance={
            "recipe": recipe.name,
            "dataset": "fashion-mnist",
            "dataset_licence": "MIT",
            "images_seen": trained["images"],
            "hours": round(trained["hours"], 2),
            "commit": commit(),
            "notes": f"Loss: {recipe.loss}. The weights are the exponential moving average.",
        },
    )
    print(f"{out}: parity {written.manifest.parity}")
