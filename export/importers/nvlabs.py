"""Weights of NVlabs' denoising-diffusion-gan (Xiao et al. 2022) as a bundle of family ddgan."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from export.folder import new
from export.graph import TOLERANCE, export, parity
from export.importers.ncsnpp import NCSNpp
from export.importers.nvlabs_options import PRESETS, Arguments, arguments, read_config
from export.importers.reading import Standin, read
from export.importers.state import load, tensors
from export.provenance import imported, report
from export.weights import share_weights, store_half
from export.winograd import tiled, winograd
from genfast.bundles import bundle
from genfast.errors import InputError, UsageError
from training.diffusion import Schedule

LICENCE = "NVIDIA Source Code License for denoising-diffusion-gan: non-commercial, research or evaluation only"
PIXELS = 2**18  # of images drawn at once


class ReverseStep(nn.Module):
    """One whole reverse step (equation 4): predict x_0, then draw x_{t-1} from the posterior."""

    def __init__(self, network: NCSNpp, schedule: Schedule) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(self, x_t: Tensor, t: Tensor, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Step x_t (B, C, H, W) at t (B,) in 1..T with z (B, nz) to x_{t-1} and x_0, both (B, C, H, W)."""
        x_0 = self.network(x_t, t - 1, z)  # which counts its steps from 0
        return self.schedule.posterior_sample(x_0, x_t, t, t - 1, noise), x_0


def generator(path: Path, preset: str | None = None, config: Path | None = None) -> tuple[NCSNpp, Arguments]:
    """The network that a file of weights is of, with them, and its options, by a preset or a file of them.

    `path` is a netG_EPOCH.pth, or a content.pth, which holds options itself.

    Raises:
        UsageError: there are no options, or two of them.
        InputError: a file cannot be read, or one does not fit the other.
    """
    if preset and config:
        raise UsageError("--preset and --config both say what the network is; give one of them")
    held = read(path)
    state, given = _average(held, path) if "netG_dict" in held else (tensors(held, path, "module."), {})
    if preset:
        options = PRESETS[preset]
    elif config or given:
        options = arguments(read_config(config) if config else given, state, str(config or path), path)
    else:
        raise UsageError(f"{path} says neither its T nor its size; give --preset ({', '.join(PRESETS)}) or --config")
    network = NCSNpp(options).eval()
    load(network, state, path, f"the generator of {preset or config or 'its own options'}")
    return network, options


def _average(held: Mapping[str, object], path: Path) -> tuple[dict[str, Tensor], Mapping[str, object]]:
    """The averaged weights of a content.pth, by the numbers of the optimiser's parameters, and its options."""
    names = tensors(held["netG_dict"], path, "module.")
    try:
        states = held["optimizerG"]["state"]  # type: ignore[index]  # whatever else it is raises
        average = {name: states[number]["ema"] for number, name in enumerate(names)}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} holds no average of the weights (optimizerG's ema); give netG_EPOCH.pth") from error
    args = held.get("args")
    return tensors(average, path), vars(args) if isinstance(args, Standin) else {}


def nvlabs_ddgan(
    file: Path,
    out: Path,
    preset: str | None = None,
    config: Path | None = None,
    half: bool = False,
    name: str | None = None,
    licence: str | None = None,
    source: str | None = None,
) -> None:
    """Write the generator in the file netG_EPOCH.pth, or the averaged one of content.pth, to the new folder `out`.

    `half` rounds the weights to half precision, and the files with them; arithmetic stays float32.

    Raises:
        UsageError: there are no options, or `out` exists.
        InputError: a file cannot be read, or one does not fit the other.
        ValueError: the graph does not compute what the network computes.
    """
    with new(out) as folder:
        network, options = generator(file, preset, config)
        about = imported(file, source or f"NVlabs denoising-diffusion-gan: {file.name}")
        if half:
            network.half().float()
        alpha_bar, side, channels = options.alpha_bar(), options.image_size, options.num_channels
        module = ReverseStep(network, Schedule(alpha_bar))

        def make_inputs(batch: int) -> dict[str, Tensor]:
            x_t, noise = torch.randn(2, batch, channels, side, side)
            t = torch.randint(1, len(alpha_bar), (batch,))
            return {"x_t": x_t, "t": t, "z": torch.randn(batch, options.nz), "noise": noise}

        providers = {"step": ["cuda"], "step-cpu": ["cpu"]} if tiled(network) else {"step": ["cpu", "cuda"]}
        paths = [folder / f"{stem}.onnx" for stem in providers]
        for path in paths:
            with winograd(network) if path.stem == "step-cpu" else nullcontext():
                export(module, make_inputs(2), path, ["x_prev", "x_0"])
            if half:
                store_half(path)
        share_weights(paths)
        differences = [parity(module, path, make_inputs) for path in paths]
        worst = {batch: max(each[batch] for each in differences) for batch in differences[0]}
        graphs = [{"path": path.name, "precision": "fp32", "providers": providers[path.stem]} for path in paths]
        manifest = bundle.write(
            folder,
            name=name or f"ddgan-{preset or f'{side}-t{len(alpha_bar) - 1}'}",
            family="ddgan",
            summary=f"{options.dataset or 'Images'}, {side}x{side}, in {options.num_timesteps} steps, by NVlabs' DDGAN",
            licence=licence or LICENCE,
            image={"height": side, "width": side, "channels": channels},
            schedule={"alpha_bar": alpha_bar},
            latent=options.nz,
            graphs={"step": graphs},
            sampling={"batch": max(1, min(64, PIXELS // side**2))},
            provenance={**about, "dataset": options.dataset or "unnamed"},
            parity={"tolerance": TOLERANCE, "max_abs_difference": worst},
        ).manifest
    report(out, manifest)
