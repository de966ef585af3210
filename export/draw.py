"""The graph that draws tokens: the output layer, and one token of each distribution by its inverse CDF.

Written in ONNX's own language rather than traced from PyTorch: a loop over the regions of the codebook, each with keys
of its own, holds the logits of one region at a time, where all at once would be 34 MB an image, and traced as a loop
that is unrolled, a thousand nodes. One uniform number a token is enough, in two stages: which block of the vocabulary
it falls into, then which token of the block. A running sum over all 8192 would cost more than the product by the keys.
"""

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from export.int8 import FLOAT32, quantise

BLOCK = 64  # tokens
LARGEST = 31  # level of a key: of six bits, so that files of them compress, and sums of two products fit 16 bits

# Dimensions: B images, N tokens, C = W + 1 features and the bonus for a token that stays; by region, R times M rows;
# V, the vocabulary; E, V or 1, of the evidence, which is added to logits. What is used and not defined are constants,
# which `draw` adds.
DRAW = """
<ir_version: 10, opset_import: ["": 20, "genfast": 1, "com.microsoft": 1]>
draw (float[B, N, C] hidden, int64[B, N] tokens, float[B] temperature, float[B, N] uniform, float[B, N, E] evidence)
    => (int64[B, N] drawn, float[B, N] probability)
    <int64[1] last = {2}, int64[2] rest = {1, 2}>
{
    column = Unsqueeze (tokens, last)
    token = genfast.cut (column, grid, narrow)

    numbers = Unsqueeze (uniform, last)
    one_temperature = Unsqueeze (temperature, rest)
    like = Shape (numbers)
    temperatures = Expand (one_temperature, like)
    floats = Concat <axis = 2> (hidden, temperatures, numbers)
    rows = genfast.cut (floats, grid, wide)
    features, bonus, t, u = Split <axis = 2> (rows, parts)

    choices = Shape <start = 2> (evidence)
    broad = Concat <axis = 0> (by_region, choices)
    said = genfast.cut (evidence, grid, broad)

    drawn_rows, probability_rows = Scan <num_scan_inputs = 9, body = region (
        int8[W, V] key, float[1, V] scale, float[1, V] bias,
        float[M, W] h, float[M, 1] stay, int64[M, 1] now, float[M, 1] kelvin, float[M, 1] number,
        float[M, E] more
    ) => (int64[M, 1] next, float[M, 1] p) {
        products = genfast.product (h, key, scale)
        biased = Add (products, bias)
        informed = Add (biased, more)
        logits = ScatterElements <axis = 1, reduction = "add"> (informed, now, stay)
        tempered = Div (logits, kelvin)
        chances = Softmax <axis = 1> (tempered)
        blocks = Reshape (chances, by_block)
        masses = ReduceSum <keepdims = 0> (blocks, last)
        block, left = genfast.pick (masses, number)
        inside = GatherND <batch_dims = 1> (blocks, block)
        place, unused = genfast.pick (inside, left)
        first = Mul (block, size)
        next = Add (first, place)
        plain = Softmax <axis = 1> (logits)
        p = GatherElements <axis = 1> (plain, next)
    }> (keys, scales, biases, features, bonus, token, t, u, said)

    drawn = genfast.join (drawn_rows, regions, whole)
    probability = genfast.join (probability_rows, regions, whole)
}

<domain: "genfast", opset_import: ["": 20]>
cut (x, grid, rows) => (y)
{
    blocks = Reshape (x, grid)
    sorted = Transpose <perm = [1, 3, 0, 2, 4, 5]> (blocks)
    y = Reshape (sorted, rows)
}

<domain: "genfast", opset_import: ["": 20]>
join (x, regions, whole) => (y)
{
    blocks = Reshape (x, regions)
    sorted = Transpose <perm = [2, 0, 3, 1, 4]> (blocks)
    y = Reshape (sorted, whole)
}

<domain: "genfast", opset_import: ["": 20]>
pick (masses, number) => (chosen, left)
{
    axis = Constant <value_ints = [1]> ()
    one = Constant <value_int = 1> ()
    zero = Constant <value_float = 0.0> ()
    reached = CumSum (masses, one)
    all = ReduceMax (reached, axis)
    enough = LessOrEqual (reached, number)
    not_all = Less (reached, all)
    passed = And (enough, not_all)
    count = Cast <to = 7> (passed)
    chosen = ReduceSum (count, axis)
    below = Where (passed, reached, zero)
    most = ReduceMax (below, axis)
    left = Sub (number, most)
}
"""


def quantise_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round keys [R * R, V, W] to levels, int8 [R * R, W, V], and the scales [R * R, 1, V] that multiply them."""
    return quantise(keys.transpose(0, 2, 1), LARGEST)


def draw(keys: np.ndarray, bias: np.ndarray, side: int, path: Path, product: str = FLOAT32) -> None:
    """Write the graph for keys [R * R, V, W], biases [R * R, V] and grids of side * side tokens.

    The keys are stored in six bits: round them beforehand by `quantise_keys`, and the graph computes what they say.
    `product` is as in `store_int8`.
    """
    regions, vocabulary, width = keys.shape
    along = math.isqrt(regions)
    within = side // along  # tokens along the side of a region
    levels, scale = quantise_keys(keys)
    model = parser.parse_model(DRAW + product)
    constants = {
        "keys": levels,
        "scales": scale,
        "biases": bias[:, None],
        "grid": np.array([0, along, within, along, within, -1]),
        "narrow": np.array([regions, -1, 1]),
        "by_region": np.array([regions, -1]),
        "wide": np.array([regions, -1, width + 3]),
        "parts": np.array([width, 1, 1, 1]),
        "by_block": np.array([0, -1, size := math.gcd(vocabulary, BLOCK)]),
        "size": np.array(size),
        "regions": np.array([along, along, -1, within, within]),
        "whole": np.array([-1, side**2]),
    }
    arrays = (numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items())
    model.graph.initializer.extend(arrays)
    onnx.checker.check_model(model)
    onnx.save(model, path)
