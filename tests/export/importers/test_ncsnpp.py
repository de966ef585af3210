"""The network against the original's: its outputs and whole trajectories, in PyTorch and in onnxruntime."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export import winograd
from export.graph import export
from export.importers.ncsnpp import NCSNpp
from export.importers.nvlabs import ReverseStep, generator
from export.importers.nvlabs_options import Arguments
from genfast.runtime.session import Session
from tests.export.importers.reference import EVERY, PART, whole, write_weights
from tests.export.importers.tiny import options
from training.diffusion import Schedule

OUTPUT, TRAJECTORY = 5e-5, 2e-4  # what may differ

Step = Callable[..., Tensor | np.ndarray]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[NCSNpp, Arguments]:
    """The original's network of six levels for 64x64 images, of random weights, as its file and its options make it."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "args.json").write_text(str(np.load(PART)["args"]))
    return generator(write_weights(folder / "netG_550.pth"), config=folder / "args.json")


@torch.inference_mode()
def test_the_network_gives_what_the_original_gives(original: tuple[NCSNpp, Arguments]) -> None:
    part = np.load(PART)
    x_t, t, z = (torch.from_numpy(part[name]) for name in ("x", "t", "z"))
    y = original[0](x_t.float(), t, z).numpy()[..., ::EVERY, ::EVERY]
    assert y.std() > 0.1 and np.abs(y - part["y"]).max() <= OUTPUT


def trajectory(step: Step, steps: int) -> float:
    """How far the last image of T steps lies from the original's."""
    part = np.load(PART)
    x = part[f"s{steps}_x_init"].astype(np.float32)
    for i, t in enumerate(range(steps, 0, -1)):
        noise = part[f"s{steps}_noise"][i].astype(np.float32) if t > 1 else np.zeros_like(x)
        x = np.asarray(step(x, np.array([t]), part[f"s{steps}_z"][i], noise))
    return float(np.abs(x[..., ::EVERY, ::EVERY] - part[f"s{steps}_final"]).max())


@pytest.mark.parametrize("steps", [2, 4])
@torch.inference_mode()
def test_whole_trajectories_are_the_original_s(original: tuple[NCSNpp, Arguments], steps: int) -> None:
    network, _ = original
    module = ReverseStep(network, Schedule(options(num_timesteps=steps).alpha_bar()))
    assert trajectory(lambda *inputs: module(*map(torch.from_numpy, inputs))[0], steps) <= TRAJECTORY


@pytest.mark.slow
@pytest.mark.parametrize("tiled", [False, True], ids=["plain", "tiled"])
def test_onnxruntime_gives_what_the_original_gives(
    original: tuple[NCSNpp, Arguments], tiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every convolution is tiled, as those of networks of full width are."""
    monkeypatch.setattr(winograd, "LEAST_WIDTH", 1 if tiled else 1000)
    monkeypatch.setattr(winograd, "LEAST_SIDE", 4)
    network, of_two = original
    module, path = ReverseStep(network, Schedule(of_two.alpha_bar())), tmp_path / "step.onnx"
    x_t, noise = torch.randn(2, 2, 3, 64, 64)
    with winograd.winograd(network):
        assert bool(winograd.tiled(network)) == tiled
        inputs = {"x_t": x_t, "t": torch.tensor([1, 2]), "z": torch.randn(2, 100), "noise": noise}
        export(module, inputs, path, ["x_prev", "x_0"])
    session, part = Session(path, device="cpu"), np.load(PART)
    x = part["x"].astype(np.float32)
    y = session.run(x_t=x, t=part["t"] + 1, z=part["z"], noise=np.zeros_like(x))["x_0"]
    assert np.abs(y[..., ::EVERY, ::EVERY] - part["y"]).max() <= OUTPUT
    assert trajectory(lambda x, t, z, noise: session.run(x_t=x, t=t, z=z, noise=noise)["x_prev"], 2) <= TRAJECTORY


@pytest.mark.parametrize(
    ("folder", "args", "weights", "files"),
    [
        ("nv-cifar", "args.json", "netG.pth", "io.npz"),
        ("nv-celeba", "args64.json", "netG_550.pth", "io64.npz"),
        ("nv-celeba", "args.json", "netG_550.pth", "io.npz"),
    ],
)
@torch.inference_mode()
def test_the_whole_reference_agrees(folder: str, args: str, weights: str, files: str, tmp_path: Path) -> None:
    given = json.loads((whole(folder) / args).read_text())
    config = tmp_path / "args.json"
    config.write_text(json.dumps({"num_timesteps": 4, **given}))
    network, _ = generator(whole(folder) / weights, config=config)
    part = np.load(whole(folder) / files)
    y = network(torch.from_numpy(part["x"]).float(), torch.from_numpy(part["t"]), torch.from_numpy(part["z"])).numpy()
    wanted = {"y": y, "y_every4": y[..., ::4, ::4], "y_corner": y[..., :16, :16]}
    for name in wanted.keys() & set(part):
        assert np.abs(wanted[name] - part[name]).max() <= OUTPUT
