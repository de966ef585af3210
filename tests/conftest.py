"""Three small bundles with real graphs, and the real command line."""

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

# A network that shrinks what it is given, and drifts by how far the step goes: t and s show in the pictures.
STRIDES = """
<ir_version: 9, opset_import: ["": 17]>
step (float[B,1,28,28] x_t, int64[B] t, int64[B] s, float[B,1,28,28] noise)
    => (float[B,1,28,28] x_prev, float[B,1,28,28] x_0)
    <int64[3] axes = {1, 2, 3}, float half = {0.5}, float hundredth = {0.01}, int64 zero = {0}>
{
    x_0 = Tanh (x_t)
    stride = Sub (t, s)
    wide = Cast <to = 1> (stride)
    drift = Mul (wide, hundredth)
    everywhere = Unsqueeze (drift, axes)
    shrunk = Mul (x_t, half)
    noisy = Mul (noise, half)
    mixed = Add (shrunk, noisy)
    moved = Add (mixed, everywhere)
    not_last = Greater (s, zero)
    mask = Unsqueeze (not_last, axes)
    x_prev = Where (mask, moved, x_0)
}
"""

# The features of a token depend on all tokens that are known, and are rounded to int8 by the range of the whole batch.
PREDICT = """
<ir_version: 9, opset_import: ["": 17]>
predict (int64[B,6] tokens, int64[B] label, float[B,2] theme, bool[B,6] known) => (float[B,6,8] hidden)
<int64[1] row = {1}, int64[1] last = {2}>
{
    read = Gather (embedding, tokens)
    one = Cast <to = 1> (known)
    shown = Unsqueeze (one, last)
    each = Mul (read, shown)
    mean = ReduceMean <axes = [1]> (each)
    class = Gather (classes, label)
    motif = MatMul (theme, motifs)
    themed = Add (class, motif)
    image_row = Unsqueeze (themed, row)
    both = Add (mean, image_row)
    all = Add (each, both)
    features = Add (all, positions)
    level, scale, zero = DynamicQuantizeLinear (features)
    hidden = DequantizeLinear (level, scale, zero)
}
"""

DRAW = """
<ir_version: 9, opset_import: ["": 18]>
draw (float[B,6,8] hidden, int64[B,6] tokens, bool[B,6] update, float[B] temperature, float[B,6] uniform,
      bool[B] judge, float[B,6,E] evidence)
    => (int64[B,6] drawn, float[B,6] probability)
    <int64[2] rest = {1, 2}, int64[1] last = {2}, int64 axis = {2}, int64 largest = {31}, int64[2] parts = {7, 1},
     float certain = {1.0}, int64[1] places = {1}>
{
    features, bonus = Split <axis = 2> (hidden, parts)
    unbiased = MatMul (features, keys)
    now = Unsqueeze (tokens, last)
    informed = Add (unbiased, evidence)
    logits = ScatterElements <axis = 2, reduction = "add"> (informed, now, bonus)
    t = Unsqueeze (temperature, rest)
    tempered = Div (logits, t)
    annealed = Softmax (tempered)
    reached = CumSum (annealed, axis)
    u = Unsqueeze (uniform, last)
    passed = LessOrEqual (reached, u)
    ones = Cast <to = 7> (passed)
    count = ReduceSum <keepdims = 0> (ones, last)
    new = Min (count, largest)
    at_one = Softmax (logits)
    place = Unsqueeze (new, last)
    found = GatherElements <axis = 2> (at_one, place)
    chance = Squeeze (found, last)
    drawn = Where (update, new, tokens)
    judged = Unsqueeze (judge, places)
    asked = And (update, judged)
    probability = Where (asked, chance, certain)
}
"""

# A token is a square of 2x2 pixels of one colour, whose red is 8 times the token.
DECODE = """
<ir_version: 9, opset_import: ["": 17]>
decode (int64[B,6] tokens) => (uint8[B,4,6,3] image)
    <int64[6] cells = {0, 2, 1, 3, 1, 3}, int64[6] pixels = {1, 2, 2, 3, 2, 3}, int64[4] shape = {0, 4, 6, 3}>
{
    colours = Gather (palette, tokens)
    small = Reshape (colours, cells)
    large = Expand (small, pixels)
    image = Reshape (large, shape)
}
"""

ENCODE = """
<ir_version: 9, opset_import: ["": 17]>
encode (uint8[B,4,6,3] image) => (int64[B,6] tokens)
    <int64[3] from = {0, 0, 0}, int64[3] to = {4, 6, 1}, int64[3] axes = {1, 2, 3}, int64[3] by = {2, 2, 1},
     int64[2] flat = {0, 6}, int64 eight = {8}>
{
    reds = Slice (image, from, to, axes, by)
    rows = Reshape (reds, flat)
    wide = Cast <to = 7> (rows)
    tokens = Div (wide, eight)
}
"""


# The red of a pixel that is known says which token it is one of. Of those that are not wanted, nonsense is said.
EVIDENCE = """
<ir_version: 9, opset_import: ["": 18]>
evidence (uint8[B,4,6,3] image, bool[B,4,6] known, bool[B,6] wanted) => (float[B,6,32] evidence)
    <int64[3] from = {0, 0, 0}, int64[3] to = {4, 6, 1}, int64[3] axes = {1, 2, 3}, int64 eight = {8},
     int64[6] grid = {0, 2, 2, 3, 2, 32}, int64[2] inside = {2, 4}, int64[3] shape = {0, 6, 32}, int64[1] last = {3},
     float[2] odds = {0.0, 20.0}, int64 depth = {32}, int64[3] pixels = {0, 4, 6}, int64[1] inside_last = {2},
     float nonsense = {-99.0}>
{
    reds = Slice (image, from, to, axes)
    flat = Reshape (reds, pixels)
    wide = Cast <to = 7> (flat)
    tokens = Div (wide, eight)
    votes = OneHot <axis = -1> (tokens, depth, odds)
    seen = Cast <to = 1> (known)
    weights = Unsqueeze (seen, last)
    counted = Mul (votes, weights)
    by_cell = Reshape (counted, grid)
    summed = ReduceSum <keepdims = 0> (by_cell, inside)
    said = Reshape (summed, shape)
    column = Unsqueeze (wanted, inside_last)
    evidence = Where (column, said, nonsense)
}
"""


# The first of the known tokens is the class, by threes, and the first number of the theme, by 32.
RECOGNISE = """
<ir_version: 9, opset_import: ["": 18]>
recognise (int64[B,6] tokens, bool[B,6] known) => (float[B,2] theme, float[B,4] label)
    <int64[1] row = {1}, int64 each = {1}, int64 three = {3}, int64 depth = {4}, float[2] odds = {0.0, 20.0},
     float thirty_two = {32.0}, int64[4] behind = {0, 0, 0, 1}>
{
    seen = Cast <to = 7> (known)
    first = ArgMax <axis = 1> (seen)
    token = GatherElements <axis = 1> (tokens, first)
    wide = Cast <to = 1> (token)
    number = Div (wide, thirty_two)
    theme = Pad (number, behind)
    class = Mod (token, three)
    column = Squeeze (class, row)
    label = OneHot <axis = -1> (column, depth, odds)
}
"""
THEMES = """
<ir_version: 9, opset_import: ["": 18]>
themes () => (float[3,4,2] themes)
{
    themes = Identity (kept)
}
"""


# A known token has the one after it be alike.
BORDERS = """
<ir_version: 9, opset_import: ["": 18]>
borders () => (float[2] odds)
{
    odds = Constant <value = float[2] {0.0, 20.0}> ()
}
"""
SEAMS = """
<ir_version: 9, opset_import: ["": 18]>
seams (int64[B,6] tokens, bool[B,6] known, float[B] weight, float[B,6,E] said, float[2] odds)
    => (float[B,6,32] evidence)
    <int64[1] last = {2}, int64[2] rest = {1, 2}, int64 depth = {32},
     int64[1] from = {0}, int64[1] to = {6}, int64[1] axis = {1}, int64[6] ahead = {0, 1, 0, 0, 0, 0}>
{
    votes = OneHot <axis = -1> (tokens, depth, odds)
    seen = Cast <to = 1> (known)
    column = Unsqueeze (seen, last)
    counted = Mul (votes, column)
    scale = Unsqueeze (weight, rest)
    weighed = Mul (counted, scale)
    moved = Pad (weighed, ahead)
    neighbours = Slice (moved, from, to, axis)
    evidence = Add (neighbours, said)
}
"""


def write_bundle(folder: Path, model: ModelProto, family: str = "ddgan", **fields: object) -> Path:
    folder.mkdir(parents=True)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "step.onnx")
    bundle.write(
        folder,
        family=family,
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
def shaded_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two classes and none, each lighter than the one before."""
    shade = "told = Cast <to = 1> (label)  class = Unsqueeze (told, axes)  shade = Mul (class, tenth)"
    graph = CLOSED_FORM.replace("noise)", "noise, int64[B] label)")
    graph = graph.replace("x_0 = Add (x_t, pushed)", f"{shade}  plain = Add (x_t, pushed)  x_0 = Add (plain, shade)")
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "shades",
        onnx.parser.parse_model(graph),
        name="shades",
        image={"height": 6, "width": 8, "channels": 3},
        classes=("dark", "light"),
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


@pytest.fixture(scope="session")
def ddpm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDPM of 1 to 8 steps that draws 28x28 grey images of a closed form."""
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "strides",
        onnx.parser.parse_model(STRIDES),
        family="ddpm",
        name="strides",
        image={"height": 28, "width": 28, "channels": 1},
        schedule={"alpha_bar": [1, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.05]},
    )


@pytest.fixture(scope="session")
def token_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Family vq-sundae: six tokens of 32, three classes, 6x4 RGB images; no `predict` for CUDA."""
    folder = tmp_path_factory.mktemp("bundles") / "squares"
    folder.mkdir()
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (32, 3), np.uint8)
    palette[:, 0] = 8 * np.arange(32)
    weights = {
        "embedding": rng.standard_normal((32, 8), np.float32),
        "classes": rng.standard_normal((4, 8), np.float32),
        "motifs": rng.standard_normal((2, 8), np.float32),
        "kept": rng.standard_normal((3, 4, 2), np.float32),
        "positions": rng.standard_normal((6, 8), np.float32),
        "keys": rng.standard_normal((7, 32), np.float32),
        "palette": palette,
    }
    texts = {"predict": PREDICT, "draw": DRAW, "decode": DECODE, "encode": ENCODE}
    texts |= {"evidence": EVIDENCE, "borders": BORDERS, "seams": SEAMS, "recognise": RECOGNISE, "themes": THEMES}
    for role, text in texts.items():
        model = onnx.parser.parse_model(text)
        used = {name for node in model.graph.node for name in node.input} & weights.keys()
        model.graph.initializer.extend(numpy_helper.from_array(weights[name], name) for name in used)
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{role}.onnx")
    both = {"precision": "fp32", "providers": ["cpu", "cuda"]}
    bundle.write(
        folder,
        name="squares",
        family="vq-sundae",
        summary="for tests",
        licence="Apache-2.0",
        image={"height": 4, "width": 6, "channels": 3},
        classes=("red", "light blue", "green"),
        tokens={"height": 2, "width": 3, "vocabulary": 32},
        graphs={
            "predict": [{"path": "predict.onnx", "precision": "int8", "providers": ["cpu"]}],
            **{role: [{"path": f"{role}.onnx", **both}] for role in texts.keys() - {"predict"}},
        },
        sampling={"batch": 5, "options": {"steps": 7, "temperature_end": 0.5}, "filling": {"steps": 4}},
        provenance=dict(recipe="", dataset="none", dataset_licence="CC0-1.0", images_seen=0, hours=0, commit=""),
    )
    return folder


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `genfast ARGUMENTS` in a process of its own, in tmp_path / "cwd"."""
    folder = tmp_path / "cwd"
    folder.mkdir()

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "genfast", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
        options = {"cwd": folder, **options}
        return subprocess.run(command, env=environment, capture_output=True, text=True, **options)

    return run
