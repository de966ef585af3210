"""Two small bundles with real graphs, and the real command line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from onnx import ModelProto, numpy_helper

from genfast import bundle

ROOT = Path(__file__).parents[1]

# Elementwise only, so that the result has a closed form (tests/genfast/test_ddgan.py).
CLOSED_FORM = """
<ir_version: 9, opset_import: ["": 17]>
step (float[B,3,6,8] x_t, int64[B] t, float[B,2] z, float[B,3,6,8] noise)
    => (float[B,3,6,8] x_prev, float[B,3,6,8] x_0)
    <int64[3] axes = {1, 2, 3}, int64[2] each = {1, 1}, float half = {0.5}, float quarter = {0.25}, float tenth = {0.1},
     float two_fifths = {0.4}, int64 one = {1}, int64[2] columns = {2, 3}>
{
    first, second = Split <axis = 1> (z, each)
    z_0 = Unsqueeze (first, columns)
    z_1 = Unsqueeze (second, columns)
    pushed = Mul (z_0, two_fifths)
    x_0 = Add (x_t, pushed)
    shrunk = Mul (x_t, half)
    noisy = Mul (noise, quarter)
    drift = Mul (z_1, tenth)
    mixed = Add (shrunk, noisy)
    moved = Add (mixed, drift)
    not_last = Greater (t, one)
    mask = Unsqueeze (not_last, axes)
    x_prev = Where (mask, moved, x_0)
}
"""

# Convolutions and matrix products, whose kernels could depend on the batch size.
CONVOLUTIONS = """
<ir_version: 9, opset_import: ["": 17]>
step (float[B,1,28,28] x_t, int64[B] t, float[B,100] z, float[B,1,28,28] noise)
    => (float[B,1,28,28] x_prev, float[B,1,28,28] x_0)
    <int64[3] axes = {1, 2, 3}, float half = {0.5}, int64 one = {1}, int64[2] columns = {2, 3},
     int64[2] flat = {0, 784}, int64[4] square = {0, 1, 28, 28}>
{
    enlarged = Conv <pads = [1, 1, 1, 1]> (x_t, w_in)
    style = Gemm (z, w_style)
    style_map = Unsqueeze (style, columns)
    styled = Mul (enlarged, style_map)
    bent = Relu (styled)
    mixed = Conv <pads = [1, 1, 1, 1]> (bent, w_mid)
    bent_again = Relu (mixed)
    one_channel = Conv <pads = [1, 1, 1, 1]> (bent_again, w_out)
    rows = Reshape (one_channel, flat)
    everywhere = MatMul (rows, w_all)
    image = Reshape (everywhere, square)
    x_0 = Tanh (image)
    kept = Mul (x_t, half)
    noisy = Mul (noise, half)
    some = Add (kept, noisy)
    moved = Add (some, x_0)
    not_last = Greater (t, one)
    mask = Unsqueeze (not_last, axes)
    x_prev = Where (mask, moved, x_0)
}
"""


def write_bundle(folder: Path, model: ModelProto, **fields: object) -> Path:
    folder.mkdir(parents=True)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "step.onnx")
    bundle.write(
        folder,
        family="ddgan",
        summary="for tests",
        licence="Apache-2.0",
        graphs={"step": [{"path": "step.onnx", "precision": "fp32", "providers": ["cpu", "cuda"]}]},
        provenance=dict(recipe="", dataset="none", dataset_licence="CC0-1.0", images_seen=0, hours=0, commit=""),
        **fields,
    )
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDGAN of 3 steps that draws 8x6 RGB images of a closed form."""
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "tiny",
        onnx.parser.parse_model(CLOSED_FORM),
        name="tiny",
        image={"height": 6, "width": 8, "channels": 3},
        schedule={"alpha_bar": [1, 0.7, 0.3, 0.05]},
        latent=2,
    )


@pytest.fixture(scope="session")
def conv_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDGAN of 4 steps that draws 28x28 grey images by convolutions and matrix products of random weights."""
    model = onnx.parser.parse_model(CONVOLUTIONS)
    rng = np.random.default_rng(0)
    shapes = {
        "w_in": (32, 1, 3, 3),
        "w_mid": (32, 32, 3, 3),
        "w_out": (1, 32, 3, 3),
        "w_style": (100, 32),
        "w_all": (784, 784),
    }
    for name, shape in shapes.items():
        fan_in = shape[0] if len(shape) == 2 else np.prod(shape[1:])
        weight = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(fan_in, dtype=np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "conv",
        model,
        name="conv",
        image={"height": 28, "width": 28, "channels": 1},
        schedule={"alpha_bar": [1, 0.9, 0.6, 0.2, 0.02]},
        latent=100,
    )


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `genfast ARGUMENTS` in a process of its own, in tmp_path / "cwd"."""
    folder = tmp_path / "cwd"
    folder.mkdir()

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "genfast", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, **options)

    return run
