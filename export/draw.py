"""The graph that draws tokens: the output layer, and one token of each distribution by its inverse CDF.

Written in ONNX's own language rather than traced from PyTorch: a loop over the regions of the codebook, each with keys
of its own, holds the logits of one region at a time, where all at once would be 34 MB an image, and traced as a loop
that is unrolled, a thousand nodes. One uniform number a token is enough, in two stages: which block of the vocabulary
it falls into, then which token of the block. A running sum over all 8192 would cost more than the product by the keys.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from export.graph import Arrays, MakeInputs, parity, write
from export.int8 import FLOAT32, quantise

BLOCK = 64  # tokens
LARGEST = 31  # level of a key: of six bits, so that files of them compress, and sums of two products fit 16 bits

# Dimensions: B images, N tokens, P = B * N, C = W + 1 features and the bonus for a token that stays; V, the vocabulary;
# E, V or 1, of `logit_bias`, which is added to logits; M tokens of a region are to be drawn, and `at` are their places
# among P. Logits are said to be of one shape, so that each takes the memory of those before. Processors are slow with
# denormal numbers: what is less probable than exp(-80) is made so, then impossible. Probabilities are another softmax,
# for all images if one of them returns them. What is used and not defined are constants, which `draw` adds.
DRAW = """
<ir_version: 10, opset_import: ["": 20, "genfast": 1, "com.microsoft": 1]>
draw (float[B, N, C] hidden, int64[B, N] tokens, bool[B, N] update, float[B] temperature, float[B, N] uniform,
      bool[B] return_prob, float[B, N, E] logit_bias)
    => (int64[B, N] drawn, float[B, N] probability)
    <int64[1] first = {0}, int64[1] last = {1}, int64[1] flat = {-1}, int64[2] column = {-1, 1}, float span = {80.0}>
{
    shape = Shape (tokens)
    one_temperature = Unsqueeze (temperature, last)
    temperatures = Expand (one_temperature, shape)
    temperature_rows = Reshape (temperatures, column)
    numbers = Reshape (uniform, column)
    features = Reshape (hidden, wide)
    floats = Concat <axis = 1> (features, temperature_rows, numbers)
    choices = Shape <start = 2> (logit_bias)
    broad = Concat <axis = 0> (flat, choices)
    bias_rows = Reshape (logit_bias, broad)
    now = Reshape (tokens, flat)
    update_grid = Reshape (update, grid)
    like = Shape (now)
    certain = ConstantOfShape <value = float[1] {1.0}> (like)
    any_return_prob = ReduceMax <keepdims = 0> (return_prob)

    after, probabilities = Scan <num_scan_inputs = 4, body = draw_region (
        int64[P] drawn_before, float[P] prob_before,
        int64[1] place, int8[W, V] key, float[1, V] scale, float[V] bias
    ) => (int64[P] drawn_after, float[P] prob_after) {
        here = Equal (regions, place)
        asked_grid = And (update_grid, here)
        asked = Reshape (asked_grid, flat)
        some = ReduceMax <keepdims = 0> (asked, first)
        drawn_after, prob_after = If (some) <
            then_branch = any () => (int64[P] drawn_new, float[P] prob_new)
                <float[M, V] scores, float[M, V] biased, float[M, V] logits, float[M, V] tempered, float[M, V] in_span>
            {
                found = NonZero (asked)
                at = Squeeze (found, first)
                row = Gather (floats, at)
                h, stay, row_temperature, u = Split <axis = 1> (row, parts)
                scores = genfast.product (h, key, scale, bias)
                bias_row = Gather (bias_rows, at)
                biased = Add (scores, bias_row)
                token = Gather (now, at)
                token_column = Unsqueeze (token, last)
                logits = ScatterElements <axis = 1, reduction = "add"> (biased, token_column, stay)
                tempered = Div (logits, row_temperature)
                highest = ReduceMax (tempered, last)
                lowest = Sub (highest, span)
                in_span = Max (tempered, lowest)
                softmax = Softmax <axis = 1> (in_span)
                distribution = ThresholdedRelu <alpha = 2e-35> (softmax)
                blocks = Reshape (distribution, by_block)
                masses = ReduceSum <keepdims = 0> (blocks, two)
                block, left = genfast.pick (masses, u)
                inside = GatherND <batch_dims = 1> (blocks, block)
                rest, unused = genfast.pick (inside, left)
                start = Mul (block, size)
                next = Add (start, rest)
                p = If (any_return_prob) <
                    then_branch = at_temperature_1 () => (float[M, 1] p_next) {
                        plain = Softmax <axis = 1> (logits)
                        p_next = GatherElements <axis = 1> (plain, next)
                    },
                    else_branch = unasked () => (float[M, 1] p_void) {
                        like_next = Shape (next)
                        p_void = ConstantOfShape <value = float[1] {1.0}> (like_next)
                    }
                >

                next_flat = Reshape (next, flat)
                p_flat = Reshape (p, flat)
                drawn_new = ScatterElements (drawn_before, at, next_flat)
                prob_new = ScatterElements (prob_before, at, p_flat)
            },
            else_branch = none () => (int64[P] drawn_same, float[P] prob_same) {
                drawn_same = Identity (drawn_before)
                prob_same = Identity (prob_before)
            }
        >
    }> (now, certain, places, keys, scales, biases)

    drawn = Reshape (after, shape)
    probability = Reshape (probabilities, shape)
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


def draw(
    keys: np.ndarray, bias: np.ndarray, side: int, path: Path, product: str = FLOAT32, exact: bool = False
) -> None:
    """Write the graph for keys [R * R, V, W], biases [R * R, V] and grids of side * side tokens.

    The keys are stored in six bits: round them beforehand by `quantise_keys`, and the graph computes what they say.
    `product` is as in `store_int8`. Where they are to be `exact`, they are stored as they are.
    """
    regions, vocabulary, width = keys.shape
    text = DRAW + product
    if exact:
        levels, scale = keys.transpose(0, 2, 1), np.ones((regions, 1, vocabulary), np.float32)
        text = text.replace("int8[W, V] key", "float[W, V] key")
    else:
        levels, scale = quantise_keys(keys)
    along, size = math.isqrt(regions), math.gcd(vocabulary, BLOCK)
    constants = {
        "keys": levels,
        "scales": scale,
        "biases": bias,
        "places": np.arange(regions)[:, None],
        "regions": np.arange(regions).reshape(along, 1, along, 1),
        "grid": np.array([-1, along, side // along, along, side // along]),
        "wide": np.array([-1, width + 1]),
        "parts": np.array([width, 1, 1, 1]),
        "by_block": np.array([-1, vocabulary // size, size]),
        "two": np.array([2]),
        "size": np.array(size),
    }
    write(text, constants, path)


def parity_of_draw(
    path: Path, logits_of: Callable[[Tensor, Tensor], Tensor], make_inputs: MakeInputs
) -> dict[str, float]:
    """How far the probabilities of a graph are from those of a network, by batch size.

    Near ties make no difference: each number is to lie between the CDF before its token and the CDF after it.
    `logits_of` makes logits (B, N, V) of `hidden` (B, N, D) and tokens (B, N).
    """

    def distributions(
        hidden: Tensor,
        z: Tensor,
        update: Tensor,
        temperature: Tensor,
        uniform: Tensor,
        return_prob: Tensor,
        logit_bias: Tensor,
    ) -> list[Tensor]:
        logits = logits_of(hidden, z) + logit_bias  # (B, N, V)
        cdf = (logits.double() / temperature[:, None, None]).softmax(2).cumsum(2)
        return [cdf, logits.softmax(2), uniform, update, z]

    def compare(wanted: Arrays, got: Arrays) -> float:
        (cdf, p, uniform, update, z), (drawn, probability) = wanted, got
        if ((drawn != z) & ~update).any():
            return np.inf
        after = np.take_along_axis(cdf, drawn[..., None], 2)[..., 0]
        before = np.where(drawn > 0, np.take_along_axis(cdf, drawn[..., None] - 1, 2)[..., 0], 0)
        difference = np.abs(np.take_along_axis(p, drawn[..., None], 2)[..., 0] - probability)
        return float(np.max([x[update] for x in (before - uniform, uniform - after, difference)]))

    return parity(distributions, path, make_inputs, compare=compare)
