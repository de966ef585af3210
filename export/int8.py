"""Weights in eight bits: products by a constant, computed in float32 everywhere or in int8 on the CPU.

A weight (K, N) is stored as int8 with a scale for each column. Where a product is computed in int8, the other factor is
rounded to 256 levels of its range. That is one for all its rows: images that are not to depend on each other are to be
given one at a time. A range for each row costs more than the product, and is no nearer to float32 here.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper, parser
from torch import nn

SMALLEST = 2**14  # weights in a matrix that is worth it

FLOAT32 = """
<domain: "genfast", opset_import: ["": 20]>
product (x, weight, scale) => (y)
{
    levels = Cast <to = 1> (weight)
    exact = Mul (levels, scale)
    y = MatMul (x, exact)
}
"""

INT8 = """
<domain: "genfast", opset_import: ["": 20, "com.microsoft": 1]>
product (x, weight, scale) => (y)
{
    columns = Squeeze (scale)
    y = com.microsoft.DynamicQuantizeMatMul (x, weight, columns)
}
"""


def quantise(weight: np.ndarray, largest: int = 127) -> tuple[np.ndarray, np.ndarray]:
    """Round weights [..., K, N] to int8, -largest .. largest.

    Returns these and the scales [..., 1, N] that they are to be multiplied by.
    """
    scale = np.maximum(np.abs(weight).max(axis=-2, keepdims=True), 1e-12).astype(np.float32) / largest
    return np.rint(weight / scale).astype(np.int8), scale


@torch.no_grad()
def round_linear(*modules: nn.Module) -> None:
    """Round the weights of every large linear layer to what int8 holds, in place: `store_int8` finds them by that."""
    for layer in (layer for module in modules for layer in module.modules()):
        if isinstance(layer, nn.Linear) and layer.weight.numel() >= SMALLEST:
            levels, scale = quantise(layer.weight.numpy().T)
            layer.weight.copy_(torch.from_numpy((levels * scale).T))


def store_int8(source: Path, path: Path, product: str) -> None:
    """Write the graph at `source` to `path` with every matrix that it multiplies by, and that int8 holds, as int8.

    `product` is FLOAT32, which any device runs and which changes nothing, or INT8, for the CPU.
    """
    model = onnx.load(source)
    weights = {weight.name: weight for weight in model.graph.initializer}
    scales: dict[str, str] = {}  # by weight
    for node in model.graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or len(weight.dims) != 2 or np.prod(weight.dims) < SMALLEST:
            continue
        if weight.name not in scales:
            values = numpy_helper.to_array(weight)
            levels, scale = quantise(values)
            if not np.allclose(levels * scale, values, rtol=1e-5, atol=0):
                continue
            weight.CopyFrom(numpy_helper.from_array(levels, weight.name))
            scales[weight.name] = f"{weight.name}.scale"
            model.graph.initializer.append(numpy_helper.from_array(scale, scales[weight.name]))
        node.op_type, node.domain = "product", "genfast"
        node.input.append(scales[weight.name])
    model.functions.append(parser.parse_function(product))
    model.opset_import.extend([helper.make_opsetid("genfast", 1), helper.make_opsetid("com.microsoft", 1)])
    onnx.save(model, path)
